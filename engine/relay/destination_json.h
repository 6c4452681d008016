/*
 * destination_json: a destination as the operator reads it.
 */
#pragma once
#include "engine/resolve/destination.h"
#include <jansson.h>

/* A new object; NULL: memory is short. now_ns: of the clock that the destination expires by. */
json_t *destination_json(const struct destination *destination, uint64_t now_ns);
