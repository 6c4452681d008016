/*
 * bounce_conf: the keys of reports to senders.
 *
 * A part of the relay's table (relay_conf.c), the only caller.
 */
#pragma once
#include "engine/conf/reader.h"

struct relay_conf;

extern const struct reader_key bounce_conf_keys[]; /* section bounce */

/* What no single value of the section shows. */
void bounce_conf_check(struct reader *reader, const struct relay_conf *conf);
