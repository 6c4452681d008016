/*
 * fake_dns: a made-up DNS and made-up web servers behind resolve: what they say is said before, when they say it is
 * decided by the test.
 *
 * A name that has no record at all does not exist; CNAMEs are followed. What is at or below a name that was declared
 * signed is validated.
 */
#pragma once
#include "engine/resolve/backend.h"
#include "engine/resolve/policy_record.h"

#define FAKE_DNS_RECORDS_MAX 512
#define FAKE_DNS_PENDING_MAX 1024

struct fake_dns_record {
    char name[DNS_NAME_BYTES];
    uint16_t type;
    uint32_t ttl_s;
    uint8_t status; /* enum resolve_answer_status; RECORDS: rdata is one */
    uint8_t rdata[512];
    size_t size;
};

struct fake_dns_page {
    char domain[DNS_NAME_BYTES];
    enum resolve_fetch_status status;
    char text[1024];
};

struct fake_dns {
    struct resolve_backend backend;
    struct fake_dns_record records[FAKE_DNS_RECORDS_MAX];
    unsigned record_count;
    struct fake_dns_page pages[16];
    unsigned page_count;
    char signed_names[16][DNS_NAME_BYTES];
    unsigned signed_count;
    struct resolve_question *pending[FAKE_DNS_PENDING_MAX];
    unsigned pending_count, pending_max;
    struct resolve_fetch *fetches[16];
    unsigned fetch_count;
    unsigned asked, fetched, kept_count; /* since the start */
    struct policy_record kept;           /* the last */
    uint32_t ttl_s;                      /* of what is added */
    uint32_t negative_ttl_s;
    bool refusing; /* takes no question */
};

void fake_dns_open(struct fake_dns *dns);
/* As a zone file says it: "10 mx.test", "192.0.2.1", "3 1 1 d2ab...", "v=STSv1; id=1", "target.test". */
void fake_dns_add(struct fake_dns *dns, const char *name, enum dns_type type, const char *text);
void fake_dns_add_raw(struct fake_dns *dns, const char *name, enum dns_type type,
                      struct slice rdata);
/* The question has this answer: FAILED or BOGUS. */
void fake_dns_fail(struct fake_dns *dns, const char *name, enum dns_type type,
                   enum resolve_answer_status status);
/* Forgets all records of the name, those of one type, or all with 0. */
void fake_dns_remove(struct fake_dns *dns, const char *name, enum dns_type type);
void fake_dns_sign(struct fake_dns *dns, const char *name);
/* The policy file of a domain, replaced when there is one; text NULL: the fetch ends with the status. */
void fake_dns_page(struct fake_dns *dns, const char *domain, enum resolve_fetch_status status,
                   const char *text);

/* Answers the oldest question or, when there is none, fetch. false: there was none. */
bool fake_dns_answer(struct fake_dns *dns);
/* Until there are none. Returns how many. */
unsigned fake_dns_answer_all(struct fake_dns *dns);
