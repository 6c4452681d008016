/*
 * wire_script: a script in packetdrill's language, read into events.
 *
 * The part of the language that scripts for a TCP need: options (--name=value), comments, times
 * (absolute, +relative, ranges, *), calls with arguments and results, TCP segments and ICMP messages.
 * Not read, and said so: shell commands, code, UDP, tunnels.
 * Reference: packetdrill's syntax.md.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_EVENTS_MAX 1024u
#define WIRE_ARGUMENTS_MAX 8u
#define WIRE_VALUES_MAX 16u
#define WIRE_OPTIONS_BYTES 40u
#define WIRE_TEXT_MAX 160u

enum wire_when { WIRE_AT, WIRE_AFTER, WIRE_BETWEEN, WIRE_AFTER_BETWEEN, WIRE_ANY_TIME };

struct wire_segment { /* numbers of the script, host order */
    bool inbound;
    uint16_t from_port, to_port; /* 0: the connection's */
    uint8_t flags;               /* as in the TCP header, ECE and CWR too */
    uint32_t seq, bytes, ack;
    int32_t window; /* -1: not looked at */
    uint16_t urgent;
    bool any_options;
    uint8_t option_bytes;
    uint8_t options[WIRE_OPTIONS_BYTES]; /* as on the wire */
    int8_t ecn;                          /* of IP; -1: not looked at, or 0 when sent */
};

struct wire_message { /* ICMP, inbound, with the quote of a segment */
    uint8_t type, code;
    uint32_t mtu;
    uint32_t seq, bytes;
};

enum wire_value_kind { WIRE_ELLIPSIS, WIRE_NUMBER, WIRE_LIST };

struct wire_value {
    enum wire_value_kind kind;
    int64_t number;
    unsigned count; /* WIRE_LIST: of numbers */
    int64_t numbers[WIRE_VALUES_MAX];
};

struct wire_invocation {
    char name[24];
    unsigned argument_count;
    struct wire_value arguments[WIRE_ARGUMENTS_MAX];
    int64_t result;
    int error; /* errno that comes with a result of -1; 0: not looked at */
    bool blocks;
    int64_t end_us; /* when it returns, as `at_us` is meant */
};

enum wire_event_kind { WIRE_SEGMENT, WIRE_MESSAGE, WIRE_INVOCATION };

struct wire_event {
    unsigned line;
    enum wire_when when;
    int64_t at_us, until_us;
    enum wire_event_kind kind;
    union {
        struct wire_segment segment;
        struct wire_message message;
        struct wire_invocation invocation;
    };
};

struct wire_script {
    bool ipv6;
    char so_flags[WIRE_TEXT_MAX]; /* settings of the stack: wire_settings_parse */
    int64_t tolerance_us;
    int64_t timestamp_tick_us; /* 0: what a timestamp says is not looked at */
    bool strict_segments;
    unsigned event_count;
    struct wire_event events[WIRE_EVENTS_MAX];
    unsigned error_line;
    char error[WIRE_TEXT_MAX];
};

/* 0; -EINVAL: error_line and error tell. */
int wire_script_parse(struct wire_script *script, const char *text);
/* A name of the C library: AF_INET, EAGAIN, TCP_NODELAY... False: not known. */
bool wire_symbol(const char *name, int64_t *number);
