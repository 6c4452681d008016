/*
 * parser_private: what the files of the parser share. Nobody else includes it.
 *
 * Each imap_take function reads one thing of the grammar and moves on. False: it was not there, or is more than we take;
 * then the parser has its error and stands anywhere. imap_skip functions have no error: what was not there was not
 * meant.
 */
#pragma once
#include "proto/imap/names.h"
#include "proto/imap/parser.h"

/* The first error stays. Returns false. */
bool imap_parse_fail(struct imap_parser *parser, enum imap_parse result, const char *error);
static inline bool imap_parse_bad(struct imap_parser *parser, const char *error)
{
    return imap_parse_fail(parser, IMAP_PARSE_BAD, error);
}

/* ---- parser.c: characters, words, strings, numbers ---- */
bool imap_at_end(const struct imap_parser *parser);
/* The next byte; 0 at the end. */
uint8_t imap_peek(const struct imap_parser *parser);
bool imap_skip_byte(struct imap_parser *parser, uint8_t byte);
bool imap_take_byte(struct imap_parser *parser, uint8_t byte, const char *error);
bool imap_take_space(struct imap_parser *parser);
bool imap_atom_char(uint8_t byte);
/* The word if it stands here in any case, and nothing behind it that would make it longer. */
bool imap_skip_word(struct imap_parser *parser, const char *word);
bool imap_take_atom(struct imap_parser *parser, struct slice *atom);
bool imap_take_string(struct imap_parser *parser, struct slice *string);  /* quoted or literal */
bool imap_take_string8(struct imap_parser *parser, struct slice *string); /* literal8 too */
bool imap_take_astring(struct imap_parser *parser, struct slice *string);
bool imap_take_nstring(struct imap_parser *parser, struct slice *string, bool *nil);
bool imap_take_number(struct imap_parser *parser, uint64_t most, uint64_t *number);
bool imap_take_nz_number(struct imap_parser *parser, uint32_t *number);

/* Room for one more in an array of the arena that doubles as it grows. NULL: the parser has its error. */
void *imap_list_add(struct imap_parser *parser, const void **items, uint32_t *count, size_t bytes);
bool imap_text_list_add(struct imap_parser *parser, struct imap_text_list *list, struct slice text);

/* A word of a table, in any case. */
struct imap_word {
    const char *word;
    uint32_t value;
};
bool imap_skip_word_of(struct imap_parser *parser, const struct imap_word *words, size_t count,
                       uint32_t *value);

/* ---- parser_values.c ---- */
bool imap_take_set(struct imap_parser *parser, struct imap_set *set);
bool imap_take_mailbox(struct imap_parser *parser, struct slice *name);
bool imap_take_mod_sequence(struct imap_parser *parser, uint64_t *value); /* 0 too */
bool imap_take_partial(struct imap_parser *parser, struct imap_partial *partial);
bool imap_take_date(struct imap_parser *parser, int32_t *day);
bool imap_take_date_time(struct imap_parser *parser, int64_t *wall_s, int16_t *zone_minutes);
bool imap_take_flag(struct imap_parser *parser, struct imap_flags *flags);
bool imap_take_flag_list(struct imap_parser *parser, struct imap_flags *flags);
bool imap_take_status_items(struct imap_parser *parser, uint32_t *items);
/* "(" astring *(SP astring) ")" or one astring. */
bool imap_take_astrings(struct imap_parser *parser, struct imap_text_list *list);

/* ---- One file for each ---- */
bool imap_parse_list(struct imap_parser *parser, struct imap_command *command);
bool imap_parse_lsub(struct imap_parser *parser, struct imap_command *command);
bool imap_parse_search(struct imap_parser *parser, struct imap_command *command);
bool imap_parse_sort(struct imap_parser *parser, struct imap_command *command);
bool imap_parse_thread(struct imap_parser *parser, struct imap_command *command);
bool imap_parse_fetch(struct imap_parser *parser, struct imap_command *command);
/* "[...]"; of BINARY with nothing but numbers in it. */
bool imap_take_section(struct imap_parser *parser, bool parts_only, struct imap_section *section);
bool imap_parse_fetch_items(struct imap_parser *parser, struct imap_command *command,
                            const struct imap_fetch_item **items, uint32_t *count);
bool imap_parse_store(struct imap_parser *parser, struct imap_command *command);
bool imap_parse_select(struct imap_parser *parser, struct imap_command *command);
bool imap_parse_quota(struct imap_parser *parser, struct imap_command *command);
bool imap_parse_acl(struct imap_parser *parser, struct imap_command *command);
bool imap_parse_metadata(struct imap_parser *parser, struct imap_command *command);
bool imap_parse_notify(struct imap_parser *parser, struct imap_command *command);
