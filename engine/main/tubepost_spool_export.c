/*
 * tubepost spool export: each message that waits as a file ID.eml: its lines end with LF, dots are
 * unstuffed, and headers before its own say the envelope, for those who knew it from postcat. With
 * --envelope json a file ID.json beside it says it instead. A file appears under its name when it is
 * whole.
 */
#include "engine/main/tubepost.h"
#include "engine/main/tubepost_spool.h"
#include "queue/mailbox/unwire.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OUT_BYTES 65536u
#define NAME_BYTES 64

int export_choose(struct spool_tool *tool, const char *text)
{
    uint64_t id;
    uint64_t *ids = realloc(tool->ids, (tool->id_count + 1) * sizeof ids[0]);
    if (ids == NULL) {
        return tool_fail(EX_OSERR, "out of memory");
    }
    tool->ids = ids;
    if (message_id_parse(slice_text(text), &id) < 0) {
        return tool_fail(EX_USAGE, "%s: this is no queue id", text);
    }
    tool->ids[tool->id_count++] = id;
    return TOOL_TAKEN;
}

int export_open(struct spool_tool *tool)
{
    if (mkdir(tool->to, 0700) < 0 && errno != EEXIST) {
        return tool_fail(EX_CANTCREAT, "%s: %s", tool->to, strerror(errno));
    }
    tool->to_fd = open(tool->to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return tool->to_fd >= 0 ? EX_OK : tool_fail(EX_CANTCREAT, "%s: %s", tool->to, strerror(errno));
}

static bool is_wanted(const struct spool_tool *tool, uint64_t id)
{
    for (uint32_t i = 0; i < tool->id_count; i++) {
        if (tool->ids[i] == id) {
            return true;
        }
    }
    return tool->id_count == 0;
}

/* ---- The envelope ---- */

/* Whatever the disk has: one line, and no more. */
static void header_print(FILE *file, const char *name, struct slice path)
{
    fprintf(file, "%s: <", name);
    for (size_t i = 0; i < path.size; i++) {
        bool plain = path.bytes[i] >= 0x20 && path.bytes[i] != 0x7f;
        fputc(plain ? path.bytes[i] : '?', file);
    }
    fputs(">\n", file);
}

static void headers_print(FILE *file, const struct message *message)
{
    header_print(file, "X-Envelope-From", message_reverse_path(message));
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        if (message_recipient_state(message, i) == RECIPIENT_WAITING) {
            header_print(file, "X-Envelope-To", message_forward_path(message, i));
        }
    }
}

static json_t *text_json(struct slice text)
{
    json_t *json = json_stringn((const char *)text.bytes, text.size);
    return json != NULL ? json : json_string("?"); /* no UTF-8 */
}

static json_t *envelope_json(const struct message *message, const char *id)
{
    static const char *const states[] = {"waiting",
                                         "delivered",
                                         "failed",
                                         "delivered, to be reported",
                                         "relayed, to be reported",
                                         "expanded, to be reported",
                                         "given to a list, to be reported"};
    json_t *json = json_object(), *recipients = json_array();
    json_object_set_new(json, "id", json_string(id));
    json_object_set_new(json, "sender", text_json(message_reverse_path(message)));
    json_object_set_new(json, "arrival_time", json_integer(message_arrival_wall_s(message)));
    json_object_set_new(json, "message_size", json_integer((json_int_t)message->body_bytes));
    json_object_set_new(json, "attempts", json_integer(message->attempts));
    json_object_set_new(json, "damaged", json_boolean(spool_reader_is_broken(message)));
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        json_t *one = json_object();
        enum recipient_state state = message_recipient_state(message, i);
        json_object_set_new(one, "address", text_json(message_forward_path(message, i)));
        json_object_set_new(one, "state", json_string(states[state]));
        json_array_append_new(recipients, one);
    }
    json_object_set_new(json, "recipients", recipients);
    return json;
}

/* ---- The text ---- */

struct copying {
    FILE *file;
    struct unwire unwire;
    uint64_t lost;
};

static int piece_copy(void *owner, struct slice bytes, uint64_t lost)
{
    struct copying *copying = owner;
    static uint8_t out[OUT_BYTES];
    while (bytes.size > 0) {
        size_t size = unwire_take(&copying->unwire, &bytes, out, sizeof out);
        if (fwrite(out, 1, size, copying->file) != size) {
            return -EIO;
        }
    }
    if (lost > 0) {
        copying->lost += lost;
        fprintf(copying->file,
                "\n[%llu bytes of this message are lost: the spool is damaged here]\n",
                (unsigned long long)lost);
        copying->unwire = (struct unwire){0};
    }
    return 0;
}

static int text_copy(FILE *file, struct spool_reader *reader, const struct message *message)
{
    struct copying copying = {.file = file};
    uint8_t last;
    int status = spool_reader_body(reader, message, piece_copy, &copying);
    if (status == 0 && unwire_end(&copying.unwire, &last) > 0) {
        fputc(last, file);
    }
    return status;
}

/* ---- A file ---- */

static FILE *file_begin(const struct spool_tool *tool, const char *name, char hidden[NAME_BYTES])
{
    snprintf(hidden, NAME_BYTES, ".%s.part", name);
    int fd =
        openat(tool->to_fd, hidden, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (file == NULL && fd >= 0) {
        close(fd);
    }
    return file;
}

/* Gives it its name, or takes it away. */
static bool file_end(struct spool_tool *tool, FILE *file, const char *hidden, const char *name,
                     bool good)
{
    good = good && file != NULL && fflush(file) == 0 && !ferror(file) && fsync(fileno(file)) == 0;
    good = good && renameat(tool->to_fd, hidden, tool->to_fd, name) == 0;
    if (!good) {
        tool->code = tool_fail(EX_IOERR, "%s/%s: %s", tool->to, name, strerror(errno));
        unlinkat(tool->to_fd, hidden, 0);
    }
    if (file != NULL) {
        fclose(file);
    }
    return good;
}

static bool message_export(struct spool_tool *tool, struct spool_reader *reader,
                           const struct message *message)
{
    char id[MESSAGE_ID_TEXT], name[NAME_BYTES], hidden[NAME_BYTES];
    message_id_format(message->id, id);
    if (tool->with_json) {
        snprintf(name, sizeof name, "%s.json", id);
        FILE *file = file_begin(tool, name, hidden);
        json_t *json = envelope_json(message, id);
        bool good =
            file != NULL && json_dumpf(json, file, JSON_INDENT(1)) == 0 && fputc('\n', file) != EOF;
        json_decref(json);
        if (!file_end(tool, file, hidden, name, good)) {
            return false;
        }
    }
    snprintf(name, sizeof name, "%s.eml", id);
    FILE *file = file_begin(tool, name, hidden);
    if (file != NULL && spool_reader_is_broken(message)) {
        fputs("X-Tubepost-Damaged: yes\n", file);
    }
    if (file != NULL && !tool->with_json) {
        headers_print(file, message);
    }
    bool good = file != NULL && text_copy(file, reader, message) == 0;
    return file_end(tool, file, hidden, name, good);
}

void export_shard(struct spool_tool *tool, struct spool_reader *reader, uint32_t shard)
{
    const struct message *message;
    char id[MESSAGE_ID_TEXT];
    (void)shard;
    for (uint64_t i = 0; (message = spool_reader_message(reader, i)) != NULL; i++) {
        if (!is_wanted(tool, message->id)) {
            continue;
        }
        tool->found++;
        if (!message_export(tool, reader, message)) {
            return; /* the rest would fail too */
        }
        tool->exported++;
        if (spool_reader_is_broken(message)) {
            message_id_format(message->id, id);
            fprintf(stderr, "tubepost: %s: a part of the message is lost\n", id);
            tool->damaged++;
        }
    }
}

int export_close(struct spool_tool *tool, int code)
{
    if (tool->to_fd >= 0) {
        fsync(tool->to_fd);
        close(tool->to_fd);
    }
    if (code != EX_OK) {
        return code;
    }
    printf("%u messages in %s%s\n", tool->exported, tool->to,
           tool->damaged > 0 ? ", some of them damaged" : "");
    if (tool->found < tool->id_count) {
        return tool_fail(EX_DATAERR, "%u of the %u messages do not wait here",
                         tool->id_count - tool->found, tool->id_count);
    }
    return tool->damaged > 0 || tool->unread > 0 ? EX_DATAERR : EX_OK;
}
