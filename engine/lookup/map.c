#include "engine/lookup/map.h"
#include "engine/core/check.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/stat.h>

#define LOOK_AGAIN_NS 1000000000ull

static const struct map_kind *const kinds[] = {&map_inline, &map_texthash, &map_aliases, &map_pcre,
                                               &map_cidr,   &map_lmdb,     &map_sqlite,  &map_pgsql,
                                               &map_ldap,   &map_include};

struct map {
    const struct map_kind *kind;
    char *name;
    const char *where;     /* in name */
    pthread_rwlock_t lock; /* of all below: files are read by many, databases asked by one */
    struct map_source *source;
    struct timespec changed; /* of the file that is read */
    ino_t inode;
    off_t size;
    uint64_t looked_ns;
    char problem[MAP_PROBLEM_MAX];
    atomic_uint_fast64_t generation;
    atomic_uint count; /* of those who have it */
};

void map_found(struct map_result *result, struct slice value)
{
    if (value.size > MAP_VALUE_MAX) {
        map_too_long(result, "a value of %zu bytes is too long", value.size);
        return;
    }
    result->answer = MAP_FOUND;
    result->bytes = value.size;
    if (value.size > 0) {
        memcpy(result->value, value.bytes, value.size);
    }
}

static void map_trouble(struct map_result *result, enum map_answer answer, const char *format,
                        va_list arguments)
{
    result->answer = answer;
    result->bytes = 0;
    vsnprintf(result->problem, sizeof(result->problem), format, arguments);
}

void map_failed(struct map_result *result, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    map_trouble(result, MAP_FAILED, format, arguments);
    va_end(arguments);
}

void map_too_long(struct map_result *result, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    map_trouble(result, MAP_TOO_LONG, format, arguments);
    va_end(arguments);
}

static const struct map_kind *kind_of(const char *name, size_t size)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        if (strlen(kinds[i]->name) == size && memcmp(kinds[i]->name, name, size) == 0) {
            return kinds[i];
        }
    }
    return NULL;
}

static void file_note(struct map *map, const struct stat *file)
{
    map->changed = file->st_mtim;
    map->inode = file->st_ino;
    map->size = file->st_size;
}

int map_open(struct map **opened, const char *name, char problem[MAP_PROBLEM_MAX])
{
    const char *colon = strchr(name, ':');
    const struct map_kind *kind = colon == NULL ? NULL : kind_of(name, (size_t)(colon - name));
    struct stat file;
    problem[0] = '\0';
    if (kind == NULL) {
        snprintf(problem, MAP_PROBLEM_MAX, "%.100s: no such kind of map", name);
        return -EINVAL;
    }
    struct map *map = calloc(1, sizeof(*map));
    if (map == NULL || (map->name = strdup(name)) == NULL) {
        free(map);
        return -ENOMEM;
    }
    map->kind = kind;
    atomic_init(&map->count, 1);
    map->where = map->name + (colon - name) + 1;
    if (kind->is_file && stat(map->where, &file) == 0) {
        file_note(map, &file); /* before it is read: what comes meanwhile is a change */
    }
    int status = kind->open(&map->source, map->where, problem);
    if (status < 0) {
        if (problem[0] == '\0') {
            snprintf(problem, MAP_PROBLEM_MAX, "%.100s: %s", map->where, strerror(-status));
        }
        free(map->name);
        free(map);
        return status;
    }
    check(pthread_rwlock_init(&map->lock, NULL) == 0);
    *opened = map;
    return 0;
}

struct map *map_take(struct map *map)
{
    atomic_fetch_add_explicit(&map->count, 1, memory_order_relaxed);
    return map;
}

void map_close(struct map *map)
{
    if (atomic_fetch_sub_explicit(&map->count, 1, memory_order_acq_rel) > 1) {
        return;
    }
    map->kind->close(map->source);
    pthread_rwlock_destroy(&map->lock);
    free(map->name);
    free(map);
}

const char *map_name(const struct map *map)
{
    return map->name;
}

bool map_of_networks(const struct map *map)
{
    return map->kind == &map_cidr;
}

bool map_of_patterns(const struct map *map)
{
    return map->kind->of_patterns;
}

uint64_t map_generation(const struct map *map)
{
    return atomic_load_explicit(&map->generation, memory_order_acquire);
}

void map_problem(struct map *map, char problem[MAP_PROBLEM_MAX])
{
    pthread_rwlock_rdlock(&map->lock);
    memcpy(problem, map->problem, MAP_PROBLEM_MAX);
    pthread_rwlock_unlock(&map->lock);
}

static bool file_same(const struct map *map, const struct stat *file)
{
    return map->changed.tv_sec == file->st_mtim.tv_sec &&
           map->changed.tv_nsec == file->st_mtim.tv_nsec && map->inode == file->st_ino &&
           map->size == file->st_size;
}

/* A file that is gone, or wrong, leaves the old content in force: it may be half written. */
static void read_again(struct map *map)
{
    struct stat file;
    struct map_source *source;
    if (stat(map->where, &file) < 0) {
        snprintf(map->problem, sizeof(map->problem), "%.150s: %s", map->where, strerror(errno));
        return;
    }
    if (file_same(map, &file)) {
        return;
    }
    char problem[MAP_PROBLEM_MAX] = "";
    int status = map->kind->open(&source, map->where, problem);
    file_note(map, &file);
    if (status < 0) {
        snprintf(map->problem, sizeof(map->problem), "%s",
                 problem[0] != '\0' ? problem : strerror(-status));
        return;
    }
    map->kind->close(map->source);
    map->source = source;
    map->problem[0] = '\0';
    atomic_fetch_add_explicit(&map->generation, 1, memory_order_release);
}

static void look_again(struct map *map, uint64_t now_ns)
{
    pthread_rwlock_rdlock(&map->lock);
    bool due = map->looked_ns + LOOK_AGAIN_NS <= now_ns;
    pthread_rwlock_unlock(&map->lock);
    if (!due) {
        return;
    }
    pthread_rwlock_wrlock(&map->lock);
    if (map->looked_ns + LOOK_AGAIN_NS <= now_ns) {
        map->looked_ns = now_ns;
        read_again(map);
    }
    pthread_rwlock_unlock(&map->lock);
}

void map_find(struct map *map, struct slice key, uint64_t now_ns, struct map_result *result)
{
    uint8_t folded[MAP_KEY_MAX];
    result->problem[0] = '\0';
    if (key.size == 0 || key.size > MAP_KEY_MAX || memchr(key.bytes, '\0', key.size) != NULL) {
        map_absent(result);
        return;
    }
    if (!map->kind->of_patterns) {
        for (size_t i = 0; i < key.size; i++) {
            folded[i] = slice_lower(key.bytes[i]);
        }
        key.bytes = folded;
    }
    if (map->kind->is_file) {
        look_again(map, now_ns);
        pthread_rwlock_rdlock(&map->lock);
    } else {
        pthread_rwlock_wrlock(&map->lock);
    }
    map->kind->find(map->source, key, result);
    pthread_rwlock_unlock(&map->lock);
}
