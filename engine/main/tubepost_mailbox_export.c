/* tubepost mailbox export: a user's mailboxes into an mbox file, or a Maildir that others can serve. */
#include "engine/main/tubepost_mailbox_files.h"
#include "proto/imap/response.h"
#include "queue/mailbox/maildir_keywords.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct exporting {
    struct mailbox_peer peer;
    enum mail_format format;
    const char *path;
    int code; /* the first problem with the files; it has been printed */
    unsigned long long count;
    unsigned long long keywords_dropped;
    bool to_stdout;
    FILE *mbox;
    int root, folder, cur, tmp; /* of the Maildir; -1 */
    struct maildir_files files;
    struct maildir_keywords keywords;
    struct maildir_namer namer;
};

static void trouble(struct exporting *exporting, const char *what)
{
    if (exporting->code == EX_OK) {
        exporting->code = tool_fail(EX_CANTCREAT, "%s: %s", what, strerror(errno));
    }
}

/* ---- What FETCH says of a message ---- */

static bool flag_take(struct letter *letter, struct slice word)
{
    for (size_t i = 0; i < letter_flag_count; i++) {
        if (slice_equal_nocase(word, slice_text(letter_flags[i].name))) {
            letter->flags |= letter_flags[i].flag;
            return true;
        }
    }
    return false;
}

static void flags_take(struct letter *letter, struct slice value)
{
    size_t used = 0;
    imap_response_next(&value); /* ( */
    for (;;) {
        struct imap_token word = imap_response_next(&value);
        if (word.kind != IMAP_TOKEN_ATOM) {
            return;
        }
        if (!flag_take(letter, word.bytes) && word.bytes.bytes[0] != '\\' &&
            used + word.bytes.size + 2 < sizeof letter->keywords) {
            used += (size_t)snprintf(letter->keywords + used, sizeof letter->keywords - used,
                                     "%s%.*s", used > 0 ? " " : "", (int)word.bytes.size,
                                     (const char *)word.bytes.bytes);
        }
    }
}

/* " 1-Jan-2020 10:00:00 +0100" */
static int64_t date_read(struct slice text)
{
    char copy[40];
    struct tm parts = {.tm_mday = 0};
    int hours = 0, minutes = 0;
    if (text.size >= sizeof copy) {
        return 0;
    }
    memcpy(copy, text.bytes, text.size);
    copy[text.size] = '\0';
    const char *zone = strptime(copy + strspn(copy, " "), "%d-%b-%Y %H:%M:%S", &parts);
    if (zone == NULL || sscanf(zone, " %*1[+-]%2d%2d", &hours, &minutes) != 2) {
        return 0;
    }
    int64_t east_s = (hours * 60 + minutes) * 60 * (zone[1] == '-' ? -1 : 1);
    return (int64_t)timegm(&parts) - east_s;
}

/* ---- mbox ---- */

/* The text with LF: CRs in front of it go. */
static struct slice line_ends_cut(struct slice text)
{
    uint8_t *bytes = (uint8_t *)(uintptr_t)text.bytes; /* the peer's memory, which is read once */
    size_t used = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (bytes[i] != '\r' || i + 1 == text.size || bytes[i + 1] != '\n') {
            bytes[used++] = bytes[i];
        }
    }
    return slice_first(text, used);
}

static void mbox_add(struct exporting *exporting, const struct letter *letter, struct slice text)
{
    static struct mbox_writer writer;
    struct mbox_facts facts = {.date_s = letter->date_s, .flags = letter->flags, .old = true};
    char front[MBOX_FRONT_BYTES_MAX];
    uint8_t bytes[4096];
    strcpy(facts.keywords, letter->keywords);
    size_t size = mbox_write_begin(&writer, MBOX_RD, &facts, front);
    fwrite(front, 1, size, exporting->mbox);
    while (text.size > 0) {
        size = mbox_write(&writer, &text, bytes, sizeof bytes);
        fwrite(bytes, 1, size, exporting->mbox);
    }
    size = mbox_write_end(&writer, bytes);
    fwrite(bytes, 1, size, exporting->mbox);
    if (ferror(exporting->mbox) != 0) {
        trouble(exporting, exporting->path);
    }
}

/* ---- Maildir ---- */

static uint32_t keywords_bits(struct exporting *exporting, const struct letter *letter)
{
    char copy[sizeof letter->keywords];
    char *rest = copy;
    uint32_t bits = 0;
    strcpy(copy, letter->keywords);
    for (char *word; (word = strsep(&rest, " ")) != NULL;) {
        int bit =
            word[0] != '\0' ? maildir_keywords_add(&exporting->keywords, slice_text(word)) : 0;
        if (bit < 0) {
            exporting->keywords_dropped++;
        } else if (word[0] != '\0') {
            bits |= 1u << bit;
        }
    }
    return bits;
}

static bool file_write(int file, struct slice text)
{
    while (text.size > 0) {
        ssize_t size = write(file, text.bytes, text.size);
        if (size < 0 && errno != EINTR) {
            return false;
        }
        text = slice_from(text, size > 0 ? (size_t)size : 0);
    }
    return true;
}

static void maildir_add(struct exporting *exporting, const struct letter *letter, struct slice text,
                        size_t wire_bytes)
{
    char base[MAILDIR_FILE_NAME_MAX + 1], name[MAILDIR_FILE_NAME_MAX + 1];
    const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_sec = (time_t)letter->date_s}};
    uint32_t keywords = keywords_bits(exporting, letter);
    ssize_t size = maildir_namer_next(&exporting->namer, letter->date_s * 1000000, text.size,
                                      wire_bytes, base);
    ssize_t length =
        size < 0 ? size
                 : maildir_name_write(slice_of(base, (size_t)size), letter->flags, keywords, name);
    if (length < 0) {
        errno = (int)-length;
        trouble(exporting, exporting->path);
        return;
    }
    name[length] = '\0';
    int file = openat(exporting->tmp, base, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0 || !file_write(file, text) || futimens(file, times) < 0 ||
        renameat(exporting->tmp, base, exporting->cur, name) < 0) {
        trouble(exporting, base);
    }
    if (file >= 0) {
        close(file);
    }
}

static int folder_make(struct exporting *exporting, int at, const char *name)
{
    if (mkdirat(at, name, 0700) < 0) {
        trouble(exporting, name);
        return -1;
    }
    int folder = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) {
        trouble(exporting, name);
    }
    return folder;
}

static void number_close(int *number)
{
    if (*number >= 0) {
        close(*number);
    }
    *number = -1;
}

/* INBOX is the Maildir itself. */
static void folder_begin(struct exporting *exporting, const char *mailbox)
{
    char name[MAILDIR_FILE_NAME_MAX + 1];
    ssize_t size = maildir_folder_write(slice_text(mailbox), name);
    memset(&exporting->keywords, 0, sizeof exporting->keywords);
    if (size < 0) {
        exporting->code =
            tool_fail(EX_CANTCREAT, "%s: not a name that a folder of a Maildir can have", mailbox);
        return;
    }
    exporting->folder =
        size == 0 ? dup(exporting->root) : folder_make(exporting, exporting->root, name);
    if (exporting->folder < 0) {
        return;
    }
    exporting->cur = folder_make(exporting, exporting->folder, "cur");
    exporting->tmp = folder_make(exporting, exporting->folder, "tmp");
    int added = folder_make(exporting, exporting->folder, "new");
    number_close(&added);
    if (size > 0) {
        int mark = openat(exporting->folder, "maildirfolder", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        number_close(&mark);
    }
}

static void folder_end(struct exporting *exporting)
{
    int status = exporting->folder >= 0
                     ? maildir_keywords_write(&exporting->keywords, &exporting->files,
                                              exporting->folder, (int64_t)time(NULL))
                     : 0;
    if (status < 0) {
        errno = -status;
        trouble(exporting, MAILDIR_KEYWORDS);
    }
    number_close(&exporting->cur);
    number_close(&exporting->tmp);
    number_close(&exporting->folder);
}

/* ---- Messages ---- */

/* 3 FETCH (UID 7 FLAGS (..) INTERNALDATE ".." BINARY[] ~{5} ...). BODY[] would have no NULs (RFC 3501 §9, CHAR8). */
static void message_hear(void *owner, struct slice said)
{
    struct exporting *exporting = (struct exporting *)owner;
    struct letter letter = {.date_s = 0};
    struct slice name, value, text = slice_of(NULL, 0);
    bool has_text = false;
    if (exporting->code != EX_OK || !imap_response_value(&said, &name) ||
        !imap_response_value(&said, &name) || !slice_equal(name, slice_text("FETCH")) ||
        imap_response_next(&said).kind != IMAP_TOKEN_OPEN) {
        return;
    }
    while (imap_response_value(&said, &name) && imap_response_value(&said, &value)) {
        struct slice rest = value;
        struct imap_token token = imap_response_next(&rest);
        if (slice_equal(name, slice_text("FLAGS"))) {
            flags_take(&letter, value);
        } else if (slice_equal(name, slice_text("INTERNALDATE"))) {
            letter.date_s = date_read(token.bytes);
        } else if (slice_equal(name, slice_text("BINARY[]")) && token.kind == IMAP_TOKEN_TEXT) {
            text = token.bytes;
            has_text = true;
        }
    }
    if (!has_text) {
        return; /* flags that have changed meanwhile */
    }
    size_t wire_bytes = text.size;
    text = line_ends_cut(text);
    if (exporting->format == MAIL_MBOX) {
        mbox_add(exporting, &letter, text);
    } else {
        maildir_add(exporting, &letter, text, wire_bytes);
    }
    exporting->count += exporting->code == EX_OK;
}

static int box_export(struct exporting *exporting, const char *mailbox)
{
    struct mailbox_peer *peer = &exporting->peer;
    struct peer_box box;
    if (exporting->format == MAIL_MAILDIR) {
        folder_begin(exporting, mailbox);
    }
    int code = exporting->code;
    code = code == EX_OK ? peer_select(peer, "EXAMINE", mailbox, &box) : code;
    if (code == EX_OK && box.exists > 0) {
        peer_begin(peer, "UID FETCH 1:* (UID FLAGS INTERNALDATE BINARY.PEEK[])");
        code = peer_end(peer, message_hear, exporting);
    }
    if (exporting->format == MAIL_MAILDIR) {
        folder_end(exporting);
    }
    return code == EX_OK ? exporting->code : code;
}

/* ---- The command ---- */

static void place_make(struct exporting *exporting)
{
    if (exporting->format == MAIL_MAILDIR) {
        exporting->root = mkdir(exporting->path, 0700) == 0
                              ? open(exporting->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                              : -1;
        if (exporting->root < 0) {
            trouble(exporting, exporting->path);
        }
        return;
    }
    exporting->to_stdout = strcmp(exporting->path, "-") == 0;
    int file = exporting->to_stdout
                   ? STDOUT_FILENO
                   : open(exporting->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    exporting->mbox = file < 0 ? NULL : exporting->to_stdout ? stdout : fdopen(file, "w");
    if (exporting->mbox == NULL) {
        trouble(exporting, exporting->path);
    }
}

/* What was written is on the disk. */
static void place_end(struct exporting *exporting)
{
    bool standard = exporting->to_stdout;
    if (exporting->mbox != NULL &&
        (fflush(exporting->mbox) != 0 || (!standard && fsync(fileno(exporting->mbox)) < 0))) {
        trouble(exporting, exporting->path);
    }
    if (exporting->mbox != NULL && !standard && fclose(exporting->mbox) != 0) {
        trouble(exporting, exporting->path);
    }
    if (exporting->root >= 0 && syncfs(exporting->root) < 0) {
        trouble(exporting, exporting->path);
    }
    number_close(&exporting->root);
}

static int boxes_export(struct exporting *exporting, const struct name_list *names)
{
    if (names->count == 0) {
        return tool_fail(EX_DATAERR, "no such mailbox");
    }
    if (names->count > 1 && exporting->format == MAIL_MBOX) {
        return tool_fail(EX_USAGE, "these are %zu mailboxes, and an mbox file holds one",
                         names->count);
    }
    place_make(exporting);
    int code = exporting->code;
    for (size_t i = 0; i < names->count && code == EX_OK; i++) {
        code = box_export(exporting, names->names[i]);
    }
    place_end(exporting);
    return code == EX_OK ? exporting->code : code;
}

static void exported_tell(const struct exporting *exporting, const struct mailbox_options *options)
{
    FILE *out = exporting->to_stdout ? stderr : stdout;
    if (exporting->peer.tool->as_json && options->several) {
        user_print_json(options, json_pack("{s:I}", "exported", (json_int_t)exporting->count));
    } else {
        user_print(options);
        fprintf(out, exporting->peer.tool->as_json ? "{\"exported\":%llu}\n" : "%llu exported\n",
                exporting->count);
    }
    if (exporting->keywords_dropped > 0) {
        fprintf(stderr,
                "tubepost: %llu times a keyword was left off: a folder of a Maildir has %d\n",
                exporting->keywords_dropped, MAILDIR_KEYWORDS_MAX);
    }
}

/* Where there are several users, %u in the path is each of them: his name is that of a file. False: there is none, or it is
 * too long. */
static bool path_of_user(const struct mailbox_options *options, const char **path)
{
    static char made[4096];
    size_t used = 0;
    bool found = false;
    if (!options->several) {
        return true;
    }
    for (const char *at = *path; *at != '\0' && used + 1 < sizeof made;) {
        bool is_user = at[0] == '%' && at[1] == 'u';
        used += (size_t)snprintf(made + used, sizeof made - used, "%.*s",
                                 is_user ? (int)strlen(options->user) : 1,
                                 is_user ? options->user : at);
        at += is_user ? 2 : 1;
        found = found || is_user;
    }
    *path = made;
    return found && used + 1 < sizeof made;
}

int mailbox_export(struct tool *tool, const struct mailbox_options *options)
{
    static struct exporting exporting;
    static char hostname[256];
    struct name_list names = {.names = NULL};
    exporting = (struct exporting){.root = -1, .folder = -1, .cur = -1, .tmp = -1};
    exporting.path = mail_place_read(options->words[0], &exporting.format);
    if (exporting.path == NULL) {
        return EX_USAGE;
    }
    if (!path_of_user(options, &exporting.path)) {
        return tool_fail(EX_USAGE, "export: of several users, expected %%u in the name of the %s",
                         exporting.format == MAIL_MBOX ? "file" : "folder");
    }
    if (gethostname(hostname, sizeof hostname - 1) < 0) {
        strcpy(hostname, "localhost");
    }
    maildir_system_files(&exporting.files);
    exporting.namer =
        (struct maildir_namer){.process_id = (uint32_t)getpid(), .hostname = hostname};
    int code = peer_open(&exporting.peer, tool, options->user, false);
    if (code == EX_OK) {
        code = peer_list(&exporting.peer, options->count > 1 ? options->words[1] : "INBOX", false,
                         &names);
    }
    code = code == EX_OK ? boxes_export(&exporting, &names) : code;
    if (code == EX_OK) {
        exported_tell(&exporting, options);
    }
    name_list_free(&names);
    peer_close(&exporting.peer);
    return code;
}
