#include "engine/relay/inbound_paths.h"
#include <errno.h>
#include <stdlib.h>

#define FIRST_BYTES 512u

void inbound_paths_reset(struct inbound_paths *paths)
{
    paths->text_bytes = paths->reverse_bytes = 0;
    paths->count = 0;
}

void inbound_paths_free(struct inbound_paths *paths)
{
    free(paths->text);
    free(paths->forward);
}

static int keep(struct inbound_paths *paths, struct slice path)
{
    if (path.size == 0) {
        return 0; /* the null reverse-path */
    }
    if (paths->text_size - paths->text_bytes < path.size) {
        size_t size = paths->text_size == 0 ? FIRST_BYTES : paths->text_size * 2;
        while (size - paths->text_bytes < path.size) {
            size *= 2;
        }
        uint8_t *grown = realloc(paths->text, size);
        if (grown == NULL) {
            return -ENOMEM;
        }
        paths->text = grown;
        paths->text_size = size;
    }
    memcpy(paths->text + paths->text_bytes, path.bytes, path.size);
    paths->text_bytes += path.size;
    return 0;
}

int inbound_paths_reverse(struct inbound_paths *paths, struct slice path)
{
    int status = keep(paths, path);
    paths->reverse_bytes = status == 0 ? path.size : 0;
    return status;
}

int inbound_paths_forward(struct inbound_paths *paths, struct slice path)
{
    if (paths->count == paths->size) {
        uint32_t size = paths->size == 0 ? 4 : paths->size * 2;
        struct slice *grown = realloc(paths->forward, size * sizeof(struct slice));
        if (grown == NULL) {
            return -ENOMEM;
        }
        paths->forward = grown;
        paths->size = size;
    }
    if (keep(paths, path) < 0) {
        return -ENOMEM;
    }
    paths->forward[paths->count++] = slice_of(NULL, path.size);
    return 0;
}

bool inbound_paths_hold(const struct inbound_paths *paths, struct slice path)
{
    const uint8_t *next = paths->text + paths->reverse_bytes;
    for (uint32_t i = 0; i < paths->count; i++) {
        if (slice_equal_nocase(slice_of(next, paths->forward[i].size), path)) {
            return true;
        }
        next += paths->forward[i].size;
    }
    return false;
}

struct slice inbound_paths_settle(struct inbound_paths *paths)
{
    const uint8_t *next = paths->text;
    struct slice reverse = slice_of(next, paths->reverse_bytes);
    next += paths->reverse_bytes;
    for (uint32_t i = 0; i < paths->count; i++) {
        paths->forward[i].bytes = next;
        next += paths->forward[i].size;
    }
    return reverse;
}

struct slice inbound_paths_lone(const struct inbound_paths *paths)
{
    return paths->count == 1 ? slice_of(paths->text + paths->reverse_bytes, paths->forward[0].size)
                             : slice_of(NULL, 0);
}
