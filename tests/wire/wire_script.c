#include "tests/wire/wire_script.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MILLION 1000000.0
#define TOLERANCE_US 4000

struct reader {
    struct wire_script *script;
    const char *at;
    unsigned line;
    bool failed;
};

static bool wrong(struct reader *reader, const char *format, ...)
{
    va_list list;
    if (!reader->failed) {
        reader->failed = true;
        reader->script->error_line = reader->line;
        va_start(list, format);
        vsnprintf(reader->script->error, sizeof(reader->script->error), format, list);
        va_end(list);
        for (char *at = reader->script->error; *at != '\0'; at++) {
            *at = iscntrl((unsigned char)*at) ? ' '
                                              : *at; /* what it quotes may go on in a new line */
        }
    }
    return false;
}

static void comment_pass(struct reader *reader, bool to_line_end)
{
    const char *end = to_line_end ? "\n" : "*/";
    while (*reader->at != '\0' && strncmp(reader->at, end, strlen(end)) != 0) {
        reader->line += *reader->at == '\n';
        reader->at++;
    }
    if (!to_line_end && *reader->at != '\0') {
        reader->at += 2;
    }
}

static void blanks_pass(struct reader *reader)
{
    for (;;) {
        if (strncmp(reader->at, "//", 2) == 0 || strncmp(reader->at, "/*", 2) == 0) {
            comment_pass(reader, reader->at[1] == '/');
        } else if (isspace((unsigned char)*reader->at)) {
            reader->line += *reader->at == '\n';
            reader->at++;
        } else {
            return;
        }
    }
}

/* Takes `text` when it comes next; a word only as a whole. */
static bool take(struct reader *reader, const char *text)
{
    size_t length = strlen(text);
    blanks_pass(reader);
    if (strncmp(reader->at, text, length) != 0 ||
        (isalnum((unsigned char)text[length - 1]) && isalnum((unsigned char)reader->at[length]))) {
        return false;
    }
    reader->at += length;
    return true;
}

static bool expect(struct reader *reader, const char *text)
{
    if (take(reader, text)) {
        return true;
    }
    return wrong(reader, "\"%s\" expected before \"%.20s\"", text, reader->at);
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

static bool word_read(struct reader *reader, char *word, size_t room)
{
    size_t length = 0;
    blanks_pass(reader);
    while (is_word(*reader->at)) {
        if (length + 1 < room) {
            word[length++] = *reader->at;
        }
        reader->at++;
    }
    word[length] = '\0';
    return length > 0 ? true : wrong(reader, "a word expected before \"%.20s\"", reader->at);
}

static bool number_read(struct reader *reader, int64_t *number)
{
    char *end = NULL;
    blanks_pass(reader);
    *number = strtoll(reader->at, &end, strncmp(reader->at, "0x", 2) == 0 ? 16 : 10);
    if (end == reader->at) {
        return wrong(reader, "a number expected before \"%.20s\"", reader->at);
    }
    reader->at = end;
    return true;
}

static bool number32_read(struct reader *reader, uint32_t *number)
{
    int64_t wide;
    if (!number_read(reader, &wide)) {
        return false;
    }
    *number = (uint32_t)wide;
    return true;
}

/* Digits and one point: "..." after a time is not part of it. */
static bool time_read(struct reader *reader, int64_t *us)
{
    char text[32];
    size_t length = 0;
    blanks_pass(reader);
    while ((isdigit((unsigned char)*reader->at) ||
            (*reader->at == '.' && strncmp(reader->at, "...", 3) != 0)) &&
           length + 1 < sizeof(text)) {
        text[length++] = *reader->at++;
    }
    text[length] = '\0';
    *us = (int64_t)(strtod(text, NULL) * MILLION + 0.5);
    return length > 0 ? true : wrong(reader, "a time expected before \"%.20s\"", reader->at);
}

static bool when_read(struct reader *reader, struct wire_event *event)
{
    if (take(reader, "*")) {
        event->when = WIRE_ANY_TIME;
        return true;
    }
    bool after = take(reader, "+");
    if (!time_read(reader, &event->at_us)) {
        return false;
    }
    event->when = after ? WIRE_AFTER : WIRE_AT;
    if (take(reader, "~")) {
        event->when = after ? WIRE_AFTER_BETWEEN : WIRE_BETWEEN;
        return (!after || expect(reader, "+")) && time_read(reader, &event->until_us);
    }
    return true;
}

static bool flags_read(struct reader *reader, uint8_t *flags)
{
    static const char letters[] = "FSRP.UEW"; /* in the order of the header's bits */
    blanks_pass(reader);
    *flags = 0;
    if (*reader->at == '-') {
        reader->at++;
        return true;
    }
    const char *begin = reader->at, *letter;
    while (*reader->at != '\0' && (letter = strchr(letters, *reader->at)) != NULL) {
        *flags |= (uint8_t)(1u << (letter - letters));
        reader->at++;
    }
    return reader->at > begin ? true : wrong(reader, "flags expected before \"%.20s\"", begin);
}

static bool range_read(struct reader *reader, uint32_t *seq, uint32_t *bytes)
{
    uint32_t end;
    if (!number32_read(reader, seq) || !expect(reader, ":") || !number32_read(reader, &end) ||
        !expect(reader, "(") || !number32_read(reader, bytes) || !expect(reader, ")")) {
        return false;
    }
    return end == *seq + *bytes ? true : wrong(reader, "sequence range and size differ");
}

static bool option_put(struct reader *reader, struct wire_segment *segment, const void *bytes,
                       size_t size)
{
    if (segment->option_bytes + size > WIRE_OPTIONS_BYTES) {
        return wrong(reader, "more than 40 bytes of options");
    }
    memcpy(segment->options + segment->option_bytes, bytes, size);
    segment->option_bytes = (uint8_t)(segment->option_bytes + size);
    return true;
}

static bool words_put(struct reader *reader, struct wire_segment *segment, uint8_t kind,
                      const uint32_t *words, size_t count)
{
    uint8_t option[WIRE_OPTIONS_BYTES] = {kind, (uint8_t)(2 + 4 * count)};
    for (size_t i = 0; i < count; i++) {
        uint32_t word = htonl(words[i]);
        memcpy(option + 2 + 4 * i, &word, sizeof(word));
    }
    return option_put(reader, segment, option, 2 + 4 * count);
}

static bool sack_read(struct reader *reader, struct wire_segment *segment)
{
    uint32_t words[8];
    size_t count = 0;
    do {
        if (count == 8) {
            return wrong(reader, "more than four SACK ranges");
        }
        if (!number32_read(reader, &words[count]) || !expect(reader, ":") ||
            !number32_read(reader, &words[count + 1])) {
            return false;
        }
        count += 2;
        blanks_pass(reader);
    } while (isdigit((unsigned char)*reader->at));
    return words_put(reader, segment, 5, words, count);
}

static bool option_read(struct reader *reader, struct wire_segment *segment)
{
    uint32_t words[2];
    if (take(reader, "nop")) {
        return option_put(reader, segment, "\1", 1);
    }
    if (take(reader, "eol")) {
        return option_put(reader, segment, "", 1);
    }
    if (take(reader, "sackOK")) {
        return option_put(reader, segment, "\4\2", 2);
    }
    if (take(reader, "sack")) {
        return sack_read(reader, segment);
    }
    if (take(reader, "mss")) {
        uint8_t option[4] = {2, 4};
        if (!number32_read(reader, words)) {
            return false;
        }
        option[2] = (uint8_t)(words[0] >> 8);
        option[3] = (uint8_t)words[0];
        return option_put(reader, segment, option, sizeof(option));
    }
    if (take(reader, "wscale")) {
        uint8_t option[3] = {3, 3};
        if (!number32_read(reader, words)) {
            return false;
        }
        option[2] = (uint8_t)words[0];
        return option_put(reader, segment, option, sizeof(option));
    }
    if (take(reader, "TS")) {
        return expect(reader, "val") && number32_read(reader, &words[0]) && expect(reader, "ecr") &&
               number32_read(reader, &words[1]) && words_put(reader, segment, 8, words, 2);
    }
    return wrong(reader, "option not known: \"%.20s\"", reader->at);
}

static bool options_read(struct reader *reader, struct wire_segment *segment)
{
    if (!take(reader, "<")) {
        return true;
    }
    if (take(reader, "...")) {
        segment->any_options = true;
        return expect(reader, ">");
    }
    do {
        if (!option_read(reader, segment)) {
            return false;
        }
    } while (take(reader, ","));
    if (segment->option_bytes % 4 != 0) {
        return wrong(reader, "options do not fill words of four bytes");
    }
    return expect(reader, ">");
}

static bool ecn_read(struct reader *reader, struct wire_segment *segment)
{
    static const char *const names[] = {"noecn", "ect1", "ect0", "ce"}; /* in the order of IP */
    const char *closing;
    segment->ecn = -1;
    if (take(reader, "[")) {
        closing = "]";
    } else if (take(reader, "(")) {
        closing = ")";
    } else {
        return true;
    }
    for (int8_t i = 0; i < 4; i++) {
        if (take(reader, names[i])) {
            segment->ecn = i;
            return expect(reader, closing);
        }
    }
    return wrong(reader, "not known of IP: \"%.20s\"", reader->at);
}

/* "5000 > 8080": from and to where, when it is not the connection's own. */
static bool ports_read(struct reader *reader, struct wire_segment *segment)
{
    uint32_t from, to;
    blanks_pass(reader);
    if (!isdigit((unsigned char)*reader->at)) {
        return true;
    }
    if (!number32_read(reader, &from) || !expect(reader, ">") || !number32_read(reader, &to)) {
        return false;
    }
    segment->from_port = (uint16_t)from;
    segment->to_port = (uint16_t)to;
    return segment->inbound ? true : wrong(reader, "ports are only read inbound");
}

static bool segment_read(struct reader *reader, struct wire_segment *segment)
{
    int64_t number = -1;
    if (!ports_read(reader, segment) || !flags_read(reader, &segment->flags) ||
        !range_read(reader, &segment->seq, &segment->bytes)) {
        return false;
    }
    if (take(reader, "ack") && !number32_read(reader, &segment->ack)) {
        return false;
    }
    if (take(reader, "win") && !number_read(reader, &number)) {
        return false;
    }
    segment->window = (int32_t)number;
    if (segment->inbound && number < 0) {
        return wrong(reader, "an inbound segment needs a window");
    }
    number = 0;
    if (take(reader, "urg") && !number_read(reader, &number)) {
        return false;
    }
    segment->urgent = (uint16_t)number;
    return options_read(reader, segment);
}

static bool message_kind_read(struct reader *reader, struct wire_message *message, bool ipv6)
{
    static const struct {
        const char *type, *code;
        uint8_t numbers[2][2]; /* of ICMP, of ICMPv6 */
    } kinds[] = {{"unreachable", "net_unreachable", {{3, 0}, {1, 0}}},
                 {"unreachable", "host_unreachable", {{3, 1}, {1, 3}}},
                 {"unreachable", "protocol_unreachable", {{3, 2}, {1, 4}}},
                 {"unreachable", "address_unreachable", {{3, 1}, {1, 3}}},
                 {"unreachable", "port_unreachable", {{3, 3}, {1, 4}}},
                 {"unreachable", "frag_needed", {{3, 4}, {2, 0}}},
                 {"unreachable", "admin_prohibited", {{3, 13}, {1, 1}}},
                 {"packet_too_big", NULL, {{3, 4}, {2, 0}}},
                 {"source_quench", NULL, {{4, 0}, {4, 0}}},
                 {"time_exceeded", NULL, {{11, 0}, {3, 0}}}};
    const char *begin = reader->at;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        reader->at = begin;
        if (take(reader, kinds[i].type) && (kinds[i].code == NULL || take(reader, kinds[i].code))) {
            message->type = kinds[i].numbers[ipv6][0];
            message->code = kinds[i].numbers[ipv6][1];
            return true;
        }
    }
    return wrong(reader, "ICMP message not known: \"%.30s\"", begin);
}

static bool message_read(struct reader *reader, struct wire_message *message)
{
    if (!message_kind_read(reader, message, reader->script->ipv6)) {
        return false;
    }
    if (take(reader, "mtu") && !number32_read(reader, &message->mtu)) {
        return false;
    }
    return expect(reader, "[") && range_read(reader, &message->seq, &message->bytes) &&
           expect(reader, "]");
}

static bool packet_read(struct reader *reader, struct wire_event *event, bool inbound)
{
    struct wire_segment segment = {.inbound = inbound};
    if (!ecn_read(reader, &segment)) {
        return false;
    }
    if (take(reader, "icmp")) {
        event->kind = WIRE_MESSAGE;
        return inbound ? message_read(reader, &event->message)
                       : wrong(reader, "ICMP is only read inbound");
    }
    if (take(reader, "udp")) {
        return wrong(reader, "UDP is not read");
    }
    event->kind = WIRE_SEGMENT;
    event->segment = segment;
    return segment_read(reader, &event->segment);
}

/* A number, or names and numbers joined by |; "name=" before it says whose it is. */
static bool sum_read(struct reader *reader, int64_t *sum)
{
    *sum = 0;
    do {
        char word[32];
        int64_t number;
        blanks_pass(reader);
        if (isdigit((unsigned char)*reader->at) || *reader->at == '-') {
            if (!number_read(reader, &number)) {
                return false;
            }
        } else {
            if (!word_read(reader, word, sizeof(word))) {
                return false;
            }
            if (take(reader, "=")) {
                return sum_read(reader, sum);
            }
            if (!wire_symbol(word, &number)) {
                return wrong(reader, "name not known: %s", word);
            }
        }
        *sum |= number;
    } while (take(reader, "|"));
    return true;
}

/* [..] and {..}, nested ones laid out flat. */
static bool list_read(struct reader *reader, struct wire_value *value, const char *closing)
{
    while (!take(reader, closing)) {
        bool bracket = take(reader, "["), brace = !bracket && take(reader, "{");
        if (bracket || brace) {
            if (!list_read(reader, value, bracket ? "]" : "}")) {
                return false;
            }
        } else if (value->count == WIRE_VALUES_MAX) {
            return wrong(reader, "list too long");
        } else if (!sum_read(reader, &value->numbers[value->count++])) {
            return false;
        }
        take(reader, ",");
    }
    return true;
}

static bool value_read(struct reader *reader, struct wire_value *value)
{
    *value = (struct wire_value){.kind = WIRE_NUMBER};
    if (take(reader, "...")) {
        value->kind = WIRE_ELLIPSIS;
        return true;
    }
    bool bracket = take(reader, "[");
    if (bracket || take(reader, "{")) {
        value->kind = WIRE_LIST;
        return list_read(reader, value, bracket ? "]" : "}");
    }
    return sum_read(reader, &value->number);
}

static bool invocation_read(struct reader *reader, struct wire_event *event)
{
    struct wire_invocation *invocation = &event->invocation;
    char word[32];
    int64_t number;
    event->kind = WIRE_INVOCATION;
    if (take(reader, "...")) {
        invocation->blocks = true;
        if (!time_read(reader, &invocation->end_us)) {
            return false;
        }
    }
    if (!word_read(reader, invocation->name, sizeof(invocation->name)) || !expect(reader, "(")) {
        return false;
    }
    while (!take(reader, ")")) {
        if (invocation->argument_count == WIRE_ARGUMENTS_MAX) {
            return wrong(reader, "too many arguments");
        }
        if (!value_read(reader, &invocation->arguments[invocation->argument_count++])) {
            return false;
        }
        take(reader, ",");
    }
    if (!expect(reader, "=") || !sum_read(reader, &invocation->result)) {
        return false;
    }
    blanks_pass(reader);
    if (*reader->at == 'E') {
        if (!word_read(reader, word, sizeof(word)) || !wire_symbol(word, &number)) {
            return wrong(reader, "error not known: %s", word);
        }
        invocation->error = (int)number;
    }
    if (take(reader, "(")) { /* a note */
        while (*reader->at != '\0' && *reader->at != ')') {
            reader->at++;
        }
        return expect(reader, ")");
    }
    return true;
}

static bool event_read(struct reader *reader)
{
    struct wire_script *script = reader->script;
    if (script->event_count == WIRE_EVENTS_MAX) {
        return wrong(reader, "more than %u events", WIRE_EVENTS_MAX);
    }
    struct wire_event *event = &script->events[script->event_count++];
    *event = (struct wire_event){.line = reader->line};
    if (!when_read(reader, event)) {
        return false;
    }
    event->line = reader->line;
    if (take(reader, "<")) {
        return packet_read(reader, event, true);
    }
    if (take(reader, ">")) {
        return packet_read(reader, event, false);
    }
    if (take(reader, "`") || take(reader, "%{")) {
        return wrong(reader, "commands and code are not run");
    }
    return invocation_read(reader, event);
}

static bool setting_read(struct reader *reader)
{
    struct wire_script *script = reader->script;
    char name[32], value[WIRE_TEXT_MAX] = "";
    size_t length = 0;
    if (!word_read(reader, name, sizeof(name))) {
        return false;
    }
    if (take(reader, "=")) {
        bool quoted = take(reader, "\"");
        blanks_pass(reader);
        while (*reader->at != '\0' && *reader->at != '\n' && length + 1 < sizeof(value) &&
               (quoted ? *reader->at != '"' : !isspace((unsigned char)*reader->at))) {
            value[length++] = *reader->at++;
        }
        if (quoted && !expect(reader, "\"")) {
            return false;
        }
    }
    if (strcmp(name, "ip_version") == 0) {
        script->ipv6 = strcmp(value, "ipv6") == 0;
    } else if (strcmp(name, "so_flags") == 0) {
        memcpy(script->so_flags, value, sizeof(value));
    } else if (strcmp(name, "tolerance_usecs") == 0) {
        script->tolerance_us = atoll(value);
    } else if (strcmp(name, "tcp_ts_tick_usecs") == 0) {
        script->timestamp_tick_us = atoll(value);
    } else if (strcmp(name, "strict_segments") == 0) {
        script->strict_segments = true;
    } else {
        return wrong(reader, "option not known: --%s", name);
    }
    return true;
}

int wire_script_parse(struct wire_script *script, const char *text)
{
    struct reader reader = {.script = script, .at = text, .line = 1};
    memset(script, 0, sizeof(*script));
    script->tolerance_us = TOLERANCE_US;
    while (!reader.failed && take(&reader, "--")) {
        setting_read(&reader);
    }
    blanks_pass(&reader);
    while (!reader.failed && *reader.at != '\0') {
        unsigned line = reader.line;
        if (!event_read(&reader)) {
            script->error_line = line; /* the reader may have looked into the next one */
        }
        blanks_pass(&reader);
    }
    if (!reader.failed && script->event_count == 0) {
        wrong(&reader, "nothing happens in it");
    }
    return reader.failed ? -EINVAL : 0;
}
