/*
 * Works on one Maildir folder as the mailbox backend will, for the tests with a real Dovecot.
 *
 *   maildir_probe FOLDER scan                         prints the list: a header, then a line for each message
 *   maildir_probe FOLDER set UID FLAGS KEYWORD...     FLAGS as in a file's name, or "-"
 *   maildir_probe FOLDER expunge UID
 *   maildir_probe FOLDER rounds COUNT                 scans so often and prints each list's UIDVALIDITY and UIDs
 */
#include "engine/core/system_world.h"
#include "queue/mailbox/maildir_scan.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(const char *what, int status)
{
    fprintf(stderr, "%s: %s\n", what, strerror(-status));
    return 1;
}

static int print_message(struct maildir_box *box, const struct maildir_uid *uid)
{
    struct maildir_message message;
    int status = maildir_box_message(box, uid, &message);
    if (status == -ENOENT) {
        return 0;
    }
    if (status < 0) {
        return fail("message", status);
    }
    static const char letters[] = "DFPRST";
    char flags[8] = {0};
    for (unsigned i = 0, at = 0; i < 6; i++) {
        if (message.flags >> i & 1) {
            flags[at++] = letters[i];
        }
    }
    printf("%" PRIu32 "\t%s\t%" PRIu64 "\t%" PRIu64 "\t%" PRId64 "\t%s", message.uid, flags,
           message.bytes, message.virtual_bytes, message.internal_date_s, message.file);
    maildir_keywords_complete(&box->keywords, message.keywords);
    for (unsigned i = 0; i < MAILDIR_KEYWORDS_MAX; i++) {
        if (message.keywords >> i & 1) {
            printf("\t%s", box->keywords.names[i]);
        }
    }
    printf("\n");
    return 0;
}

static int scan_print(struct maildir_box *box)
{
    int status = maildir_box_scan(box);
    if (status < 0) {
        return fail("scan", status);
    }
    printf("%" PRIu32 "\t%" PRIu32 "\t%s\n", box->list.uidvalidity, box->list.uid_next,
           box->list.guid);
    int failed = 0;
    for (size_t i = 0; i < box->list.count && failed == 0; i++) {
        if (box->list.uids[i].presence == MAILDIR_PRESENT) {
            failed = print_message(box, &box->list.uids[i]);
        }
    }
    return failed;
}

static int rounds(struct maildir_box *box, unsigned long count)
{
    for (unsigned long round = 0; round < count; round++) {
        int status = maildir_box_scan(box);
        if (status < 0) {
            return fail("scan", status);
        }
        printf("%" PRIu32, box->list.uidvalidity);
        for (size_t i = 0; i < box->list.count; i++) {
            if (box->list.uids[i].presence == MAILDIR_PRESENT) {
                printf(" %" PRIu32 "=%s", box->list.uids[i].uid, box->list.uids[i].base);
            }
        }
        printf("\n");
        fflush(stdout);
        usleep(2000);
    }
    return 0;
}

static int set(struct maildir_box *box, int count, char **arguments)
{
    unsigned flags = 0;
    uint32_t keywords = 0;
    char name[64];
    struct maildir_name parts;
    snprintf(name, sizeof name, "x:2,%s", arguments[1]);
    if (maildir_name_read(slice_text(name), &parts) == 0) {
        flags = parts.flags;
    }
    int status = maildir_box_scan(box);
    for (int i = 2; i < count && status >= 0; i++) {
        status = maildir_box_keyword(box, slice_text(arguments[i]));
        keywords |= status < 0 ? 0 : 1u << status;
    }
    status = status < 0
                 ? status
                 : maildir_box_set(box, (uint32_t)strtoul(arguments[0], NULL, 10), flags, keywords);
    return status < 0 ? fail("set", status) : 0;
}

static int work(struct maildir_box *box, int count, char **arguments)
{
    if (strcmp(arguments[0], "scan") == 0) {
        return scan_print(box);
    }
    if (strcmp(arguments[0], "rounds") == 0 && count == 2) {
        return rounds(box, strtoul(arguments[1], NULL, 10));
    }
    if (strcmp(arguments[0], "set") == 0 && count >= 3) {
        return set(box, count - 1, arguments + 1);
    }
    if (strcmp(arguments[0], "expunge") == 0 && count == 2) {
        int status = maildir_box_scan(box);
        status = status < 0 ? status
                            : maildir_box_expunge(box, (uint32_t)strtoul(arguments[1], NULL, 10));
        return status < 0 ? fail("expunge", status) : 0;
    }
    return fail("usage", -EINVAL);
}

int main(int count, char **arguments)
{
    char hostname[256] = {0};
    struct world world;
    struct maildir_files files;
    struct maildir_box box;
    if (count < 3 || gethostname(hostname, sizeof hostname - 1) < 0) {
        return fail("usage", -EINVAL);
    }
    system_world_fill(&world);
    maildir_system_files(&files);
    umask(0);
    struct maildir_owner owner = {
        &files, &world, hostname, (uint32_t)getpid(), world_wall_s(&world), NULL};
    int at = open(arguments[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int status = at < 0 ? -errno : maildir_box_open(&box, &owner, at, ".");
    if (status < 0) {
        return fail(arguments[1], status);
    }
    status = work(&box, count - 2, arguments + 2);
    maildir_box_close(&box);
    close(at);
    return status;
}
