#include "engine/main/tubepost_mailbox_files.h"
#include <string.h>

const struct letter_flag letter_flags[] = {
    {"\\Answered", MAILDIR_REPLIED}, {"\\Flagged", MAILDIR_FLAGGED}, {"\\Seen", MAILDIR_SEEN},
    {"\\Deleted", MAILDIR_TRASHED},  {"\\Draft", MAILDIR_DRAFT},     {"$Forwarded", MAILDIR_PASSED},
};
const size_t letter_flag_count = sizeof letter_flags / sizeof letter_flags[0];

const char *mail_place_read(const char *text, enum mail_format *format)
{
    if (strncmp(text, "mbox:", 5) == 0 && text[5] != '\0') {
        *format = MAIL_MBOX;
        return text + 5;
    }
    if (strncmp(text, "maildir:", 8) == 0 && text[8] != '\0') {
        *format = MAIL_MAILDIR;
        return text + 8;
    }
    tool_fail(EX_USAGE, "'%s' will not do, expected mbox:FILE or maildir:FOLDER", text);
    return NULL;
}
