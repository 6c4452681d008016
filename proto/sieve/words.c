#include "proto/sieve/words.h"

#define E(name) SIEVE_EXTENSION_##name
#define T(name) SIEVE_TAGS_##name

const struct sieve_word_shape sieve_word_shapes[] = {
    [SIEVE_WORD_REQUIRE] = {"require", E(NONE), "l", 0, SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_IF] = {"if", E(NONE), "", 0, SIEVE_TESTS_ONE, true},
    [SIEVE_WORD_ELSIF] = {"elsif", E(NONE), "", 0, SIEVE_TESTS_ONE, true},
    [SIEVE_WORD_ELSE] = {"else", E(NONE), "", 0, SIEVE_TESTS_NONE, true},
    [SIEVE_WORD_STOP] = {"stop", E(NONE), "", 0, SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_KEEP] = {"keep", E(NONE), "", T(FLAGS), SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_DISCARD] = {"discard", E(NONE), "", 0, SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_FILEINTO] = {"fileinto", E(FILEINTO), "s", T(FLAGS) | T(COPY) | T(CREATE),
                             SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_REDIRECT] = {"redirect", E(NONE), "s", T(COPY), SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_REJECT] = {"reject", E(REJECT), "s", 0, SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_EREJECT] = {"ereject", E(EREJECT), "s", 0, SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_VACATION] = {"vacation", E(VACATION), "s", T(VACATION), SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_SETFLAG] = {"setflag", E(IMAP4FLAGS), "?sl", 0, SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_ADDFLAG] = {"addflag", E(IMAP4FLAGS), "?sl", 0, SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_REMOVEFLAG] = {"removeflag", E(IMAP4FLAGS), "?sl", 0, SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_SET] = {"set", E(VARIABLES), "ss", T(SET), SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_INCLUDE] = {"include", E(INCLUDE), "s", T(INCLUDE), SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_RETURN] = {"return", E(INCLUDE), "", 0, SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_GLOBAL] = {"global", E(INCLUDE), "l", 0, SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_ADDHEADER] = {"addheader", E(EDITHEADER), "ss", T(ADDHEADER), SIEVE_TESTS_NONE,
                              false},
    [SIEVE_WORD_DELETEHEADER] = {"deleteheader", E(EDITHEADER), "s?l", T(DELETEHEADER) | T(MATCH),
                                 SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_ERROR] = {"error", E(IHAVE), "s", 0, SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_TRUE] = {"true", E(NONE), "", 0, SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_FALSE] = {"false", E(NONE), "", 0, SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_NOT] = {"not", E(NONE), "", 0, SIEVE_TESTS_ONE, false},
    [SIEVE_WORD_ALLOF] = {"allof", E(NONE), "", 0, SIEVE_TESTS_MANY, false},
    [SIEVE_WORD_ANYOF] = {"anyof", E(NONE), "", 0, SIEVE_TESTS_MANY, false},
    [SIEVE_WORD_ADDRESS] = {"address", E(NONE), "ll", T(MATCH) | T(ADDRESS) | T(INDEX),
                            SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_ENVELOPE] = {"envelope", E(ENVELOPE), "ll", T(MATCH) | T(ADDRESS), SIEVE_TESTS_NONE,
                             false},
    [SIEVE_WORD_EXISTS] = {"exists", E(NONE), "l", 0, SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_HEADER] = {"header", E(NONE), "ll", T(MATCH) | T(INDEX), SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_SIZE] = {"size", E(NONE), "n", T(SIZE), SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_STRING] = {"string", E(VARIABLES), "ll", T(MATCH), SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_HASFLAG] = {"hasflag", E(IMAP4FLAGS), "?ll", T(MATCH), SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_DATE] = {"date", E(DATE), "ssl", T(MATCH) | T(INDEX) | T(ZONE) | T(ORIGINALZONE),
                         SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_CURRENTDATE] = {"currentdate", E(DATE), "sl", T(MATCH) | T(ZONE), SIEVE_TESTS_NONE,
                                false},
    [SIEVE_WORD_BODY] = {"body", E(BODY), "l", T(MATCH) | T(BODY), SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_ENVIRONMENT] = {"environment", E(ENVIRONMENT), "sl", T(MATCH), SIEVE_TESTS_NONE,
                                false},
    [SIEVE_WORD_MAILBOXEXISTS] = {"mailboxexists", E(MAILBOX), "l", 0, SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_IHAVE] = {"ihave", E(IHAVE), "l", 0, SIEVE_TESTS_NONE, false},
    [SIEVE_WORD_DUPLICATE] = {"duplicate", E(DUPLICATE), "", T(DUPLICATE), SIEVE_TESTS_NONE, false},
};

static const struct sieve_tag_shape tag_shapes[] = {
    {"comparator", SIEVE_TAG_COMPARATOR, E(NONE), 's', 0, T(MATCH)},
    {"is", SIEVE_TAG_IS, E(NONE), 0, 1, T(MATCH)},
    {"contains", SIEVE_TAG_CONTAINS, E(NONE), 0, 1, T(MATCH)},
    {"matches", SIEVE_TAG_MATCHES, E(NONE), 0, 1, T(MATCH)},
    {"regex", SIEVE_TAG_REGEX, E(REGEX), 0, 1, T(MATCH)},
    {"count", SIEVE_TAG_COUNT_OF, E(RELATIONAL), 's', 1, T(MATCH)},
    {"value", SIEVE_TAG_VALUE, E(RELATIONAL), 's', 1, T(MATCH)},
    {"all", SIEVE_TAG_ALL, E(NONE), 0, 2, T(ADDRESS)},
    {"localpart", SIEVE_TAG_LOCALPART, E(NONE), 0, 2, T(ADDRESS)},
    {"domain", SIEVE_TAG_DOMAIN, E(NONE), 0, 2, T(ADDRESS)},
    {"user", SIEVE_TAG_USER, E(SUBADDRESS), 0, 2, T(ADDRESS)},
    {"detail", SIEVE_TAG_DETAIL, E(SUBADDRESS), 0, 2, T(ADDRESS)},
    {"index", SIEVE_TAG_INDEX, E(INDEX), 'n', 0, T(INDEX)},
    {"index", SIEVE_TAG_INDEX, E(EDITHEADER), 'n', 0, T(DELETEHEADER)},
    {"last", SIEVE_TAG_LAST, E(INDEX), 0, 0, T(INDEX)},
    {"last", SIEVE_TAG_LAST, E(EDITHEADER), 0, 0, T(DELETEHEADER) | T(ADDHEADER)},
    {"last", SIEVE_TAG_LAST, E(DUPLICATE), 0, 0, T(DUPLICATE)},
    {"flags", SIEVE_TAG_FLAGS, E(IMAP4FLAGS), 'l', 0, T(FLAGS)},
    {"copy", SIEVE_TAG_COPY, E(COPY), 0, 0, T(COPY)},
    {"create", SIEVE_TAG_CREATE, E(MAILBOX), 0, 0, T(CREATE)},
    {"days", SIEVE_TAG_DAYS, E(VACATION), 'n', 3, T(VACATION)},
    {"seconds", SIEVE_TAG_SECONDS, E(VACATION_SECONDS), 'n', 3, T(VACATION)},
    {"seconds", SIEVE_TAG_SECONDS, E(DUPLICATE), 'n', 0, T(DUPLICATE)},
    {"subject", SIEVE_TAG_SUBJECT, E(VACATION), 's', 0, T(VACATION)},
    {"from", SIEVE_TAG_FROM, E(VACATION), 's', 0, T(VACATION)},
    {"addresses", SIEVE_TAG_ADDRESSES, E(VACATION), 'l', 0, T(VACATION)},
    {"mime", SIEVE_TAG_MIME, E(VACATION), 0, 0, T(VACATION)},
    {"handle", SIEVE_TAG_HANDLE, E(NONE), 's', 0, T(VACATION) | T(DUPLICATE)},
    {"lower", SIEVE_TAG_LOWER, E(VARIABLES), 0, 4, T(SET)},
    {"upper", SIEVE_TAG_UPPER, E(VARIABLES), 0, 4, T(SET)},
    {"lowerfirst", SIEVE_TAG_LOWERFIRST, E(VARIABLES), 0, 5, T(SET)},
    {"upperfirst", SIEVE_TAG_UPPERFIRST, E(VARIABLES), 0, 5, T(SET)},
    {"quotewildcard", SIEVE_TAG_QUOTEWILDCARD, E(VARIABLES), 0, 6, T(SET)},
    {"quoteregex", SIEVE_TAG_QUOTEREGEX, E(REGEX), 0, 6, T(SET)},
    {"length", SIEVE_TAG_LENGTH, E(VARIABLES), 0, 0, T(SET)},
    {"personal", SIEVE_TAG_PERSONAL, E(INCLUDE), 0, 7, T(INCLUDE)},
    {"global", SIEVE_TAG_GLOBAL, E(INCLUDE), 0, 7, T(INCLUDE)},
    {"once", SIEVE_TAG_ONCE, E(INCLUDE), 0, 0, T(INCLUDE)},
    {"optional", SIEVE_TAG_OPTIONAL, E(INCLUDE), 0, 0, T(INCLUDE)},
    {"over", SIEVE_TAG_OVER, E(NONE), 0, 8, T(SIZE)},
    {"under", SIEVE_TAG_UNDER, E(NONE), 0, 8, T(SIZE)},
    {"zone", SIEVE_TAG_ZONE, E(DATE), 's', 9, T(ZONE)},
    {"originalzone", SIEVE_TAG_ORIGINALZONE, E(DATE), 0, 9, T(ORIGINALZONE)},
    {"raw", SIEVE_TAG_RAW, E(BODY), 0, 2, T(BODY)},
    {"content", SIEVE_TAG_CONTENT, E(BODY), 'l', 2, T(BODY)},
    {"text", SIEVE_TAG_TEXT, E(BODY), 0, 2, T(BODY)},
    {"header", SIEVE_TAG_HEADER, E(DUPLICATE), 's', 1, T(DUPLICATE)},
    {"uniqueid", SIEVE_TAG_UNIQUEID, E(DUPLICATE), 's', 1, T(DUPLICATE)},
};

int sieve_word_find(struct slice name, bool tests)
{
    int count = (int)(sizeof(sieve_word_shapes) / sizeof(sieve_word_shapes[0]));
    int first = tests ? SIEVE_WORD_TESTS : 0;
    for (int word = first; word < (tests ? count : SIEVE_WORD_TESTS); word++) {
        if (slice_equal_nocase(name, slice_text(sieve_word_shapes[word].name))) {
            return word;
        }
    }
    return -1;
}

const struct sieve_tag_shape *sieve_tag_find(struct slice name, uint32_t tags)
{
    for (size_t i = 0; i < sizeof(tag_shapes) / sizeof(tag_shapes[0]); i++) {
        if ((tag_shapes[i].tags & tags) != 0 &&
            slice_equal_nocase(name, slice_text(tag_shapes[i].name))) {
            return &tag_shapes[i];
        }
    }
    return NULL;
}

const char *sieve_extension_name(enum sieve_extension extension)
{
    static const char *const names[] = {
#define NAME(name, text) [SIEVE_EXTENSION_##name] = text,
        SIEVE_EXTENSIONS(NAME)
#undef NAME
    };
    return names[extension];
}

enum sieve_extension sieve_extension_find(struct slice name)
{
    for (int i = SIEVE_EXTENSION_NONE + 1; i < SIEVE_EXTENSION_COUNT; i++) {
        if (slice_equal(name, slice_text(sieve_extension_name((enum sieve_extension)i)))) {
            return (enum sieve_extension)i;
        }
    }
    return SIEVE_EXTENSION_NONE;
}
