/*
 * counter_names: what a counter of stack_counters.h is called in a MIB.
 *
 * "TcpRetransSegs" where RFC 4293, 4022 or 4113 have it, "TcpExtTCPTimeouts" where Linux has it, as
 * `nstat` prints both; else our own words with "Tubepost" before them. Pure.
 */
#pragma once

#define COUNTER_NAME_MAX 64

/* `ours` is the field's name in struct stack_counters. */
void counter_name(const char *ours, char name[COUNTER_NAME_MAX]);
