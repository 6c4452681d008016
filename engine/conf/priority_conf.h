/*
 * priority_conf: whose mail comes first.
 *
 * For relay_conf.c alone.
 */
#pragma once
#include "engine/conf/conf.h"
#include "engine/conf/reader.h"

extern const struct reader_key priority_conf_keys[]; /* a row of priorities */
extern const struct reader_word priority_conf_levels[];

/* Makes conf->priority_index. 0, with problems in the reader's report; -ENOMEM. */
int priority_conf_settle(struct reader *reader, struct relay_conf *conf);
