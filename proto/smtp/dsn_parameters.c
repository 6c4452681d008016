#include "proto/smtp/dsn_parameters.h"
#include "proto/message/utf8.h"
#include <stdio.h>

static bool is_visible(uint8_t byte)
{
    return byte > ' ' && byte < 0x7f;
}

/* Upper case only (§4: hexchar). -1: none. */
static int hex_value(uint8_t byte)
{
    if (byte >= '0' && byte <= '9') {
        return byte - '0';
    }
    return byte >= 'A' && byte <= 'F' ? byte - 'A' + 10 : -1;
}

/* One character of xtext: what it stands for; *used: its bytes. -1: it is none. */
static int xtext_next(struct slice text, size_t *used)
{
    uint8_t byte = text.bytes[0];
    *used = 1;
    if (byte != '+') {
        return is_visible(byte) && byte != '=' ? byte : -1;
    }
    int high = text.size >= 3 ? hex_value(text.bytes[1]) : -1;
    int low = text.size >= 3 ? hex_value(text.bytes[2]) : -1;
    *used = 3;
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

int smtp_xtext_decode(struct slice text, uint8_t *bytes)
{
    int count = 0;
    for (size_t used; text.size > 0; text = slice_from(text, used)) {
        int byte = xtext_next(text, &used);
        if (byte < 0) {
            return -1;
        }
        bytes[count++] = (uint8_t)byte;
    }
    return count;
}

size_t smtp_xtext_encode(struct slice bytes, char *text, size_t room)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t size = 0;
    for (size_t i = 0; i < bytes.size; i++) {
        uint8_t byte = bytes.bytes[i];
        size += is_visible(byte) && byte != '+' && byte != '=' ? 1 : 3;
    }
    if (size > room) {
        return size;
    }
    for (size_t i = 0; i < bytes.size; i++) {
        uint8_t byte = bytes.bytes[i];
        if (is_visible(byte) && byte != '+' && byte != '=') {
            *text++ = (char)byte;
        } else {
            *text++ = '+';
            *text++ = digits[byte >> 4];
            *text++ = digits[byte & 15];
        }
    }
    return size;
}

/* RFC 6533 §3: utf-8-addr-xtext. */
static size_t utf8_encode(struct slice mailbox, char *text, size_t room)
{
    size_t size = 0;
    for (size_t bytes; mailbox.size > 0; mailbox = slice_from(mailbox, bytes)) {
        char escaped[16];
        uint8_t first = mailbox.bytes[0];
        bytes = utf8_printable(mailbox);
        uint32_t character = bytes <= 1 ? first : first & (0x7fu >> bytes);
        for (size_t i = 1; i < bytes; i++) {
            character = character << 6 | (mailbox.bytes[i] & 0x3f);
        }
        bool plain = bytes == 1 && is_visible(first) && strchr("+=\\", first) == NULL;
        int count = snprintf(escaped, sizeof(escaped), plain ? "%c" : "\\x{%02X}", character);
        if (bytes == 0 || (size_t)count > room - size) {
            return 0;
        }
        memcpy(text + size, escaped, (size_t)count);
        size += (size_t)count;
    }
    return size;
}

size_t smtp_orcpt_make(struct slice mailbox, char orcpt[SMTP_ORCPT_BYTES_MAX])
{
    bool ascii = true;
    for (size_t i = 0; i < mailbox.size; i++) {
        ascii = ascii && mailbox.bytes[i] < 0x80;
    }
    struct slice type = slice_text(ascii ? "rfc822;" : "utf-8;");
    char *text = orcpt + type.size;
    size_t room = SMTP_ORCPT_BYTES_MAX - type.size;
    size_t size = ascii ? smtp_xtext_encode(mailbox, text, room) : utf8_encode(mailbox, text, room);
    if (size == 0 || size > room) {
        return 0;
    }
    memcpy(orcpt, type.bytes, type.size);
    return type.size + size;
}

bool smtp_ret_parse(struct slice value, uint8_t *ret)
{
    *ret = slice_equal_nocase(value, slice_text("FULL"))   ? SMTP_RET_FULL
           : slice_equal_nocase(value, slice_text("HDRS")) ? SMTP_RET_HDRS
                                                           : SMTP_RET_NONE;
    return *ret != SMTP_RET_NONE;
}

static uint8_t notify_word(struct slice word)
{
    static const struct {
        const char *word;
        uint8_t notify;
    } words[] = {{"NEVER", SMTP_NOTIFY_NEVER},
                 {"SUCCESS", SMTP_NOTIFY_SUCCESS},
                 {"FAILURE", SMTP_NOTIFY_FAILURE},
                 {"DELAY", SMTP_NOTIFY_DELAY}};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (slice_equal_nocase(word, slice_text(words[i].word))) {
            return words[i].notify;
        }
    }
    return 0;
}

bool smtp_notify_parse(struct slice value, uint8_t *notify)
{
    *notify = 0;
    for (;;) {
        const uint8_t *comma = value.size > 0 ? memchr(value.bytes, ',', value.size) : NULL;
        size_t size = comma != NULL ? (size_t)(comma - value.bytes) : value.size;
        uint8_t word = notify_word(slice_first(value, size));
        if (word == 0 || (*notify & word) != 0) {
            return false;
        }
        *notify |= word;
        if (comma == NULL) {
            return (*notify & SMTP_NOTIFY_NEVER) == 0 || *notify == SMTP_NOTIFY_NEVER;
        }
        value = slice_from(value, size + 1);
    }
}

const char *smtp_notify_text(uint8_t notify)
{
    static const char *const texts[] = {
        "",
        "NEVER",
        "SUCCESS",
        "NEVER",
        "FAILURE",
        "NEVER",
        "SUCCESS,FAILURE",
        "NEVER",
        "DELAY",
        "NEVER",
        "SUCCESS,DELAY",
        "NEVER",
        "FAILURE,DELAY",
        "NEVER",
        "SUCCESS,FAILURE,DELAY",
        "NEVER",
    };
    return texts[notify & 15];
}

/* §4.4: what it stands for must be printable ASCII. */
bool smtp_envid_valid(struct slice value)
{
    if (value.size == 0 || value.size > SMTP_ENVID_BYTES_MAX) {
        return false;
    }
    for (size_t used; value.size > 0; value = slice_from(value, used)) {
        int byte = xtext_next(value, &used);
        if (byte < ' ' || byte >= 0x7f) {
            return false;
        }
    }
    return true;
}

/* RFC 5321 §4.1.2: Atom. */
static bool is_atom(struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.bytes[i];
        if (!is_visible(byte) || strchr("()<>[]:;@\\,.\"", byte) != NULL) {
            return false;
        }
    }
    return text.size > 0;
}

void smtp_orcpt_split(struct slice value, struct slice *type, struct slice *xtext)
{
    const uint8_t *semicolon = value.size > 0 ? memchr(value.bytes, ';', value.size) : NULL;
    size_t size = semicolon != NULL ? (size_t)(semicolon - value.bytes) : value.size;
    *type = slice_first(value, size);
    *xtext = semicolon != NULL ? slice_from(value, size + 1) : slice_of(NULL, 0);
}

bool smtp_orcpt_valid(struct slice value, bool utf8)
{
    struct slice type, text;
    smtp_orcpt_split(value, &type, &text);
    if (value.size > SMTP_ORCPT_BYTES_MAX || !is_atom(type) || text.size == 0) {
        return false;
    }
    utf8 = utf8 && slice_equal_nocase(type, slice_text("utf-8"));
    for (size_t used; text.size > 0; text = slice_from(text, used)) {
        if (utf8 && text.bytes[0] >= 0x80) {
            used = utf8_printable(text);
            if (used == 0) {
                return false;
            }
        } else if (xtext_next(text, &used) < ' ') { /* it goes into a report's header */
            return false;
        }
    }
    return true;
}
