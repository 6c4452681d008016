#include "tests/unit/relay_rig.h"
#include "engine/lookup/lookup.h"
#include "engine/relay/relay_maps.h"
#include "queue/log/log_private.h"
#include "queue/sched/sched.h"
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- The world ---- */

static uint64_t world_now(void *self)
{
    return ((struct relay_rig *)self)->now_ns;
}

static int64_t world_wall(void *self)
{
    const struct relay_rig *rig = self;
    return 1700000000 + (int64_t)(rig->now_ns / RIG_SECOND) + rig->wall_jump_s;
}

static void world_draw(void *self, void *bytes, size_t count)
{
    struct relay_rig *rig = self;
    for (size_t i = 0; i < count; i++) {
        rig->random = rig->random * 6364136223846793005ull + 1442695040888963407ull;
        ((uint8_t *)bytes)[i] = (uint8_t)(rig->random >> 56);
    }
}

/* ---- DNS ---- */

struct rig_record {
    struct list_node node;
    char name[DNS_NAME_BYTES];
    unsigned type;
    enum resolve_answer_status status;
    uint32_t ttl_s;
    uint8_t bytes[300];
    size_t size;
};

struct rig_question {
    struct list_node node;
    struct resolve_question *question;
};

static struct relay_rig *rig_of(struct resolve_backend *backend)
{
    return list_entry(backend, struct relay_rig, backend);
}

static int dns_ask(struct resolve_backend *backend, struct resolve_question *question)
{
    struct rig_question *asked = malloc(sizeof(*asked));
    assert_non_null(asked);
    asked->question = question;
    question->job = asked;
    list_init(&asked->node);
    list_append(&rig_of(backend)->questions, &asked->node);
    rig_of(backend)->question_count++;
    return 0;
}

static void dns_cancel(struct resolve_backend *backend, struct resolve_question *question)
{
    struct rig_question *asked = question->job;
    (void)backend;
    list_remove(&asked->node);
    free(asked);
}

struct rig_fetch {
    struct list_node node;
    struct resolve_fetch *fetch;
};

static int dns_fetch(struct resolve_backend *backend, struct resolve_fetch *fetch)
{
    struct rig_fetch *asked = malloc(sizeof(*asked));
    assert_non_null(asked);
    asked->fetch = fetch;
    fetch->job = asked;
    list_init(&asked->node);
    list_append(&rig_of(backend)->fetches, &asked->node);
    return 0;
}

static void dns_cancel_fetch(struct resolve_backend *backend, struct resolve_fetch *fetch)
{
    struct rig_fetch *asked = fetch->job;
    (void)backend;
    list_remove(&asked->node);
    free(asked);
}

static unsigned fetches_answer(struct relay_rig *rig)
{
    struct list_node *node = list_pop(&rig->fetches);
    if (node == NULL) {
        return 0;
    }
    struct rig_fetch *asked = list_entry(node, struct rig_fetch, node);
    struct resolve_fetch *fetch = asked->fetch;
    free(asked);
    bool known = rig->policy_domain != NULL && strcmp(rig->policy_domain, fetch->domain) == 0;
    fetch->fetched(fetch, known ? RESOLVE_FETCH_OK : RESOLVE_FETCH_FAILED,
                   slice_text(known ? rig->policy_text : ""));
    return 1;
}

static bool is_secure(const struct relay_rig *rig, const char *name)
{
    size_t size = rig->secure_below == NULL ? 0 : strlen(rig->secure_below);
    return size > 0 && strlen(name) >= size &&
           strcmp(name + strlen(name) - size, rig->secure_below) == 0;
}

static const struct resolve_backend_ops dns_ops = {
    .ask = dns_ask, .cancel = dns_cancel, .fetch = dns_fetch, .cancel_fetch = dns_cancel_fetch};

static void dns_answer(struct relay_rig *rig, struct resolve_question *question)
{
    struct slice records[100];
    struct resolve_answer answer = {.status = RESOLVE_ANSWER_NO_DOMAIN,
                                    .secure = is_secure(rig, question->name),
                                    .ttl_s = 60,
                                    .records = records};
    for (struct list_node *node = rig->records.next; node != &rig->records; node = node->next) {
        const struct rig_record *record = list_entry(node, struct rig_record, node);
        if (!slice_equal_nocase(slice_text(record->name), slice_text(question->name))) {
            continue;
        }
        if (record->type != question->type) {
            answer.status =
                answer.status == RESOLVE_ANSWER_NO_DOMAIN ? RESOLVE_ANSWER_NO_DATA : answer.status;
            continue;
        }
        answer.status = (uint8_t)record->status;
        answer.ttl_s = record->ttl_s;
        if (record->status == RESOLVE_ANSWER_RECORDS && answer.record_count < 100) {
            records[answer.record_count++] = slice_of(record->bytes, record->size);
        }
    }
    question->answered(question, &answer);
}

static unsigned dns_poll(void *self, uint64_t now_ns)
{
    struct relay_rig *rig = self;
    unsigned count = 0;
    struct list_node questions;
    (void)now_ns;
    list_init(&questions);
    if (!rig->dns_held) {
        list_splice(&questions, &rig->questions);
    }
    for (struct list_node *node; (node = list_pop(&questions)) != NULL; count++) {
        struct rig_question *asked = list_entry(node, struct rig_question, node);
        struct resolve_question *question = asked->question;
        free(asked);
        dns_answer(rig, question);
    }
    return count + fetches_answer(rig);
}

static struct rig_record *record_add(struct relay_rig *rig, const char *name, unsigned type,
                                     uint32_t ttl_s)
{
    struct rig_record *record = calloc(1, sizeof(*record));
    assert_non_null(record);
    snprintf(record->name, sizeof(record->name), "%s", name);
    record->type = type;
    record->ttl_s = ttl_s;
    list_init(&record->node);
    list_append(&rig->records, &record->node);
    return record;
}

static size_t name_write(uint8_t *wire, const char *name)
{
    size_t size = 0;
    while (*name != '\0') {
        size_t label = strcspn(name, ".");
        wire[size++] = (uint8_t)label;
        memcpy(wire + size, name, label);
        size += label;
        name += label + (name[label] == '.');
    }
    wire[size++] = 0;
    return size;
}

void rig_mx(struct relay_rig *rig, const char *name, unsigned preference, const char *host,
            uint32_t ttl_s)
{
    struct rig_record *record = record_add(rig, name, DNS_TYPE_MX, ttl_s);
    record->bytes[0] = (uint8_t)(preference >> 8);
    record->bytes[1] = (uint8_t)preference;
    record->size = 2 + name_write(record->bytes + 2, host);
}

void rig_a(struct relay_rig *rig, const char *name, const char *address, uint32_t ttl_s)
{
    struct network_prefix prefix;
    assert_int_equal(network_prefix_parse(&prefix, slice_text(address)), 0);
    struct rig_record *record = record_add(rig, name, DNS_TYPE_A, ttl_s);
    memcpy(record->bytes, prefix.address.address, 4);
    record->size = 4;
}

void rig_tlsa(struct relay_rig *rig, const char *name)
{
    struct rig_record *record = record_add(rig, name, DNS_TYPE_TLSA, 300);
    memcpy(record->bytes, (const uint8_t[]){3, 1, 1}, 3);
    memset(record->bytes + 3, 0xa5, 32);
    record->size = 35;
}

void rig_policy(struct relay_rig *rig, const char *domain, const char *text)
{
    static const char words[] = "v=STSv1; id=1;";
    char name[DNS_NAME_BYTES];
    snprintf(name, sizeof(name), "_mta-sts.%s", domain);
    struct rig_record *record = record_add(rig, name, DNS_TYPE_TXT, 300);
    record->bytes[0] = sizeof(words) - 1;
    memcpy(record->bytes + 1, words, sizeof(words) - 1);
    record->size = sizeof(words);
    rig->policy_domain = domain;
    rig->policy_text = text;
}

static void records_drop(struct relay_rig *rig, const char *name, unsigned type)
{
    struct list_node all;
    list_init(&all);
    list_splice(&all, &rig->records);
    for (struct list_node *node; (node = list_pop(&all)) != NULL;) {
        struct rig_record *record = list_entry(node, struct rig_record, node);
        if (name != NULL &&
            (strcmp(record->name, name) != 0 || (type != 0 && record->type != type))) {
            list_append(&rig->records, node);
        } else {
            free(record);
        }
    }
}

void rig_dns_status(struct relay_rig *rig, const char *name, unsigned type,
                    enum resolve_answer_status status)
{
    records_drop(rig, name, type);
    record_add(rig, name, type, 60)->status = status;
}

void rig_dns_forget(struct relay_rig *rig, const char *name)
{
    records_drop(rig, name, 0);
}

/* ---- The relay ---- */

static unsigned network_poll_part(void *self, uint64_t now_ns)
{
    struct relay_rig *rig = self;
    return rig->network->ops->poll(rig->network, now_ns);
}

static unsigned queue_poll(void *self, uint64_t now_ns)
{
    struct relay_rig *rig = self;
    if (rig->relay == NULL) {
        return 0;
    }
    unsigned work = rig->log.disk->ops->reap(rig->log.disk);
    work += log_round(rig->log.log, now_ns);
    return work + relay_round(rig->relay, now_ns);
}

static void queue_flush(void *self, uint64_t now_ns)
{
    struct relay_rig *rig = self;
    (void)now_ns;
    if (rig->relay != NULL) {
        log_flush(rig->log.log);
        rig->log.disk->ops->submit(rig->log.disk);
    }
}

static struct relay_conf *conf_make(const char *routes)
{
    static struct conf_report report;
    struct relay_conf *conf = NULL;
    char name[] = "/tmp/relay-rig-XXXXXX";
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "w");
    fprintf(file, "hostname: relay.test\nretry: {jitter_pct: 0}\nroutes:%s\n", routes);
    fclose(file);
    int status = relay_conf_load(&conf, name, "relay.test", &report);
    unlink(name);
    if (status != 0) {
        print_error("%s\n", report.problems[0]);
    }
    assert_int_equal(status, 0);
    return conf;
}

static struct relay_maps *maps_make(const struct relay_conf *conf)
{
    char problem[MAP_PROBLEM_MAX];
    struct relay_maps *maps = NULL;
    if (relay_maps_open(&maps, conf, problem) < 0) {
        fail_msg("%s", problem);
    }
    return maps;
}

static void relay_start(struct relay_rig *rig)
{
    const struct lookup_settings lookup = {
        .shard = &rig->shard, .helpers = rig->helpers, .bytes_max = rig->lookup_bytes};
    rig->maps = maps_make(rig->conf);
    assert_int_equal(lookup_open(&rig->lookup, &lookup), 0);
    assert_int_equal(log_open(&rig->log.log, &rig->log.settings), 0);
    assert_int_equal(resolve_open(&rig->resolve, &rig->resolve_settings), 0);
    const struct relay_settings settings = {.conf = rig->conf,
                                            .shard = &rig->shard,
                                            .kernel = rig->network,
                                            .resolve = rig->resolve,
                                            .orders = &rig->orders,
                                            .lookup = rig->lookup,
                                            .maps = rig->maps,
                                            .log = rig->log.log};
    assert_int_equal(relay_open(&rig->relay, &settings), 0);
}

static void relay_stop(struct relay_rig *rig)
{
    outbound_abort_all(rig->relay);
    bounce_abandon_all(rig->relay);
    rig_settle(rig);
    relay_close(rig->relay);
    rig->relay = NULL;
    lookup_close(rig->lookup);
    relay_maps_close(rig->maps);
    resolve_close(rig->resolve);
    while (!log_is_quiet(rig->log.log)) { /* it asks now and then how much room there is */
        rig->log.disk->ops->reap(rig->log.disk);
    }
    log_close(rig->log.log);
    rig->log.log = NULL;
}

static void parts_add(struct relay_rig *rig)
{
    const struct shard_part parts[] = {
        {.name = "network", .self = rig, .poll = network_poll_part},
        {.name = "dns", .self = rig, .poll = dns_poll},
        {.name = "queue", .self = rig, .poll = queue_poll, .flush = queue_flush}};
    for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        shard_add(&rig->shard, &parts[i]);
    }
}

struct relay_rig *relay_rig_open(const char *routes)
{
    static const char own[] = "relay.test";
    static const char *const own_names[] = {own};
    struct relay_rig *rig = calloc(1, sizeof(*rig));
    assert_non_null(rig);
    rig->letters = calloc(RIG_LETTERS, sizeof(*rig->letters));
    assert_non_null(rig->letters);
    rig->now_ns = 1000 * RIG_SECOND;
    rig->random = 42;
    rig->world = (struct world){world_now, world_wall, world_draw, rig};
    list_init(&rig->records);
    list_init(&rig->questions);
    list_init(&rig->fetches);
    assert_int_equal(pipe2(rig->log_fds, O_NONBLOCK | O_CLOEXEC), 0);
    logger_open(&rig->logger, rig->log_fds[1], LOGGER_INFO);
    const struct shard_settings shard = {
        .count = 1, .cpu = -1, .world = &rig->world, .logger = &rig->logger};
    assert_int_equal(shard_open(&rig->shard, &shard), 0);
    rig->shard.now_ns = rig->now_ns;
    rig->network = fake_network_open(1 << 20);
    rig->backend.ops = &dns_ops;
    rig->resolve_settings = (struct resolve_settings){.backend = &rig->backend,
                                                      .world = &rig->world,
                                                      .wheel = rig->shard.wheel,
                                                      .logger = &rig->logger,
                                                      .own_names = own_names,
                                                      .own_name_count = 1,
                                                      .cache_bytes = 1 << 20,
                                                      .ttl_min_ns = RIG_SECOND,
                                                      .ttl_max_ns = 86400 * RIG_SECOND,
                                                      .negative_ttl_max_ns = 60 * RIG_SECOND,
                                                      .failure_ns = 5 * RIG_SECOND,
                                                      .outstanding_max = 1000,
                                                      .waiting_max = 1000};
    log_rig_open(&rig->log, 7);
    rig->log.fault_settings.late_percent = 0;
    disk_fault_set(rig->log.fault, &rig->log.fault_settings);
    rig->log.settings.shard = 0;
    rig->conf = conf_make(routes);
    parts_add(rig);
    relay_start(rig);
    return rig;
}

void relay_rig_close(struct relay_rig *rig)
{
    relay_stop(rig);
    if (rig->helpers != NULL) {
        helpers_close(rig->helpers);
    }
    log_rig_close(&rig->log);
    rig->network->ops->close(rig->network);
    shard_close(&rig->shard);
    relay_conf_free(rig->conf);
    records_drop(rig, NULL, 0);
    close(rig->log_fds[0]);
    close(rig->log_fds[1]);
    operator_orders_free(&rig->orders);
    free(rig->letters);
    free(rig);
}

void rig_reload(struct relay_rig *rig, const char *routes)
{
    struct relay_conf *before = rig->conf;
    struct relay_maps *maps_before = rig->maps;
    rig->conf = conf_make(routes);
    rig->maps = maps_make(rig->conf);
    relay_reload(rig->relay, rig->conf, rig->maps);
    relay_maps_close(maps_before);
    relay_conf_free(before);
    rig_settle(rig);
}

void rig_maps_thread(struct relay_rig *rig)
{
    const struct helpers_settings settings = {
        .threads = 1, .queue_max = 64, .own_bytes = LOOKUP_HELPER_BYTES, .name = "maps"};
    pthread_mutex_init(&rig->maps_lock, NULL);
    assert_int_equal(helpers_open(&rig->helpers, &settings), 0);
}

static void hold_work(struct helper_job *job, void *own)
{
    struct relay_rig *rig = list_entry(job, struct relay_rig, maps_hold);
    (void)own;
    pthread_mutex_lock(&rig->maps_lock);
    pthread_mutex_unlock(&rig->maps_lock);
}

static void hold_done(struct helper_job *job, struct shard *shard)
{
    (void)job;
    (void)shard;
}

void rig_maps_hold(struct relay_rig *rig)
{
    rig->maps_hold = (struct helper_job){.work = hold_work, .done = hold_done};
    rig->maps_held = true;
    pthread_mutex_lock(&rig->maps_lock);
    assert_int_equal(helpers_give(rig->helpers, &rig->shard, &rig->maps_hold), 0);
}

void rig_maps_answer(struct relay_rig *rig)
{
    if (rig->maps_held) {
        pthread_mutex_unlock(&rig->maps_lock);
        rig->maps_held = false;
    }
    do {
        rig_settle(rig);
        sched_yield();
    } while (lookup_counters(rig->lookup)->asked > 0);
    rig_settle(rig);
}

void rig_restart_only(struct relay_rig *rig)
{
    relay_stop(rig);
    relay_start(rig);
}

void rig_restart(struct relay_rig *rig)
{
    rig_restart_only(rig);
    rig_settle(rig);
}

void rig_restart_with(struct relay_rig *rig, const char *routes)
{
    relay_stop(rig);
    relay_conf_free(rig->conf);
    rig->conf = conf_make(routes);
    relay_start(rig);
    rig_settle(rig);
}

void rig_settle(struct relay_rig *rig)
{
    unsigned quiet = 0;
    for (unsigned i = 0; i < 1000 && quiet < 30; i++) {
        rig->now_ns += 1000000;
        quiet = shard_round(&rig->shard) > 0 ? 0 : quiet + 1;
    }
}

void rig_pass(struct relay_rig *rig, uint64_t ns)
{
    uint64_t until_ns = rig->now_ns + ns;
    rig_settle(rig);
    while (rig->now_ns < until_ns) {
        uint64_t next_ns = wheel_next_ns(rig->shard.wheel);
        next_ns = next_ns < until_ns ? next_ns : until_ns;
        rig->now_ns = next_ns > rig->now_ns ? next_ns : rig->now_ns;
        rig_settle(rig);
    }
}

/* ---- Mail ---- */

struct rig_commit {
    struct spool_waiter durable;
    struct relay_rig *rig;
    struct message *message;
};

static void post_durable(struct spool_waiter *waiter, int status)
{
    struct rig_commit *commit = list_entry(waiter, struct rig_commit, durable);
    assert_int_equal(status, 0);
    commit->rig->durable++;
    relay_schedule(commit->rig->relay, commit->message);
    free(commit);
}

void rig_post_only(struct relay_rig *rig, const char *sender, const char *recipients)
{
    rig_post_wanting(rig, &(struct rig_wishes){0}, sender, recipients);
}

void rig_post_wanting(struct relay_rig *rig, const struct rig_wishes *wishes, const char *sender,
                      const char *recipients)
{
    enum { MOST = 1000 };
    static const char text[] = "Subject: a letter\r\n\r\nHello.\r\n";
    struct envelope_recipient paths[MOST];
    struct slice body = slice_text(wishes->body != NULL ? wishes->body : text);
    struct spool_draft *draft = NULL;
    struct rig_commit *commit = malloc(sizeof(*commit));
    size_t count = 0;
    assert_non_null(commit);
    for (const char *at = recipients; *at != '\0'; at += *at == ' ') {
        size_t size = strcspn(at, " ");
        assert_true(count < MOST);
        paths[count] = (struct envelope_recipient){
            .forward_path = slice_of(at, size),
            .orcpt = slice_text(wishes->orcpt != NULL ? wishes->orcpt : ""),
            .notify = wishes->notify,
            .state = wishes->expanded && count == 0 ? RECIPIENT_TELL_EXPANDED : RECIPIENT_WAITING};
        count++;
        at += size;
    }
    struct spool *spool = relay_spool(rig->relay);
    const struct envelope envelope = {.reverse_path = slice_text(sender),
                                      .flags = wishes->flags,
                                      .ret = wishes->ret,
                                      .envid =
                                          slice_text(wishes->envid != NULL ? wishes->envid : ""),
                                      .arrival_wall_s = world_wall(rig)};
    *commit = (struct rig_commit){.durable.done = post_durable, .rig = rig};
    assert_int_equal(spool_begin(spool, &draft), 0);
    while (body.size > 0) {
        struct slice piece = slice_first(body, SPOOL_APPEND_BYTES_MAX);
        int status = spool_append(draft, &piece, 1);
        assert_true(status == 0 || status == -EAGAIN);
        body = status == 0 ? slice_from(body, piece.size) : body;
        rig->now_ns += status == 0 ? 0 : 1000000;
        shard_round(&rig->shard);
    }
    assert_int_equal(
        spool_commit(draft, &envelope, paths, count, &commit->message, &commit->durable), 0);
    rig->posted++;
    for (unsigned i = 0; rig->durable < rig->posted; i++) {
        assert_true(i < 1000);
        rig->now_ns += 1000000;
        shard_round(&rig->shard);
    }
}

void rig_post(struct relay_rig *rig, const char *sender, const char *recipients)
{
    rig_post_only(rig, sender, recipients);
    rig_settle(rig);
}

bool rig_log_says(struct relay_rig *rig, const char *words)
{
    ssize_t got;
    while (rig->log_size < sizeof(rig->log_text) - 1 &&
           (got = read(rig->log_fds[0], rig->log_text + rig->log_size,
                       sizeof(rig->log_text) - 1 - rig->log_size)) > 0) {
        rig->log_size += (size_t)got;
    }
    rig->log_text[rig->log_size] = '\0';
    return strstr(rig->log_text, words) != NULL;
}

uint64_t rig_waiting(const struct relay_rig *rig)
{
    return sched_recipient_count(rig->relay->sched);
}
