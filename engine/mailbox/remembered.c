#include "engine/mailbox/remembered.h"
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#define DIGEST_BYTES 16u
#define THING_BYTES (DIGEST_BYTES + 8u)
#define BUCKET_BYTES (REMEMBERED_OF_BUCKET * THING_BYTES)
#define KEY_BYTES 16u

/* One that is not durable yet. */
struct pending {
    struct list_node node;
    struct mailstore_waiter waiter;
    struct remembered *remembered;
    struct remembered_thing thing;
    uint64_t until_s;
    char user[];
};

struct remembered {
    struct mailstore *store;
    struct list_node pending;
    uint32_t pending_count;
};

static struct pending *pending_of(struct list_node *node)
{
    return list_entry(node, struct pending, node);
}

static void pending_free(struct pending *pending)
{
    list_remove(&pending->node);
    pending->remembered->pending_count--;
    free(pending);
}

int remembered_open(struct remembered **made, struct mailstore *store)
{
    struct remembered *remembered = (struct remembered *)calloc(1, sizeof *remembered);
    if (remembered == NULL) {
        return -ENOMEM;
    }
    remembered->store = store;
    list_init(&remembered->pending);
    *made = remembered;
    return 0;
}

void remembered_close(struct remembered *remembered)
{
    while (remembered != NULL && !list_empty(&remembered->pending)) {
        struct pending *pending = pending_of(remembered->pending.next);
        mailstore_waiter_cancel(remembered->store, &pending->waiter);
        pending_free(pending);
    }
    free(remembered);
}

/* ---- Things ---- */

bool remembered_make(struct remembered_thing *thing, enum remembered_kind kind, struct slice first,
                     struct slice second)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    uint64_t size = first.size; /* where the one ends and the other begins */
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1 &&
                EVP_DigestUpdate(context, &size, sizeof size) == 1 &&
                EVP_DigestUpdate(context, first.bytes, first.size) == 1 &&
                EVP_DigestUpdate(context, second.bytes, second.size) == 1 &&
                EVP_DigestFinal_ex(context, digest, NULL) == 1;
    EVP_MD_CTX_free(context);
    thing->kind = (uint8_t)kind;
    if (good) {
        memcpy(thing->digest, digest, DIGEST_BYTES);
    }
    return good;
}

static unsigned bucket_of(const struct remembered_thing *thing)
{
    return thing->digest[0] % REMEMBERED_BUCKETS;
}

static bool same(const struct pending *pending, const char *user,
                 const struct remembered_thing *thing)
{
    return pending->thing.kind == thing->kind &&
           memcmp(pending->thing.digest, thing->digest, DIGEST_BYTES) == 0 &&
           strcmp(pending->user, user) == 0;
}

/* ---- A bucket: digests and the second until which each counts, little-endian ---- */

static uint64_t until_get(const uint8_t *thing)
{
    uint64_t until_s = 0;
    for (unsigned i = 8; i-- > 0;) {
        until_s = until_s << 8 | thing[DIGEST_BYTES + i];
    }
    return until_s;
}

/* Reads it from the store. 0; -ENOENT: it is empty; -errno. */
static int bucket_read(const struct remembered *remembered, const struct mailstore_user *user,
                       const struct remembered_thing *thing, uint8_t bytes[BUCKET_BYTES],
                       size_t *size)
{
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "seen/%c/%02x", thing->kind, bucket_of(thing));
    struct mailstore_property property = {.key = slice_text(key)};
    *size = 0;
    int status = mailstore_property_get(remembered->store, user, &property);
    if (status == 0) {
        size_t whole = property.value.size / THING_BYTES * THING_BYTES;
        *size = whole < BUCKET_BYTES ? whole : BUCKET_BYTES;
        memcpy(bytes, property.value.bytes, *size);
        free((void *)(uintptr_t)property.value.bytes);
    }
    return status;
}

/* Where it is; NULL: nowhere. */
static uint8_t *bucket_find(uint8_t *bytes, size_t size, const uint8_t digest[DIGEST_BYTES])
{
    for (size_t at = 0; at < size; at += THING_BYTES) {
        if (memcmp(bytes + at, digest, DIGEST_BYTES) == 0) {
            return bytes + at;
        }
    }
    return NULL;
}

static void bucket_add(uint8_t bytes[BUCKET_BYTES], size_t *size,
                       const struct remembered_thing *thing, uint64_t until_s)
{
    uint8_t *to = bucket_find(bytes, *size, thing->digest);
    if (to == NULL && *size < BUCKET_BYTES) {
        to = bytes + *size;
        *size += THING_BYTES;
    }
    if (to == NULL) {
        to = bytes;
        for (size_t at = THING_BYTES; at < *size; at += THING_BYTES) {
            to = until_get(bytes + at) < until_get(to) ? bytes + at : to;
        }
    }
    memcpy(to, thing->digest, DIGEST_BYTES);
    for (unsigned i = 0; i < 8; i++) {
        to[DIGEST_BYTES + i] = (uint8_t)(until_s >> (8 * i));
    }
}

static void bucket_forget(uint8_t *bytes, size_t *size, uint64_t now_s)
{
    size_t kept = 0;
    for (size_t at = 0; at < *size; at += THING_BYTES) {
        if (until_get(bytes + at) > now_s) {
            memmove(bytes + kept, bytes + at, THING_BYTES);
            kept += THING_BYTES;
        }
    }
    *size = kept;
}

/* ---- Asking and adding ---- */

bool remembered_has(struct remembered *remembered, const struct mailstore_user *user,
                    const struct remembered_thing *thing, uint64_t now_s)
{
    uint8_t bytes[BUCKET_BYTES];
    size_t size;
    for (struct list_node *node = remembered->pending.prev; node != &remembered->pending;
         node = node->prev) {
        if (same(pending_of(node), user->name, thing)) {
            return pending_of(node)->until_s > now_s;
        }
    }
    if (bucket_read(remembered, user, thing, bytes, &size) != 0) {
        return false;
    }
    const uint8_t *found = bucket_find(bytes, size, thing->digest);
    return found != NULL && until_get(found) > now_s;
}

static void remembered_durable(struct mailstore_waiter *waiter, int status)
{
    (void)status; /* nothing more can be done: it will happen once more */
    pending_free(list_entry(waiter, struct pending, waiter));
}

static struct pending *pending_new(struct remembered *remembered, const char *user,
                                   const struct remembered_thing *thing, uint64_t until_s)
{
    size_t size = strlen(user) + 1;
    struct pending *pending = remembered->pending_count < REMEMBERED_PENDING_MAX
                                  ? (struct pending *)calloc(1, sizeof *pending + size)
                                  : NULL;
    if (pending != NULL) {
        memcpy(pending->user, user, size);
        pending->remembered = remembered;
        pending->waiter.done = remembered_durable;
        pending->thing = *thing;
        pending->until_s = until_s;
        list_init(&pending->node);
        list_append(&remembered->pending, &pending->node);
        remembered->pending_count++;
    }
    return pending;
}

int remembered_add(struct remembered *remembered, struct mailstore_user *user,
                   const struct remembered_thing *thing, uint64_t now_s, uint64_t until_s)
{
    uint8_t bytes[BUCKET_BYTES];
    size_t size;
    int status = bucket_read(remembered, user, thing, bytes, &size);
    if (status != 0 && status != -ENOENT) {
        return status;
    }
    struct pending *pending = pending_new(remembered, user->name, thing, until_s);
    if (pending == NULL) {
        return -ENOMEM;
    }
    bucket_forget(bytes, &size, now_s);
    /* What is on its way to the same bucket is not read yet, and would be written over. */
    for (struct list_node *node = remembered->pending.next; node != &remembered->pending;
         node = node->next) {
        const struct pending *other = pending_of(node);
        if (other->thing.kind == thing->kind && bucket_of(&other->thing) == bucket_of(thing) &&
            strcmp(other->user, user->name) == 0) {
            bucket_add(bytes, &size, &other->thing, other->until_s);
        }
    }
    char key[KEY_BYTES];
    int key_size = snprintf(key, sizeof key, "seen/%c/%02x", thing->kind, bucket_of(thing));
    const struct mailstore_property property = {.key = slice_of(key, (size_t)key_size),
                                                .value = slice_of(bytes, size)};
    status = mailstore_property_set(remembered->store, user, &property, &pending->waiter);
    if (status != 0) {
        pending_free(pending);
    }
    return status;
}
