/* What several commands are made of: sets, mailboxes, dates, flags, STATUS items. */
#include "proto/imap/parser_private.h"

static struct slice rest_of(const struct imap_parser *parser)
{
    return slice_of(parser->at, (size_t)(parser->end - parser->at));
}

bool imap_take_set(struct imap_parser *parser, struct imap_set *set)
{
    size_t used;
    switch (imap_set_read(parser->arena, rest_of(parser), &used, set)) {
    case IMAP_SET_GOOD:
        parser->at += used;
        return true;
    case IMAP_SET_BAD:
        break;
    case IMAP_SET_MEMORY:
        return imap_parse_fail(parser, IMAP_PARSE_LIMIT, "Message set is too large");
    }
    return imap_parse_bad(parser, "Invalid message set");
}

bool imap_take_mailbox(struct imap_parser *parser, struct slice *name)
{
    struct slice sent;
    if (!imap_take_astring(parser, &sent)) {
        return false;
    }
    switch (imap_name_read(parser->arena, sent, parser->utf8, name)) {
    case IMAP_NAME_GOOD:
        return true;
    case IMAP_NAME_ENCODING:
        return imap_parse_fail(parser, IMAP_PARSE_NAME,
                               parser->utf8 ? "Mailbox name is not valid UTF-8"
                                            : "Mailbox name is not valid modified UTF-7");
    case IMAP_NAME_LONG:
        return imap_parse_fail(parser, IMAP_PARSE_NAME, "Mailbox name is too long or too deep");
    case IMAP_NAME_LEVEL:
        return imap_parse_fail(parser, IMAP_PARSE_NAME,
                               "Mailbox name has an empty level, or one that is a dot or two");
    case IMAP_NAME_CHARACTER:
        return imap_parse_fail(parser, IMAP_PARSE_NAME, "Mailbox name has a control character");
    case IMAP_NAME_MEMORY:
        break;
    }
    return imap_parse_fail(parser, IMAP_PARSE_LIMIT, "Command is too complex");
}

bool imap_take_mod_sequence(struct imap_parser *parser, uint64_t *value)
{
    return imap_take_number(parser, INT64_MAX, value); /* RFC 7162 §3.1: 63 bits */
}

bool imap_take_partial(struct imap_parser *parser, struct imap_partial *partial)
{
    size_t used = imap_partial_read(rest_of(parser), partial);
    parser->at += used;
    return used > 0 || imap_parse_bad(parser, "Invalid range of PARTIAL");
}

/* ---- Dates ---- */

/* Days since 1970-01-01 in the Gregorian calendar, for the years 0 to 9999. */
static int32_t day_of(int year, int month, int day)
{
    int y = month <= 2 ? year - 1 : year;
    int era = (y >= 0 ? y : y - 399) / 400;
    int year_of_era = y - era * 400;
    int day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static int days_in(int year, int month)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap ? 1 : 0);
}

/* Exactly so many digits. */
static bool take_digits(struct imap_parser *parser, int count, int *value)
{
    *value = 0;
    for (int i = 0; i < count; i++) {
        uint8_t byte = imap_peek(parser);
        if (byte < '0' || byte > '9') {
            return imap_parse_bad(parser, "Invalid date");
        }
        *value = *value * 10 + (byte - '0');
        parser->at++;
    }
    return true;
}

/* "-Feb-1994" behind the day. */
static bool take_month_year(struct imap_parser *parser, int day, int32_t *days)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    int month = 0, year;
    if (!imap_take_byte(parser, '-', "Invalid date")) {
        return false;
    }
    if (parser->end - parser->at >= 3) {
        for (int i = 0; i < 12; i++) {
            if (slice_equal_nocase(slice_of(parser->at, 3), slice_of(months + i * 3, 3))) {
                month = i + 1;
            }
        }
    }
    if (month == 0) {
        return imap_parse_bad(parser, "Invalid month in a date");
    }
    parser->at += 3;
    if (!imap_take_byte(parser, '-', "Invalid date") || !take_digits(parser, 4, &year)) {
        return false;
    }
    if (day < 1 || day > days_in(year, month)) {
        return imap_parse_bad(parser, "There is no such day");
    }
    *days = day_of(year, month, day);
    return true;
}

bool imap_take_date(struct imap_parser *parser, int32_t *day)
{
    bool quoted = imap_skip_byte(parser, '"');
    bool two = parser->end - parser->at > 1 && parser->at[1] != '-';
    int number;
    return take_digits(parser, two ? 2 : 1, &number) && take_month_year(parser, number, day) &&
           (!quoted || imap_take_byte(parser, '"', "Invalid date"));
}

bool imap_take_date_time(struct imap_parser *parser, int64_t *wall_s, int16_t *zone_minutes)
{
    int day, hour, minute, second, zone_hours, zone_rest;
    int32_t days;
    if (!imap_take_byte(parser, '"', "Expected a date") ||
        !take_digits(parser, imap_skip_byte(parser, ' ') ? 1 : 2, &day) ||
        !take_month_year(parser, day, &days) || !imap_take_byte(parser, ' ', "Invalid date") ||
        !take_digits(parser, 2, &hour) || !imap_take_byte(parser, ':', "Invalid time") ||
        !take_digits(parser, 2, &minute) || !imap_take_byte(parser, ':', "Invalid time") ||
        !take_digits(parser, 2, &second) || !imap_take_byte(parser, ' ', "Invalid time")) {
        return false;
    }
    bool minus = imap_skip_byte(parser, '-');
    if ((!minus && !imap_take_byte(parser, '+', "Invalid time zone")) ||
        !take_digits(parser, 2, &zone_hours) || !take_digits(parser, 2, &zone_rest) ||
        !imap_take_byte(parser, '"', "Invalid date")) {
        return false;
    }
    if (hour > 23 || minute > 59 || second > 60 || zone_hours > 23 || zone_rest > 59) {
        return imap_parse_bad(parser, "There is no such time");
    }
    int zone = (zone_hours * 60 + zone_rest) * (minus ? -1 : 1);
    *zone_minutes = (int16_t)zone;
    *wall_s = (int64_t)days * 86400 + hour * 3600 + minute * 60 + second - (int64_t)zone * 60;
    return true;
}

/* ---- Flags ---- */

bool imap_take_flag(struct imap_parser *parser, struct imap_flags *flags)
{
    static const struct imap_word words[] = {
        {"Answered", IMAP_FLAG_ANSWERED}, {"Flagged", IMAP_FLAG_FLAGGED},
        {"Deleted", IMAP_FLAG_DELETED},   {"Seen", IMAP_FLAG_SEEN},
        {"Draft", IMAP_FLAG_DRAFT},
    };
    struct slice keyword;
    uint32_t flag;
    if (imap_skip_byte(parser, '\\')) {
        if (!imap_skip_word_of(parser, words, sizeof(words) / sizeof(*words), &flag)) {
            return imap_parse_bad(parser, "There is no such system flag to be set");
        }
        flags->system |= flag;
        return true;
    }
    return imap_take_atom(parser, &keyword) &&
           imap_text_list_add(parser, &flags->keywords, keyword);
}

bool imap_take_flag_list(struct imap_parser *parser, struct imap_flags *flags)
{
    if (!imap_take_byte(parser, '(', "Expected a list of flags")) {
        return false;
    }
    if (imap_skip_byte(parser, ')')) {
        return true;
    }
    do {
        if (!imap_take_flag(parser, flags)) {
            return false;
        }
    } while (imap_skip_byte(parser, ' '));
    return imap_take_byte(parser, ')', "Expected ) behind the flags");
}

bool imap_take_status_items(struct imap_parser *parser, uint32_t *items)
{
    static const struct imap_word words[] = {
        {"MESSAGES", IMAP_STATUS_MESSAGES},
        {"RECENT", IMAP_STATUS_RECENT},
        {"UIDNEXT", IMAP_STATUS_UIDNEXT},
        {"UIDVALIDITY", IMAP_STATUS_UIDVALIDITY},
        {"UNSEEN", IMAP_STATUS_UNSEEN},
        {"DELETED", IMAP_STATUS_DELETED},
        {"SIZE", IMAP_STATUS_SIZE},
        {"HIGHESTMODSEQ", IMAP_STATUS_HIGHESTMODSEQ},
        {"APPENDLIMIT", IMAP_STATUS_APPENDLIMIT},
        {"MAILBOXID", IMAP_STATUS_MAILBOXID},
        {"DELETED-STORAGE", IMAP_STATUS_DELETED_STORAGE},
    };
    uint32_t item;
    if (!imap_take_byte(parser, '(', "Expected a list of STATUS items")) {
        return false;
    }
    do {
        if (!imap_skip_word_of(parser, words, sizeof(words) / sizeof(*words), &item)) {
            return imap_parse_bad(parser, "Unknown STATUS item");
        }
        *items |= item;
    } while (imap_skip_byte(parser, ' '));
    return imap_take_byte(parser, ')', "Expected ) behind the STATUS items");
}

bool imap_take_astrings(struct imap_parser *parser, struct imap_text_list *list)
{
    bool many = imap_skip_byte(parser, '(');
    do {
        struct slice item;
        if (!imap_take_astring(parser, &item) || !imap_text_list_add(parser, list, item)) {
            return false;
        }
    } while (many && imap_skip_byte(parser, ' '));
    return !many || imap_take_byte(parser, ')', "Expected ) behind the list");
}
