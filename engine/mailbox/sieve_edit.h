/*
 * sieve_edit: a header as the edits of a script have made it (RFC 5293).
 *
 * Pure; for delivery_edit.c. Fields that are not edited stay byte by byte. What is added in front stands behind Return-Path:, which is for the
 * first line (RFC 5321 §4.4).
 */
#pragma once
#include "engine/core/arena.h"
#include "proto/sieve/run.h"

/* header: with the empty line behind it, where there is one. *edited lies in the arena. 0; -ENOMEM; -E2BIG: a field
 * that is added cannot be written. */
int sieve_edit_header(struct arena *arena, struct slice header, const struct sieve_edit *edits,
                      uint32_t edit_count, struct slice *edited);
