#include "proto/message/date.h"

#include <stdio.h>

#define DAY_S 86400
#define YEAR_0_S (-62167219200) /* 0000-01-01T00:00:00Z */
#define YEAR_9999_END_S 253402300799

struct civil_date {
    int64_t year;
    unsigned month; /* 1..12 */
    unsigned day;   /* 1..31 */
};

/* Counts in years that begin with March, so that the leap day is the last, and in eras of 400
 * years, after which the calendar repeats. */
static struct civil_date civil_date_of(int64_t days_since_1970)
{
    int64_t days = days_since_1970 + 719468; /* since 0000-03-01 */
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month = (5 * day_of_year + 2) / 153; /* 0: March */
    return (struct civil_date){
        .year = year_of_era + era * 400 + (month >= 10),
        .month = (unsigned)(month < 10 ? month + 3 : month - 9),
        .day = (unsigned)(day_of_year - (153 * month + 2) / 5 + 1),
    };
}

size_t message_date_format(int64_t wall_s, char text[MESSAGE_DATE_TEXT])
{
    static const char *const weekdays[] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    wall_s = wall_s < YEAR_0_S ? YEAR_0_S : wall_s > YEAR_9999_END_S ? YEAR_9999_END_S : wall_s;
    int64_t days = (wall_s >= 0 ? wall_s : wall_s - (DAY_S - 1)) / DAY_S;
    unsigned second = (unsigned)(wall_s - days * DAY_S);
    struct civil_date date = civil_date_of(days);
    int written =
        snprintf(text, MESSAGE_DATE_TEXT, "%s, %02u %s %04u %02u:%02u:%02u +0000",
                 weekdays[((days % 7) + 7) % 7], date.day % 100, months[date.month - 1],
                 (unsigned)date.year % 10000, second / 3600, second / 60 % 60, second % 60);
    return (size_t)written;
}
