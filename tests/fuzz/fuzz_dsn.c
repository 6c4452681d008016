/*
 * Reports on anything that peers have said: every line ends with CRLF and is short enough, no dot stands alone, no part
 * or header is opened that is not ours, and what is said to need no 8-bit text has none. A report with all of the
 * original, cut before that, becomes the one with its header alone, octet for octet.
 */
#include "proto/dsn/cut.h"
#include "proto/dsn/dsn.h"
#include "engine/core/check.h"
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

struct written {
    uint8_t bytes[400000];
    size_t size;
};
static struct written written, whole;

/* Drawn from all of the input, so that no part of it can hold it. */
#define BOUNDARY_BYTES 36u
static char boundary[BOUNDARY_BYTES + 1];

static void boundary_draw(const uint8_t *bytes, size_t size, uint8_t random[16])
{
    uint64_t hash = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ bytes[i]) * 0x100000001b3ull;
    }
    memset(random, 0, 16);
    memcpy(random, &hash, sizeof(hash));
    int at = snprintf(boundary, sizeof(boundary), "--=_");
    for (unsigned i = 0; i < 16; i++) {
        at += snprintf(boundary + at, sizeof(boundary) - (size_t)at, "%02x", random[i]);
    }
}

static int keep(void *owner, struct slice piece)
{
    struct written *to = owner;
    check(piece.size > 0 && to->size + piece.size <= sizeof(to->bytes));
    memcpy(to->bytes + to->size, piece.bytes, piece.size);
    to->size += piece.size;
    return 0;
}

/* The next text of the input: a length, then so many bytes. */
static struct slice next(struct slice *input)
{
    if (input->size == 0) {
        return *input;
    }
    struct slice text = slice_first(slice_from(*input, 1), 2u * input->bytes[0]);
    *input = slice_from(*input, 1 + text.size);
    return text;
}

static void lines_check(bool ascii)
{
    size_t line = 0, boundaries = 0;
    for (size_t i = 0; i < written.size; i++) {
        uint8_t byte = written.bytes[i];
        check(!ascii || byte < 0x80);
        if (byte != '\n') {
            check(byte != '\r' || (i + 1 < written.size && written.bytes[i + 1] == '\n'));
            check(byte >= ' ' || byte == '\t' || byte == '\r');
            line++;
            continue;
        }
        const uint8_t *start = written.bytes + i - line;
        check(line > 0 && written.bytes[i - 1] == '\r' && line <= 999);
        check(!(line == 2 && start[0] == '.'));
        boundaries += line > BOUNDARY_BYTES && memcmp(start, boundary, BOUNDARY_BYTES) == 0;
        line = 0;
    }
    check(line == 0 && boundaries == 4);
}

static void cut_check(const struct dsn_report *report)
{
    struct dsn_report full = *report;
    struct dsn_cut cut = {0};
    full.full = full.full_is_8bit = true;
    whole.size = 0;
    check(dsn_begin(&full, keep, &whole) == 0);
    check(report->original[0].size == 0 || keep(&whole, report->original[0]) == 0);
    dsn_cut_read(&cut, slice_of(whole.bytes, whole.size));
    check(cut.found && cut.original_begin == whole.size - report->original[0].size);
    whole.size = (size_t)cut.report_bytes;
    check(memcmp(cut.random, report->random, sizeof(cut.random)) == 0);
    check(dsn_end_header(report, keep, &whole) == 0);
    check(whole.size == written.size && memcmp(whole.bytes, written.bytes, whole.size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct slice input = slice_of(bytes, size);
    struct dsn_recipient recipients[2];
    if (size < 2) {
        return 0;
    }
    uint8_t flags = bytes[0];
    input = slice_from(input, 1);
    for (unsigned i = 0; i < 2; i++) {
        recipients[i] = (struct dsn_recipient){.forward_path = next(&input),
                                               .orcpt = next(&input),
                                               .action = flags % 5,
                                               .status = {5, 1, 1},
                                               .remote_mta = next(&input),
                                               .code = (uint16_t)(flags * 7),
                                               .text = next(&input)};
    }
    struct dsn_report report = {.hostname = slice_text("relay.test"),
                                .reverse_path = next(&input),
                                .message_id = slice_text("B"),
                                .queue_id = slice_text("A"),
                                .envid = next(&input),
                                .arrival_wall_s = 1,
                                .expires_wall_s = 2,
                                .now_wall_s = 3,
                                .recipients = recipients,
                                .recipient_count = 1 + (flags >> 7),
                                .original_is_utf8 = (flags & 0x40) != 0};
    boundary_draw(bytes, size, report.random);
    report.original = &input;
    report.original_count = 1;
    written.size = 0;
    check(dsn_build(&report, keep, &written) == 0);
    lines_check(dsn_needs(&report) == 0);
    cut_check(&report);
    return 0;
}
