#include "proto/message/subject.h"

static bool begins(struct slice text, const char *beginning)
{
    return text.size > 0 &&
           slice_equal_nocase(slice_first(text, strlen(beginning)), slice_text(beginning));
}

static bool ends(struct slice text, const char *end)
{
    size_t size = strlen(end);
    return text.size >= size &&
           slice_equal_nocase(slice_from(text, text.size - size), slice_text(end));
}

/* Tabs become blanks, several blanks one (step 1). */
static size_t blanks_unite(uint8_t *text, size_t size)
{
    size_t kept = 0;
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = text[i] == '\t' || text[i] == '\r' || text[i] == '\n' ? ' ' : text[i];
        if (byte != ' ' || kept == 0 || text[kept - 1] != ' ') {
            text[kept++] = byte;
        }
    }
    return kept;
}

static void trailer_drop(struct slice *text, bool *is_reply)
{
    while (true) {
        if (ends(*text, " ")) {
            text->size--;
        } else if (ends(*text, "(fwd)")) {
            text->size -= 5;
            *is_reply = true;
        } else {
            return;
        }
    }
}

/* "[...]" and the blanks behind it; 0: none, or text without an end. */
static size_t blob_size(struct slice text)
{
    size_t i = 1;
    if (text.size == 0 || text.bytes[0] != '[') {
        return 0;
    }
    while (i < text.size && text.bytes[i] != '[' && text.bytes[i] != ']') {
        i++;
    }
    if (i >= text.size || text.bytes[i] != ']') {
        return 0;
    }
    i++;
    while (i < text.size && text.bytes[i] == ' ') {
        i++;
    }
    return i;
}

/* subj-refwd: "re: ", "fw [blob] :". 0: none. */
static size_t refwd_size(struct slice text)
{
    size_t at = begins(text, "fwd") ? 3 : begins(text, "re") || begins(text, "fw") ? 2 : 0;
    if (at == 0) {
        return 0;
    }
    while (at < text.size && text.bytes[at] == ' ') {
        at++;
    }
    at += blob_size(slice_from(text, at));
    return at < text.size && text.bytes[at] == ':' ? at + 1 : 0;
}

/* "[a] [b]" at the start; *last: where the last of them begins. */
static size_t blobs_size(struct slice text, size_t *last)
{
    size_t at = 0, blob;
    *last = 0;
    while ((blob = blob_size(slice_from(text, at))) > 0) {
        *last = at;
        at += blob;
    }
    return at;
}

/* Steps 3 to 5: what stands in front. */
static void leaders_drop(struct slice *text, bool *is_reply)
{
    while (true) {
        size_t last, blobs, refwd;
        while (begins(*text, " ")) {
            *text = slice_from(*text, 1);
        }
        blobs = blobs_size(*text, &last);
        refwd = refwd_size(slice_from(*text, blobs));
        if (refwd == 0) {
            /* The last one stays when there is nothing else. */
            *text = slice_from(*text, blobs < text->size ? blobs : last);
            return;
        }
        *is_reply = true;
        *text = slice_from(*text, blobs + refwd);
    }
}

struct slice subject_base(uint8_t *text, size_t size, bool *is_reply)
{
    struct slice base = slice_of(text, blanks_unite(text, size));
    *is_reply = false;
    while (true) {
        trailer_drop(&base, is_reply);
        leaders_drop(&base, is_reply);
        if (!begins(base, "[fwd:") || !ends(base, "]") || base.size < 6) {
            return base;
        }
        base = slice_of(base.bytes + 5, base.size - 6);
        *is_reply = true;
    }
}
