/* mbox_from: the line in front of a message: "From SENDER Thu Nov  9 22:33:52 2001", in the forms that are met. */
#include "queue/mailbox/mbox.h"

static const char MONTHS[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
static const char DAYS[] = "SunMonTueWedThuFriSat";

/* The number of a name of three letters in a row of them; -1: none. */
static int index_of(struct slice word, const char *names)
{
    for (int i = 0; names[3 * i] != 0 && word.size == 3; i++) {
        if (slice_equal_nocase(word, slice_of(names + 3 * i, 3))) {
            return i;
        }
    }
    return -1;
}

static struct slice word_take(struct slice *line)
{
    while (line->size > 0 && line->bytes[0] == ' ') {
        *line = slice_from(*line, 1);
    }
    size_t size = 0;
    while (size < line->size && line->bytes[size] != ' ') {
        size++;
    }
    struct slice word = slice_first(*line, size);
    *line = slice_from(*line, size);
    return word;
}

/* Digits alone, at most four; -1. */
static int number_of(struct slice word)
{
    int number = 0;
    for (size_t i = 0; i < word.size; i++) {
        if (word.bytes[i] < '0' || word.bytes[i] > '9' || word.size > 4) {
            return -1;
        }
        number = number * 10 + (word.bytes[i] - '0');
    }
    return word.size == 0 ? -1 : number;
}

/* "22:33" or "22:33:52"; seconds of the day, -1. */
static int time_of(struct slice word)
{
    if ((word.size != 5 && word.size != 8) || word.bytes[2] != ':' ||
        (word.size == 8 && word.bytes[5] != ':')) {
        return -1;
    }
    int hour = number_of(slice_first(word, 2)),
        minute = number_of(slice_first(slice_from(word, 3), 2));
    int second = word.size == 8 ? number_of(slice_from(word, 6)) : 0;
    bool good = hour >= 0 && hour < 24 && minute >= 0 && minute < 60 && second >= 0 && second <= 60;
    return good ? hour * 3600 + minute * 60 + second : -1;
}

/* "+0300": seconds east of Greenwich; false: another word, such as "EST", of which we know nothing. */
static bool zone_of(struct slice word, int *east_s)
{
    int number = word.size == 5 ? number_of(slice_from(word, 1)) : -1;
    if (number < 0 || number % 100 > 59 || (word.bytes[0] != '+' && word.bytes[0] != '-')) {
        return false;
    }
    *east_s = (number / 100 * 3600 + number % 100 * 60) * (word.bytes[0] == '-' ? -1 : 1);
    return true;
}

/* Days since 1970-01-01 of the proleptic Gregorian calendar. */
static int64_t days_of(int year, int month, int day)
{
    int64_t shifted = month < 2 ? year - 1 : year, era = shifted / 400,
            in_era = shifted - era * 400;
    int64_t day_of_year = (153 * ((month + 10) % 12) + 2) / 5 + day - 1;
    return era * 146097 + in_era * 365 + in_era / 4 - in_era / 100 + day_of_year - 719468;
}

/* From the weekday on. The zone may be before or behind the year, or not be. */
static bool date_read(struct slice line, int64_t *date_s)
{
    if (index_of(word_take(&line), DAYS) < 0) {
        return false;
    }
    int month = index_of(word_take(&line), MONTHS), day = number_of(word_take(&line)),
        time_s = time_of(word_take(&line));
    int east_s = 0;
    struct slice word = word_take(&line);
    int year = number_of(word);
    if (year < 0) {
        zone_of(word, &east_s);
        year = number_of(word_take(&line));
    } else {
        zone_of(word_take(&line), &east_s);
    }
    if (month < 0 || day < 1 || day > 31 || time_s < 0 || year < 1900) {
        return false;
    }
    *date_s = days_of(year, month, day) * 86400 + time_s - east_s;
    return true;
}

bool mbox_from_read(struct slice line, struct mbox_facts *facts)
{
    if (line.size > 0 && line.bytes[line.size - 1] == '\r') {
        line.size--;
    }
    if (line.size < 5 || memcmp(line.bytes, "From ", 5) != 0) {
        return false;
    }
    struct slice rest = slice_from(line, 5);
    /* A sender may have blanks: the date begins at the first word from which on it can be read. */
    for (size_t at = 0; at < rest.size; at++) {
        bool word = (at == 0 || rest.bytes[at - 1] == ' ') && rest.bytes[at] != ' ';
        if (!word || !date_read(slice_from(rest, at), &facts->date_s)) {
            continue;
        }
        size_t size = at;
        while (size > 0 && rest.bytes[size - 1] == ' ') {
            size--;
        }
        size = size < MBOX_SENDER_BYTES - 1 ? size : MBOX_SENDER_BYTES - 1;
        memcpy(facts->sender, rest.bytes, size);
        facts->sender[size] = 0;
        return memchr(facts->sender, 0, size) == NULL;
    }
    return false;
}
