/* SEARCH (RFC 9051 §6.4.4, RFC 4731, 5032, 5182, 5267, 6203, 7162, 8474, 8514, 9394), SORT and THREAD (RFC 5256). */
#include "proto/imap/parser_private.h"

/* What a key of the table has behind it. */
enum argument { NOTHING, ASTRING, DATE, NUMBER, NZ_NUMBER, KEYWORD, UIDS, OBJECT_ID, HEADER };

struct search_word {
    const char *word;
    uint8_t kind;     /* enum imap_search_kind */
    uint8_t argument; /* enum argument */
    uint8_t flag;     /* enum imap_flag */
};

static const struct search_word search_words[] = {
    {"ALL", IMAP_SEARCH_ALL, NOTHING, 0},
    {"ANSWERED", IMAP_SEARCH_FLAG, NOTHING, IMAP_FLAG_ANSWERED},
    {"BCC", IMAP_SEARCH_BCC, ASTRING, 0},
    {"BEFORE", IMAP_SEARCH_BEFORE, DATE, 0},
    {"BODY", IMAP_SEARCH_BODY, ASTRING, 0},
    {"CC", IMAP_SEARCH_CC, ASTRING, 0},
    {"DELETED", IMAP_SEARCH_FLAG, NOTHING, IMAP_FLAG_DELETED},
    {"DRAFT", IMAP_SEARCH_FLAG, NOTHING, IMAP_FLAG_DRAFT},
    {"EMAILID", IMAP_SEARCH_EMAILID, OBJECT_ID, 0},
    {"FLAGGED", IMAP_SEARCH_FLAG, NOTHING, IMAP_FLAG_FLAGGED},
    {"FROM", IMAP_SEARCH_FROM, ASTRING, 0},
    {"HEADER", IMAP_SEARCH_HEADER, HEADER, 0},
    {"KEYWORD", IMAP_SEARCH_KEYWORD, KEYWORD, 0},
    {"LARGER", IMAP_SEARCH_LARGER, NUMBER, 0},
    {"NEW", IMAP_SEARCH_NEW, NOTHING, 0},
    {"OLD", IMAP_SEARCH_OLD, NOTHING, 0},
    {"OLDER", IMAP_SEARCH_OLDER, NZ_NUMBER, 0},
    {"ON", IMAP_SEARCH_ON, DATE, 0},
    {"RECENT", IMAP_SEARCH_RECENT, NOTHING, 0},
    {"SAVEDATESUPPORTED", IMAP_SEARCH_SAVEDATESUPPORTED, NOTHING, 0},
    {"SAVEDBEFORE", IMAP_SEARCH_SAVEDBEFORE, DATE, 0},
    {"SAVEDON", IMAP_SEARCH_SAVEDON, DATE, 0},
    {"SAVEDSINCE", IMAP_SEARCH_SAVEDSINCE, DATE, 0},
    {"SEEN", IMAP_SEARCH_FLAG, NOTHING, IMAP_FLAG_SEEN},
    {"SENTBEFORE", IMAP_SEARCH_SENTBEFORE, DATE, 0},
    {"SENTON", IMAP_SEARCH_SENTON, DATE, 0},
    {"SENTSINCE", IMAP_SEARCH_SENTSINCE, DATE, 0},
    {"SINCE", IMAP_SEARCH_SINCE, DATE, 0},
    {"SMALLER", IMAP_SEARCH_SMALLER, NUMBER, 0},
    {"SUBJECT", IMAP_SEARCH_SUBJECT, ASTRING, 0},
    {"TEXT", IMAP_SEARCH_TEXT, ASTRING, 0},
    {"THREADID", IMAP_SEARCH_THREADID, OBJECT_ID, 0},
    {"TO", IMAP_SEARCH_TO, ASTRING, 0},
    {"UID", IMAP_SEARCH_UIDS, UIDS, 0},
    {"UNANSWERED", IMAP_SEARCH_UNFLAG, NOTHING, IMAP_FLAG_ANSWERED},
    {"UNDELETED", IMAP_SEARCH_UNFLAG, NOTHING, IMAP_FLAG_DELETED},
    {"UNDRAFT", IMAP_SEARCH_UNFLAG, NOTHING, IMAP_FLAG_DRAFT},
    {"UNFLAGGED", IMAP_SEARCH_UNFLAG, NOTHING, IMAP_FLAG_FLAGGED},
    {"UNKEYWORD", IMAP_SEARCH_UNKEYWORD, KEYWORD, 0},
    {"UNSEEN", IMAP_SEARCH_UNFLAG, NOTHING, IMAP_FLAG_SEEN},
    {"YOUNGER", IMAP_SEARCH_YOUNGER, NZ_NUMBER, 0},
};

/* RFC 8474 §7: letters, digits, '_' and '-', at most 255. */
static bool take_object_id(struct imap_parser *parser, struct slice *id)
{
    if (!imap_take_atom(parser, id)) {
        return false;
    }
    for (size_t i = 0; i < id->size; i++) {
        uint8_t byte = slice_lower(id->bytes[i]);
        bool digit = byte >= '0' && byte <= '9';
        if (!digit && !(byte >= 'a' && byte <= 'z') && byte != '_' && byte != '-') {
            return imap_parse_bad(parser, "Invalid object identifier");
        }
    }
    return id->size <= 255 || imap_parse_bad(parser, "Invalid object identifier");
}

static bool take_argument(struct imap_parser *parser, enum argument argument,
                          struct imap_search_key *key)
{
    uint32_t number;
    if (argument == NOTHING) {
        return true;
    }
    if (!imap_take_space(parser)) {
        return false;
    }
    switch (argument) {
    case NOTHING:
        break;
    case ASTRING:
        return imap_take_astring(parser, &key->text);
    case DATE:
        return imap_take_date(parser, &key->day);
    case NUMBER:
        return imap_take_number(parser, INT64_MAX, &key->number);
    case NZ_NUMBER:
        if (!imap_take_nz_number(parser, &number)) {
            return false;
        }
        key->number = number;
        return true;
    case KEYWORD:
        return imap_take_atom(parser, &key->text);
    case UIDS:
        return imap_take_set(parser, &key->set);
    case OBJECT_ID:
        return take_object_id(parser, &key->text);
    case HEADER:
        return imap_take_astring(parser, &key->name) && imap_take_space(parser) &&
               imap_take_astring(parser, &key->text);
    }
    return true;
}

/* "MODSEQ 5" or "MODSEQ "/flags/\\draft" all 5", RFC 7162 §3.1.5. The kind of the entry makes no difference to us: all
 * flags are what all see. */
static bool take_mod_sequence_key(struct imap_parser *parser, struct imap_command *command,
                                  struct imap_search_key *key)
{
    static const struct imap_word types[] = {{"priv", 0}, {"shared", 1}, {"all", 2}};
    uint32_t type;
    key->kind = IMAP_SEARCH_MODSEQ;
    command->condstore = true;
    if (!imap_take_space(parser)) {
        return false;
    }
    if (imap_peek(parser) == '"') {
        if (!imap_take_string(parser, &key->text) || !imap_take_space(parser)) {
            return false;
        }
        if (!imap_skip_word_of(parser, types, sizeof(types) / sizeof(*types), &type)) {
            return imap_parse_bad(parser, "Expected priv, shared or all");
        }
        if (!imap_take_space(parser)) {
            return false;
        }
    }
    return imap_take_mod_sequence(parser, &key->number);
}

static bool take_key(struct imap_parser *parser, struct imap_command *command, unsigned depth,
                     struct imap_search_key *key);

/* One key more among the children of another. */
static bool take_child(struct imap_parser *parser, struct imap_command *command, unsigned depth,
                       struct imap_search_key *parent)
{
    struct imap_search_key child = {0};
    const void *keys = parent->keys;
    if (!take_key(parser, command, depth + 1, &child)) {
        return false;
    }
    struct imap_search_key *place = imap_list_add(parser, &keys, &parent->count, sizeof(*place));
    if (place == NULL) {
        return false;
    }
    *place = child;
    parent->keys = keys;
    return true;
}

/* Keys that consist of keys. *mine: it was one of them. */
static bool take_compound(struct imap_parser *parser, struct imap_command *command, unsigned depth,
                          struct imap_search_key *key, bool *mine)
{
    *mine = true;
    if (imap_skip_byte(parser, '(')) {
        key->kind = IMAP_SEARCH_AND;
        do {
            if (!take_child(parser, command, depth, key)) {
                return false;
            }
        } while (imap_skip_byte(parser, ' '));
        return imap_take_byte(parser, ')', "Expected ) in the search");
    }
    if (imap_skip_word(parser, "NOT")) {
        key->kind = IMAP_SEARCH_NOT;
        return imap_take_space(parser) && take_child(parser, command, depth, key);
    }
    if (imap_skip_word(parser, "OR")) {
        key->kind = IMAP_SEARCH_OR;
        return imap_take_space(parser) && take_child(parser, command, depth, key) &&
               imap_take_space(parser) && take_child(parser, command, depth, key);
    }
    if (imap_skip_word(parser, "FUZZY")) {
        if (!imap_take_space(parser) || !take_key(parser, command, depth + 1, key)) {
            return false;
        }
        key->fuzzy = true;
        return true;
    }
    *mine = false;
    return true;
}

static bool take_key(struct imap_parser *parser, struct imap_command *command, unsigned depth,
                     struct imap_search_key *key)
{
    bool mine;
    uint8_t next = imap_peek(parser);
    if (depth > IMAP_SEARCH_DEPTH_MAX) {
        return imap_parse_bad(parser, "Search is nested too deep");
    }
    if (!take_compound(parser, command, depth, key, &mine) || mine) {
        return parser->result == IMAP_PARSE_GOOD;
    }
    if ((next >= '0' && next <= '9') || next == '*' || next == '$') {
        key->kind = IMAP_SEARCH_NUMBERS;
        return imap_take_set(parser, &key->set);
    }
    if (imap_skip_word(parser, "MODSEQ")) {
        return take_mod_sequence_key(parser, command, key);
    }
    for (size_t i = 0; i < sizeof(search_words) / sizeof(*search_words); i++) {
        const struct search_word *word = &search_words[i];
        if (imap_skip_word(parser, word->word)) {
            key->kind = word->kind;
            key->flag = word->flag;
            return take_argument(parser, (enum argument)word->argument, key);
        }
    }
    return imap_parse_bad(parser, "Unknown search key");
}

/* ---- What stands before the keys ---- */

/* What stands behind a return option. */
static bool take_return_argument(struct imap_parser *parser, struct imap_command *command,
                                 uint32_t option)
{
    struct imap_search *search = &command->search;
    if (option == IMAP_SEARCH_PARTIAL) {
        return imap_take_space(parser) && imap_take_partial(parser, &search->partial);
    }
    bool items = option == IMAP_SEARCH_UPDATE && parser->end - parser->at > 1 &&
                 parser->at[0] == ' ' && parser->at[1] == '(';
    if (!items) {
        return true;
    }
    parser->at++; /* RFC 5465 §7 */
    return imap_parse_fetch_items(parser, command, &search->update, &search->update_count);
}

static bool take_return(struct imap_parser *parser, struct imap_command *command)
{
    struct imap_search *search = &command->search;
    static const struct imap_word words[] = {
        {"MIN", IMAP_SEARCH_MIN},        {"MAX", IMAP_SEARCH_MAX},
        {"ALL", IMAP_SEARCH_RETURN_ALL}, {"COUNT", IMAP_SEARCH_COUNT},
        {"SAVE", IMAP_SEARCH_SAVE},      {"PARTIAL", IMAP_SEARCH_PARTIAL},
        {"UPDATE", IMAP_SEARCH_UPDATE},  {"CONTEXT", IMAP_SEARCH_CONTEXT},
    };
    search->extended = true;
    if (!imap_take_space(parser) || !imap_take_byte(parser, '(', "Expected ( behind RETURN")) {
        return false;
    }
    if (imap_skip_byte(parser, ')')) {
        search->returns = IMAP_SEARCH_RETURN_ALL; /* RFC 4731 §3.1 */
        return true;
    }
    do {
        uint32_t option;
        if (!imap_skip_word_of(parser, words, sizeof(words) / sizeof(*words), &option)) {
            return imap_parse_bad(parser, "Unknown return option");
        }
        bool once = option == IMAP_SEARCH_PARTIAL || option == IMAP_SEARCH_UPDATE;
        if (once && (search->returns & option) != 0) {
            return imap_parse_bad(parser, "PARTIAL or UPDATE twice");
        }
        if (!take_return_argument(parser, command, option)) {
            return false;
        }
        search->returns |= option;
    } while (imap_skip_byte(parser, ' '));
    uint32_t whole = IMAP_SEARCH_RETURN_ALL | IMAP_SEARCH_PARTIAL;
    if ((search->returns & whole) == whole) {
        return imap_parse_bad(parser, "ALL and PARTIAL exclude each other"); /* RFC 9394 §3.1 */
    }
    return imap_take_byte(parser, ')', "Expected ) behind the return options");
}

static bool take_charset(struct imap_parser *parser, struct imap_search *search)
{
    if (!imap_take_astring(parser, &search->charset)) {
        return false;
    }
    return slice_equal_nocase(search->charset, slice_text("UTF-8")) ||
           slice_equal_nocase(search->charset, slice_text("US-ASCII")) ||
           imap_parse_fail(parser, IMAP_PARSE_CHARSET, "Unknown character set");
}

static bool take_keys(struct imap_parser *parser, struct imap_command *command)
{
    struct imap_search_key *all = &command->search.key;
    all->kind = IMAP_SEARCH_AND;
    parser->utf8 =
        true; /* what is searched for is text: of what is not UTF-8 nothing can be found */
    do {
        if (!take_child(parser, command, 0, all)) {
            return false;
        }
    } while (imap_skip_byte(parser, ' '));
    return true;
}

bool imap_parse_search(struct imap_parser *parser, struct imap_command *command)
{
    struct imap_search *search = &command->search;
    if (!imap_take_space(parser)) {
        return false;
    }
    if (imap_skip_word(parser, "RETURN") &&
        (!take_return(parser, command) || !imap_take_space(parser))) {
        return false;
    }
    if (imap_skip_word(parser, "CHARSET") &&
        (!imap_take_space(parser) || !take_charset(parser, search) || !imap_take_space(parser))) {
        return false;
    }
    return take_keys(parser, command);
}

static bool take_sort_keys(struct imap_parser *parser, struct imap_search *search)
{
    static const struct imap_word words[] = {
        {"ARRIVAL", IMAP_SORT_ARRIVAL},
        {"CC", IMAP_SORT_CC},
        {"DATE", IMAP_SORT_DATE},
        {"FROM", IMAP_SORT_FROM},
        {"SIZE", IMAP_SORT_SIZE},
        {"SUBJECT", IMAP_SORT_SUBJECT},
        {"TO", IMAP_SORT_TO},
        {"DISPLAYFROM", IMAP_SORT_DISPLAYFROM},
        {"DISPLAYTO", IMAP_SORT_DISPLAYTO},
    };
    const void *keys = NULL;
    if (!imap_take_byte(parser, '(', "Expected a list of sort keys")) {
        return false;
    }
    do {
        uint32_t kind;
        bool reverse = imap_skip_word(parser, "REVERSE");
        if (reverse && !imap_take_space(parser)) {
            return false;
        }
        if (!imap_skip_word_of(parser, words, sizeof(words) / sizeof(*words), &kind)) {
            return imap_parse_bad(parser, "Unknown sort key");
        }
        struct imap_sort_key *key = imap_list_add(parser, &keys, &search->sort_count, sizeof(*key));
        if (key == NULL) {
            return false;
        }
        *key = (struct imap_sort_key){(uint8_t)kind, reverse};
        search->sort = keys;
    } while (imap_skip_byte(parser, ' '));
    return imap_take_byte(parser, ')', "Expected ) behind the sort keys");
}

bool imap_parse_sort(struct imap_parser *parser, struct imap_command *command)
{
    struct imap_search *search = &command->search;
    if (!imap_take_space(parser)) {
        return false;
    }
    if (imap_skip_word(parser, "RETURN") &&
        (!take_return(parser, command) || !imap_take_space(parser))) {
        return false;
    }
    return take_sort_keys(parser, search) && imap_take_space(parser) &&
           take_charset(parser, search) && imap_take_space(parser) && take_keys(parser, command);
}

bool imap_parse_thread(struct imap_parser *parser, struct imap_command *command)
{
    struct imap_search *search = &command->search;
    if (!imap_take_space(parser)) {
        return false;
    }
    if (imap_skip_word(parser, "REFERENCES")) {
        search->thread = IMAP_THREAD_REFERENCES;
    } else if (imap_skip_word(parser, "ORDEREDSUBJECT")) {
        search->thread = IMAP_THREAD_ORDEREDSUBJECT;
    } else {
        return imap_parse_bad(parser, "Unknown threading algorithm");
    }
    return imap_take_space(parser) && take_charset(parser, search) && imap_take_space(parser) &&
           take_keys(parser, command);
}
