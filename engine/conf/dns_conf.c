#include "engine/conf/dns_conf.h"

#include "engine/conf/names.h"
#include "engine/conf/words.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MS 1000000ull
#define SECOND (1000 * MS)
#define DAY (86400 * SECOND)
#define MB (1024ull * 1024)
#define SERVERS_MAX 16
#define RESOLV_CONF "/etc/resolv.conf"
#define TRUST_ANCHOR "/usr/share/dns/root.key"

typedef struct relay_conf R; /* in the table only */

const struct reader_key dns_conf_keys[] = {
    KEY_LIST("servers", R, dns.servers, READER_ENDPOINT, .max = SERVERS_MAX),
    KEY_TEXT("resolv_conf", R, dns.resolv_conf, name_is_absolute_path, NAME_PATH_EXPECTED,
             .standard = RESOLV_CONF),
    KEY_WORD("dnssec", R, dns.dnssec, "on", word_switches),
    KEY_TEXT("trust_anchor", R, dns.trust_anchor, name_is_absolute_path, NAME_PATH_EXPECTED,
             .standard = TRUST_ANCHOR),
    KEY_DURATION("timeout", R, dns.timeout, "30s", 100 * MS, 300 * SECOND),
    KEY_NUMBER("attempts", R, dns.attempts, "5", 1, 20),
    KEY_NUMBER("threads", R, dns.threads, "1", 1, 16),
    KEY_NUMBER("outstanding", R, dns.outstanding, "512", 1, 16384),
    KEY_NUMBER("waiting", R, dns.waiting, "100000", 1, 10000000),
    KEY_SIZE("cache_bytes", R, dns.cache_bytes, "32M", MB / 4, 16384 * MB),
    KEY_DURATION("ttl_min", R, dns.ttl_min, "5s", 0, DAY),
    KEY_DURATION("ttl_max", R, dns.ttl_max, "1d", SECOND, 30 * DAY),
    KEY_DURATION("negative_ttl_max", R, dns.negative_ttl_max, "1h", SECOND, DAY),
    KEY_DURATION("failure_ttl", R, dns.failure_ttl, "30s", SECOND, 3600 * SECOND),
    KEY_WORD("mta_sts", R, dns.mta_sts, "on", word_switches),
    KEY_NUMBER("mta_sts_port", R, dns.mta_sts_port, "443", 1, 65535),
    KEY_TEXT("mta_sts_authorities", R, dns.mta_sts_authorities, name_is_absolute_path,
             NAME_PATH_EXPECTED),
    KEY_DURATION("mta_sts_timeout", R, dns.mta_sts_timeout, "60s", SECOND, 300 * SECOND),
    KEY_END,
};

/* What is missing by default is warned of at start: not every relay asks the DNS. */
static void check_file(struct reader *reader, const char *key, const char *path,
                       const char *standard)
{
    if (path != NULL && strcmp(path, standard) != 0 && access(path, R_OK) < 0) {
        reader_problem(reader, key, "'%s' cannot be read: %s", path, strerror(errno));
    }
}

void dns_conf_check(struct reader *reader, const struct relay_conf *conf)
{
    for (uint32_t i = 0; i < conf->dns.servers_count; i++) {
        if (conf->dns.servers[i].family == ENDPOINT_UNIX) {
            char key[64];
            snprintf(key, sizeof key, "dns.servers[%u]", i);
            reader_problem(reader, key, "a unix socket, expected ADDRESS:PORT");
        }
    }
    if (conf->dns.ttl_min > conf->dns.ttl_max) {
        reader_problem(reader, "dns.ttl_min", "more than dns.ttl_max, expected at most as much");
    }
    if (conf->dns.servers_count == 0) {
        check_file(reader, "dns.resolv_conf", conf->dns.resolv_conf, RESOLV_CONF);
    }
    if (conf->dns.dnssec) {
        check_file(reader, "dns.trust_anchor", conf->dns.trust_anchor, TRUST_ANCHOR);
    }
    if (conf->dns.mta_sts) {
        check_file(reader, "dns.mta_sts_authorities", conf->dns.mta_sts_authorities, "");
    }
}
