#include "engine/relay/recipient.h"
#include "engine/relay/recipient_judge.h"
#include "engine/relay/relay_private.h"
#include "engine/relay/relay_way.h"
#include <stdio.h>
#include <stdlib.h>

static const struct rewrite_maps *known_of(const struct relay *relay, struct slice mailbox)
{
    const struct conf_route *route = relay_conf_route(relay->conf, mailbox);
    if (route == NULL || route->recipients_count == 0) {
        return NULL;
    }
    return &relay->maps->recipients[route - relay->conf->routes];
}

struct slice recipient_owner(const struct recipient_job *job, uint32_t index)
{
    bool is_report = job->from_nobody && rewrite_by_owner(&job->rewrite, index);
    return is_report ? slice_of(NULL, 0) : rewrite_owner(&job->rewrite, index);
}

static enum recipient_state told_of(const struct recipient_job *job)
{
    bool direct = false;
    if ((job->notify & SMTP_NOTIFY_SUCCESS) == 0) {
        return RECIPIENT_WAITING;
    }
    for (uint32_t i = 0; i < job->address_count && !direct; i++) {
        direct = recipient_owner(job, i).size == 0;
    }
    if (direct && job->address_count == 1) {
        return RECIPIENT_WAITING;
    }
    return direct ? RECIPIENT_TELL_EXPANDED : RECIPIENT_TELL_LISTED;
}

void recipient_inherit(const struct recipient_job *job, struct slice address,
                       char orcpt[ORCPT_ROOM], struct envelope_recipient *made)
{
    *made = (struct envelope_recipient){
        .forward_path = address, .orcpt = job->xtext, .notify = job->notify};
    if (made->orcpt.size == 0 && !slice_equal(address, job->path.mailbox)) {
        made->orcpt = slice_of(orcpt, smtp_orcpt_make(job->path.mailbox, orcpt));
    }
    if (job->told != RECIPIENT_WAITING) {
        made->notify &= (uint8_t)~SMTP_NOTIFY_SUCCESS;
        made->notify = made->notify == 0 ? SMTP_NOTIFY_NEVER : made->notify;
    }
}

bool recipient_needs_job(const struct relay *relay, struct slice mailbox)
{
    return relay->maps != NULL && (relay->maps->rewrites_recipients || relay_ways_used(relay) ||
                                   known_of(relay, mailbox) != NULL);
}

/* The null reverse-path is everybody's: of reports on what he has read, too (RFC 8098 §3). */
static bool owner_counts(const struct relay *relay, struct slice login)
{
    return login.size > 0 && relay->maps->logins.count > 0;
}

bool sender_needs_job(const struct relay *relay, struct slice mailbox, struct slice login)
{
    return relay->maps != NULL && mailbox.size > 0 &&
           (relay->maps->rewrites_senders || owner_counts(relay, login));
}

static void verdict(struct recipient_job *job, unsigned code, const char *status, const char *text)
{
    job->verdict = (struct smtp_verdict){(uint16_t)code, status, slice_text(text)};
}

/* False: the verdict says why. */
static bool rewritten(struct recipient_job *job, const struct rewrite_job *from)
{
    switch (from->status) {
    case REWRITE_OK:
        return true;
    case REWRITE_FAILED:
        verdict(job, 451, "4.3.0", "Temporary lookup failure");
        break;
    case REWRITE_WRONG:
        verdict(job, 451, "4.3.5", "Server configuration error");
        break;
    case REWRITE_TOO_MANY:
        verdict(job, 550, "5.4.6", "The address stands for too many others");
        break;
    case REWRITE_LOOP:
        verdict(job, 550, "5.4.6", "The address leads back to itself");
        break;
    }
    snprintf(job->reason, sizeof(job->reason), "%s", from->reason);
    return false;
}

/* May mail go to this one of the addresses, by this way? */
static bool address_judge(struct recipient_job *job, struct slice address,
                          const struct conf_route *way)
{
    struct smtp_path path = {.mailbox = address, .local = address};
    if (slice_equal_nocase(address, job->path.mailbox)) {
        return recipient_judge_way(job->relay->conf, way, job->trusted, &job->path, &job->verdict);
    }
    for (size_t at = address.size; at > 0; at--) {
        if (address.bytes[at - 1] == '@') {
            path.local = slice_first(address, at - 1);
            path.domain = slice_from(address, at);
            break;
        }
    }
    /* A key that is written out names who may be written to. A pattern that takes "user+tag@ANYWHERE" apart would make a
     * relay for everybody, so what it gives needs the permission that it would need by itself. */
    bool granted = job->trusted || !job->rewrite.by_pattern;
    return recipient_judge_way(job->relay->conf, way, granted, &path, &job->verdict);
}

/* What the maps have said of the way is enough to judge. */
static bool way_judge(struct recipient_job *job, struct slice address)
{
    const struct relay_conf *conf = job->relay->conf;
    const struct transport_job *way = &job->way;
    const struct conf_route *by_routes = relay_conf_route(conf, address);
    struct slice text = way->value != NULL ? way->value->text : slice_text("no room to ask");
    int status = 0;
    job->transport.base = by_routes;
    job->transport.made = job->transport.put_off = false;
    if (way->answer == MAP_FAILED) {
        verdict(job, 451, "4.3.0", "Temporary lookup failure");
        snprintf(job->reason, sizeof(job->reason), "transport: %.*s",
                 (int)slice_first(text, 150).size, (const char *)text.bytes);
        return false;
    }
    if (way->answer == MAP_TOO_LONG) {
        status = -EINVAL;
    } else if (way->answer == MAP_FOUND) {
        status = transport_read(&job->transport, conf, by_routes, text);
    }
    if (status < 0) {
        verdict(job, 451, "4.3.5", "Server configuration error");
        snprintf(job->reason, sizeof(job->reason), "a map gives no transport: %.*s",
                 (int)slice_first(text, 150).size, (const char *)text.bytes);
        return false;
    }
    /* Who is put off is taken now, as whoever has a way. */
    return address_judge(job, address,
                         job->transport.put_off ? &conf->route_standard
                                                : transport_route(&job->transport));
}

static int known_run(struct recipient_job *job);

/* 0: the verdict is there. */
static int ways_run(struct recipient_job *job)
{
    struct relay *relay = job->relay;
    for (; job->way_at < job->address_count; job->way_at++) {
        struct slice address = job->addresses[job->way_at];
        transport_job_end(&job->way);
        job->way.answer = MAP_ABSENT;
        int status = !relay_ways_used(relay)
                         ? 0
                         : transport_lookup(&job->way, relay->lookup, &relay->maps->transports,
                                            &relay->maps->rules, address);
        if (status < 0) {
            return status;
        }
        if (!way_judge(job, address)) {
            return 0;
        }
    }
    return known_run(job);
}

static void way_done(struct transport_job *way)
{
    struct recipient_job *job = list_entry(way, struct recipient_job, way);
    bool good = way_judge(job, job->addresses[job->way_at]);
    job->way_at++;
    if (!good || ways_run(job) == 0) {
        job->done(job);
    }
}

/* 0: the verdict is there. */
static int known_run(struct recipient_job *job)
{
    for (; job->known_at < job->rewrite.address_count; job->known_at++) {
        struct slice address = job->rewrite.addresses[job->known_at];
        const struct rewrite_maps *maps = known_of(job->relay, address);
        if (maps == NULL) {
            continue;
        }
        rewrite_job_end(&job->known);
        int status =
            rewrite_known(&job->known, job->relay->lookup, &job->relay->maps->rules, maps, address);
        if (status == -EINPROGRESS) {
            return status;
        }
        if (status < 0) {
            verdict(job, 452, "4.3.1", "Out of memory, try again later");
            return 0;
        }
        if (!rewritten(job, &job->known)) {
            return 0;
        }
        if (job->known.address_count == 0) {
            verdict(job, 550, "5.1.1", "User unknown");
            return 0;
        }
    }
    verdict(job, 250, "2.1.5", "Ok");
    return 0;
}

static int addresses_judge(struct recipient_job *job)
{
    if (!rewritten(job, &job->rewrite)) {
        return 0;
    }
    job->addresses = job->rewrite.addresses;
    job->address_count = job->rewrite.address_count;
    if (job->is_sender) {
        verdict(job, 250, "2.1.0", "Ok");
        return 0;
    }
    job->told = told_of(job);
    return ways_run(job);
}

static void rewrite_done(struct rewrite_job *rewrite)
{
    struct recipient_job *job = list_entry(rewrite, struct recipient_job, rewrite);
    if (addresses_judge(job) == 0) {
        job->done(job);
    }
}

static void known_done(struct rewrite_job *known)
{
    struct recipient_job *job = list_entry(known, struct recipient_job, known);
    bool good = rewritten(job, known);
    if (good && known->address_count == 0) {
        verdict(job, 550, "5.1.1", "User unknown");
        good = false;
    }
    job->known_at++;
    if (!good || known_run(job) == 0) {
        job->done(job);
    }
}

/* 0: the verdict is there. */
static int sender_rewrite(struct recipient_job *job)
{
    const struct relay_maps *maps = job->relay->maps;
    if (!maps->rewrites_senders) {
        job->addresses = &job->path.mailbox;
        job->address_count = 1;
        verdict(job, 250, "2.1.0", "Ok");
        return 0;
    }
    int status = rewrite_sender(&job->rewrite, job->relay->lookup, &maps->rules, job->path.mailbox);
    if (status == -EINPROGRESS) {
        return status;
    }
    if (status < 0) {
        verdict(job, 452, "4.3.1", "Out of memory, try again later");
        return 0;
    }
    return addresses_judge(job);
}

/* Is the login among those with commas or blanks between? */
static bool names_login(struct slice value, struct slice login)
{
    while (value.size > 0) {
        size_t size = 0;
        while (size < value.size && value.bytes[size] > ' ' && value.bytes[size] != ',') {
            size++;
        }
        if (size > 0 && slice_equal_nocase(slice_first(value, size), login)) {
            return true;
        }
        value = slice_from(value, size + 1);
    }
    return false;
}

/* 0: the verdict is there. */
static int owner_judge(struct recipient_job *job)
{
    const struct transport_job *owners = &job->way;
    if (owners->answer == MAP_FOUND && names_login(owners->value->text, job->login)) {
        return sender_rewrite(job);
    }
    if (owners->answer == MAP_FOUND || owners->answer == MAP_ABSENT) {
        verdict(job, 553, "5.7.1", "Sender address is not owned by who has logged in");
        snprintf(job->reason, sizeof(job->reason), "login=<%.*s>",
                 (int)slice_first(job->login, 150).size, (const char *)job->login.bytes);
    } else {
        verdict(job, 451, "4.3.0", "Temporary lookup failure");
    }
    return 0;
}

static void owner_done(struct transport_job *owners)
{
    struct recipient_job *job = list_entry(owners, struct recipient_job, way);
    if (owner_judge(job) == 0) {
        job->done(job);
    }
}

static int sender_run(struct recipient_job *job)
{
    const struct relay_maps *maps = job->relay->maps;
    if (!owner_counts(job->relay, job->login)) {
        return sender_rewrite(job);
    }
    int status = transport_lookup(&job->way, job->relay->lookup, &maps->logins, &maps->rules,
                                  job->path.mailbox);
    return status == -EINPROGRESS ? status : owner_judge(job);
}

/* A copy of a path, whose parts point into it, and of what came with it. */
static struct recipient_job *job_new(struct relay *relay, const struct smtp_path *path,
                                     struct slice xtext, struct slice login)
{
    size_t size = path->mailbox.size + xtext.size + login.size;
    struct recipient_job *job = malloc(sizeof(*job) + size);
    if (job == NULL) {
        return NULL;
    }
    *job = (struct recipient_job){.relay = relay, .path = *path};
    job->rewrite.done = rewrite_done;
    job->known.done = known_done;
    job->way.done = way_done;
    memcpy(job->text, path->mailbox.bytes, path->mailbox.size);
    job->path.mailbox.bytes = (const uint8_t *)job->text;
    job->path.local.bytes = job->path.mailbox.bytes;
    job->path.domain.bytes = job->path.mailbox.bytes + path->mailbox.size - path->domain.size;
    job->xtext = slice_of(job->text + path->mailbox.size, xtext.size);
    if (xtext.size > 0) {
        memcpy(job->text + path->mailbox.size, xtext.bytes, xtext.size);
    }
    job->login = slice_of(job->text + size - login.size, login.size);
    if (login.size > 0) {
        memcpy(job->text + size - login.size, login.bytes, login.size);
    }
    return job;
}

struct recipient_job *recipient_job_new(struct relay *relay, const struct smtp_event *event,
                                        bool client_trusted, struct slice reverse_path)
{
    struct recipient_job *job = job_new(relay, &event->path, event->orcpt, slice_of(NULL, 0));
    if (job != NULL) {
        job->trusted = client_trusted;
        job->notify = event->notify;
        job->from_nobody = reverse_path.size == 0;
    }
    return job;
}

struct recipient_job *sender_job_new(struct relay *relay, const struct smtp_event *event,
                                     struct slice login)
{
    struct recipient_job *job = job_new(relay, &event->path, event->envid, login);
    if (job != NULL) {
        job->is_sender = true;
        job->way.of_owners = true;
        job->way.done = owner_done;
    }
    return job;
}

int recipient_job_run(struct recipient_job *job)
{
    const struct rewrite_rules *rules = &job->relay->maps->rules;
    struct lookup *lookup = job->relay->lookup;
    if (job->is_sender) {
        return sender_run(job);
    }
    int status = rewrite_recipient(&job->rewrite, lookup, rules, job->path.mailbox);
    if (status == -EINPROGRESS) {
        return status;
    }
    if (status < 0) {
        verdict(job, 452, "4.3.1", "Out of memory, try again later");
        return 0;
    }
    return addresses_judge(job);
}

void recipient_job_end(struct recipient_job *job)
{
    rewrite_job_end(&job->rewrite);
    rewrite_job_end(&job->known);
    transport_job_end(&job->way);
    free(job);
}
