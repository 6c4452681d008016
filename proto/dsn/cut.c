#include "proto/dsn/cut.h"
#include <string.h>

#define PARAMETER "\tboundary=\"=_" /* at the beginning of a line of ours only */
#define PARTS_BEFORE 2u             /* the words, and the fields */

static int digit_of(char letter)
{
    return letter >= '0' && letter <= '9'   ? letter - '0'
           : letter >= 'a' && letter <= 'f' ? letter - 'a' + 10
                                            : -1;
}

static void boundary_take(struct dsn_cut *cut, const char *digits)
{
    for (size_t i = 0; i < sizeof(cut->random); i++) {
        int high = digit_of(digits[2 * i]), low = high < 0 ? -1 : digit_of(digits[2 * i + 1]);
        if (low < 0) {
            return;
        }
        cut->random[i] = (uint8_t)(high << 4 | low);
    }
    memcpy(cut->boundary, "--=_", 4);
    memcpy(cut->boundary + 4, digits, 2 * sizeof(cut->random));
    cut->has_boundary = true;
}

/* cut->line holds it, without its CRLF; cut->at is behind that. */
static void line_read(struct dsn_cut *cut)
{
    if (!cut->has_boundary) {
        if (strncmp(cut->line, PARAMETER, strlen(PARAMETER)) == 0) {
            boundary_take(cut, cut->line + strlen(PARAMETER));
        }
    } else if (cut->boundary_count <= PARTS_BEFORE && strcmp(cut->line, cut->boundary) == 0) {
        cut->report_bytes = cut->at - strlen("\r\n") - strlen(cut->boundary) - strlen("\r\n");
        cut->boundary_count++;
    } else if (cut->boundary_count > PARTS_BEFORE && cut->line[0] == '\0') {
        cut->original_begin = cut->at;
        cut->found = true;
    }
}

void dsn_cut_read(struct dsn_cut *cut, struct slice bytes)
{
    for (size_t i = 0; i < bytes.size && !cut->found; i++) {
        char byte = (char)bytes.bytes[i];
        cut->at++;
        if (byte == '\n') {
            bool ended = cut->line_bytes > 0 && cut->line[cut->line_bytes - 1] == '\r';
            cut->line[cut->line_bytes - ended] = '\0';
            line_read(cut);
            cut->line_bytes = 0;
        } else if (cut->line_bytes < DSN_CUT_LINE_MAX) {
            cut->line[cut->line_bytes++] = byte;
        }
    }
}
