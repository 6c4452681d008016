/* Users in a map (engine/lookup): SQLite, PostgreSQL, attributes of LDAP, LMDB, texthash. The value of a name is what
 * stands behind "user:" in a passwd-file, so the password alone will do. */
#include "engine/auth/backend.h"
#include "engine/lookup/map.h"
#include <stdio.h>
#include <stdlib.h>

static int map_source_open(struct backend_source **opened, const char *kind, const char *where,
                           char problem[BACKEND_PROBLEM_MAX])
{
    char name[1024];
    char why[MAP_PROBLEM_MAX] = "";
    struct map *map;
    if (snprintf(name, sizeof(name), "%s:%s", kind, where) >= (int)sizeof(name)) {
        return -EINVAL;
    }
    int status = map_open(&map, name, why);
    snprintf(problem, BACKEND_PROBLEM_MAX, "%s", why);
    if (status == 0) {
        *opened = (struct backend_source *)(void *)map;
    }
    return status;
}

static void map_source_close(struct backend_source *source)
{
    map_close((struct map *)(void *)source);
}

static enum backend_answer map_source_find(struct backend_source *source, struct slice name,
                                           uint64_t now_ns, struct auth_user *user,
                                           char problem[BACKEND_PROBLEM_MAX])
{
    enum backend_answer answer = BACKEND_FAILED;
    struct map_result *result = malloc(sizeof(*result));
    if (result == NULL) {
        snprintf(problem, BACKEND_PROBLEM_MAX, "out of memory");
        return BACKEND_FAILED;
    }
    map_find((struct map *)(void *)source, name, now_ns, result);
    switch (result->answer) {
    case MAP_FOUND:
        if (auth_user_read(slice_of(result->value, result->bytes), user)) {
            answer = BACKEND_FOUND;
        } else {
            snprintf(problem, BACKEND_PROBLEM_MAX, "a field is too long");
        }
        break;
    case MAP_ABSENT:
        answer = BACKEND_ABSENT;
        break;
    case MAP_FAILED:
    case MAP_TOO_LONG:
        snprintf(problem, BACKEND_PROBLEM_MAX, "%s", result->problem);
        break;
    }
    explicit_bzero(result, sizeof(*result));
    free(result);
    return answer;
}

const struct backend_kind backend_map = {
    .name = "map", .open = map_source_open, .close = map_source_close, .find = map_source_find};
