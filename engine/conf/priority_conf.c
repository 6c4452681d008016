#include "engine/conf/priority_conf.h"
#include "engine/conf/match_rows.h"
#include "engine/conf/words.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLIENTS_MAX 1000u /* each is looked at for each transaction */

const struct reader_word priority_conf_levels[] = {{"low", CONF_PRIORITY_LOW},
                                                   {"normal", CONF_PRIORITY_NORMAL},
                                                   {"high", CONF_PRIORITY_HIGH},
                                                   {"urgent", CONF_PRIORITY_URGENT},
                                                   {NULL, 0}};

static bool is_sender(const char *text)
{
    return strcmp(text, "<>") == 0 || match_is_good(text);
}

const struct reader_key priority_conf_keys[] = {
    KEY_TEXT("sender", struct conf_priority, sender, is_sender,
             "a domain such as example.org, .example.org for what is below it, an address, "
             "a pattern such as /^x@/i, \"<>\" or \"*\""),
    KEY_LIST("client", struct conf_priority, client, READER_NETWORK, .max = CLIENTS_MAX),
    KEY_WORD("priority", struct conf_priority, priority, "normal", priority_conf_levels),
    KEY_END,
};

/* Either of them, so that nobody wonders whether both must hold. */
static void row_check(struct reader *reader, const struct relay_conf *conf, uint32_t at)
{
    const struct conf_priority *row = &conf->priorities[at];
    char key[64];
    snprintf(key, sizeof key, "priorities[%u]", at);
    if (row->sender == NULL && row->client_count == 0) {
        reader_problem(reader, key, "of nobody, expected sender or client");
    } else if (row->sender != NULL && row->client_count > 0) {
        reader_problem(reader, key, "sender and client, expected one of them in a row");
    }
}

static int longer_first(const void *a, const void *b)
{
    const struct conf_client_priority *one = a, *other = b;
    if (one->network.length != other->network.length) {
        return one->network.length > other->network.length ? -1 : 1;
    }
    return one->row != other->row ? (one->row < other->row ? -1 : 1)
                                  : (one->at > other->at) - (one->at < other->at);
}

/* Networks of one length lie together, and each is looked for among those before it. */
static void clients_check(struct reader *reader, const struct relay_conf *conf)
{
    const struct conf_client_priority *all = conf->client_priorities;
    for (uint32_t i = 0; i < conf->client_priorities_count; i++) {
        for (uint32_t j = i; j > 0 && all[j - 1].network.length == all[i].network.length; j--) {
            if (network_prefix_holds(&all[j - 1].network, &all[i].network.address)) {
                char key[64];
                snprintf(key, sizeof key, "priorities[%u].client[%u]", all[i].row, all[i].at);
                reader_problem(reader, key,
                               "the same as priorities[%u].client[%u], expected each network once",
                               all[j - 1].row, all[j - 1].at);
                break;
            }
        }
    }
}

static int clients_settle(struct reader *reader, struct relay_conf *conf)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < conf->priorities_count; i++) {
        count += conf->priorities[i].client_count;
    }
    if (count == 0) {
        return 0;
    }
    if (count > CLIENTS_MAX) {
        reader_problem(reader, "priorities", "too many clients, expected at most %u networks",
                       CLIENTS_MAX);
        return 0;
    }
    struct conf_client_priority *all = reader_take(reader->memory, count * sizeof *all);
    if (all == NULL) {
        return -ENOMEM;
    }
    conf->client_priorities = all;
    for (uint32_t i = 0; i < conf->priorities_count; i++) {
        const struct conf_priority *row = &conf->priorities[i];
        for (uint32_t j = 0; j < row->client_count; j++) {
            all[conf->client_priorities_count++] =
                (struct conf_client_priority){row->client[j], i, j, row->priority};
        }
    }
    qsort(all, count, sizeof *all, longer_first);
    clients_check(reader, conf);
    return 0;
}

int priority_conf_settle(struct reader *reader, struct relay_conf *conf)
{
    const struct match_rows rows = {.rows = "priorities",
                                    .member = "sender",
                                    .first = conf->priorities,
                                    .row_bytes = sizeof *conf->priorities,
                                    .match_offset = offsetof(struct conf_priority, sender),
                                    .count = conf->priorities_count};
    for (uint32_t i = 0; i < conf->priorities_count; i++) {
        row_check(reader, conf, i);
    }
    int status = clients_settle(reader, conf);
    return status == 0 && rows.count > 0 ? match_rows_index(&conf->priority_index, &rows, reader)
                                         : status;
}

uint8_t relay_conf_client_priority(const struct relay_conf *conf, const struct endpoint *client,
                                   uint8_t listener)
{
    for (uint32_t i = 0; i < conf->client_priorities_count; i++) {
        if (network_prefix_holds(&conf->client_priorities[i].network, client)) {
            return conf->client_priorities[i].priority;
        }
    }
    return listener;
}

uint8_t relay_conf_priority(const struct relay_conf *conf, struct slice reverse_path,
                            uint8_t came_with)
{
    if (conf->priority_index == NULL) {
        return came_with;
    }
    uint32_t row = match_index_find(conf->priority_index,
                                    reverse_path.size > 0 ? reverse_path : slice_text("<>"));
    return row != MATCH_NONE ? conf->priorities[row].priority : came_with;
}
