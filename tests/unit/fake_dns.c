#include "tests/unit/fake_dns.h"

#include "engine/core/check.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

/* ---- What it says ---- */

static struct fake_dns_record *record_add(struct fake_dns *dns, const char *name,
                                          enum dns_type type)
{
    check(dns->record_count < FAKE_DNS_RECORDS_MAX);
    struct fake_dns_record *record = &dns->records[dns->record_count++];
    *record = (struct fake_dns_record){.type = (uint16_t)type, .ttl_s = dns->ttl_s};
    check(dns_name_from_text(slice_text(name), record->name) > 0);
    return record;
}

static size_t wire_name(uint8_t *wire, const char *name)
{
    size_t size = 0;
    while (*name != '\0' && strcmp(name, ".") != 0) {
        size_t label = strcspn(name, ".");
        wire[size++] = (uint8_t)label;
        memcpy(wire + size, name, label);
        size += label;
        name += label + (name[label] == '.');
    }
    wire[size++] = 0;
    return size;
}

static size_t wire_hex(uint8_t *wire, const char *text)
{
    size_t size = 0;
    unsigned byte;
    while (sscanf(text + 2 * size, "%2x", &byte) == 1) {
        wire[size++] = (uint8_t)byte;
    }
    return size;
}

void fake_dns_add(struct fake_dns *dns, const char *name, enum dns_type type, const char *text)
{
    struct fake_dns_record *record = record_add(dns, name, type);
    uint8_t *rdata = record->rdata;
    unsigned one = 0, two = 0, three = 0;
    int at = 0;
    switch (type) {
    case DNS_TYPE_A:
        check(inet_pton(AF_INET, text, rdata) == 1);
        record->size = 4;
        return;
    case DNS_TYPE_AAAA:
        check(inet_pton(AF_INET6, text, rdata) == 1);
        record->size = 16;
        return;
    case DNS_TYPE_CNAME:
        record->size = wire_name(rdata, text);
        return;
    case DNS_TYPE_MX:
        check(sscanf(text, "%u %n", &one, &at) == 1);
        rdata[0] = (uint8_t)(one >> 8);
        rdata[1] = (uint8_t)one;
        record->size = 2 + wire_name(rdata + 2, text + at);
        return;
    case DNS_TYPE_TLSA:
        check(sscanf(text, "%u %u %u %n", &one, &two, &three, &at) == 3);
        rdata[0] = (uint8_t)one;
        rdata[1] = (uint8_t)two;
        rdata[2] = (uint8_t)three;
        record->size = 3 + wire_hex(rdata + 3, text + at);
        return;
    case DNS_TYPE_TXT:
        check(strlen(text) <= 255);
        rdata[0] = (uint8_t)strlen(text);
        memcpy(rdata + 1, text, rdata[0]);
        record->size = 1u + rdata[0];
        return;
    }
}

void fake_dns_add_raw(struct fake_dns *dns, const char *name, enum dns_type type,
                      struct slice rdata)
{
    struct fake_dns_record *record = record_add(dns, name, type);
    check(rdata.size <= sizeof(record->rdata));
    memcpy(record->rdata, rdata.bytes, rdata.size);
    record->size = rdata.size;
}

void fake_dns_fail(struct fake_dns *dns, const char *name, enum dns_type type,
                   enum resolve_answer_status status)
{
    record_add(dns, name, type)->status = (uint8_t)status;
}

void fake_dns_remove(struct fake_dns *dns, const char *name, enum dns_type type)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < dns->record_count; i++) {
        const struct fake_dns_record *record = &dns->records[i];
        if (strcmp(record->name, name) != 0 || (type != 0 && record->type != type)) {
            dns->records[kept++] = *record;
        }
    }
    dns->record_count = kept;
}

void fake_dns_sign(struct fake_dns *dns, const char *name)
{
    check(dns->signed_count < 16);
    snprintf(dns->signed_names[dns->signed_count++], DNS_NAME_BYTES, "%s", name);
}

void fake_dns_page(struct fake_dns *dns, const char *domain, enum resolve_fetch_status status,
                   const char *text)
{
    unsigned at = 0;
    while (at < dns->page_count && strcmp(dns->pages[at].domain, domain) != 0) {
        at++;
    }
    check(at < 16);
    dns->page_count += at == dns->page_count;
    struct fake_dns_page *page = &dns->pages[at];
    page->status = status;
    snprintf(page->domain, sizeof(page->domain), "%s", domain);
    snprintf(page->text, sizeof(page->text), "%s", text != NULL ? text : "");
}

/* ---- How it answers ---- */

static bool is_signed(const struct fake_dns *dns, const char *name)
{
    for (unsigned i = 0; i < dns->signed_count; i++) {
        const char *top = dns->signed_names[i];
        size_t longer = strlen(name) - strlen(top);
        if (strlen(name) >= strlen(top) && strcmp(name + longer, top) == 0 &&
            (longer == 0 || name[longer - 1] == '.')) {
            return true;
        }
    }
    return false;
}

static const struct fake_dns_record *record_find(const struct fake_dns *dns, const char *name,
                                                 uint16_t type)
{
    for (unsigned i = 0; i < dns->record_count; i++) {
        const struct fake_dns_record *record = &dns->records[i];
        if (strcmp(record->name, name) == 0 && (type == 0 || record->type == type)) {
            return record;
        }
    }
    return NULL;
}

static void answer_question(struct fake_dns *dns, struct resolve_question *question)
{
    static char canonical[DNS_NAME_BYTES];
    static struct slice records[FAKE_DNS_RECORDS_MAX];
    struct resolve_answer answer = {.records = records, .secure = true};
    const struct fake_dns_record *alias;
    snprintf(canonical, sizeof(canonical), "%s", question->name);
    answer.secure = is_signed(dns, canonical);
    for (unsigned links = 0; question->type != DNS_TYPE_CNAME && links < 8 &&
                             (alias = record_find(dns, canonical, DNS_TYPE_CNAME)) != NULL;
         links++) {
        size_t offset = 0;
        check(dns_name_from_wire(slice_of(alias->rdata, alias->size), &offset, canonical) > 0);
        answer.canonical = canonical;
        answer.secure = answer.secure && is_signed(dns, canonical);
    }
    const struct fake_dns_record *first = record_find(dns, canonical, question->type);
    answer.ttl_s = first != NULL ? first->ttl_s : dns->negative_ttl_s;
    if (first == NULL) {
        answer.status = record_find(dns, canonical, 0) != NULL ? RESOLVE_ANSWER_NO_DATA
                                                               : RESOLVE_ANSWER_NO_DOMAIN;
    } else if (first->status != RESOLVE_ANSWER_RECORDS) {
        answer.status = first->status;
        answer.secure = false;
    }
    for (unsigned i = 0; answer.status == RESOLVE_ANSWER_RECORDS && i < dns->record_count; i++) {
        const struct fake_dns_record *record = &dns->records[i];
        if (strcmp(record->name, canonical) == 0 && record->type == question->type) {
            records[answer.record_count++] = slice_of(record->rdata, record->size);
        }
    }
    question->answered(question, &answer);
}

static void answer_fetch(struct fake_dns *dns, struct resolve_fetch *fetch)
{
    for (unsigned i = 0; i < dns->page_count; i++) {
        const struct fake_dns_page *page = &dns->pages[i];
        if (strcmp(page->domain, fetch->domain) == 0) {
            fetch->fetched(fetch, page->status, slice_text(page->text));
            return;
        }
    }
    fetch->fetched(fetch, RESOLVE_FETCH_FAILED, slice_text(""));
}

bool fake_dns_answer(struct fake_dns *dns)
{
    if (dns->pending_count > 0) {
        struct resolve_question *question = dns->pending[0];
        memmove(dns->pending, dns->pending + 1, --dns->pending_count * sizeof(dns->pending[0]));
        answer_question(dns, question);
        return true;
    }
    if (dns->fetch_count > 0) {
        struct resolve_fetch *fetch = dns->fetches[0];
        memmove(dns->fetches, dns->fetches + 1, --dns->fetch_count * sizeof(dns->fetches[0]));
        answer_fetch(dns, fetch);
        return true;
    }
    return false;
}

unsigned fake_dns_answer_all(struct fake_dns *dns)
{
    unsigned count = 0;
    while (fake_dns_answer(dns)) {
        count++;
    }
    return count;
}

/* ---- What resolve calls ---- */

static struct fake_dns *fake_dns_of(struct resolve_backend *backend)
{
    return (struct fake_dns *)(void *)((char *)backend - offsetof(struct fake_dns, backend));
}

static int ask(struct resolve_backend *backend, struct resolve_question *question)
{
    struct fake_dns *dns = fake_dns_of(backend);
    if (dns->refusing) {
        return -ENOMEM;
    }
    check(dns->pending_count < FAKE_DNS_PENDING_MAX);
    dns->pending[dns->pending_count++] = question;
    dns->pending_max =
        dns->pending_count > dns->pending_max ? dns->pending_count : dns->pending_max;
    dns->asked++;
    return 0;
}

static void cancel(struct resolve_backend *backend, struct resolve_question *question)
{
    struct fake_dns *dns = fake_dns_of(backend);
    unsigned kept = 0;
    for (unsigned i = 0; i < dns->pending_count; i++) {
        if (dns->pending[i] != question) {
            dns->pending[kept++] = dns->pending[i];
        }
    }
    check(kept + 1 == dns->pending_count);
    dns->pending_count = kept;
}

static int fetch_ask(struct resolve_backend *backend, struct resolve_fetch *fetch)
{
    struct fake_dns *dns = fake_dns_of(backend);
    if (dns->refusing) {
        return -ENOMEM;
    }
    check(dns->fetch_count < 16);
    dns->fetches[dns->fetch_count++] = fetch;
    dns->fetched++;
    return 0;
}

static void fetch_cancel(struct resolve_backend *backend, struct resolve_fetch *fetch)
{
    struct fake_dns *dns = fake_dns_of(backend);
    unsigned kept = 0;
    for (unsigned i = 0; i < dns->fetch_count; i++) {
        if (dns->fetches[i] != fetch) {
            dns->fetches[kept++] = dns->fetches[i];
        }
    }
    check(kept + 1 == dns->fetch_count);
    dns->fetch_count = kept;
}

static void keep(struct resolve_backend *backend, struct slice record)
{
    struct fake_dns *dns = fake_dns_of(backend);
    check(policy_record_read(&record, &dns->kept) == 0);
    dns->kept_count++;
}

void fake_dns_open(struct fake_dns *dns)
{
    static const struct resolve_backend_ops ops = {.ask = ask,
                                                   .cancel = cancel,
                                                   .fetch = fetch_ask,
                                                   .cancel_fetch = fetch_cancel,
                                                   .keep = keep};
    memset(dns, 0, sizeof(*dns));
    dns->backend.ops = &ops;
    dns->ttl_s = 3600;
    dns->negative_ttl_s = 900;
}
