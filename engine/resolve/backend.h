/*
 * backend: who answers resolve's questions: libunbound and libcurl on helper threads, or a test.
 *
 * A question is asked on the shard and answered on the shard, later: `ask` never calls back before it
 * has returned. Answers are borrowed until `answered` returns.
 */
#pragma once
#include "engine/core/list.h"
#include "proto/dns/mta_sts.h"
#include "proto/dns/record.h"

enum resolve_answer_status {
    RESOLVE_ANSWER_RECORDS,   /* at least one record */
    RESOLVE_ANSWER_NO_DATA,   /* the name exists, not with this type */
    RESOLVE_ANSWER_NO_DOMAIN, /* NXDOMAIN */
    RESOLVE_ANSWER_FAILED,    /* SERVFAIL, REFUSED, no answer in time, a local trouble */
    RESOLVE_ANSWER_BOGUS      /* DNSSEC validation failed */
};

struct resolve_answer {
    uint8_t status;              /* enum resolve_answer_status */
    bool secure;                 /* validated by DNSSEC, the denial too */
    uint32_t ttl_s;              /* of the records, or of the denial */
    const struct slice *records; /* rdata, names unpacked */
    uint32_t record_count;
    const char *canonical; /* the name at the end of the CNAMEs; NULL: the one that was asked */
    const char *reason;    /* of FAILED and BOGUS, for the log; may be NULL */
};

/* A question on its way. The asker's memory, until `answered` or `cancel`. */
struct resolve_question {
    char name[DNS_NAME_BYTES];
    uint16_t type; /* enum dns_type */
    void (*answered)(struct resolve_question *question, const struct resolve_answer *answer);
    void *job; /* the backend's */
};

enum resolve_fetch_status {
    RESOLVE_FETCH_OK,
    RESOLVE_FETCH_FAILED, /* no connection, not 200, too long, too slow, wrong type */
    RESOLVE_FETCH_CERTIFICATE_INVALID
};

/* The policy file of a domain, fetched over HTTPS (RFC 8461 §3.3). */
struct resolve_fetch {
    char domain[DNS_NAME_BYTES];
    void (*fetched)(struct resolve_fetch *fetch, enum resolve_fetch_status status,
                    struct slice text);
    void *job; /* the backend's */
};

struct resolve_backend;

struct resolve_backend_ops {
    /* 0: answered follows; or -errno: it does not. */
    int (*ask)(struct resolve_backend *backend, struct resolve_question *question);
    /* Its answered is not called any more. */
    void (*cancel)(struct resolve_backend *backend, struct resolve_question *question);
    int (*fetch)(struct resolve_backend *backend, struct resolve_fetch *fetch);
    void (*cancel_fetch)(struct resolve_backend *backend, struct resolve_fetch *fetch);
    /* A policy to keep beyond the end of the process: a record of policy_record.h, copied. NULL: nobody does. */
    void (*keep)(struct resolve_backend *backend, struct slice record);
};

struct resolve_backend {
    const struct resolve_backend_ops *ops;
};
