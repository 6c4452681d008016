/*
 * route_conf: the keys of `routes[]`, and what no single one of them shows. For relay_conf.c.
 */
#pragma once
#include "engine/conf/reader.h"

extern const struct reader_key route_keys[];

/* Checks the routes, takes replies apart and makes conf->route_index. 0, with problems in the
 * report where there are any, or -ENOMEM. */
int route_conf_settle(struct reader *reader, struct relay_conf *conf);
