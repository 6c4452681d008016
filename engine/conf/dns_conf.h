/*
 * dns_conf: the keys of the section dns: whom to ask where mail goes, and how long to believe it.
 *
 * A part of the relay's table (relay_conf.c), the only caller.
 */
#pragma once
#include "engine/conf/reader.h"

extern const struct reader_key dns_conf_keys[];

/* After the file was read: reports what does not fit together. */
void dns_conf_check(struct reader *reader, const struct relay_conf *conf);
