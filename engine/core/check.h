/*
 * check: what the programmer believes. Stays on in production; stops the process when it is wrong.
 *
 * Never guards against the network, the disk or the operator: those are errors, handled.
 */
#pragma once
#include <stdio.h>
#include <stdlib.h>

#define check(believed)                                                                            \
    do {                                                                                           \
        if (__builtin_expect(!(believed), 0)) {                                                    \
            fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #believed);           \
            abort();                                                                               \
        }                                                                                          \
    } while (0)
