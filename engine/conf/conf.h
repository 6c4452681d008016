/*
 * conf: the configuration of the programs: one YAML file, checked by a schema, read into plain
 * structs.
 *
 * main loads one at start and again on SIGHUP; who holds the old one keeps it until nobody reads it
 * any more, then frees it. A bad file changes nothing: the report says for each mistake
 * "FILE:LINE:COLUMN: key: what is wrong, expected ...", and no struct is made.
 *
 * Every key has a default; a file that is empty, or none at all, is a valid configuration.
 * Addresses, networks, durations (nanoseconds) and sizes (bytes) are already parsed; semantic
 * checks are done. What each key means is in docs/configuration.md.
 */
#pragma once
#include "engine/core/endpoint.h"

enum conf_transport { CONF_TRANSPORT_KERNEL, CONF_TRANSPORT_DPDK };
enum conf_congestion { CONF_CONGESTION_CUBIC, CONF_CONGESTION_NEWRENO };
enum conf_ecn { CONF_ECN_OFF, CONF_ECN_ACCEPT, CONF_ECN_ASK };
enum conf_protocol {
    CONF_PROTOCOL_SMTP,
    CONF_PROTOCOL_LMTP,
    CONF_PROTOCOL_IMAP,
    CONF_PROTOCOL_POP3,
    CONF_PROTOCOL_SIEVE,
    CONF_PROTOCOL_AUTH, /* of programs that ask who their clients are, as Dovecot's */
    CONF_PROTOCOL_COUNT
};
enum conf_via { CONF_VIA_SMTP, CONF_VIA_LMTP, CONF_VIA_MX, CONF_VIA_DISCARD, CONF_VIA_ERROR };
/* As enum resolve_family. */
enum conf_family {
    CONF_FAMILY_ANY,
    CONF_FAMILY_IPV4_FIRST,
    CONF_FAMILY_IPV6_FIRST,
    CONF_FAMILY_IPV4,
    CONF_FAMILY_IPV6
};
/* AUTO becomes one of the others when the file is read: see docs/configuration.md. */
enum conf_accept { CONF_ACCEPT_AUTO, CONF_ACCEPT_ANYONE, CONF_ACCEPT_CLIENTS };
/* Of a listener. AUTO, the default, becomes OFF or STARTTLS when the file is read: whether there are
 * certificates decides. */
enum conf_tls {
    CONF_TLS_AUTO,
    CONF_TLS_OFF,
    CONF_TLS_STARTTLS,
    CONF_TLS_REQUIRED,
    CONF_TLS_IMPLICIT
};
enum conf_client_certificate {
    CONF_CLIENT_CERTIFICATE_NO,
    CONF_CLIENT_CERTIFICATE_ASK,
    CONF_CLIENT_CERTIFICATE_REQUIRE
};
/* What a connection to a next hop must be, the weakest first. */
enum conf_tls_level {
    CONF_LEVEL_NONE,          /* in the clear, whatever is offered */
    CONF_LEVEL_OPPORTUNISTIC, /* encrypted to whomever, where that works */
    CONF_LEVEL_REQUIRED,      /* encrypted, to whomever */
    CONF_LEVEL_VERIFIED,      /* to whom an authority says it is */
    CONF_LEVEL_DANE           /* to whom DNSSEC says it is */
};
/* May, or must, clients of a listener log in? */
enum conf_login { CONF_LOGIN_OFF, CONF_LOGIN_OFFERED, CONF_LOGIN_REQUIRED };
/* What becomes of a client that talks before the banner. */
enum conf_greet_action { CONF_GREET_IGNORE, CONF_GREET_ENFORCE, CONF_GREET_DROP };
#define CONF_FINGERPRINT_BYTES 32u /* SHA-256 */
enum conf_tls_version { CONF_TLS_1_2, CONF_TLS_1_3 };
enum conf_durability { CONF_DURABILITY_COMMIT, CONF_DURABILITY_NONE };
enum conf_store { CONF_STORE_MAILDIR, CONF_STORE_LOG };
enum conf_uring { CONF_URING_AUTO, CONF_URING_ON, CONF_URING_OFF };
enum conf_bare_newline { CONF_BARE_NEWLINE_REFUSE, CONF_BARE_NEWLINE_NORMALIZE };
enum conf_log_level {
    CONF_LOG_ERROR,
    CONF_LOG_WARNING,
    CONF_LOG_INFO,
    CONF_LOG_DEBUG
}; /* as logger_level */

#define CONF_SHARDS_MAX 64

enum conf_routers { CONF_ROUTERS_AUTO, CONF_ROUTERS_ON, CONF_ROUTERS_OFF };

struct conf_gateway {
    struct network_prefix to;
    struct endpoint via;
};

#define CONF_PORTS_MAX 8u

struct conf_port {
    const char *name;                 /* as the EAL knows it */
    struct network_prefix *addresses; /* the host's address in its network */
    uint32_t addresses_count;
    struct endpoint gateway;     /* of IPv4; ENDPOINT_NONE: only networks known otherwise */
    struct endpoint gateway6;    /* of IPv6 */
    struct conf_gateway *routes; /* further networks, and who leads to them */
    uint32_t routes_count;
    uint8_t router_advertisements;    /* enum conf_routers */
    bool duplicate_address_detection; /* of IPv6 */
    uint32_t vlan;                    /* 0: untagged */
    const char *exception;            /* the kernel's interface beside it; NULL: none */
    uint32_t mtu;
};

struct conf_certificate {
    const char *certificate; /* files */
    const char *key;
    const char **names; /* NULL-terminated; none: those in the certificate */
    uint32_t names_count;
};

struct conf_listener {
    const char *name;
    struct endpoint *addresses;
    uint32_t addresses_count;
    uint8_t protocol;           /* enum conf_protocol */
    uint8_t tls;                /* enum conf_tls */
    uint8_t client_certificate; /* enum conf_client_certificate */
    uint8_t priority;           /* enum conf_priority_level, of what comes in here */
    uint8_t greet_action;       /* enum conf_greet_action */
    uint8_t login;              /* enum conf_login; of the mailbox service always OFF */
    uint64_t greet_wait;        /* nanoseconds before the banner */
    bool by_default; /* nobody wrote it: an address that this machine lacks is worth a warning only
                       */
    uint32_t unix_mode; /* permissions of unix sockets */
};

/* Section auth, of either program. */
struct conf_auth {
    const char **backends; /* "KIND:WHERE"; NULL-terminated */
    uint32_t backends_count;
    const char **masters; /* the same, of those who may log in as others */
    uint32_t masters_count;
    const char *master_separator; /* one character; NULL: none */
    const char *scheme;           /* of passwords stored without one; NULL: CRYPT */
    const char **kinds; /* of passwords that users of databases have: one as it is stored of each */
    uint32_t kinds_count;
    const char **mechanisms; /* of SASL, by name */
    uint32_t mechanisms_count;
    bool clear_on_loopback;            /* passwords may travel in the clear there */
    uint64_t cache_right, cache_wrong; /* nanoseconds; 0: nothing is remembered */
    uint32_t threads;
    const char *secret; /* file; NULL: "secret" in the folder of the program's store */
    /* Of OAUTHBEARER and XOAUTH2: as token_settings. */
    const char *token_keys, *token_issuer, *token_user, *token_scope; /* NULL: none */
    const char *token_introspection, *token_credentials;
    const char **token_audiences, **token_clients, **token_domains;
    uint32_t token_audiences_count, token_clients_count, token_domains_count;
    const char *token_configuration; /* URL that clients are told; NULL: none */
};

/* What becomes of a report that cannot be delivered. */
enum conf_double { CONF_DOUBLE_DROP, CONF_DOUBLE_POSTMASTER };

/* So many in a time. */
struct conf_rate {
    const char *text;
    uint32_t count; /* 0: no limit */
    uint64_t period_ns;
    uint32_t burst; /* so many at once after a time without any; >= 1 */
};

struct conf_route {
    const char *name;    /* by which a transport map can name it; NULL: by none */
    const char *match;   /* "example.org", ".example.org" (what is below it), "user@example.org",
                          "/pattern/i", or "*"; "": only by its name */
    uint8_t via;         /* enum conf_via */
    struct endpoint *to; /* SMTP, LMTP: tried in turn */
    uint32_t to_count;
    uint32_t port;         /* MX */
    uint8_t family;        /* MX: enum conf_family */
    bool address_literals; /* MX: go to the address of user@[192.0.2.1] */
    bool by_map;           /* a transport map has made it: engine/relay/transport.h. Then, by MX: */
    const char *next_hop;  /* asked for in place of the recipient's domain; NULL: that */
    bool host_only;        /* it is a host: its addresses count, not its MX records */
    bool lmtp;             /* its hosts speak that */
    const char *reply;     /* ERROR: as it was written, and in parts */
    uint16_t reply_code;
    const char *reply_status; /* "5.1.1" */
    const char *reply_text;
    uint8_t accept_from;    /* enum conf_accept, never AUTO */
    struct endpoint source; /* address to connect from, port 0; ENDPOINT_NONE: any */
    const char *hostname;   /* our name there; NULL: relay_conf's */
    uint32_t connections;   /* at once, to all of `to` together, of all shards */
    struct conf_rate connection_rate, message_rate; /* of all shards */
    uint32_t messages_per_connection;               /* 0: no limit */
    uint32_t recipients_per_message;
    const char **recipients; /* names of maps of those who exist; none: anybody */
    uint32_t recipients_count;
    bool pipelining; /* use it where the peer offers it */
    struct {
        uint8_t level;      /* enum conf_tls_level */
        bool implicit;      /* from the first byte: port 465 */
        const char **names; /* NULL-terminated; the server's certificate has one of them */
        uint32_t names_count;
        const char *certificate, *key; /* shown to servers that ask; NULL: tls.client_certificate */
    } tls;
};

struct match_index;

/* Mail of these senders, or from these clients, comes before, or after, that of others. */
struct conf_priority {
    const char *sender; /* as conf_route.match, or "<>"; NULL: a row of clients */
    struct network_prefix *client;
    uint32_t client_count;
    uint8_t priority; /* enum conf_priority_level */
};
struct conf_client_priority {
    struct network_prefix network;
    uint32_t row, at; /* whose client it is */
    uint8_t priority;
};
enum conf_priority_level {
    CONF_PRIORITY_LOW,
    CONF_PRIORITY_NORMAL,
    CONF_PRIORITY_HIGH,
    CONF_PRIORITY_URGENT
};

struct relay_conf {
    const char *hostname;
    uint32_t shards;
    uint8_t transport; /* enum conf_transport */

    struct {
        const char **eal; /* NULL-terminated */
        uint32_t eal_count;
        struct conf_port *ports;
        uint32_t ports_count;
        uint8_t congestion; /* enum conf_congestion */
        uint8_t ecn;        /* enum conf_ecn */
    } dpdk;
    struct {
        uint64_t
            eal_bytes; /* what the EAL maps where there are no huge pages; enough for all shards */
        uint32_t mbuf_count;      /* mbufs of one shard */
        uint64_t queue_max_bytes; /* of what waits, all shards together; 0: no limit */
    } memory;

    struct conf_listener *listen;
    uint32_t listen_count;

    struct {
        const char *path;
        uint8_t durability;      /* enum conf_durability */
        uint64_t segment_bytes;  /* multiple of 256 KiB */
        uint64_t memory_bytes;   /* log memory of one shard */
        uint64_t max_bytes;      /* of all shards together */
        uint64_t free_min_bytes; /* of the file system, left to others */
    } spool;

    struct conf_auth auth;
    const char **sender_logins; /* names of maps: whose a reverse-path is; none: anybody's */
    uint32_t sender_logins_count;
    struct network_prefix *relay_networks;
    uint32_t relay_networks_count;
    const char **relay_clients; /* fingerprints of certificates, or of their public keys */
    uint32_t relay_clients_count;
    uint8_t (*relay_client_digests)[CONF_FINGERPRINT_BYTES]; /* the same as bytes */
    struct conf_route *routes;
    uint32_t routes_count;
    const struct conf_route **routes_named; /* those that have one, sorted by name */
    uint32_t routes_named_count;
    struct conf_route route_standard; /* by MX, and of what is not said: every key's default */
    const char **transport_maps;      /* names of maps that come before the routes */
    uint32_t transport_maps_count;
    struct conf_priority *priorities;
    uint32_t priorities_count;
    struct match_index *priority_index;             /* NULL: there are no priorities */
    struct conf_client_priority *client_priorities; /* of all rows, the smallest networks first */
    uint32_t client_priorities_count;
    struct match_index *route_index; /* see relay_conf_index */

    struct {
        uint64_t message_bytes;
        uint32_t recipients; /* of one message */
        uint32_t commands; /* of one connection that carry no mail forward (NOOP, RSET, VRFY...) */
        uint32_t errors;   /* of one connection */
        uint32_t messages; /* of one connection; 0: no limit */
        uint32_t connections;            /* incoming, of the process */
        uint32_t connections_out;        /* to next hops, of the process */
        uint32_t connections_per_client; /* by address; clients in relay_networks are exempt */
        uint32_t line_bytes;             /* of message text, without CRLF */
        uint32_t header_bytes;           /* of the whole header section */
        uint32_t header_lines;
        uint32_t hops;          /* Received: fields */
        uint32_t data_rate_min; /* octets a second of a message that comes in; 0: none */
    } limits;

    struct { /* nanoseconds. Ours as server, then as client (RFC 5321 §4.5.3.2) */
        uint64_t command, data, commit;
        uint64_t connect, greeting, handshake, reply, data_start, data_block, data_end, quit, idle;
    } timeouts;

    struct {
        uint64_t first;      /* nanoseconds; wait after the first failure, then doubled */
        uint64_t limit;      /* longest wait */
        uint64_t expire;     /* the message is returned when it is older */
        uint32_t jitter_pct; /* 0..50 */
    } retry;

    struct {
        uint8_t bare_newline;                         /* enum conf_bare_newline */
        struct network_prefix *bare_newline_networks; /* whose commands may end with one */
        uint32_t bare_newline_networks_count;
        bool pipelining, chunking, smtputf8, dsn; /* what the server offers */
    } smtp;

    struct {
        struct conf_certificate *certificates;
        uint32_t certificates_count;
        const char *client_certificate, *client_key; /* shown to servers that ask; NULL: none */
        const char *authorities;                     /* file; NULL: the system's */
        uint8_t version_min;                         /* enum conf_tls_version */
        uint32_t security_level;                     /* OpenSSL's; 0: its default */
        const char *ciphers, *ciphersuites;          /* NULL: OpenSSL's */
    } tls;

    struct {                      /* durations in nanoseconds */
        struct endpoint *servers; /* to forward to; none: as resolv_conf says */
        uint32_t servers_count;
        const char *resolv_conf, *trust_anchor; /* files */
        bool dnssec, mta_sts;
        uint64_t timeout;     /* of an answer, all attempts together */
        uint32_t attempts;    /* at one server */
        uint32_t threads;     /* of the process */
        uint32_t outstanding; /* questions of one shard at the servers at once */
        uint32_t waiting;     /* destinations of one shard that are being looked for */
        uint64_t cache_bytes; /* of one shard */
        uint64_t ttl_min, ttl_max, negative_ttl_max, failure_ttl;
        uint32_t mta_sts_port;           /* of the web servers: 443, but for tests */
        const char *mta_sts_authorities; /* file; NULL: the system's */
        uint64_t mta_sts_timeout;
    } dns;
    struct {
        uint8_t doubles;         /* enum conf_double */
        const char *postmaster;  /* mailbox; NULL: none */
        uint64_t full_bytes_max; /* of a message that comes back whole */
        uint64_t delay_warning;  /* 0: only for those who ask */
    } bounce;
    struct { /* names of maps, "KIND:WHERE" */
        const char **sender_canonical, **recipient_canonical, **virtual_aliases, **aliases;
        uint32_t sender_canonical_count, recipient_canonical_count, virtual_aliases_count,
            aliases_count;
        bool includes; /* ":include:" of an alias may be read */
        const char **local_domains;
        uint32_t local_domains_count;
        const char *extension; /* one character; NULL: none */
    } rewrite;

    struct {
        uint8_t uring; /* enum conf_uring */
    } io;
    struct {
        uint64_t grace; /* nanoseconds to finish what is in flight */
    } shutdown;
    struct {
        const char *path; /* unix socket */
        uint32_t unix_mode;
    } control;
    struct {
        uint8_t level; /* enum conf_log_level */
    } log;
    struct {
        uint64_t spin, spin_polled,
            poll; /* nanoseconds: spin before sleeping; longest sleep where only polling
                                finds work */
    } idle;
    struct {
        bool pin; /* each shard's thread to a processor of its own */
        uint32_t
            first_cpu; /* shard i runs on the (first_cpu + i)th processor of those we may use */
    } cpu;
};

/* Users whose mail is to lie on one shard. */
struct conf_placing {
    const char *users; /* a pattern of fnmatch(3), in any letters; without a domain */
    uint32_t shard;
};

/* Of mailboxes whose name fits. */
struct conf_quota_rule {
    const char *mailbox; /* '*' and '?' are wild */
    uint64_t more_bytes, more_messages;
    bool counted; /* what lies there is part of the quota */
};

struct mailboxd_conf {
    const char *hostname;
    struct conf_listener *listen;
    uint32_t listen_count;
    uint32_t shards;
    struct {
        const char *path;       /* folder of the Maildirs, PATH/USER/{tmp,new,cur}, or of the log */
        uint8_t format;         /* enum conf_store */
        uint8_t durability;     /* enum conf_durability */
        uint64_t segment_bytes; /* of the log: as relay_conf's spool */
        uint64_t memory_bytes;
        uint64_t max_bytes; /* 0: what the file system has */
        uint64_t free_min_bytes;
        uint64_t keep_expunged; /* nanoseconds that what is expunged can be had back; 0: none */
    } store;
    struct conf_auth auth;
    struct { /* as relay_conf's */
        struct conf_certificate *certificates;
        uint32_t certificates_count;
        uint8_t version_min; /* enum conf_tls_version */
        uint32_t security_level;
        const char *ciphers, *ciphersuites;
    } tls;
    struct {
        const char
            *shared_namespace; /* the level above others' mailboxes; "off": they are not shown */
        bool acl_anyone;       /* rights may be given to everybody */
        const char *server_comment, *server_admin; /* METADATA of the server; NULL: none */
    } imap;
    struct {
        bool shared; /* several sessions may have a user's maildrop at a time */
    } pop3;
    struct {
        uint64_t drop_duplicates; /* nanoseconds that Message-IDs are remembered; 0: not at all */
    } lmtp;
    struct {
        struct endpoint relay;  /* mail of scripts goes there; family ENDPOINT_NONE: it cannot go */
        uint32_t max_redirects; /* of one script */
        uint64_t keep_trying;   /* nanoseconds */
        uint64_t vacation_default, vacation_min,
            vacation_max;                          /* nanoseconds, between two answers */
        uint64_t duplicate_default, duplicate_max; /* nanoseconds that a thing is remembered */
    } sieve;
    struct {
        bool index; /* full-text indexes are kept, with store.format "log" */
    } search;
    struct {
        bool any;           /* every safe local part is a user, made at the first delivery */
        const char **known; /* those who exist besides */
        uint32_t known_count;
        uint64_t quota_bytes; /* of one user; 0: none */
        uint64_t quota_messages;
        struct conf_quota_rule *quota_rules; /* the first whose name fits counts */
        uint32_t quota_rules_count;
        struct conf_placing *placed; /* the first whose pattern fits counts */
        uint32_t placed_count;
    } users;
    struct {
        uint64_t message_bytes;
        uint32_t recipients, errors, connections;
        /* 0: no limit */
        uint32_t user_address_connections; /* of a user, from an address, of each protocol */
        uint32_t user_connections, address_connections;
        uint32_t data_rate_min; /* as relay_conf's */
        uint64_t pending_bytes; /* message text on its way to the disk, of all sessions */
    } limits;
    struct {
        uint64_t command, data; /* nanoseconds */
    } timeouts;
    struct {
        uint8_t uring;
    } io;
    struct {
        uint64_t grace;
    } shutdown;
    struct { /* as relay_conf's */
        const char *path;
        uint32_t unix_mode;
    } control;
    struct {
        uint8_t level;
    } log;
};

#define CONF_PROBLEMS_MAX 32
#define CONF_PROBLEM_BYTES 512

/* What is wrong with a file, a line each. Further ones are only counted. */
struct conf_report {
    uint32_t count;
    char problems[CONF_PROBLEMS_MAX][CONF_PROBLEM_BYTES];
};

/* Reads the file, or takes the defaults when path is NULL. `hostname` stands in where the file
 * names none. 0 and *conf is owned by the caller; -EINVAL: the report says why; -ENOMEM; another
 * errno: the file cannot be read, which the report says too. */
int relay_conf_load(struct relay_conf **conf, const char *path, const char *hostname,
                    struct conf_report *report);
void relay_conf_free(struct relay_conf *conf); /* NULL is fine */
/* Does it listen for those who log in? */
bool relay_conf_has_logins(const struct relay_conf *conf);

int mailboxd_conf_load(struct mailboxd_conf **conf, const char *path, const char *hostname,
                       struct conf_report *report);
void mailboxd_conf_free(struct mailboxd_conf *conf);
/* Does it listen for those who log in? */
bool mailboxd_conf_has_logins(const struct mailboxd_conf *conf);
/* Does anybody have a quota, whatever he may have? */
bool mailboxd_conf_has_quota(const struct mailboxd_conf *conf);
/* Of those who log in, or the backends of auth say to whom mail may come. */
bool mailboxd_conf_asks_backends(const struct mailboxd_conf *conf);

/* The route of a mailbox (no case; without a domain it is one of `hostname`): that of its address, else
 * of its domain, else of the longest domain that it is below, else the first pattern that matches,
 * else "*". NULL: none. Takes the same time however many routes there are, but for patterns. */
const struct conf_route *relay_conf_route(const struct relay_conf *conf, struct slice mailbox);
/* The route of this name, no case; NULL: none. */
const struct conf_route *relay_conf_route_named(const struct relay_conf *conf, struct slice name);
/* enum conf_priority_level of mail from this sender; empty: the null reverse-path. came_with: what no row speaks of. */
uint8_t relay_conf_priority(const struct relay_conf *conf, struct slice reverse_path,
                            uint8_t came_with);
/* What mail comes with: of the smallest network that holds the client, or else of the listener. */
uint8_t relay_conf_client_priority(const struct relay_conf *conf, const struct endpoint *client,
                                   uint8_t listener);

/* For who has changed `routes` by hand: makes route_index anew. 0, -ENOMEM, -EINVAL. */
int relay_conf_index(struct relay_conf *conf);

/* May this client send to any destination? Clients on unix sockets may: the socket's permissions
 * decide. */
bool relay_conf_may_relay(const struct relay_conf *conf, const struct endpoint *client);

/* May its command lines end with CR or LF alone? */
bool relay_conf_takes_bare_lines(const struct relay_conf *conf, const struct endpoint *client);

/* May a client with this certificate, or this public key, send to any destination? SHA-256 of each. */
bool relay_conf_client_may_relay(const struct relay_conf *conf,
                                 const uint8_t certificate[CONF_FINGERPRINT_BYTES],
                                 const uint8_t key[CONF_FINGERPRINT_BYTES]);

/* Every key that a program knows, with what stands in for it: for documents and their tests.
 * `key` is as it is written in messages: "limits.message_bytes", "routes[].via". `value` is the
 * default's text. */
void relay_conf_each_key(void (*visit)(void *owner, const char *key, const char *value),
                         void *owner);
void mailboxd_conf_each_key(void (*visit)(void *owner, const char *key, const char *value),
                            void *owner);
