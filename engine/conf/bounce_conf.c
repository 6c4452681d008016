#include "engine/conf/bounce_conf.h"
#include "engine/conf/names.h"
#include "engine/conf/words.h"
#include <string.h>

#define GB (1024ull * 1024 * 1024)
#define DAY (86400ull * 1000000000)
#define MAILBOX_BYTES_MAX 254 /* a path is at most 256 with its <>, RFC 5321 §4.5.3.1.3 */

typedef struct relay_conf R; /* in the table only */

static const struct reader_word doubles[] = {
    {"drop", CONF_DOUBLE_DROP}, {"postmaster", CONF_DOUBLE_POSTMASTER}, {NULL, 0}};

/* A dot-string of ASCII and a domain of ASCII: the report must not need SMTPUTF8 for our own sake. */
static bool is_mailbox(const char *text)
{
    const char *at = strchr(text, '@');
    if (at == NULL || at == text || strlen(text) > MAILBOX_BYTES_MAX || !name_is_domain(at + 1)) {
        return false;
    }
    if (text[0] == '.' || at[-1] == '.') {
        return false;
    }
    for (const char *byte = text; *byte != '\0'; byte++) {
        if (*byte <= ' ' || *byte > '~' || strchr("\"(),:;<>[\\]", *byte) != NULL ||
            (byte[0] == '.' && byte[1] == '.')) {
            return false;
        }
    }
    return true;
}

const struct reader_key bounce_conf_keys[] = {
    KEY_WORD("double", R, bounce.doubles, "drop", doubles),
    KEY_TEXT("postmaster", R, bounce.postmaster, is_mailbox,
             "an address such as postmaster@example.org"),
    KEY_SIZE("full_bytes_max", R, bounce.full_bytes_max, "50000", 0, GB),
    KEY_DURATION("delay_warning", R, bounce.delay_warning, "0s", 0, 100 * DAY),
    KEY_END,
};

void bounce_conf_check(struct reader *reader, const struct relay_conf *conf)
{
    if (conf->bounce.doubles == CONF_DOUBLE_POSTMASTER && conf->bounce.postmaster == NULL) {
        reader_problem(reader, "bounce.double",
                       "no bounce.postmaster is named, expected one for \"postmaster\"");
    }
}
