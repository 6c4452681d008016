#include "engine/conf/priority_conf.h"
#include "engine/conf/match_rows.h"
#include "engine/conf/words.h"
#include <string.h>

static const struct reader_word levels[] = {{"low", CONF_PRIORITY_LOW},
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
             "a pattern such as /^x@/i, \"<>\" or \"*\"",
             .required = true),
    KEY_WORD("priority", struct conf_priority, priority, "normal", levels),
    KEY_END,
};

int priority_conf_settle(struct reader *reader, struct relay_conf *conf)
{
    const struct match_rows rows = {.rows = "priorities",
                                    .member = "sender",
                                    .first = conf->priorities,
                                    .row_bytes = sizeof *conf->priorities,
                                    .match_offset = offsetof(struct conf_priority, sender),
                                    .count = conf->priorities_count};
    return rows.count > 0 ? match_rows_index(&conf->priority_index, &rows, reader) : 0;
}

uint8_t relay_conf_priority(const struct relay_conf *conf, struct slice reverse_path)
{
    if (conf->priority_index == NULL) {
        return CONF_PRIORITY_NORMAL;
    }
    uint32_t row = match_index_find(conf->priority_index,
                                    reverse_path.size > 0 ? reverse_path : slice_text("<>"));
    return row != MATCH_NONE ? conf->priorities[row].priority : CONF_PRIORITY_NORMAL;
}
