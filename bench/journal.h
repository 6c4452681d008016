/*
 * journal: lines for a test to read: what was acknowledged, what was received.
 *
 * Gathered during a round and handed to the kernel at its end, so that a line is in the file before
 * the next round's packets are looked at. A failed write stops the program: a test must not go on
 * with half a record.
 */
#pragma once
#include <stddef.h>

struct journal {
    int fd; /* -1: nothing is kept */
    size_t used;
    char lines[65536];
};

void journal_open(struct journal *journal, int fd);
void journal_line(struct journal *journal, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void journal_flush(struct journal *journal);
