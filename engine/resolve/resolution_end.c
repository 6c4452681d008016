#include "engine/resolve/resolve_private.h"

#include <stdio.h>

#define TLSA_READ_MAX 64u /* records of one name that are looked at */
#define TLSA_KEPT_MAX 32u

/* ---- Addresses ---- */

bool resolution_host_has_address(const struct resolution_host *host)
{
    for (unsigned family = 0; family < RESOLUTION_FAMILIES; family++) {
        const struct answer *answer = host->addresses[family].answer;
        if (answer != NULL && answer->is.status == RESOLVE_ANSWER_RECORDS) {
            return true;
        }
    }
    return false;
}

/* What could not be learned proves nothing: the addresses at hand decide. */
bool resolution_host_validated(const struct resolution_host *host)
{
    for (unsigned family = 0; family < RESOLUTION_FAMILIES; family++) {
        const struct answer *answer = host->addresses[family].answer;
        if (answer != NULL && !answer_failed(answer) && !answer->is.secure) {
            return false;
        }
    }
    return true;
}

const char *resolution_host_canonical(const struct resolution_host *host)
{
    for (unsigned family = 0; family < RESOLUTION_FAMILIES; family++) {
        const struct answer *answer = host->addresses[family].answer;
        if (answer != NULL && answer->is.canonical != NULL) {
            return answer->is.canonical;
        }
    }
    return host->name;
}

/* The host's addresses of one family, in an order of their own for each resolution. */
static unsigned read_family(const struct resolution *resolution, const struct resolution_host *host,
                            unsigned family, struct endpoint *addresses)
{
    static const uint16_t equal[DNS_EXCHANGERS_MAX];
    const struct answer *answer = host->addresses[family].answer;
    struct resolve *resolve = resolution->resolve;
    uint8_t order[DNS_EXCHANGERS_MAX];
    uint64_t random;
    unsigned found = 0;
    if (answer == NULL || answer->is.status != RESOLVE_ANSWER_RECORDS) {
        return 0;
    }
    uint32_t count =
        answer->is.record_count < DNS_EXCHANGERS_MAX ? answer->is.record_count : DNS_EXCHANGERS_MAX;
    world_random(resolve->settings.world, &random, sizeof(random));
    dns_exchangers_shuffle(equal, count, random, order);
    for (uint32_t i = 0; i < count && found < DNS_ADDRESSES_MAX; i++) {
        if (dns_address_read(family == RESOLUTION_IPV4 ? DNS_TYPE_A : DNS_TYPE_AAAA,
                             answer->is.records[order[i]], resolution->options.port,
                             &addresses[found]) == 0) {
            found++;
        } else {
            resolve_count(&resolve->counters.malformed, 1);
        }
    }
    return found;
}

/* Each family may have all the room that the other leaves, and half of it in any case. */
static unsigned read_addresses(const struct resolution *resolution,
                               const struct resolution_host *host,
                               struct endpoint addresses[DNS_ADDRESSES_MAX])
{
    struct endpoint found[RESOLUTION_FAMILIES][DNS_ADDRESSES_MAX];
    unsigned left[RESOLUTION_FAMILIES], used[RESOLUTION_FAMILIES] = {0}, count = 0;
    unsigned half = DNS_ADDRESSES_MAX / 2;
    for (unsigned family = 0; family < RESOLUTION_FAMILIES; family++) {
        left[family] = read_family(resolution, host, family, found[family]);
    }
    for (unsigned family = 0; family < RESOLUTION_FAMILIES; family++) {
        unsigned others = left[1 - family] < half ? left[1 - family] : half;
        unsigned room = DNS_ADDRESSES_MAX - others;
        left[family] = left[family] < room ? left[family] : room;
    }
    unsigned turn =
        resolution->options.family == RESOLVE_IPV4_FIRST ? RESOLUTION_IPV4 : RESOLUTION_IPV6;
    while (left[RESOLUTION_IPV4] + left[RESOLUTION_IPV6] > 0) {
        turn = left[turn] > 0 ? turn : 1 - turn;
        addresses[count++] = found[turn][used[turn]++];
        left[turn]--;
        turn = resolution->options.family == RESOLVE_ANY ? 1 - turn : turn;
    }
    check(count <= DNS_ADDRESSES_MAX);
    return count;
}

/* ---- Loops ---- */

static bool is_own_name(const struct resolve *resolve, const char *name)
{
    for (uint32_t i = 0; i < resolve->settings.own_name_count; i++) {
        if (slice_equal_nocase(slice_text(resolve->settings.own_names[i]), slice_text(name))) {
            return true;
        }
    }
    return false;
}

/* Loopback is this machine, wherever on it we listen. What a stranger's domain leads to there is at best nothing, at worst
 * us, or a service that trusts its neighbours. */
static bool is_own_address(const struct resolve *resolve, const struct endpoint *address)
{
    bool loopback = endpoint_is_loopback(address);
    for (uint32_t i = 0; i < resolve->settings.own_count; i++) {
        const struct endpoint *own = &resolve->settings.own[i];
        if (endpoint_equal(own, address) || (loopback && own->port == address->port)) {
            return true;
        }
    }
    return false;
}

static bool is_ourselves(const struct resolution *resolution, const struct resolution_host *host)
{
    struct endpoint addresses[DNS_ADDRESSES_MAX];
    /* Who names a host and a port may mean a service beside us: then only what we listen at is ourselves. */
    if (!resolution->options.host_only && is_own_name(resolution->resolve, host->name)) {
        return true;
    }
    for (unsigned family = 0; family < RESOLUTION_FAMILIES; family++) {
        unsigned count = read_family(resolution, host, family, addresses);
        for (unsigned i = 0; i < count; i++) {
            if (is_own_address(resolution->resolve, &addresses[i])) {
                return true;
            }
        }
    }
    return false;
}

void resolution_cut_loop(struct resolution *resolution)
{
    uint32_t kept = resolution->host_count;
    for (uint32_t i = 0; i < resolution->host_count; i++) {
        if (is_ourselves(resolution, &resolution->hosts[i])) {
            for (kept = i; kept > 0 && resolution->hosts[kept - 1].preference ==
                                           resolution->hosts[i].preference;) {
                kept--;
            }
            break;
        }
    }
    resolution->host_count = kept;
    if (kept == 0) {
        resolution->status = DESTINATION_LOOP;
    }
}

/* ---- TLSA records ---- */

struct tlsa_found {
    uint8_t status; /* enum destination_tlsa */
    uint8_t count;
    struct dns_tlsa records[TLSA_READ_MAX];
};

static void read_tlsa(const struct answer *answer, struct tlsa_found *found)
{
    size_t count = 0;
    found->count = 0;
    found->status = DESTINATION_TLSA_NONE;
    if (answer == NULL) {
        return;
    }
    if (answer_failed(answer)) {
        found->status = DESTINATION_TLSA_FAILED;
        return;
    }
    if (answer->is.status != RESOLVE_ANSWER_RECORDS || !answer->is.secure) {
        return;
    }
    for (uint32_t i = 0; i < answer->is.record_count && count < TLSA_READ_MAX; i++) {
        count += dns_tlsa_read(answer->is.records[i], &found->records[count]) == 0;
    }
    count = dns_tlsa_select(found->records, count);
    found->count = (uint8_t)(count < TLSA_KEPT_MAX ? count : TLSA_KEPT_MAX);
    found->status = count > 0 ? DESTINATION_TLSA_USABLE : DESTINATION_TLSA_UNUSABLE;
}

/* The end of the CNAMEs is the TLSA base domain when it has records, else the name itself when that has (§2.2.2). */
static void find_tlsa(const struct resolution_host *from, struct destination_host *host,
                      struct tlsa_found *found)
{
    host->tlsa_base = from->name;
    read_tlsa(from->tlsa.answer, found);
    if (found->status != DESTINATION_TLSA_NONE) {
        host->tlsa_base = resolution_host_canonical(from);
    } else if (from->alias.answer != NULL && answer_failed(from->alias.answer)) {
        found->status = DESTINATION_TLSA_FAILED;
    } else {
        read_tlsa(from->tlsa_initial.answer, found);
    }
    host->tlsa = found->status;
    host->tlsa_count = found->count;
    host->tlsa_records = found->records;
}

/* ---- The destination ---- */

static const struct {
    uint16_t reply_code;
    uint8_t class;
    uint16_t subject, detail;
    const char *format; /* of the domain, if at all, then of the type asked for */
} reports[] = {
    [DESTINATION_OK] = {0, 0, 0, 0, ""},
    [DESTINATION_BAD_NAME] = {550, 5, 1, 2, "Malformed domain name"},
    [DESTINATION_NO_DOMAIN] = {550, 5, 1, 2,
                               "Host or domain name not found. Name service error for name=%s "
                               "type=%s: Host not found"},
    [DESTINATION_NULL_MX] = {556, 5, 1, 10, "Domain %s does not accept mail (nullMX)"},
    [DESTINATION_NO_ADDRESS] = {550, 5, 4, 4,
                                "Host or domain name not found. Name service error for name=%s "
                                "type=%s: Host found but no data record of requested type"},
    [DESTINATION_LOOP] = {554, 5, 4, 6, "mail for %s loops back to myself"},
    [DESTINATION_TEMPORARY] = {451, 4, 4, 3,
                               "Host or domain name not found. Name service error for name=%s "
                               "type=%s: Host not found, try again"},
    [DESTINATION_BOGUS] = {451, 4, 7, 0, "DNSSEC validation failure for name=%s type=%s"},
};

static void report(struct destination *draft, const char *asked, char *text, size_t size)
{
    draft->reply_code = reports[draft->status].reply_code;
    draft->enhanced_class = reports[draft->status].class;
    draft->enhanced_subject = reports[draft->status].subject;
    draft->enhanced_detail = reports[draft->status].detail;
    draft->text = text;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, size, reports[draft->status].format, draft->domain, asked);
#pragma GCC diagnostic pop
}

static void sooner(uint64_t *expires_ns, const struct need *need)
{
    if (need->answer != NULL && need->answer->expires_ns < *expires_ns) {
        *expires_ns = need->answer->expires_ns;
    }
}

/* When the first of what it was made from is too old. */
static uint64_t expiry(const struct resolution *resolution,
                       const struct destination_mta_sts *mta_sts)
{
    const struct resolve *resolve = resolution->resolve;
    uint64_t expires_ns = world_now_ns(resolve->settings.world) + resolve->settings.ttl_max_ns;
    sooner(&expires_ns, &resolution->mx);
    sooner(&expires_ns, &resolution->txt);
    for (uint32_t i = 0; i < resolution->host_made; i++) {
        const struct resolution_host *host = &resolution->hosts[i];
        sooner(&expires_ns, &host->addresses[RESOLUTION_IPV4]);
        sooner(&expires_ns, &host->addresses[RESOLUTION_IPV6]);
        sooner(&expires_ns, &host->alias);
        sooner(&expires_ns, &host->tlsa);
        sooner(&expires_ns, &host->tlsa_initial);
    }
    if (mta_sts->id[0] != '\0') {
        int64_t left_s = mta_sts->valid_until_s - world_wall_s(resolve->settings.world);
        uint64_t ends_ns = world_now_ns(resolve->settings.world) +
                           (left_s > 0 ? (uint64_t)left_s * 1000000000ull : 0);
        expires_ns = ends_ns < expires_ns ? ends_ns : expires_ns;
    }
    return expires_ns;
}

static bool excluded(const struct destination_mta_sts *mta_sts, const char *host)
{
    for (uint32_t i = 0; i < mta_sts->pattern_count; i++) {
        if (dns_mta_sts_pattern_matches(mta_sts->patterns[i], host)) {
            return false;
        }
    }
    return mta_sts->mode == DNS_MTA_STS_ENFORCE;
}

/* What is written while a destination is put together; too large for a stack. */
struct workshop {
    char text[DNS_NAME_BYTES + 160];
    struct destination_host hosts[DNS_EXCHANGERS_MAX];
    struct {
        struct endpoint addresses[DNS_ADDRESSES_MAX];
        struct tlsa_found tlsa;
    } of_host[];
};

static enum destination_status judge_hosts(const struct resolution *resolution,
                                           const struct destination *draft)
{
    bool failed = false, bogus = false;
    for (uint32_t i = 0; i < draft->host_count; i++) {
        if (draft->hosts[i].address_count > 0) {
            return DESTINATION_OK;
        }
        for (unsigned family = 0; family < RESOLUTION_FAMILIES; family++) {
            const struct answer *answer = resolution->hosts[i].addresses[family].answer;
            failed |= answer != NULL && answer_failed(answer);
            bogus |= answer != NULL && answer->is.status == RESOLVE_ANSWER_BOGUS;
        }
    }
    return bogus ? DESTINATION_BOGUS : failed ? DESTINATION_TEMPORARY : DESTINATION_NO_ADDRESS;
}

static void make_host(const struct resolution *resolution, uint32_t index,
                      const struct destination_mta_sts *mta_sts, struct workshop *workshop)
{
    const struct resolution_host *from = &resolution->hosts[index];
    struct destination_host *host = &workshop->hosts[index];
    *host = (struct destination_host){.name = from->name,
                                      .preference = from->preference,
                                      .secure = from->secure,
                                      .addresses = workshop->of_host[index].addresses,
                                      .excluded = excluded(mta_sts, from->name)};
    host->address_count =
        (uint8_t)read_addresses(resolution, from, workshop->of_host[index].addresses);
    for (unsigned family = 0; family < RESOLUTION_FAMILIES; family++) {
        const struct answer *answer = from->addresses[family].answer;
        host->lookup_failed |= host->address_count == 0 && answer != NULL && answer_failed(answer);
    }
    find_tlsa(from, host, &workshop->of_host[index].tlsa);
}

struct destination *resolution_end(struct resolution *resolution)
{
    struct resolve *resolve = resolution->resolve;
    uint32_t count = resolution->status == DESTINATION_OK ? resolution->host_count : 0;
    struct workshop *workshop = malloc(sizeof(*workshop) + count * sizeof(workshop->of_host[0]));
    struct destination draft = {.domain = resolution->domain,
                                .status = resolution->status,
                                .implicit_mx = resolution->implicit_mx,
                                .mx_secure = resolution->mx_secure,
                                .port = resolution->options.port};
    if (workshop == NULL) {
        return destination_take(resolve->no_memory);
    }
    if (resolution->txt.answer != NULL) {
        policies_describe(&resolve->policies, resolution->domain,
                          world_wall_s(resolve->settings.world), &draft.mta_sts);
    }
    draft.hosts = workshop->hosts;
    draft.host_count = count;
    for (uint32_t i = 0; i < count; i++) {
        make_host(resolution, i, &draft.mta_sts, workshop);
    }
    if (draft.status == DESTINATION_OK) {
        draft.status = (uint8_t)judge_hosts(resolution, &draft);
        draft.host_count = draft.status == DESTINATION_OK ? count : 0;
    }
    report(&draft, resolution->asked, workshop->text, sizeof(workshop->text));
    draft.expires_ns = expiry(resolution, &draft.mta_sts);
    struct destination *destination = destination_new(&draft);
    free(workshop);
    return destination != NULL ? destination : destination_take(resolve->no_memory);
}

struct destination *resolution_end_at_once(struct resolve *resolve, const char *domain,
                                           const struct endpoint *address)
{
    char text[DNS_NAME_BYTES + 160];
    const struct destination_host host = {
        .name = domain, .tlsa_base = domain, .addresses = address, .address_count = 1};
    struct destination draft = {.domain = domain,
                                .status = DESTINATION_OK,
                                .hosts = &host,
                                .host_count = 1,
                                .port = address != NULL ? address->port : 0,
                                .expires_ns = world_now_ns(resolve->settings.world) +
                                              resolve->settings.ttl_max_ns};
    if (address == NULL || is_own_address(resolve, address)) {
        draft.status = address == NULL ? DESTINATION_BAD_NAME : DESTINATION_LOOP;
        draft.host_count = 0;
    }
    report(&draft, "A", text, sizeof(text));
    struct destination *destination = destination_new(&draft);
    return destination != NULL ? destination : destination_take(resolve->no_memory);
}
