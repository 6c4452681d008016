#include "proto/sieve/compile_private.h"

/* ---- Match type, comparator, address part ---- */

static bool relation_given(struct sieve_compiler *compiler, const struct sieve_argument *argument,
                           enum sieve_relation *relation)
{
    static const char *const names[] = {
        [SIEVE_EQ] = "eq", [SIEVE_NE] = "ne", [SIEVE_GT] = "gt",
        [SIEVE_GE] = "ge", [SIEVE_LT] = "lt", [SIEVE_LE] = "le",
    };
    struct slice name;
    if (!sieve_constant(compiler, argument, &name)) {
        return false;
    }
    for (int i = 0; i < SIEVE_RELATIONS; i++) {
        if (slice_equal_nocase(name, slice_text(names[i]))) {
            *relation = (enum sieve_relation)i;
            return true;
        }
    }
    return sieve_wrong_argument(compiler, argument,
                                "a relation is one of gt, ge, lt, le, eq and ne");
}

static bool comparator_given(struct sieve_compiler *compiler, const struct sieve_argument *argument,
                             enum sieve_comparator *comparator)
{
    struct slice name;
    if (!sieve_constant(compiler, argument, &name)) {
        return false;
    }
    if (slice_equal(name, slice_text("i;octet"))) {
        *comparator = SIEVE_OCTET;
    } else if (slice_equal(name, slice_text("i;ascii-casemap"))) {
        *comparator = SIEVE_CASEMAP;
    } else if (slice_equal(name, slice_text("i;ascii-numeric"))) {
        *comparator = SIEVE_NUMERIC;
        if (!sieve_enabled(compiler, SIEVE_EXTENSION_NUMERIC)) {
            return sieve_wrong_argument(compiler, argument,
                                        "this needs require \"comparator-i;ascii-numeric\"");
        }
    } else {
        return sieve_wrong_argument(compiler, argument, "this comparator is unknown");
    }
    return true;
}

bool sieve_match_given(struct sieve_compiler *compiler, const struct sieve_given *given,
                       uint32_t *match)
{
    enum sieve_match_type type = SIEVE_IS;
    enum sieve_relation relation = SIEVE_EQ;
    enum sieve_comparator comparator = SIEVE_CASEMAP;
    for (int i = 0; i < SIEVE_MATCH_TYPES; i++) {
        if (given->tags[SIEVE_TAG_IS + i] != NULL) {
            type = (enum sieve_match_type)i;
        }
    }
    const struct sieve_argument *name = given->values[SIEVE_TAG_COUNT_OF];
    name = name != NULL ? name : given->values[SIEVE_TAG_VALUE];
    if (name != NULL && !relation_given(compiler, name, &relation)) {
        return false;
    }
    const struct sieve_argument *wanted = given->values[SIEVE_TAG_COMPARATOR];
    if (wanted != NULL && !comparator_given(compiler, wanted, &comparator)) {
        return false;
    }
    *match = sieve_match_pack(type, relation, comparator);
    return sieve_match_valid(*match) ||
           sieve_wrong_argument(compiler, wanted,
                                "this comparator knows neither parts nor patterns of strings");
}

/* Regular expressions that are constant. */
bool sieve_patterns_check(struct sieve_compiler *compiler, uint32_t match,
                          const struct sieve_argument *keys)
{
    if (sieve_match_type(match) != SIEVE_REGEX) {
        return true;
    }
    for (const struct sieve_string *key = keys->strings; key != NULL; key = key->next) {
        struct sieve_compiled_string text;
        char problem[128];
        if (!sieve_string_compile(compiler, key, &text)) {
            return false;
        }
        if (compiler->regexes++ == SIEVE_REGEXES_MAX) {
            sieve_error_set(&compiler->error, key->line, key->column,
                            "too many regular expressions");
            return false;
        }
        if (text.kind != SIEVE_TEXT) {
            continue;
        }
        struct sieve_regex *regex =
            sieve_regex_open(text.bytes, sieve_match_comparator(match), problem);
        if (regex == NULL) {
            sieve_error_set(&compiler->error, key->line, key->column, "%s%s",
                            problem[0] != '\0' ? "the regular expression is wrong: "
                                               : "the script takes too much memory",
                            problem);
            return false;
        }
        sieve_regex_close(regex);
    }
    return true;
}

static enum sieve_part part_given(const struct sieve_given *given)
{
    for (int i = 0; i < SIEVE_PARTS; i++) {
        if (given->tags[SIEVE_TAG_ALL + i] != NULL) {
            return (enum sieve_part)i;
        }
    }
    return SIEVE_ALL;
}

/* `index`, and `flags` with :last. */
static bool index_given(struct sieve_compiler *compiler, const struct sieve_given *given,
                        uint64_t *index, uint32_t *flags)
{
    const struct sieve_argument *number = given->values[SIEVE_TAG_INDEX];
    const struct sieve_argument *last = given->tags[SIEVE_TAG_LAST];
    *index = number != NULL ? number->number : 0;
    *flags = last != NULL ? SIEVE_LAST : 0;
    if (number != NULL && *index == 0) {
        return sieve_wrong_argument(compiler, number, "an index is at least 1");
    }
    return last == NULL || number != NULL ||
           sieve_wrong_argument(compiler, last, ":last needs :index");
}

/* ---- Names that are constant ---- */

static bool in_list(struct slice name, const char *const *list)
{
    for (; *list != NULL; list++) {
        if (slice_equal_nocase(name, slice_text(*list))) {
            return true;
        }
    }
    return false;
}

/* Each of them that has no variables must be in the list; NULL: must be the name of a field. */
static bool names_check(struct sieve_compiler *compiler, const struct sieve_argument *names,
                        const char *const *list, const char *wrong)
{
    for (const struct sieve_string *name = names->strings; name != NULL; name = name->next) {
        struct sieve_compiled_string text;
        if (!sieve_string_compile(compiler, name, &text)) {
            return false;
        }
        bool good = text.kind != SIEVE_TEXT ||
                    (list != NULL ? in_list(text.bytes, list) : sieve_field_name_valid(text.bytes));
        if (!good) {
            sieve_error_set(&compiler->error, name->line, name->column, "\"%.*s\" %s",
                            (int)(text.bytes.size < 60 ? text.bytes.size : 60),
                            (const char *)text.bytes.bytes, wrong);
            return false;
        }
    }
    return true;
}

static const char *const address_fields[] = {"from",
                                             "to",
                                             "cc",
                                             "bcc",
                                             "sender",
                                             "reply-to",
                                             "resent-from",
                                             "resent-to",
                                             "resent-cc",
                                             "resent-bcc",
                                             "resent-sender",
                                             "resent-reply-to",
                                             "mail-reply-to",
                                             "mail-followup-to",
                                             "return-path",
                                             "delivered-to",
                                             "x-original-to",
                                             "envelope-to",
                                             "errors-to",
                                             "apparently-to",
                                             "disposition-notification-to",
                                             "return-receipt-to",
                                             "x-forwarded-to",
                                             "approved",
                                             NULL};
static const char *const envelope_parts[] = {"from", "to", NULL};
static const char *const date_parts[] = {"year",  "month",  "day",     "date", "julian",
                                         "hour",  "minute", "second",  "time", "iso8601",
                                         "std11", "zone",   "weekday", NULL};

/* ---- Tests ---- */

/* Where operands were put. */
static bool number_put(struct sieve_compiler *compiler, uint64_t number)
{
    sieve_code_number(sieve_unit_code(compiler), number);
    return true;
}

static bool header_compile(struct sieve_compiler *compiler, const struct sieve_given *given,
                           uint32_t match)
{
    uint64_t index;
    uint32_t flags;
    bool address = given->word == SIEVE_WORD_ADDRESS;
    if (!index_given(compiler, given, &index, &flags) ||
        !names_check(compiler, given->positional[0], address ? address_fields : NULL,
                     address ? "is no field of addresses" : "is no name for a header field")) {
        return false;
    }
    sieve_begin(compiler, address ? SIEVE_OP_ADDRESS : SIEVE_OP_HEADER);
    number_put(compiler, match);
    if (address) {
        number_put(compiler, part_given(given));
    }
    return number_put(compiler, index) && number_put(compiler, flags) &&
           sieve_put_list(compiler, given->positional[0]) &&
           sieve_put_list(compiler, given->positional[1]);
}

static bool envelope_compile(struct sieve_compiler *compiler, const struct sieve_given *given,
                             uint32_t match)
{
    if (!names_check(compiler, given->positional[0], envelope_parts,
                     "is no part of the envelope (from, to)")) {
        return false;
    }
    sieve_begin(compiler, SIEVE_OP_ENVELOPE);
    return number_put(compiler, match) && number_put(compiler, part_given(given)) &&
           sieve_put_list(compiler, given->positional[0]) &&
           sieve_put_list(compiler, given->positional[1]);
}

static bool size_compile(struct sieve_compiler *compiler, const struct sieve_given *given)
{
    if (given->groups[8] == NULL) {
        return sieve_wrong_at(compiler, given->node, "it needs :over or :under");
    }
    sieve_begin(compiler, SIEVE_OP_SIZE);
    return number_put(compiler, given->positional[0]->number) &&
           number_put(compiler, given->tags[SIEVE_TAG_OVER] != NULL ? SIEVE_OVER : 0);
}

static bool hasflag_compile(struct sieve_compiler *compiler, const struct sieve_given *given,
                            uint32_t match)
{
    const struct sieve_argument *names = given->positional[0];
    uint32_t variables[SIEVE_VARIABLES_MAX];
    uint32_t count = 0;
    if (names != NULL && names->string_count > SIEVE_VARIABLES_MAX) {
        return sieve_wrong_argument(compiler, names, "too many variables");
    }
    for (const struct sieve_string *name = names != NULL ? names->strings : NULL; name != NULL;
         name = name->next) {
        if (!sieve_variable_given(compiler, name, &variables[count++])) {
            return false;
        }
    }
    if (names == NULL) {
        variables[count++] = SIEVE_VARIABLE_FLAGS;
    }
    sieve_begin(compiler, SIEVE_OP_HASFLAG);
    number_put(compiler, match);
    number_put(compiler, count);
    for (uint32_t i = 0; i < count; i++) {
        number_put(compiler, variables[i]);
    }
    return sieve_put_list(compiler, given->positional[1]);
}

static bool zone_valid(struct slice zone)
{
    if (zone.size != 5 || (zone.bytes[0] != '+' && zone.bytes[0] != '-')) {
        return false;
    }
    for (size_t i = 1; i < 5; i++) {
        if (zone.bytes[i] < '0' || zone.bytes[i] > '9') {
            return false;
        }
    }
    return true;
}

static bool date_compile(struct sieve_compiler *compiler, const struct sieve_given *given,
                         uint32_t match)
{
    uint64_t index;
    uint32_t flags;
    bool current = given->word == SIEVE_WORD_CURRENTDATE;
    const struct sieve_argument *zone = given->values[SIEVE_TAG_ZONE];
    const struct sieve_argument *part = given->positional[current ? 0 : 1];
    struct sieve_compiled_string text;
    if (!index_given(compiler, given, &index, &flags) ||
        !names_check(compiler, part, date_parts, "is no part of a date") ||
        (!current &&
         !names_check(compiler, given->positional[0], NULL, "is no name for a header field"))) {
        return false;
    }
    if (zone != NULL) {
        if (!sieve_string_compile(compiler, zone->strings, &text)) {
            return false;
        }
        if (text.kind == SIEVE_TEXT && !zone_valid(text.bytes)) {
            return sieve_wrong_argument(compiler, zone, "a zone is written as \"+0100\"");
        }
    }
    sieve_begin(compiler, current ? SIEVE_OP_CURRENTDATE : SIEVE_OP_DATE);
    number_put(compiler, match);
    if (!current) {
        number_put(compiler, index);
        number_put(compiler, flags);
    }
    number_put(compiler, zone != NULL                                  ? SIEVE_ZONE_GIVEN
                         : given->tags[SIEVE_TAG_ORIGINALZONE] != NULL ? SIEVE_ZONE_ORIGINAL
                                                                       : SIEVE_ZONE_LOCAL);
    return sieve_put_optional(compiler, zone) &&
           (current || sieve_put_string(compiler, given->positional[0])) &&
           sieve_put_string(compiler, part) &&
           sieve_put_list(compiler, given->positional[current ? 1 : 2]);
}

static bool body_compile(struct sieve_compiler *compiler, const struct sieve_given *given,
                         uint32_t match)
{
    enum sieve_transform transform = given->tags[SIEVE_TAG_RAW] != NULL       ? SIEVE_BODY_RAW
                                     : given->tags[SIEVE_TAG_CONTENT] != NULL ? SIEVE_BODY_CONTENT
                                                                              : SIEVE_BODY_TEXT;
    sieve_begin(compiler, SIEVE_OP_BODY);
    return number_put(compiler, match) && number_put(compiler, transform) &&
           sieve_put_optional_list(compiler, given->values[SIEVE_TAG_CONTENT]) &&
           sieve_put_list(compiler, given->positional[0]);
}

static bool duplicate_compile(struct sieve_compiler *compiler, const struct sieve_given *given)
{
    const struct sieve_argument *seconds = given->values[SIEVE_TAG_SECONDS];
    if (seconds != NULL && seconds->number > UINT32_MAX) {
        return sieve_wrong_argument(compiler, seconds, "the number is too large");
    }
    if (given->values[SIEVE_TAG_HEADER] != NULL &&
        !names_check(compiler, given->values[SIEVE_TAG_HEADER], NULL,
                     "is no name for a header field")) {
        return false;
    }
    sieve_begin(compiler, SIEVE_OP_DUPLICATE);
    return sieve_put_optional(compiler, given->values[SIEVE_TAG_HANDLE]) &&
           sieve_put_optional(compiler, given->values[SIEVE_TAG_HEADER]) &&
           sieve_put_optional(compiler, given->values[SIEVE_TAG_UNIQUEID]) &&
           number_put(compiler, seconds != NULL ? seconds->number : 0) &&
           number_put(compiler, (given->tags[SIEVE_TAG_LAST] != NULL ? SIEVE_DUPLICATE_LAST : 0u) |
                                    (seconds != NULL ? SIEVE_DUPLICATE_SECONDS : 0u));
}

/* RFC 5463 §4: what it names may be used from then on. Extensions that change how strings are read never. */
static bool ihave_compile(struct sieve_compiler *compiler, const struct sieve_given *given)
{
    const uint32_t never = SIEVE_EXTENSION_BIT(VARIABLES) | SIEVE_EXTENSION_BIT(ENCODED_CHARACTER);
    uint32_t found = 0;
    bool all = true;
    for (const struct sieve_string *name = given->positional[0]->strings; name != NULL;
         name = name->next) {
        enum sieve_extension extension = sieve_extension_find(name->text);
        uint32_t bit = 1u << extension;
        bool here =
            (compiler->enabled & bit) != 0 || (compiler->settings->extensions & bit & ~never) != 0;
        all = all && extension != SIEVE_EXTENSION_NONE && here;
        found |= bit;
    }
    if (all) {
        bool seconds = (found & SIEVE_EXTENSION_BIT(VACATION_SECONDS)) != 0; /* RFC 6131 §2 */
        compiler->enabled |= found | (seconds ? SIEVE_EXTENSION_BIT(VACATION) : 0u);
    }
    sieve_begin(compiler, all ? SIEVE_OP_TRUE : SIEVE_OP_FALSE);
    return true;
}

/* Left to right, and no further than needed. The jumps lead to each other: a false `allof` stays false. */
static bool tests_compile(struct sieve_compiler *compiler, const struct sieve_node *node,
                          enum sieve_operation way_out)
{
    struct sieve_code *code = sieve_unit_code(compiler);
    size_t *jumps = arena_take_array(&compiler->tree, node->test_count, sizeof(*jumps));
    uint32_t count = 0;
    if (jumps == NULL) {
        return sieve_wrong_at(compiler, node, "the script takes too much memory");
    }
    for (const struct sieve_node *test = node->tests; test != NULL; test = test->next) {
        if (!sieve_test_compile(compiler, test)) {
            return false;
        }
        if (test->next != NULL) {
            jumps[count++] = sieve_code_jump(code, way_out, test->line);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        sieve_code_land(code, jumps[i]);
    }
    return true;
}

static bool simple_compile(struct sieve_compiler *compiler, const struct sieve_given *given)
{
    switch (given->word) {
    case SIEVE_WORD_TRUE:
        sieve_begin(compiler, SIEVE_OP_TRUE);
        return true;
    case SIEVE_WORD_FALSE:
        sieve_begin(compiler, SIEVE_OP_FALSE);
        return true;
    case SIEVE_WORD_NOT:
        if (!sieve_test_compile(compiler, given->node->tests)) {
            return false;
        }
        sieve_begin(compiler, SIEVE_OP_NOT);
        return true;
    case SIEVE_WORD_ALLOF:
        return tests_compile(compiler, given->node, SIEVE_OP_JUMP_FALSE);
    case SIEVE_WORD_ANYOF:
        return tests_compile(compiler, given->node, SIEVE_OP_JUMP_TRUE);
    case SIEVE_WORD_EXISTS:
        if (!names_check(compiler, given->positional[0], NULL, "is no name for a header field")) {
            return false;
        }
        sieve_begin(compiler, SIEVE_OP_EXISTS);
        return sieve_put_list(compiler, given->positional[0]);
    case SIEVE_WORD_MAILBOXEXISTS:
        sieve_begin(compiler, SIEVE_OP_MAILBOXEXISTS);
        return sieve_put_list(compiler, given->positional[0]);
    case SIEVE_WORD_SIZE:
        return size_compile(compiler, given);
    case SIEVE_WORD_IHAVE:
        return ihave_compile(compiler, given);
    case SIEVE_WORD_DUPLICATE:
        return duplicate_compile(compiler, given);
    default:
        return false;
    }
}

/* Those that compare. Keys are the last argument. */
static bool matching_compile(struct sieve_compiler *compiler, const struct sieve_given *given)
{
    uint32_t match;
    const struct sieve_argument *keys = given->positional[0];
    for (unsigned i = 1; i < 4 && given->positional[i] != NULL; i++) {
        keys = given->positional[i];
    }
    if (!sieve_match_given(compiler, given, &match) ||
        !sieve_patterns_check(compiler, match, keys)) {
        return false;
    }
    switch (given->word) {
    case SIEVE_WORD_ADDRESS:
    case SIEVE_WORD_HEADER:
        return header_compile(compiler, given, match);
    case SIEVE_WORD_ENVELOPE:
        return envelope_compile(compiler, given, match);
    case SIEVE_WORD_HASFLAG:
        return hasflag_compile(compiler, given, match);
    case SIEVE_WORD_DATE:
    case SIEVE_WORD_CURRENTDATE:
        return date_compile(compiler, given, match);
    case SIEVE_WORD_BODY:
        return body_compile(compiler, given, match);
    case SIEVE_WORD_STRING:
        sieve_begin(compiler, SIEVE_OP_STRING);
        return number_put(compiler, match) && sieve_put_list(compiler, given->positional[0]) &&
               sieve_put_list(compiler, given->positional[1]);
    case SIEVE_WORD_ENVIRONMENT:
        sieve_begin(compiler, SIEVE_OP_ENVIRONMENT);
        return number_put(compiler, match) && sieve_put_string(compiler, given->positional[0]) &&
               sieve_put_list(compiler, given->positional[1]);
    default:
        return false;
    }
}

bool sieve_test_compile(struct sieve_compiler *compiler, const struct sieve_node *node)
{
    struct sieve_given given;
    bool deferred;
    if (!sieve_given_sort(compiler, node, true, &given, &deferred)) {
        return deferred && sieve_defer(compiler);
    }
    return (sieve_word_shapes[given.word].tags & SIEVE_TAGS_MATCH) != 0
               ? matching_compile(compiler, &given)
               : simple_compile(compiler, &given);
}
