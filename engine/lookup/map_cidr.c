/* Networks and what is said of each (cidr_table(5) of Postfix): the first that holds the address. */
#include "engine/core/endpoint.h"
#include "engine/lookup/text.h"
#include <stdio.h>
#include <stdlib.h>

struct rule {
    struct network_prefix network;
    bool outside; /* "!": of what is not in it */
    struct slice value;
};

struct map_source {
    char *text;
    struct rule *rules;
    size_t count, room;
};

static void cidr_close(struct map_source *source)
{
    if (source != NULL) {
        free(source->rules);
        free(source->text);
        free(source);
    }
}

static int rule_add(struct map_source *source, struct slice key, struct slice value)
{
    if (source->count == source->room) {
        size_t room = source->room == 0 ? 64 : source->room * 2;
        struct rule *grown = realloc(source->rules, room * sizeof(*grown));
        if (grown == NULL) {
            return -ENOMEM;
        }
        source->rules = grown;
        source->room = room;
    }
    struct rule *rule = &source->rules[source->count];
    *rule = (struct rule){.outside = key.bytes[0] == '!', .value = value};
    int status = network_prefix_parse(&rule->network, text_trim(slice_from(key, rule->outside)));
    source->count += status == 0;
    return status;
}

static int cidr_open(struct map_source **made, const char *where, char problem[MAP_PROBLEM_MAX])
{
    struct map_source *source = calloc(1, sizeof(*source));
    size_t bytes = 0;
    int status = source == NULL ? -ENOMEM : text_read(where, &source->text, &bytes);
    struct slice rest = slice_of(status == 0 ? source->text : NULL, bytes), line, key, value;
    unsigned number, next = 1;
    while (status == 0 && text_line(&rest, &line, &number, &next)) {
        status = text_split(line, &key, &value) ? rule_add(source, key, value) : -EINVAL;
        if (status < 0 && status != -ENOMEM) {
            snprintf(problem, MAP_PROBLEM_MAX, "%.150s:%u: \"192.0.2.0/24 value\" is expected",
                     where, number);
            status = -EINVAL;
        }
    }
    if (status < 0) {
        cidr_close(source);
        return status;
    }
    *made = source;
    return 0;
}

static void cidr_find(struct map_source *source, struct slice key, struct map_result *result)
{
    struct network_prefix address;
    map_absent(result);
    if (key.bytes[0] == '[' && key.bytes[key.size - 1] == ']') {
        static const char tag[] = "IPv6:"; /* as an address literal has it: RFC 5321 §4.1.3 */
        key = slice_of(key.bytes + 1, key.size - 2);
        bool tagged = slice_equal_nocase(slice_first(key, sizeof(tag) - 1), slice_text(tag));
        key = slice_from(key, tagged ? sizeof(tag) - 1 : 0);
    }
    if (network_prefix_parse(&address, key) < 0) {
        return;
    }
    for (size_t i = 0; i < source->count; i++) {
        const struct rule *rule = &source->rules[i];
        if (network_prefix_holds(&rule->network, &address.address) != rule->outside) {
            map_found(result, rule->value);
            return;
        }
    }
}

const struct map_kind map_cidr = {.name = "cidr",
                                  .is_file = true,
                                  .of_patterns = true,
                                  .open = cidr_open,
                                  .close = cidr_close,
                                  .find = cidr_find};
