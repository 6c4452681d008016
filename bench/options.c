#include "bench/options.h"
#include <fcntl.h>
#include <getopt.h>
#include <rte_ether.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char usage[] =
    "tubepost-bench source --to ADDRESS [option...]     sends letters, one after the other on each "
    "connection\n"
    "tubepost-bench sink --listen ADDRESS [option...]   takes them and proves each\n"
    "tubepost-bench loop --to A --listen B [option...]  both in one thread: what A relays must "
    "come back to B\n"
    "tubepost-bench answer --listen ADDRESS [option...] answers requests without any mail, to "
    "measure a transport\n"
    "tubepost-bench ask --to ADDRESS [option...]        asks\n"
    "tubepost-bench logins --to ADDRESS [option...]     logs in by IMAP and leaves, each time on a "
    "connection of its own\n"
    "tubepost-bench cost [--json] [--cpu N]             cycles of the stack alone, without a "
    "driver\n"
    "tubepost-bench queue --folder DIR [--count N] [--size BYTES] [--json] [--cpu N]\n"
    "                                                   memory of a recipient that waits, time of "
    "a restart\n"
    "tubepost-bench sched [--count N] [--json] [--cpu N]  what the scheduler takes while N "
    "(10000000) "
    "recipients wait\n"
    "\n"
    "ADDRESS is 192.0.2.1:25, [2001:db8::1]:25 or unix:/path; both options may be repeated.\n"
    "\n"
    "source  --connections N (50)  --size BYTES (4096)  --recipients N (1)  --count N  --seconds S "
    "(10 without --count)\n"
    "        --warmup S (0)  --pace command|group|deep|bdat (command)  --per-connection N  --lmtp\n"
    "        --starttls: TLS, sessions resumed where the server lets them  --no-resumption: whole "
    "handshakes\n"
    "        --suites LIST: of TLS 1.3, in OpenSSL's words\n"
    "        --users N: recipients are u0000000, u0000001 and so on\n"
    "        --domains N: recipients are spread over N domains, d0000000.NAME and so on\n"
    "        --domain NAME (bench.example)  --sender ADDRESS (source@bench.example)  --from "
    "ADDRESS\n"
    "        --stall S (60): give up when nothing is answered  --acked FILE: what was "
    "acknowledged, a line each\n"
    "sink    --count N  --seconds S  --idle S: stop when nothing has come for so long  --lmtp "
    "(--sink-lmtp in loop)\n"
    "        --received FILE: what came, a line each\n"
    "ask     --kind chat|brief|bulk (chat)  --request BYTES (64)  --reply BYTES (64)  "
    "--connections N  --seconds S  --warmup S\n"
    "        --flood syn|ack|rst|fin  --flood-rate N (1000000 a second)  --flood-mac MAC: beside "
    "it, "
    "over a port, to the\n"
    "        target with this MAC\n"
    "logins  --mechanism plain|scram-sha-256 (plain)  --tls: from the first octet on, sessions "
    "resumed  --no-resumption  --suites LIST\n"
    "        --users N (1): u0000000, u0000001 and so on  --password TEXT (secret)  --connections "
    "N  "
    "--seconds S  --warmup S\n"
    "answer  --kind, --request, --reply as the asker has them  --seconds S\n"
    "all     --json: one object instead of a table  --cpu N\n"
    "        --io-uring: kernel sockets as the relay drives them, instead of epoll\n"
    "dpdk    --eal ARGUMENT (repeat)  --port NAME  --address A.B.C.D/LEN  --gateway A.B.C.D  --mtu "
    "BYTES\n"
    "\n"
    "pace    command: one command a write; group: MAIL, RCPT, DATA in one; deep: the next group "
    "behind the body;\n"
    "        bdat: all in one\n"
    "A source and a sink stop by themselves, or on SIGTERM and SIGINT. Exit code 1: something was "
    "lost, damaged,\n"
    "repeated or refused.\n";

enum option_code {
    OPTION_TO = 256,
    OPTION_LISTEN,
    OPTION_CONNECTIONS,
    OPTION_SIZE,
    OPTION_RECIPIENTS,
    OPTION_COUNT,
    OPTION_SECONDS,
    OPTION_WARMUP,
    OPTION_PACE,
    OPTION_PER_CONNECTION,
    OPTION_LMTP,
    OPTION_STARTTLS,
    OPTION_NO_RESUMPTION,
    OPTION_SUITES,
    OPTION_SINK_LMTP,
    OPTION_DOMAIN,
    OPTION_DOMAINS,
    OPTION_USERS,
    OPTION_SENDER,
    OPTION_FROM,
    OPTION_STALL,
    OPTION_ACKED,
    OPTION_IDLE,
    OPTION_RECEIVED,
    OPTION_KIND,
    OPTION_REQUEST,
    OPTION_REPLY,
    OPTION_FLOOD,
    OPTION_FLOOD_RATE,
    OPTION_FLOOD_MAC,
    OPTION_IO_URING,
    OPTION_JSON,
    OPTION_CPU,
    OPTION_EAL,
    OPTION_PORT,
    OPTION_ADDRESS,
    OPTION_GATEWAY,
    OPTION_MTU,
    OPTION_FOLDER,
    OPTION_MECHANISM,
    OPTION_TLS,
    OPTION_PASSWORD,
    OPTION_HELP,
};

static const struct option table[] = {
    {"to", required_argument, NULL, OPTION_TO},
    {"listen", required_argument, NULL, OPTION_LISTEN},
    {"connections", required_argument, NULL, OPTION_CONNECTIONS},
    {"size", required_argument, NULL, OPTION_SIZE},
    {"recipients", required_argument, NULL, OPTION_RECIPIENTS},
    {"count", required_argument, NULL, OPTION_COUNT},
    {"seconds", required_argument, NULL, OPTION_SECONDS},
    {"warmup", required_argument, NULL, OPTION_WARMUP},
    {"pace", required_argument, NULL, OPTION_PACE},
    {"per-connection", required_argument, NULL, OPTION_PER_CONNECTION},
    {"lmtp", no_argument, NULL, OPTION_LMTP},
    {"starttls", no_argument, NULL, OPTION_STARTTLS},
    {"no-resumption", no_argument, NULL, OPTION_NO_RESUMPTION},
    {"suites", required_argument, NULL, OPTION_SUITES},
    {"sink-lmtp", no_argument, NULL, OPTION_SINK_LMTP},
    {"domain", required_argument, NULL, OPTION_DOMAIN},
    {"domains", required_argument, NULL, OPTION_DOMAINS},
    {"users", required_argument, NULL, OPTION_USERS},
    {"sender", required_argument, NULL, OPTION_SENDER},
    {"from", required_argument, NULL, OPTION_FROM},
    {"stall", required_argument, NULL, OPTION_STALL},
    {"acked", required_argument, NULL, OPTION_ACKED},
    {"idle", required_argument, NULL, OPTION_IDLE},
    {"received", required_argument, NULL, OPTION_RECEIVED},
    {"kind", required_argument, NULL, OPTION_KIND},
    {"request", required_argument, NULL, OPTION_REQUEST},
    {"reply", required_argument, NULL, OPTION_REPLY},
    {"flood", required_argument, NULL, OPTION_FLOOD},
    {"flood-rate", required_argument, NULL, OPTION_FLOOD_RATE},
    {"flood-mac", required_argument, NULL, OPTION_FLOOD_MAC},
    {"io-uring", no_argument, NULL, OPTION_IO_URING},
    {"json", no_argument, NULL, OPTION_JSON},
    {"cpu", required_argument, NULL, OPTION_CPU},
    {"eal", required_argument, NULL, OPTION_EAL},
    {"port", required_argument, NULL, OPTION_PORT},
    {"address", required_argument, NULL, OPTION_ADDRESS},
    {"gateway", required_argument, NULL, OPTION_GATEWAY},
    {"mtu", required_argument, NULL, OPTION_MTU},
    {"folder", required_argument, NULL, OPTION_FOLDER},
    {"mechanism", required_argument, NULL, OPTION_MECHANISM},
    {"tls", no_argument, NULL, OPTION_TLS},
    {"password", required_argument, NULL, OPTION_PASSWORD},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

static _Noreturn void wrong(const char *what, const char *value)
{
    fprintf(stderr, "tubepost-bench: %s: %s\n", what, value);
    exit(2);
}

static uint64_t number(const char *text, uint64_t least, uint64_t most)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || value < least || value > most) {
        fprintf(stderr, "tubepost-bench: a number from %llu to %llu is wanted: %s\n",
                (unsigned long long)least, (unsigned long long)most, text);
        exit(2);
    }
    return value;
}

static double seconds(const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= 0 && value < 1e9)) {
        wrong("seconds are wanted", text);
    }
    return value;
}

static struct endpoint endpoint(const char *text)
{
    struct endpoint parsed;
    if (endpoint_parse(&parsed, slice_text(text)) < 0) {
        wrong("an address is wanted, such as 192.0.2.1:25", text);
    }
    return parsed;
}

static struct endpoint address(const char *text)
{
    struct network_prefix prefix;
    if (network_prefix_parse(&prefix, slice_text(text)) < 0) {
        wrong("an address is wanted, such as 192.0.2.1", text);
    }
    return prefix.address;
}

static int file(const char *name)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) {
        wrong(name, strerror(errno));
    }
    return fd;
}

static enum source_pace pace(const char *text)
{
    static const char *const names[] = {[SOURCE_PACE_COMMAND] = "command",
                                        [SOURCE_PACE_GROUP] = "group",
                                        [SOURCE_PACE_DEEP] = "deep",
                                        [SOURCE_PACE_BDAT] = "bdat"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            return (enum source_pace)i;
        }
    }
    wrong("command, group, deep or bdat is wanted", text);
}

static bool parse_source(struct source_settings *source, int code, const char *value)
{
    switch (code) {
    case OPTION_TO:
        if (source->to_count == SOURCE_TARGETS_MAX) {
            wrong("too many", "--to");
        }
        source->to[source->to_count++] = endpoint(value);
        return true;
    case OPTION_CONNECTIONS:
        source->connections = (uint32_t)number(value, 1, 1000000);
        return true;
    case OPTION_SIZE:
        source->message_bytes = number(value, LETTER_BYTES_MIN, 1u << 30);
        return true;
    case OPTION_RECIPIENTS:
        source->recipients = (uint32_t)number(value, 1, 100000);
        return true;
    case OPTION_WARMUP:
        source->warmup_s = seconds(value);
        return true;
    case OPTION_PACE:
        source->pace = pace(value);
        return true;
    case OPTION_PER_CONNECTION:
        source->letters_per_connection = number(value, 1, UINT64_MAX);
        return true;
    case OPTION_DOMAIN:
        source->domain = value;
        return true;
    case OPTION_SUITES:
        source->suites = value;
        return true;
    case OPTION_DOMAINS:
        source->domains = (uint32_t)number(value, 1, SOURCE_DOMAINS_MAX);
        return true;
    case OPTION_USERS:
        source->users = (uint32_t)number(value, 1, SOURCE_DOMAINS_MAX);
        return true;
    case OPTION_SENDER:
        source->sender = value;
        return true;
    case OPTION_FROM:
        source->from = address(value);
        return true;
    case OPTION_STALL:
        source->stall_s = seconds(value);
        return true;
    case OPTION_ACKED:
        source->acked_fd = file(value);
        return true;
    default:
        return false;
    }
}

static enum exchange_kind kind(const char *text)
{
    static const char *const names[] = {
        [EXCHANGE_CHAT] = "chat", [EXCHANGE_BRIEF] = "brief", [EXCHANGE_BULK] = "bulk"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            return (enum exchange_kind)i;
        }
    }
    wrong("chat, brief or bulk is wanted", text);
}

static enum flood_kind flood_kind(const char *text)
{
    static const char *const names[] = {
        [FLOOD_SYN] = "syn", [FLOOD_ACK] = "ack", [FLOOD_RST] = "rst", [FLOOD_FIN] = "fin"};
    for (unsigned i = FLOOD_SYN; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            return (enum flood_kind)i;
        }
    }
    wrong("syn, ack, rst or fin is wanted", text);
}

static bool parse_flood(struct flood_settings *flood, int code, const char *value)
{
    struct rte_ether_addr mac;
    switch (code) {
    case OPTION_FLOOD:
        flood->kind = flood_kind(value);
        return true;
    case OPTION_FLOOD_RATE:
        flood->per_s = (uint32_t)number(value, 1, 100000000);
        return true;
    case OPTION_FLOOD_MAC:
        if (rte_ether_unformat_addr(value, &mac) < 0) {
            wrong("an Ethernet address is wanted, such as 02:00:00:00:00:01", value);
        }
        memcpy(flood->mac, mac.addr_bytes, sizeof(flood->mac));
        return true;
    default:
        return false;
    }
}

static bool parse_exchange(struct exchange_settings *exchange, int code, const char *value)
{
    switch (code) {
    case OPTION_KIND:
        exchange->kind = kind(value);
        return true;
    case OPTION_REQUEST:
        exchange->request_bytes = (uint32_t)number(value, 1, EXCHANGE_BYTES_MAX);
        return true;
    case OPTION_REPLY:
        exchange->reply_bytes = (uint32_t)number(value, 1, EXCHANGE_BYTES_MAX);
        return true;
    default:
        return false;
    }
}

static bool parse_logins(struct options *options, int code, const char *value)
{
    switch (code) {
    case OPTION_MECHANISM:
        if (strcmp(value, "plain") != 0 && strcmp(value, "scram-sha-256") != 0) {
            wrong("plain or scram-sha-256 is wanted", value);
        }
        options->logins.mechanism = value[0] == 'p' ? LOGINS_PLAIN : LOGINS_SCRAM_SHA_256;
        return true;
    case OPTION_TLS:
        if (options->source.secure == SECURE_NOT) {
            options->source.secure = SECURE_RESUMED;
        }
        return true;
    case OPTION_PASSWORD:
        options->logins.password = value;
        return true;
    default:
        return false;
    }
}

static bool parse_carrier(struct carrier_options *carrier, int code, const char *value)
{
    switch (code) {
    case OPTION_IO_URING:
        carrier->uring = true;
        return true;
    case OPTION_EAL:
        if (carrier->eal_count == EAL_ARGUMENTS_MAX) {
            wrong("too many", "--eal");
        }
        carrier->eal[carrier->eal_count++] = value;
        break;
    case OPTION_PORT:
        carrier->port = value;
        break;
    case OPTION_ADDRESS:
        if (network_prefix_parse(&carrier->address, slice_text(value)) < 0) {
            wrong("an address with its prefix length is wanted, such as 192.0.2.1/24", value);
        }
        break;
    case OPTION_GATEWAY:
        carrier->gateway = address(value);
        break;
    case OPTION_MTU:
        carrier->mtu = (uint16_t)number(value, 576, 9216);
        break;
    default:
        return false;
    }
    carrier->dpdk = true;
    return true;
}

static void parse_sink_or_both(struct options *options, int code, const char *value)
{
    struct sink_settings *sink = &options->sink;
    switch (code) {
    case OPTION_LISTEN:
        if (sink->listen_count == SINK_LISTENERS_MAX) {
            wrong("too many", "--listen");
        }
        sink->listen[sink->listen_count++] = endpoint(value);
        break;
    case OPTION_COUNT:
        options->source.count = options->sink_count = number(value, 1, UINT64_MAX);
        break;
    case OPTION_SECONDS:
        options->source.seconds = options->sink_seconds = seconds(value);
        break;
    case OPTION_STARTTLS:
        if (options->source.secure == SECURE_NOT) {
            options->source.secure = SECURE_RESUMED;
        }
        break;
    case OPTION_NO_RESUMPTION:
        options->source.secure = SECURE_WHOLE;
        break;
    case OPTION_LMTP:
        options->source.lmtp = true;
        sink->lmtp |= options->part == BENCH_SINK;
        break;
    case OPTION_SINK_LMTP:
        sink->lmtp = true;
        break;
    case OPTION_IDLE:
        options->sink_idle_s = seconds(value);
        break;
    case OPTION_RECEIVED:
        sink->received_fd = file(value);
        break;
    case OPTION_JSON:
        options->json = true;
        break;
    case OPTION_CPU:
        options->cpu = (int)number(value, 0, 4095);
        break;
    case OPTION_FOLDER:
        options->folder = value;
        break;
    case OPTION_HELP:
        fputs(usage, stdout);
        exit(0);
    default:
        exit(2); /* getopt has said why */
    }
}

static enum bench_part part_of(const char *name)
{
    if (name != NULL && strcmp(name, "source") == 0) {
        return BENCH_SOURCE;
    }
    if (name != NULL && strcmp(name, "sink") == 0) {
        return BENCH_SINK;
    }
    if (name != NULL && strcmp(name, "loop") == 0) {
        return BENCH_LOOP;
    }
    if (name != NULL && strcmp(name, "ask") == 0) {
        return BENCH_ASK;
    }
    if (name != NULL && strcmp(name, "answer") == 0) {
        return BENCH_ANSWER;
    }
    if (name != NULL && strcmp(name, "logins") == 0) {
        return BENCH_LOGINS;
    }
    if (name != NULL && strcmp(name, "cost") == 0) {
        return BENCH_COST;
    }
    if (name != NULL && strcmp(name, "queue") == 0) {
        return BENCH_QUEUE;
    }
    if (name != NULL && strcmp(name, "sched") == 0) {
        return BENCH_SCHED;
    }
    bool help = name != NULL && strcmp(name, "--help") == 0;
    fputs(usage, help ? stdout : stderr);
    exit(help ? 0 : 2);
}

static void judge(const struct options *options)
{
    if ((options->part & (BENCH_SOURCE | BENCH_ASK | BENCH_LOGINS)) &&
        options->source.to_count == 0) {
        wrong("missing", "--to");
    }
    if ((options->part & (BENCH_SINK | BENCH_ANSWER)) && options->sink.listen_count == 0) {
        wrong("missing", "--listen");
    }
    if (options->part == BENCH_QUEUE && options->folder == NULL) {
        wrong("missing", "--folder");
    }
    const struct carrier_options *carrier = &options->carrier;
    if (carrier->dpdk && (carrier->port == NULL || carrier->address.length == 0)) {
        wrong("dpdk needs both", "--port and --address");
    }
    if (options->flood.kind != FLOOD_NONE && (!carrier->dpdk || options->part != BENCH_ASK)) {
        wrong("only of ask over dpdk", "--flood");
    }
    if (options->source.domains > 0 && options->source.users > 0) {
        wrong("one of two", "--domains and --users");
    }
    if (carrier->dpdk && carrier->uring) {
        wrong("one of two", "--io-uring and --port");
    }
}

/* What an exchange has in common with mail has the same option. */
static void exchange_fill(struct options *options)
{
    struct exchange_settings *exchange = &options->exchange;
    exchange->at = options->part == BENCH_ANSWER ? options->sink.listen[0] : options->source.to[0];
    exchange->connections = options->source.connections;
    exchange->seconds = options->source.seconds;
    exchange->warmup_s = options->source.warmup_s;
}

static void logins_fill(struct options *options)
{
    struct logins_settings *logins = &options->logins;
    logins->at = options->source.to[0];
    logins->secure = options->source.secure;
    logins->suites = options->source.suites;
    logins->connections = options->source.connections;
    logins->users = options->source.users > 0 ? options->source.users : 1;
    logins->seconds = options->source.seconds;
    logins->warmup_s = options->source.warmup_s;
}

void options_parse(struct options *options, int argc, char **argv)
{
    *options = (struct options){
        .source = {.connections = 50,
                   .message_bytes = 4096,
                   .recipients = 1,
                   .domain = "bench.example",
                   .sender = "source@bench.example",
                   .stall_s = 60,
                   .acked_fd = -1},
        .sink = {.received_fd = -1},
        .flood = {.per_s = 1000000},
        .exchange = {.request_bytes = 64, .reply_bytes = 64},
        .logins = {.password = "secret"},
        .cpu = -1,
    };
    options->part = part_of(argc > 1 ? argv[1] : NULL);
    argc--;
    argv++;
    for (int code; (code = getopt_long(argc, argv, "", table, NULL)) != -1;) {
        if (!parse_source(&options->source, code, optarg) &&
            !parse_exchange(&options->exchange, code, optarg) &&
            !parse_flood(&options->flood, code, optarg) && !parse_logins(options, code, optarg) &&
            !parse_carrier(&options->carrier, code, optarg)) {
            parse_sink_or_both(options, code, optarg);
        }
    }
    if (optind < argc) {
        wrong("not understood", argv[optind]);
    }
    if (options->source.count == 0 && options->source.seconds <= 0) {
        options->source.seconds = 10;
    }
    judge(options);
    exchange_fill(options);
    logins_fill(options);
}
