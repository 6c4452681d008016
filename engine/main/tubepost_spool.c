/*
 * tubepost spool: looks at the spool of a relay that does not run.
 *
 * check: every record, what is damaged or cannot be read, what belongs to nothing. stat: what waits. export: each
 * message as a file. Nothing in the spool is changed.
 */
#include "engine/disk/disk_reader.h"
#include "engine/main/tubepost.h"
#include "engine/main/tubepost_spool.h"
#include "queue/spool/spool_reader.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static void damage_print(void *owner, uint32_t shard, uint32_t number, uint64_t offset,
                         uint64_t bytes)
{
    (void)owner;
    printf("%u/%08u.segment: offset %llu: %llu bytes are damaged\n", shard, number,
           (unsigned long long)offset, (unsigned long long)bytes);
}

/* ---- check ---- */

static int lost_add(void *owner, struct slice bytes, uint64_t lost)
{
    (void)bytes;
    *(uint64_t *)owner += lost;
    return 0;
}

static void check_shard(struct spool_tool *tool, struct spool_reader *reader, uint32_t shard)
{
    const struct spool_reader_facts *facts = spool_reader_facts(reader);
    char id[MESSAGE_ID_TEXT];
    const struct message *message;
    for (uint64_t i = 0; (message = spool_reader_message(reader, i)) != NULL; i++) {
        if (spool_reader_is_broken(message)) {
            uint64_t lost_bytes = 0;
            spool_reader_body(reader, message, lost_add, &lost_bytes);
            message_id_format(message->id, id);
            printf("%s: %llu of %llu bytes of the message are lost\n", id,
                   (unsigned long long)lost_bytes, (unsigned long long)message->body_bytes);
        }
    }
    printf(
        "shard %u: %u segments with %llu records, %llu messages for %llu recipients wait; "
        "%llu bytes damaged, %llu bytes unreadable, %llu messages broken; %llu bytes were cut by "
        "a crash, %llu bodies (%llu bytes) were not committed\n",
        shard, facts->segments_used, (unsigned long long)facts->records,
        (unsigned long long)facts->messages, (unsigned long long)facts->recipients_waiting,
        (unsigned long long)facts->damaged_bytes, (unsigned long long)facts->unread_bytes,
        (unsigned long long)facts->broken, (unsigned long long)facts->torn_bytes,
        (unsigned long long)facts->orphans, (unsigned long long)facts->orphan_bytes);
    if (facts->damaged_bytes > 0 || facts->unread_bytes > 0 || facts->broken > 0) {
        tool->code = EX_DATAERR;
    }
}

/* ---- The spool ---- */

/* For check it is what was asked for; for the others a warning. */
static void unread_print(void *owner, const struct log_unread *what)
{
    struct spool_tool *tool = owner;
    FILE *to = tool->shard == check_shard ? stdout : stderr;
    tool->unread++;
    if (what->bytes == 0) {
        fprintf(to, "%u/%08u.segment: unreadable: %s\n", what->shard, what->number,
                strerror(-what->error));
    } else {
        fprintf(to, "%u/%08u.segment: offset %llu: %llu bytes are unreadable: %s\n", what->shard,
                what->number, (unsigned long long)what->offset, (unsigned long long)what->bytes,
                strerror(-what->error));
    }
}

static int shard_visit(void *owner, uint32_t shard)
{
    struct spool_tool *tool = owner;
    struct spool_reader *reader;
    const struct spool_reader_visitor visitor = {
        .damaged = tool->shard == check_shard ? damage_print : NULL,
        .unread = unread_print,
        .owner = tool};
    uint32_t unread = tool->unread;
    int status = spool_reader_open(&reader, tool->disk, shard, &visitor);
    if (status < 0) {
        tool->code = tool_fail(tool->unread > unread ? EX_DATAERR : EX_IOERR, "%s/%u: %s",
                               tool->folder, shard, strerror(-status));
        return 0; /* the others all the same */
    }
    if (spool_reader_facts(reader)->log_id != 0) {
        tool->shards++;
        tool->shard(tool, reader, shard);
    }
    spool_reader_close(reader);
    return 0;
}

/* A relay has the folder locked while it runs; and none starts while we read. */
static int folder_claim(const char *folder, int *fd)
{
    *fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0) {
        return tool_fail(EX_NOINPUT, "%s: %s", folder, strerror(errno));
    }
    if (flock(*fd, LOCK_SH | LOCK_NB) < 0) {
        int code = errno == EWOULDBLOCK
                       ? tool_fail(EX_TEMPFAIL,
                                   "%s: a relay works on this spool; stop it, or look "
                                   "at a copy",
                                   folder)
                       : tool_fail(EX_IOERR, "%s: %s", folder, strerror(errno));
        close(*fd);
        return code;
    }
    return EX_OK;
}

static int spool_look(struct spool_tool *tool)
{
    int fd;
    int code = folder_claim(tool->folder, &fd);
    if (code != EX_OK) {
        return code;
    }
    int status = disk_open_reader(&tool->disk, tool->folder);
    if (status == 0) {
        status = spool_reader_shards(tool->disk, shard_visit, tool);
        tool->disk->ops->close(tool->disk);
    }
    close(fd);
    if (status < 0) {
        return tool_fail(EX_IOERR, "%s: %s", tool->folder, strerror(-status));
    }
    if (tool->shards == 0 && tool->code == EX_OK) {
        return tool_fail(EX_NOINPUT, "%s: no spool is in this folder", tool->folder);
    }
    return tool->code;
}

/* The folder that is named, or that of the configuration. */
static int folder_choose(struct tool *tool, const char *word, char *folder, size_t size)
{
    if (word != NULL) {
        snprintf(folder, size, "%s", word);
        return EX_OK;
    }
    struct relay_conf *conf = NULL;
    int code = tool_load_conf(tool->conf_path, &conf);
    if (code == EX_OK) {
        snprintf(folder, size, "%s", conf->spool.path);
        relay_conf_free(conf);
    }
    return code;
}

static int spool_options(struct tool *tool, struct spool_tool *own, int count, char **words)
{
    static const struct option options[] = {TOOL_OPTIONS,
                                            {"id", required_argument, NULL, 'i'},
                                            {"to", required_argument, NULL, 't'},
                                            {"envelope", required_argument, NULL, 'e'},
                                            {NULL, 0, NULL, 0}};
    optind = 0;
    for (int option; (option = getopt_long(count, words, TOOL_LETTERS, options, NULL)) != -1;) {
        int code = TOOL_TAKEN;
        if (option == 'i') {
            code = export_choose(own, optarg);
        } else if (option == 't') {
            own->to = optarg;
        } else if (option == 'e' &&
                   (strcmp(optarg, "json") == 0 || strcmp(optarg, "headers") == 0)) {
            own->with_json = optarg[0] == 'j';
        } else {
            code = tool_option(tool, option);
        }
        if (code != TOOL_TAKEN) {
            return code;
        }
    }
    return TOOL_TAKEN;
}

static int spool_run(struct spool_tool *own, const char *verb)
{
    if (strcmp(verb, "check") == 0) {
        own->shard = check_shard;
        return spool_look(own);
    }
    if (strcmp(verb, "stat") == 0) {
        own->shard = stat_shard;
        int code = spool_look(own);
        return code == EX_OK ? stat_print(own) : code;
    }
    if (strcmp(verb, "export") == 0 && own->to != NULL) {
        own->shard = export_shard;
        int code = export_open(own);
        code = code == EX_OK ? spool_look(own) : code;
        return export_close(own, code);
    }
    return tool_usage(EX_USAGE);
}

int tubepost_spool(struct tool *tool, int count, char **words)
{
    char folder[4096];
    struct spool_tool own = {.as_json = false, .folder = folder, .to_fd = -1};
    int code = spool_options(tool, &own, count, words);
    if (code == TOOL_TAKEN && (count - optind < 1 || count - optind > 2)) {
        code = tool_usage(EX_USAGE);
    }
    if (code == TOOL_TAKEN) {
        own.as_json = tool->as_json;
        code = folder_choose(tool, count - optind == 2 ? words[optind + 1] : NULL, folder,
                             sizeof folder);
        code = code == EX_OK ? spool_run(&own, words[optind]) : code;
    }
    free(own.ids);
    return code;
}
