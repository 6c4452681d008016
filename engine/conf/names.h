/*
 * names: what a good name looks like, where several configurations ask.
 */
#pragma once
#include <stdbool.h>

/* A domain name: labels of letters, digits, '-' and '_', or of UTF-8 beyond ASCII, at most 255
 * bytes. */
bool name_is_domain(const char *text);
/* Has no control characters. */
bool name_is_printable(const char *text);
bool name_is_absolute_path(const char *text);
/* What Linux lets a network interface be called, of letters, digits, '.', '-' and '_'. */
bool name_is_interface(const char *text);

#define NAME_DOMAIN_EXPECTED "a domain name such as mx.example.org"
#define NAME_PATH_EXPECTED "an absolute path such as /var/spool/tubepost"
#define NAME_INTERFACE_EXPECTED                                                                    \
    "a name for an interface of at most 15 letters and digits, such as tp0"
