#include "proto/sieve/moment.h"
#include <stdio.h>

#define DAY_S 86400

static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
static const char *const weekdays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};

/* ---- The calendar: years begin with March, eras of 400 years repeat ---- */

static int64_t days_of(int64_t year, int month, int day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
           719468;
}

static void civil_of(int64_t days, int64_t *year, int *month, int *day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted = (5 * day_of_year + 2) / 153;
    *day = (int)(day_of_year - (153 * shifted + 2) / 5 + 1);
    *month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
    *year = year_of_era + era * 400 + (*month <= 2);
}

/* ---- Reading ---- */

/* Blanks, folds and comments. */
static void blanks_pass(struct slice *text)
{
    unsigned depth = 0;
    while (text->size > 0) {
        uint8_t byte = text->bytes[0];
        if (byte == '(') {
            depth++;
        } else if (byte == ')' && depth > 0) {
            depth--;
        } else if (byte == '\\' && depth > 0 && text->size > 1) {
            *text = slice_from(*text, 1);
        } else if (depth == 0 && byte != ' ' && byte != '\t' && byte != '\r' && byte != '\n') {
            return;
        }
        *text = slice_from(*text, 1);
    }
}

/* The digits, at most `most`; how many there were. */
static unsigned digits_read(struct slice *text, unsigned most, int *number)
{
    unsigned count = 0;
    *number = 0;
    while (count < most && text->size > 0 && text->bytes[0] >= '0' && text->bytes[0] <= '9') {
        *number = *number * 10 + (text->bytes[0] - '0');
        *text = slice_from(*text, 1);
        count++;
    }
    return count;
}

static bool word_read(struct slice *text, const char *const *words, int count, int *word)
{
    for (int i = 0; i < count; i++) {
        if (slice_equal_nocase(slice_first(*text, 3), slice_text(words[i]))) {
            *word = i;
            *text = slice_from(*text, 3);
            return true;
        }
    }
    return false;
}

static bool mark_pass(struct slice *text, uint8_t mark)
{
    blanks_pass(text);
    if (text->size == 0 || text->bytes[0] != mark) {
        return false;
    }
    *text = slice_from(*text, 1);
    blanks_pass(text);
    return true;
}

bool sieve_zone_read(struct slice text, int32_t *minutes)
{
    int number;
    if (text.size < 5 || (text.bytes[0] != '+' && text.bytes[0] != '-')) {
        return false;
    }
    bool west = text.bytes[0] == '-';
    text = slice_from(text, 1);
    if (digits_read(&text, 4, &number) != 4 || text.size != 0 || number % 100 > 59) {
        return false;
    }
    *minutes = number / 100 * 60 + number % 100;
    *minutes = west ? -*minutes : *minutes;
    return true;
}

/* RFC 5322 §4.3: what is not known there counts as -0000. */
static int32_t named_zone(struct slice name)
{
    static const struct {
        const char *name;
        int hours;
    } zones[] = {{"EST", -5}, {"EDT", -4}, {"CST", -6}, {"CDT", -5},
                 {"MST", -7}, {"MDT", -6}, {"PST", -8}, {"PDT", -7}};
    for (size_t i = 0; i < sizeof(zones) / sizeof(zones[0]); i++) {
        if (slice_equal_nocase(slice_first(name, 3), slice_text(zones[i].name))) {
            return zones[i].hours * 60;
        }
    }
    return 0;
}

static bool clock_read(struct slice *text, int64_t *seconds)
{
    int hour, minute, second = 0;
    if (digits_read(text, 2, &hour) == 0 || !mark_pass(text, ':') ||
        digits_read(text, 2, &minute) == 0) {
        return false;
    }
    if (mark_pass(text, ':') && digits_read(text, 2, &second) == 0) {
        return false;
    }
    *seconds = hour * 3600 + minute * 60 + second;
    return hour < 24 && minute < 60 && second <= 60;
}

bool sieve_moment_read(struct slice text, struct sieve_moment *moment)
{
    int word, day, month, year;
    int64_t seconds;
    blanks_pass(&text);
    if (word_read(&text, weekdays, 7, &word)) {
        mark_pass(&text, ',');
    }
    blanks_pass(&text);
    if (digits_read(&text, 2, &day) == 0) {
        return false;
    }
    blanks_pass(&text);
    if (!word_read(&text, months, 12, &month)) {
        return false;
    }
    blanks_pass(&text);
    unsigned digits = digits_read(&text, 4, &year);
    if (digits < 2 || day < 1 || day > 31) {
        return false;
    }
    if (digits < 4) { /* RFC 5322 §4.3 */
        year += digits == 2 && year < 50 ? 2000 : 1900;
    }
    blanks_pass(&text);
    if (!clock_read(&text, &seconds)) {
        return false;
    }
    blanks_pass(&text);
    if (!sieve_zone_read(slice_first(text, 5), &moment->zone_minutes)) {
        moment->zone_minutes = named_zone(text);
    }
    moment->utc_s =
        days_of(year, month + 1, day) * DAY_S + seconds - (int64_t)moment->zone_minutes * 60;
    return true;
}

/* ---- Parts ---- */

enum part {
    YEAR,
    MONTH,
    DAY,
    DATE,
    JULIAN,
    HOUR,
    MINUTE,
    SECOND,
    TIME,
    ISO8601,
    STD11,
    ZONE,
    WEEKDAY,
    PARTS,
};

static int part_find(struct slice name)
{
    static const char *const names[] = {
        [YEAR] = "year",      [MONTH] = "month",     [DAY] = "day",       [DATE] = "date",
        [JULIAN] = "julian",  [HOUR] = "hour",       [MINUTE] = "minute", [SECOND] = "second",
        [TIME] = "time",      [ISO8601] = "iso8601", [STD11] = "std11",   [ZONE] = "zone",
        [WEEKDAY] = "weekday"};
    int part = 0;
    while (part < PARTS && !slice_equal_nocase(name, slice_text(names[part]))) {
        part++;
    }
    return part;
}

size_t sieve_moment_part(const struct sieve_moment *moment, struct slice name,
                         char room[SIEVE_MOMENT_PART_BYTES])
{
    int64_t local = moment->utc_s + (int64_t)moment->zone_minutes * 60;
    int64_t days = (local >= 0 ? local : local - (DAY_S - 1)) / DAY_S;
    int second = (int)(local - days * DAY_S);
    int month, day, weekday = (int)(((days + 4) % 7 + 7) % 7);
    int64_t wide;
    civil_of(days, &wide, &month, &day);
    int year = (int)(wide < 0 ? 0 : wide > 9999 ? 9999 : wide);
    int zone = moment->zone_minutes < 0 ? -moment->zone_minutes : moment->zone_minutes;
    char sign = moment->zone_minutes < 0 ? '-' : '+';
    int clock[3] = {second / 3600, second / 60 % 60, second % 60};
    int written = 0;
    const size_t bytes = SIEVE_MOMENT_PART_BYTES;
    switch (part_find(name)) {
    case YEAR:
        written = snprintf(room, bytes, "%04d", year);
        break;
    case MONTH:
        written = snprintf(room, bytes, "%02d", month);
        break;
    case DAY:
        written = snprintf(room, bytes, "%02d", day);
        break;
    case DATE:
        written = snprintf(room, bytes, "%04d-%02d-%02d", year, month, day);
        break;
    case JULIAN:
        written = snprintf(room, bytes, "%lld", (long long)days + 40587);
        break;
    case HOUR:
        written = snprintf(room, bytes, "%02d", clock[0]);
        break;
    case MINUTE:
        written = snprintf(room, bytes, "%02d", clock[1]);
        break;
    case SECOND:
        written = snprintf(room, bytes, "%02d", clock[2]);
        break;
    case TIME:
        written = snprintf(room, bytes, "%02d:%02d:%02d", clock[0], clock[1], clock[2]);
        break;
    case ISO8601:
        written = snprintf(room, bytes, "%04d-%02d-%02dT%02d:%02d:%02d%c%02d:%02d", year, month,
                           day, clock[0], clock[1], clock[2], sign, zone / 60, zone % 60);
        break;
    case STD11:
        written = snprintf(room, bytes, "%s, %02d %s %04d %02d:%02d:%02d %c%02d%02d",
                           weekdays[weekday], day, months[month - 1], year, clock[0], clock[1],
                           clock[2], sign, zone / 60, zone % 60);
        break;
    case ZONE:
        written = snprintf(room, bytes, "%c%02d%02d", sign, zone / 60, zone % 60);
        break;
    case WEEKDAY:
        written = snprintf(room, bytes, "%d", weekday);
        break;
    default:
        break;
    }
    return written < 0 || (size_t)written >= bytes ? 0 : (size_t)written;
}
