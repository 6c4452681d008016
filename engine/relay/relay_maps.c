#include "engine/relay/relay_maps.h"
#include <stdlib.h>

/* The map of that name, opened now or before. */
static int map_of(struct relay_maps *maps, const char *name, struct map **map,
                  char problem[MAP_PROBLEM_MAX])
{
    for (uint32_t i = 0; i < maps->all_count; i++) {
        if (strcmp(map_name(maps->all[i]), name) == 0) {
            *map = maps->all[i];
            return 0;
        }
    }
    struct map **grown = realloc(maps->all, (maps->all_count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return -ENOMEM;
    }
    maps->all = grown;
    int status = map_open(map, name, problem);
    if (status == 0) {
        maps->all[maps->all_count++] = *map;
    }
    return status;
}

static int list_open(struct relay_maps *maps, const char *const *names, uint32_t count,
                     struct rewrite_maps *list, char problem[MAP_PROBLEM_MAX])
{
    int status = 0;
    if (count == 0) {
        return 0;
    }
    list->maps = calloc(count, sizeof(struct map *));
    if (list->maps == NULL) {
        return -ENOMEM;
    }
    while (status == 0 && list->count < count) {
        status = map_of(maps, names[list->count], &list->maps[list->count], problem);
        list->count += status == 0;
    }
    return status;
}

static int routes_open(struct relay_maps *maps, const struct relay_conf *conf,
                       char problem[MAP_PROBLEM_MAX])
{
    int status = 0;
    maps->recipients = calloc(conf->routes_count + 1, sizeof(*maps->recipients));
    if (maps->recipients == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < conf->routes_count && status == 0; i++) {
        const struct conf_route *route = &conf->routes[i];
        status = list_open(maps, route->recipients, route->recipients_count, &maps->recipients[i],
                           problem);
        maps->recipients_count = i + 1;
    }
    return status;
}

int relay_maps_open(struct relay_maps **opened, const struct relay_conf *conf,
                    char problem[MAP_PROBLEM_MAX])
{
    struct relay_maps *maps = calloc(1, sizeof(*maps));
    problem[0] = '\0';
    if (maps == NULL) {
        return -ENOMEM;
    }
    struct rewrite_rules *rules = &maps->rules;
    *rules = (struct rewrite_rules){
        .hostname = conf->hostname,
        .local_domains = conf->rewrite.local_domains,
        .local_domains_count = conf->rewrite.local_domains_count,
        .extension = conf->rewrite.extension == NULL ? 0 : conf->rewrite.extension[0]};
    const struct {
        const char *const *names;
        uint32_t count;
        struct rewrite_maps *list;
    } lists[] = {
        {conf->rewrite.sender_canonical, conf->rewrite.sender_canonical_count,
         &rules->sender_canonical},
        {conf->rewrite.recipient_canonical, conf->rewrite.recipient_canonical_count,
         &rules->recipient_canonical},
        {conf->rewrite.virtual_aliases, conf->rewrite.virtual_aliases_count,
         &rules->virtual_aliases},
        {conf->rewrite.aliases, conf->rewrite.aliases_count, &rules->aliases},
        {conf->transport_maps, conf->transport_maps_count, &maps->transports},
        {conf->sender_logins, conf->sender_logins_count, &maps->logins},
    };
    int status = 0;
    for (size_t i = 0; i < sizeof(lists) / sizeof(*lists) && status == 0; i++) {
        status = list_open(maps, lists[i].names, lists[i].count, lists[i].list, problem);
    }
    if (status == 0 && conf->rewrite.includes && rules->aliases.count > 0) {
        status = map_of(maps, "include:", &rules->includes, problem);
    }
    status = status == 0 ? routes_open(maps, conf, problem) : status;
    if (status < 0) {
        relay_maps_close(maps);
        return status;
    }
    maps->rewrites_senders = rules->sender_canonical.count > 0;
    maps->rewrites_recipients =
        rules->recipient_canonical.count + rules->virtual_aliases.count + rules->aliases.count > 0;
    *opened = maps;
    return 0;
}

void relay_maps_close(struct relay_maps *maps)
{
    if (maps == NULL) {
        return;
    }
    free(maps->rules.sender_canonical.maps);
    free(maps->rules.recipient_canonical.maps);
    free(maps->rules.virtual_aliases.maps);
    free(maps->rules.aliases.maps);
    free(maps->transports.maps);
    free(maps->logins.maps);
    for (uint32_t i = 0; i < maps->recipients_count; i++) {
        free(maps->recipients[i].maps);
    }
    free(maps->recipients);
    for (uint32_t i = 0; i < maps->all_count; i++) {
        map_close(maps->all[i]);
    }
    free(maps->all);
    free(maps);
}
