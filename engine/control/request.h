/*
 * request: a line of the control socket, taken apart. Pure.
 */
#pragma once
#include "engine/control/control.h"

/* Fills verb, cursor, limit and words; the slices point into the line. 0 or -EINVAL. */
int control_request_parse(struct control_request *request, struct slice line);
