/* search_mail: mail from a seed, and things to search for in it: all that texts, charsets and encodings make hard. */
#pragma once
#include "engine/core/slice.h"

struct search_mail {
    uint64_t seed, random;
    char *letter; /* the newest */
    char *said;   /* what was put into letters lately, in UTF-8 */
    size_t said_bytes;
    char *command;
};

struct search_mail *search_mail_open(uint64_t seed);
void search_mail_close(struct search_mail *mail);
/* A message without NUL; valid until the next. */
const char *search_mail_next(struct search_mail *mail);
/* "q SEARCH ...\r\n", words as literals; valid until the next. */
struct slice search_mail_query(struct search_mail *mail);
