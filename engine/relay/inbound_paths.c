#include "engine/relay/inbound_paths.h"
#include <errno.h>
#include <stdlib.h>

#define FIRST_BYTES 512u

void inbound_paths_reset(struct inbound_paths *paths)
{
    paths->text_bytes = paths->reverse_bytes = paths->envid_bytes = 0;
    paths->count = paths->seen_count = 0;
    address_set_clear(&paths->seen);
}

void inbound_paths_free(struct inbound_paths *paths)
{
    free(paths->text);
    free(paths->forward);
    free(paths->begins);
    address_set_free(&paths->seen);
}

/* Both or none. */
static int keep(struct inbound_paths *paths, struct slice path, struct slice more)
{
    if (paths->text_size - paths->text_bytes < path.size + more.size) {
        size_t size = paths->text_size == 0 ? FIRST_BYTES : paths->text_size * 2;
        while (size - paths->text_bytes < path.size + more.size) {
            size *= 2;
        }
        uint8_t *grown = realloc(paths->text, size);
        if (grown == NULL) {
            return -ENOMEM;
        }
        paths->text = grown;
        paths->text_size = size;
    }
    if (path.size > 0) { /* else the null reverse-path */
        memcpy(paths->text + paths->text_bytes, path.bytes, path.size);
    }
    if (more.size > 0) {
        memcpy(paths->text + paths->text_bytes + path.size, more.bytes, more.size);
    }
    paths->text_bytes += path.size + more.size;
    return 0;
}

int inbound_paths_reverse(struct inbound_paths *paths, struct slice path, struct slice envid)
{
    int status = keep(paths, path, envid);
    paths->reverse_bytes = status == 0 ? path.size : 0;
    paths->envid_bytes = status == 0 ? envid.size : 0;
    return status;
}

struct slice inbound_paths_sender(const struct inbound_paths *paths)
{
    return slice_of(paths->text, paths->reverse_bytes);
}

static int forward_grow(struct inbound_paths *paths)
{
    uint32_t size = paths->size == 0 ? 4 : paths->size * 2;
    struct envelope_recipient *forward = realloc(paths->forward, size * sizeof(*forward));
    paths->forward = forward != NULL ? forward : paths->forward;
    uint32_t *begins = realloc(paths->begins, size * sizeof(*begins));
    paths->begins = begins != NULL ? begins : paths->begins;
    if (forward == NULL || begins == NULL) {
        return -ENOMEM;
    }
    paths->size = size;
    return 0;
}

int inbound_paths_forward(struct inbound_paths *paths, const struct envelope_recipient *recipient)
{
    size_t begin = paths->text_bytes;
    if (paths->count == paths->size && forward_grow(paths) < 0) {
        return -ENOMEM;
    }
    if (keep(paths, recipient->forward_path, recipient->orcpt) < 0) {
        return -ENOMEM;
    }
    paths->begins[paths->count] = (uint32_t)begin;
    paths->forward[paths->count++] =
        (struct envelope_recipient){.forward_path = slice_of(NULL, recipient->forward_path.size),
                                    .orcpt = slice_of(NULL, recipient->orcpt.size),
                                    .notify = recipient->notify,
                                    .state = recipient->state};
    return 0;
}

static struct slice forward_path(const struct inbound_paths *paths, uint32_t index)
{
    return slice_of(paths->text + paths->begins[index], paths->forward[index].forward_path.size);
}

int inbound_paths_hold(struct inbound_paths *paths, const struct siphash_key *secret,
                       struct slice path)
{
    for (; paths->seen_count < paths->count; paths->seen_count++) {
        uint32_t index = paths->seen_count;
        if (paths->forward[index].state == RECIPIENT_WAITING &&
            address_set_add(&paths->seen, secret, forward_path(paths, index), index) < 0) {
            return -ENOMEM;
        }
    }
    struct address_walk walk = address_set_find(secret, path);
    for (uint32_t index; address_set_next(&paths->seen, &walk, &index);) {
        if (slice_equal_nocase(forward_path(paths, index), path)) {
            return 1;
        }
    }
    return 0;
}

void inbound_paths_cut(struct inbound_paths *paths, uint32_t count)
{
    if (count < paths->count) {
        paths->text_bytes = paths->begins[count];
        paths->count = count;
        paths->seen_count = 0;
        address_set_clear(&paths->seen);
    }
}

void inbound_paths_settle(struct inbound_paths *paths, struct envelope *envelope)
{
    const uint8_t *next = paths->text;
    envelope->reverse_path = slice_of(next, paths->reverse_bytes);
    next += paths->reverse_bytes;
    envelope->envid = slice_of(next, paths->envid_bytes);
    next += paths->envid_bytes;
    for (uint32_t i = 0; i < paths->count; i++) {
        struct envelope_recipient *recipient = &paths->forward[i];
        recipient->forward_path.bytes = next;
        next += recipient->forward_path.size;
        recipient->orcpt.bytes = next;
        next += recipient->orcpt.size;
    }
}

struct slice inbound_paths_lone(const struct inbound_paths *paths)
{
    return paths->count == 1 ? slice_of(paths->text + paths->reverse_bytes + paths->envid_bytes,
                                        paths->forward[0].forward_path.size)
                             : slice_of(NULL, 0);
}
