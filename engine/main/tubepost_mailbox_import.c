/* tubepost mailbox import: an mbox file, or a Maildir, into a user's mailboxes. Nothing of the source is changed. */
#include "engine/main/tubepost_mailbox_files.h"
#include "queue/mailbox/maildir_keywords.h"
#include "queue/mailbox/maildir_uidlist.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES 65536u

struct importing {
    struct mailbox_peer peer;
    char mailbox[1024]; /* where messages go now */
    unsigned long long count;
};

/* ---- A message ---- */

/* Line ends become CRLF. */
static void text_add(struct letter *letter, struct slice bytes)
{
    for (size_t i = 0; i < bytes.size; i++) {
        char byte = (char)bytes.bytes[i];
        if (byte == '\n' && !letter->after_cr) {
            fputc('\r', letter->out);
        }
        fputc(byte, letter->out);
        letter->after_cr = byte == '\r';
    }
}

static int letter_begin(struct letter *letter)
{
    *letter = (struct letter){.date_s = 0};
    letter->out = open_memstream(&letter->text, &letter->size);
    return letter->out != NULL ? EX_OK : tool_fail(EX_OSERR, "out of memory");
}

static void letter_end(struct letter *letter)
{
    if (letter->out != NULL) {
        fclose(letter->out);
    }
    free(letter->text);
    *letter = (struct letter){.text = NULL};
}

/* Is it a keyword that APPEND can be told? RFC 9051 §9: an atom. */
static bool is_keyword(const char *word)
{
    for (const char *at = word; *at != '\0'; at++) {
        if (*at <= ' ' || *at >= 0x7f || strchr("(){%*\"\\]", *at) != NULL) {
            return false;
        }
    }
    return word[0] != '\0';
}

static void flags_say(struct mailbox_peer *peer, const struct letter *letter)
{
    const char *blank = " (";
    for (size_t i = 0; i < letter_flag_count; i++) {
        if ((letter->flags & letter_flags[i].flag) != 0) {
            peer_text(peer, blank);
            peer_text(peer, letter_flags[i].name);
            blank = " ";
        }
    }
    char copy[sizeof letter->keywords];
    strcpy(copy, letter->keywords);
    char *rest = copy;
    for (char *word; (word = strsep(&rest, " ")) != NULL;) {
        if (is_keyword(word)) {
            peer_text(peer, blank);
            peer_text(peer, word);
            blank = " ";
        }
    }
    peer_text(peer, blank[1] == '(' ? " ()" : ")");
}

static void date_say(struct mailbox_peer *peer, int64_t date_s)
{
    char text[64];
    time_t when = (time_t)date_s;
    struct tm parts;
    if (gmtime_r(&when, &parts) != NULL &&
        strftime(text, sizeof text, " \"%d-%b-%Y %H:%M:%S +0000\"", &parts) > 0) {
        peer_text(peer, text);
    }
}

static int letter_append(struct importing *importing, struct letter *letter)
{
    struct mailbox_peer *peer = &importing->peer;
    if (fflush(letter->out) != 0 || ferror(letter->out) != 0) {
        return tool_fail(EX_OSERR, "out of memory");
    }
    peer_begin(peer, "APPEND");
    peer_string(peer, slice_text(importing->mailbox));
    flags_say(peer, letter);
    if (letter->date_s > 0) {
        date_say(peer, letter->date_s);
    }
    peer_string(peer, slice_of(letter->text, letter->size));
    int code = peer_end(peer, NULL, NULL);
    importing->count += code == EX_OK;
    return code == EX_OK ? EX_OK
                         : tool_fail(code, "%s: message %llu is not imported, nor what follows it",
                                     importing->mailbox, importing->count + 1);
}

/* The mailbox is there, or comes to be. */
static int target_make(struct importing *importing, const char *mailbox)
{
    struct mailbox_peer *peer = &importing->peer;
    struct name_list names = {.names = NULL};
    if (strlen(mailbox) >= sizeof importing->mailbox || strpbrk(mailbox, "*%") != NULL) {
        return tool_fail(EX_USAGE, "%s: no name of a mailbox", mailbox);
    }
    strcpy(importing->mailbox, mailbox);
    int code = peer_list(peer, mailbox, false, &names);
    if (code == EX_OK && names.count == 0) {
        peer_begin(peer, "CREATE");
        peer_string(peer, slice_text(mailbox));
        code = peer_end(peer, NULL, NULL);
    }
    name_list_free(&names);
    return code;
}

/* ---- mbox ---- */

/* The events that one piece of the file makes. */
static int events_take(struct importing *importing, struct mbox_reader *reader,
                       struct letter *letter, struct slice *input)
{
    int code = EX_OK;
    while (code == EX_OK) {
        switch (input != NULL ? mbox_read(reader, input) : mbox_read_end(reader)) {
        case MBOX_MORE:
            return EX_OK;
        case MBOX_MESSAGE:
            code = letter_begin(letter);
            break;
        case MBOX_TEXT:
            text_add(letter, reader->text);
            break;
        case MBOX_END:
            letter->flags = reader->facts.flags;
            letter->date_s = reader->facts.date_s;
            snprintf(letter->keywords, sizeof letter->keywords, "%s", reader->facts.keywords);
            code = reader->facts.internal ? EX_OK : letter_append(importing, letter);
            letter_end(letter);
            break;
        case MBOX_NONE:
            return tool_fail(EX_DATAERR, "this is no mbox: it does not begin with a From line");
        }
    }
    return code;
}

static int mbox_import(struct importing *importing, const char *path)
{
    static struct mbox_reader reader;
    static char bytes[READ_BYTES];
    struct letter letter = {.text = NULL};
    bool standard = strcmp(path, "-") == 0;
    FILE *file = standard ? stdin : fopen(path, "r");
    if (file == NULL) {
        return tool_fail(EX_NOINPUT, "%s: %s", path, strerror(errno));
    }
    mbox_reader_begin(&reader, MBOX_RD);
    int code = EX_OK;
    for (size_t size; code == EX_OK && (size = fread(bytes, 1, sizeof bytes, file)) > 0;) {
        struct slice input = slice_of(bytes, size);
        code = events_take(importing, &reader, &letter, &input);
    }
    if (code == EX_OK && ferror(file) != 0) {
        code = tool_fail(EX_IOERR, "%s: %s", path, strerror(errno));
    }
    if (code == EX_OK) {
        code = events_take(importing, &reader, &letter, NULL);
    }
    letter_end(&letter);
    if (!standard) {
        fclose(file);
    }
    return code;
}

/* ---- Maildir ---- */

struct found_file {
    char *name;
    uint32_t uid; /* of Dovecot's list; 0: none */
    bool in_new;
};

struct found_files {
    struct found_file *files;
    size_t count;
};

static int by_uid_and_time(const void *left, const void *right)
{
    const struct found_file *a = (const struct found_file *)left;
    const struct found_file *b = (const struct found_file *)right;
    if (a->uid != b->uid && a->uid != 0 && b->uid != 0) {
        return a->uid < b->uid ? -1 : 1;
    }
    if ((a->uid == 0) != (b->uid == 0)) { /* those that have none are newer */
        return a->uid != 0 ? -1 : 1;
    }
    return maildir_name_order(slice_text(a->name), slice_text(b->name));
}

static int files_list(struct found_files *found, int folder, const char *name,
                      const struct maildir_uidlist *list)
{
    int at = openat(folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = at >= 0 ? fdopendir(at) : NULL;
    if (entries == NULL) {
        if (at >= 0) {
            close(at);
        }
        return errno == ENOENT ? EX_OK : tool_fail(EX_NOINPUT, "%s: %s", name, strerror(errno));
    }
    int code = EX_OK;
    for (struct dirent *entry; code == EX_OK && (entry = readdir(entries)) != NULL;) {
        struct maildir_name parts;
        if (maildir_name_read(slice_text(entry->d_name), &parts) < 0) {
            continue;
        }
        struct found_file *larger =
            (struct found_file *)realloc(found->files, (found->count + 1) * sizeof(larger[0]));
        char *copy = larger != NULL ? strdup(entry->d_name) : NULL;
        found->files = larger != NULL ? larger : found->files;
        if (copy == NULL) {
            code = tool_fail(EX_OSERR, "out of memory");
            continue;
        }
        const struct maildir_uid *uid = maildir_uidlist_find(list, parts.base);
        found->files[found->count++] =
            (struct found_file){copy, uid != NULL ? uid->uid : 0, strcmp(name, "new") == 0};
    }
    closedir(entries);
    return code;
}

static void files_free(struct found_files *found)
{
    for (size_t i = 0; i < found->count; i++) {
        free(found->files[i].name);
    }
    free(found->files);
}

static void letters_to_names(const struct maildir_keywords *keywords, uint32_t bits,
                             struct letter *letter)
{
    size_t used = 0;
    for (unsigned i = 0; i < MAILDIR_KEYWORDS_MAX; i++) {
        if ((bits >> i & 1) != 0 &&
            used + MAILDIR_KEYWORD_BYTES_MAX + 2 < sizeof letter->keywords) {
            used += (size_t)snprintf(letter->keywords + used, sizeof letter->keywords - used,
                                     "%s%s", used > 0 ? " " : "", keywords->names[i]);
        }
    }
}

static int file_import(struct importing *importing, int folder, const struct found_file *found,
                       const struct maildir_keywords *keywords)
{
    static char bytes[READ_BYTES];
    char path[MAILDIR_FILE_NAME_MAX + 8];
    struct maildir_name parts;
    struct letter letter;
    struct stat facts;
    snprintf(path, sizeof path, "%s/%s", found->in_new ? "new" : "cur", found->name);
    int file = openat(folder, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0 || fstat(file, &facts) < 0 || !S_ISREG(facts.st_mode)) {
        int code = file < 0 && errno == ENOENT
                       ? EX_OK /* it went meanwhile */
                       : tool_fail(EX_NOINPUT, "%s: %s", path,
                                   file < 0 ? strerror(errno) : "no plain file");
        if (file >= 0) {
            close(file);
        }
        return code;
    }
    int code = letter_begin(&letter);
    ssize_t size = 0;
    while (code == EX_OK && (size = read(file, bytes, sizeof bytes)) > 0) {
        text_add(&letter, slice_of(bytes, (size_t)size));
    }
    if (code == EX_OK && size < 0) {
        code = tool_fail(EX_IOERR, "%s: %s", path, strerror(errno));
    }
    if (code == EX_OK) {
        maildir_name_read(slice_text(found->name), &parts);
        letter.flags = found->in_new ? 0 : parts.flags;
        letter.date_s = facts.st_mtim.tv_sec;
        letters_to_names(keywords, found->in_new ? 0 : parts.keywords, &letter);
        code = letter_append(importing, &letter);
    }
    letter_end(&letter);
    close(file);
    return code;
}

/* One folder, which is open, into importing->mailbox. */
static int folder_import(struct importing *importing, int folder)
{
    static struct maildir_keywords keywords;
    struct maildir_files files;
    struct maildir_uidlist list;
    struct found_files found = {.files = NULL};
    maildir_system_files(&files);
    memset(&keywords, 0, sizeof keywords);
    maildir_uidlist_open(&list);
    maildir_uidlist_refresh(&list, &files, folder); /* without it the order is that of time */
    maildir_keywords_read(&keywords, &files, folder);
    int code = files_list(&found, folder, "cur", &list);
    code = code == EX_OK ? files_list(&found, folder, "new", &list) : code;
    if (found.count > 0) {
        qsort(found.files, found.count, sizeof found.files[0], by_uid_and_time);
    }
    maildir_keywords_complete(&keywords, (1u << MAILDIR_KEYWORDS_MAX) - 1);
    for (size_t i = 0; i < found.count && code == EX_OK; i++) {
        code = file_import(importing, folder, &found.files[i], &keywords);
    }
    files_free(&found);
    maildir_uidlist_close(&list, &files);
    return code;
}

static bool has_cur(int at, const char *name)
{
    char path[MAILDIR_FILE_NAME_MAX + 8];
    struct stat facts;
    snprintf(path, sizeof path, "%.255s/cur", name);
    return fstatat(at, path, &facts, 0) == 0 && S_ISDIR(facts.st_mode);
}

/* Folders of Maildir++, in order of their names. */
static int folders_find(const char *path, int root, struct name_list *names)
{
    struct dirent **entries = NULL;
    int count = scandirat(root, ".", &entries, NULL, alphasort);
    if (count < 0) {
        return tool_fail(EX_NOINPUT, "%s: %s", path, strerror(errno));
    }
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        if (name[0] == '.' && name[1] != '.' && name[1] != '\0' && has_cur(root, name)) {
            name_list_add(names, name, strlen(name));
        }
        free(entries[i]);
    }
    free(entries);
    return names->failed ? tool_fail(EX_OSERR, "out of memory") : EX_OK;
}

/* .Sent.2024 is MAILBOX/Sent/2024, and Sent/2024 where all goes into INBOX. */
static int subfolder_import(struct importing *importing, int root, const char *name,
                            const char *mailbox)
{
    char text[MAILDIR_FILE_NAME_MAX * 2], target[1024];
    ssize_t size = maildir_folder_read(slice_text(name), text);
    if (size < 0) {
        return tool_fail(EX_DATAERR, "%s: no name of a mailbox", name);
    }
    bool is_top = strcasecmp(mailbox, "INBOX") == 0;
    int length = snprintf(target, sizeof target, "%s%s%.*s", is_top ? "" : mailbox,
                          is_top ? "" : "/", (int)size, text);
    int folder = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int code = (size_t)length >= sizeof target ? tool_fail(EX_DATAERR, "%s: too long a name", name)
               : folder < 0 ? tool_fail(EX_NOINPUT, "%s: %s", name, strerror(errno))
                            : target_make(importing, target);
    code = code == EX_OK ? folder_import(importing, folder) : code;
    if (folder >= 0) {
        close(folder);
    }
    return code;
}

static int maildir_import(struct importing *importing, const char *path, const char *mailbox)
{
    struct name_list names = {.names = NULL};
    int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || !has_cur(root, ".")) {
        int code = tool_fail(EX_NOINPUT, "%s: %s", path,
                             root < 0 ? strerror(errno) : "no Maildir: it has no cur");
        if (root >= 0) {
            close(root);
        }
        return code;
    }
    int code = folder_import(importing, root);
    code = code == EX_OK ? folders_find(path, root, &names) : code;
    for (size_t i = 0; i < names.count && code == EX_OK; i++) {
        code = subfolder_import(importing, root, names.names[i], mailbox);
    }
    name_list_free(&names);
    close(root);
    return code;
}

/* ---- The command ---- */

int mailbox_import(struct tool *tool, const struct mailbox_options *options)
{
    static struct importing importing;
    enum mail_format format;
    const char *mailbox = options->count > 1 ? options->words[1] : "INBOX";
    const char *path = mail_place_read(options->words[0], &format);
    if (path == NULL) {
        return EX_USAGE;
    }
    importing = (struct importing){.count = 0};
    int code = peer_open(&importing.peer, tool, options->user, true);
    code = code == EX_OK ? target_make(&importing, mailbox) : code;
    if (code == EX_OK) {
        code = format == MAIL_MBOX ? mbox_import(&importing, path)
                                   : maildir_import(&importing, path, mailbox);
    }
    if (importing.count > 0 || code == EX_OK) {
        printf(tool->as_json ? "{\"imported\":%llu}\n" : "%llu imported\n", importing.count);
    }
    peer_close(&importing.peer);
    return code;
}
