/*
 * shrink: makes of a run that fails the smallest one that fails in the same way: with fewer kinds of
 * faults, connections or letters, and bytes. Then writes down what happens in it, and each frame.
 *
 * Each try is a process of its own, since a run that fails may have broken anything.
 */
#pragma once
#include "tests/sim/command.h"

/* command->options is of the seed that fails; `drawn`: the faults that were on; `said`: the first line of
 * what the run has said when it failed. */
void shrink(const struct command *command, uint32_t drawn, const char *said);
