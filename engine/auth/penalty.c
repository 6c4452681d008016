#include "engine/auth/penalty.h"
#include "engine/core/check.h"
#include <errno.h>

#define SECOND_NS 1000000000ull

int penalty_open(struct penalty *penalty, const struct penalty_settings *settings,
                 const uint8_t secret[32])
{
    memset(penalty, 0, sizeof(*penalty));
    penalty->settings = *settings;
    struct penalty_settings *own = &penalty->settings;
    own->forget_ns = own->forget_ns == 0 ? 3600 * SECOND_NS : own->forget_ns;
    own->block_after = own->block_after == 0 ? 20 : own->block_after;
    own->block_ns = own->block_ns == 0 ? 600 * SECOND_NS : own->block_ns;
    penalty->hash = keyed_hash_open(secret);
    return penalty->hash == NULL ? -ENOMEM : 0;
}

void penalty_close(struct penalty *penalty)
{
    keyed_hash_close(penalty->hash);
    penalty->hash = NULL;
}

/* Nobody can choose whose place he takes. */
static void key_make(const struct penalty *penalty, char kind, struct slice a, struct slice b,
                     uint8_t key[16])
{
    uint8_t text[1 + 2 + 2048], digest[KEYED_HASH_BYTES];
    size_t used = 0;
    a = slice_first(a, 512);
    b = slice_first(b, 1024);
    text[used++] = (uint8_t)kind;
    text[used++] = (uint8_t)(a.size >> 8);
    text[used++] = (uint8_t)a.size;
    memcpy(text + used, a.size == 0 ? (const uint8_t *)"" : a.bytes, a.size);
    used += a.size;
    memcpy(text + used, b.size == 0 ? (const uint8_t *)"" : b.bytes, b.size);
    used += b.size;
    keyed_hash_make(penalty->hash, slice_of(text, used), digest);
    explicit_bzero(text, used);
    memcpy(key, digest, 16);
}

static void address_key(const struct penalty *penalty, const struct penalty_address *address,
                        uint8_t key[16])
{
    struct slice octets = slice_of(address->octets, address->ipv6 ? 8 : 4);
    key_make(penalty, address->ipv6 ? '6' : '4', octets, slice_of(NULL, 0), key);
}

static unsigned set_of(const uint8_t key[16])
{
    return ((unsigned)key[0] << 8 | key[1]) % PENALTY_SETS;
}

static bool count_valid(const struct penalty *penalty, const struct penalty_count *count,
                        uint64_t now_ns)
{
    return count->failed_ns > 0 && (now_ns < count->failed_ns + penalty->settings.forget_ns ||
                                    now_ns < count->blocked_until_ns);
}

/* NULL: nothing is known of it. */
static const struct penalty_count *count_find(const struct penalty *penalty, const uint8_t key[16])
{
    const struct penalty_count *set = penalty->counts[set_of(key)];
    for (unsigned i = 0; i < PENALTY_WAYS; i++) {
        if (set[i].failed_ns > 0 && memcmp(set[i].key, key, 16) == 0) {
            return &set[i];
        }
    }
    return NULL;
}

/* That of the key, begun anew when there was none: in the place of the one that failed last the longest ago. */
static struct penalty_count *count_take(struct penalty *penalty, const uint8_t key[16],
                                        uint64_t now_ns)
{
    struct penalty_count *set = penalty->counts[set_of(key)];
    struct penalty_count *found = &set[0];
    for (unsigned i = 0; i < PENALTY_WAYS; i++) {
        if (set[i].failed_ns > 0 && memcmp(set[i].key, key, 16) == 0) {
            found = &set[i];
            if (count_valid(penalty, found, now_ns)) {
                return found;
            }
            break;
        }
        found = set[i].failed_ns < found->failed_ns ? &set[i] : found;
    }
    memset(found, 0, sizeof(*found));
    memcpy(found->key, key, 16);
    return found;
}

/* Of the name before '@'. */
static void user_key(const struct penalty *penalty, struct slice user, uint8_t key[16])
{
    const uint8_t *at = user.size == 0 ? NULL : memchr(user.bytes, '@', user.size);
    struct slice name = at == NULL ? user : slice_first(user, (size_t)(at - user.bytes));
    key_make(penalty, 'u', name, slice_of(NULL, 0), key);
}

bool penalty_blocked(const struct penalty *penalty, const struct penalty_address *address,
                     uint64_t now_ns)
{
    uint8_t key[16];
    address_key(penalty, address, key);
    const struct penalty_count *count = count_find(penalty, key);
    return count != NULL && now_ns < count->blocked_until_ns;
}

/* Has this address tried the same lately? Remembers it. */
static bool tried_before(const struct penalty *penalty, struct penalty_count *count,
                         struct slice user, struct slice password)
{
    uint8_t key[16];
    if (password.size == 0) {
        return false;
    }
    key_make(penalty, 't', user, password, key);
    for (unsigned i = 0; i < 4; i++) {
        if (memcmp(count->last_tries[i], key, 16) == 0) {
            return true;
        }
    }
    memcpy(count->last_tries[count->last_index], key, 16);
    count->last_index = (uint8_t)((count->last_index + 1) % 4);
    return false;
}

static uint64_t delay_of(uint32_t count)
{
    static const uint64_t delays_s[] = {2, 2, 4, 8};
    return (count < 4 ? delays_s[count] : 15) * SECOND_NS;
}

uint64_t penalty_failed(struct penalty *penalty, const struct penalty_address *address,
                        struct slice user, struct slice password, uint64_t now_ns)
{
    uint8_t key[16];
    address_key(penalty, address, key);
    struct penalty_count *by_address = count_take(penalty, key, now_ns);
    by_address->failed_ns = now_ns; /* so that it is not taken for the oldest below */
    user_key(penalty, user, key);
    struct penalty_count *by_user = count_take(penalty, key, now_ns);
    by_user->failed_ns = now_ns;
    if (!tried_before(penalty, by_address, user, password)) {
        by_address->count++;
        by_user->count++;
    }
    const struct penalty_settings *settings = &penalty->settings;
    if (by_address->count >= settings->block_after && settings->block_after != UINT32_MAX) {
        by_address->blocked_until_ns = now_ns + settings->block_ns;
        by_address->count = 0; /* it begins anew afterwards */
    }
    uint32_t most = by_address->count > by_user->count ? by_address->count : by_user->count;
    return now_ns < by_address->blocked_until_ns ? delay_of(4) : delay_of(most);
}

void penalty_succeeded(struct penalty *penalty, struct slice user)
{
    uint8_t key[16];
    user_key(penalty, user, key);
    const struct penalty_count *count = count_find(penalty, key);
    if (count != NULL) {
        memset(&penalty->counts[set_of(key)][count - penalty->counts[set_of(key)]], 0,
               sizeof(*count));
    }
}
