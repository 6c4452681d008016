/* The MIME parts of messages. */
#include "proto/message/structure.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static struct arena arena;

static int open_arena(void **state)
{
    (void)state;
    arena_open(&arena, 64u << 20);
    return 0;
}

static int close_arena(void **state)
{
    (void)state;
    arena_close(&arena);
    return 0;
}

/* The tree of a message that comes in pieces of `step` bytes. */
static struct message_part *tree_of(struct slice text, size_t step)
{
    struct structure structure;
    assert_int_equal(structure_open(&structure, &arena), 0);
    while (text.size > 0) {
        structure_feed(&structure, slice_first(text, step));
        text = slice_from(text, step);
    }
    return structure_finish(&structure);
}

static void print(char *out, size_t room, const char *format, struct slice text)
{
    size_t used = strlen(out);
    snprintf(out + used, room - used, format, (int)text.size, (const char *)text.bytes);
}

/* "type/subtype bytes lines", and in () what is in it. The whole of a multipart message has no numbers. */
static void describe(const struct message_part *part, char *out, size_t room)
{
    char sizes[64];
    print(out, room, "%.*s/", part->type);
    print(out, room, "%.*s", part->subtype);
    if (part->parent != NULL || part->kind != PART_MULTIPART) {
        snprintf(sizes, sizeof(sizes), " %llu %u", (unsigned long long)part->body_bytes,
                 part->body_lines);
        print(out, room, "%.*s", slice_text(sizes));
    }
    if (part->kind != PART_SINGLE) {
        print(out, room, "%.*s", slice_text(part->kind == PART_MESSAGE ? " [" : " ("));
        for (const struct message_part *child = part->children; child != NULL;
             child = child->next) {
            describe(child, out, room);
            print(out, room, "%.*s", slice_text(child->next != NULL ? ", " : ""));
        }
        print(out, room, "%.*s", slice_text(part->kind == PART_MESSAGE ? "]" : ")"));
    }
}

#define MIXED "Content-Type: multipart/mixed; boundary=b\r\n\r\n"

static const struct {
    const char *text, *tree;
} mails[] = {
    {"", "text/plain 0 0"},
    {"A: b\r\n", "text/plain 0 0"},
    {"A: b\r\n\r\n", "text/plain 0 0"},
    {"A: b\r\n\r\nx", "text/plain 1 0"},
    {"A: b\r\n\r\nx\r\ny\r\n", "text/plain 6 2"},
    {"A: b\n\nx\ny\n", "text/plain 4 2"},
    {"\r\nContent-Type: image/png\r\n", "text/plain 25 1"},
    {"Content-Type: IMAGE/png; x=y\r\n\r\nx", "IMAGE/png 1 0"},
    {"content-type:\r\n image (it is)\r\n / png\r\n\r\nx", "image/png 1 0"},
    {"Content-Type: image/png\r\nContent-Type: text/html\r\n\r\nx", "image/png 1 0"},
    /* What cannot be read */
    {"Content-Type: foo\r\n\r\nx", "foo/ 1 0"},
    {"Content-Type: text/\r\n\r\nx", "/ 1 0"},
    {"Content-Type: /plain\r\n\r\nx", "/ 1 0"},
    {"Content-Type:\r\n\r\nx", "/ 1 0"},
    /* Multipart */
    {MIXED "--b\r\n\r\nx\r\n--b\r\nContent-Type: text/html\r\n\r\ny\r\nz\r\n--b--\r\n",
     "multipart/mixed (text/plain 1 0, text/html 4 1)"},
    {MIXED "preamble\r\n--b\r\n\r\nx\r\n--b--\r\nepilogue\r\n--b\r\nmore",
     "multipart/mixed (text/plain 1 0)"},
    {"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n\n--b--\n",
     "multipart/mixed (text/plain 2 1)"},
    {"Content-Type: multipart/mixed; boundary=\"a b\"\r\n\r\n--a b\r\n\r\nx\r\n--a b--",
     "multipart/mixed (text/plain 1 0)"},
    {MIXED "--b\r\n\r\nx", "multipart/mixed (text/plain 1 0)"}, /* no end */
    {MIXED "--b", "multipart/mixed ()"},
    {MIXED "--b\r\n", "multipart/mixed (text/plain 0 0)"},
    {MIXED "x\r\n", "multipart/mixed ()"},
    {MIXED "--", "multipart/mixed ()"},
    {MIXED " --b\r\n-b\r\n", "multipart/mixed ()"},
    {"Content-Type: multipart/mixed\r\n\r\n--\r\nx", "multipart/mixed 5 1"},
    {"Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\nx", "multipart/mixed 5 1"},
    {MIXED "--b\r\n--b\r\nx\r\n--b--\r\n", "multipart/mixed (text/plain 0 0, text/plain 0 0)"},
    {MIXED "--b\r\nContent-Type: text/html\r\n--b\r\n\r\n\r\nx",
     "multipart/mixed (text/html 0 0, text/plain 3 1)"}, /* in the header */
    {MIXED "--b  \r\n\r\nx\r\n--bc\r\n\r\ny\r\n--b--  \r\nz",
     "multipart/mixed (text/plain 1 0, text/plain 1 0)"}, /* more behind it */
    {MIXED "--b\r\n\r\n\r\n--b--", "multipart/mixed (text/plain 0 0)"},
    {MIXED "--b\r\n\r\n\r\n\r\n--b--", "multipart/mixed (text/plain 2 1)"},
    /* One in the other */
    {MIXED "--b\r\nContent-Type: multipart/x; "
           "boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--\r\n\r\n--b\r\n\r\ny\r\n"
           "--b--\r\n",
     "multipart/mixed (multipart/x 17 4 (text/plain 1 0), text/plain 1 0)"},
    {MIXED "--b\r\nContent-Type: multipart/x; "
           "boundary=c\r\n\r\n--c\r\n\r\nx\r\n--b\r\n\r\ny\r\n--b--\r\n",
     "multipart/mixed (multipart/x 8 2 (text/plain 1 0), text/plain 1 0)"}, /* c has no end */
    {MIXED
     "--b\r\nContent-Type: multipart/x; boundary=bc\r\n\r\n--bc\r\n\r\nx\r\n--bc--\r\n--b--\r\n",
     "multipart/mixed (multipart/x 17 3 (text/plain 1 0))"}, /* the beginning of the other */
    {MIXED "--b\r\nContent-Type: multipart/x; "
           "boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n--b\r\n\r\ny\r\n--b--\r\n",
     "multipart/mixed (multipart/x 15 3 (text/plain 1 0), text/plain 1 0)"}, /* the same */
    {"Content-Type: multipart/x; boundary=\"b--\"\r\n\r\n--b--\r\nContent-Type: multipart/y; "
     "boundary=b\r\n\r\n"
     "--b\r\n\r\nx\r\n--b--\r\n--b----\r\n",
     "multipart/x (multipart/y 15 3 (text/plain 1 0))"}, /* the end of the inner, not the outer */
    /* Messages */
    {"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nb\r\n",
     "message/rfc822 17 3 [text/plain 3 1]"},
    {"Content-Type: message/global\r\n\r\nSubject: x", "message/global 10 0 [text/plain 0 0]"},
    {"Content-Type: message/rfc822\r\n", "message/rfc822 0 0 [text/plain 0 0]"},
    {"Content-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\nA: b\r\n\r\nx",
     "message/rfc822 41 4 [message/rfc822 9 2 [text/plain 1 0]]"},
    {"Content-Type: message/external-body\r\n\r\nx", "message/external-body 1 0"},
    {MIXED "--b\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: multipart/x; "
           "boundary=c\r\n\r\n--c\r\n\r\nx\r\n"
           "--b\r\n\r\n",
     "multipart/mixed (message/rfc822 49 4 [multipart/x 8 2 (text/plain 1 0)], text/plain 0 "
     "0)"},
    {MIXED "--b\r\nContent-Type: message/rfc822\r\n--b--",
     "multipart/mixed (message/rfc822 0 0 [text/plain 0 0])"},
    {MIXED "--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n--b--",
     "multipart/mixed (message/rfc822 12 1 [text/plain 0 0])"}, /* in the header of the message */
    {"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nFrom: x@y\r\n\r\nbody\r\n--b\r\n"
     "Content-Type: text/plain\r\n\r\nz\r\n--b--\r\n",
     "multipart/digest (message/rfc822 17 2 [text/plain 4 0], text/plain 1 0)"},
};

static void parts_are_found_whatever_pieces_a_message_comes_in(void **state)
{
    static const size_t steps[] = {SIZE_MAX, 1, 2, 3, 7, 16};
    (void)state;
    for (size_t i = 0; i < sizeof(mails) / sizeof(mails[0]); i++) {
        for (size_t j = 0; j < sizeof(steps) / sizeof(steps[0]); j++) {
            char tree[512] = "";
            const struct message_part *root = tree_of(slice_text(mails[i].text), steps[j]);
            describe(root, tree, sizeof(tree));
            assert_int_equal(root->body_offset + root->body_bytes, strlen(mails[i].text));
            assert_string_equal(tree, mails[i].tree);
        }
    }
}

static void offsets_lead_to_header_and_body(void **state)
{
    const char *text =
        MIXED "pre\r\n--b\r\nA: b\r\n\r\nbody\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"
              "Subject: s\r\n\r\ninner\r\n--b--\r\n";
    struct message_part *root = tree_of(slice_text(text), 5);
    (void)state;
    const struct message_part *first = root->children, *second = first->next;
    assert_int_equal(root->header_offset, 0);
    assert_int_equal(root->body_offset, strlen(MIXED));
    assert_memory_equal(text + first->header_offset, "A: b\r\n\r\nbody\r\n", 14);
    assert_memory_equal(text + first->body_offset, "body\r\n", 6);
    assert_memory_equal(text + second->header_offset, "Content-Type: m", 15);
    assert_memory_equal(text + second->body_offset, "Subject: s", 10);
    assert_int_equal(second->children->header_offset, second->body_offset);
    assert_memory_equal(text + second->children->body_offset, "inner\r\n", 7);
    assert_int_equal(second->children->body_bytes, 5);
    assert_int_equal(second->child_count, 1);
    assert_int_equal(root->child_count, 2);
    assert_ptr_equal(second->children->parent, second);
}

static void parameters_of(const char *text, char *out, size_t room)
{
    out[0] = '\0';
    for (const struct mime_parameter *parameter = mime_parameters(&arena, slice_text(text));
         parameter != NULL; parameter = parameter->next) {
        print(out, room, "%.*s=", parameter->name);
        print(out, room, "%.*s", parameter->value);
        print(out, room, "%.*s", slice_text(parameter->next != NULL ? "|" : ""));
    }
}

static void parameters_are_read_as_far_as_they_can_be(void **state)
{
    static const struct {
        const char *text, *found;
    } fields[] = {
        {"", ""},
        {"; a=b", "a=b"},
        {";a=b;C=D;", "a=b|C=D"},
        {" ; a = b (comment (in it)) ; c=d", "a=b|c=d"},
        {"; a=\"b; \\\"c\\\" d\"; e=\"\"", "a=b; \"c\" d|e="},
        {"; charset=", "charset="},
        {"; a; b=c", ""},
        {"; a=b c; d=e", "a=b"},
        {"; a=b; d=\"x", "a=b"},
        {"; a=b/c?d=e", "a=b/c?d=e"},
        {"; a=\303\274; b=\"\303\274\"", "a=\303\274|b=\303\274"},
        /* RFC 2231 §3, §4, §4.1 */
        {"; access-type=URL;\r\n URL*0=\"ftp://\";\r\n URL*1=\"cs.utk.edu/pub\"",
         "access-type=URL|URL=ftp://cs.utk.edu/pub"},
        {"; title*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A",
         "title*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A"},
        {"; title*0*=us-ascii'en'This%20is%20even%20more%20;\r\n "
         "title*1*=%2A%2A%2Afun%2A%2A%2A%20;\r\n"
         " title*2=\"isn't it!\"",
         "title*=us-ascii'en'This%20is%20even%20more%20%2A%2A%2Afun%2A%2A%2A%20isn't it!"},
        {"; a*1=2; a*0=1; b=3", "b=3|a=12"},
        {"; a*0=1; a*2=3", "a*0=1|a*2=3"},
        {"; b*1=2", "b*1=2"},
        {"; a*0=1; A*0=2", "a*0=1|A*0=2"},
        {"; a*x=1", "a*x=1"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        char found[256];
        parameters_of(fields[i].text, found, sizeof(found));
        assert_string_equal(found, fields[i].found);
    }
}

static void is(struct slice text, const char *expected)
{
    assert_true(text.bytes != NULL);
    assert_int_equal(text.size, strlen(expected));
    assert_memory_equal(text.bytes, expected, text.size);
}

static void fields_are_kept_in_one_line(void **state)
{
    const struct message_part *part = tree_of(
        slice_text(
            "Content-Type: text/plain; Charset=utf-8\r\nContent-ID: <a@b>\r\nContent-ID: <c@d>\r\n"
            "Content-Description: one\r\n  two\r\nContent-Transfer-Encoding: (x) BASE64\r\n"
            "Content-MD5: abc==\r\nContent-Location: http://x/ y\r\n"
            "Content-Disposition: inline\r\nContent-Disposition: attachment; filename*0=a; "
            "filename*1=b; size=3\r\n"
            "Content-Language: en, de (it)\r\nSubject: one\r\nsubject: two\r\n three\r\n\r\n"),
        SIZE_MAX);
    (void)state;
    is(part->id, "<a@b>");
    is(part->description, "one  two");
    is(part->encoding, "BASE64");
    is(part->md5, "abc==");
    is(part->location, "http://x/ y");
    is(part->disposition, "attachment");
    is(part->disposition_parameters->name, "size");
    is(part->disposition_parameters->next->name, "filename");
    is(part->disposition_parameters->next->value, "ab");
    is(part->languages->value, "en");
    is(part->languages->next->value, "de");
    assert_null(part->languages->next->next);
    is(part->envelope[ENVELOPE_SUBJECT]->value, "one");
    is(part->envelope[ENVELOPE_SUBJECT]->next->value, "two three");
    assert_null(part->envelope[ENVELOPE_FROM]);
    is(mime_parameter_find(part->parameters, "charset")->value, "utf-8");
    assert_null(part->parameters->next);
}

static void content_fields_need_a_mime_message(void **state)
{
    static const struct {
        const char *header, *encoding;
    } mails_of_kinds[] = {
        {"Content-Transfer-Encoding: base64\r\n\r\n", "7bit"},
        {"Content-Transfer-Encoding: base64\r\nMIME-Version: 1.0\r\n\r\n", "base64"},
        {"Content-Transfer-Encoding: base64\r\nContent-Type: a/b\r\n\r\n", "base64"},
    };
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        is(tree_of(slice_text(mails_of_kinds[i].header), 8)->encoding, mails_of_kinds[i].encoding);
    }
    is(tree_of(slice_text(MIXED "--b\r\nContent-Transfer-Encoding: base64\r\n\r\n"), 8)
           ->children->encoding,
       "base64");
}

static void what_is_not_said_has_a_default(void **state)
{
    const struct message_part *part =
        tree_of(slice_text("Content-Transfer-Encoding: a b\r\n\r\n"), 3);
    (void)state;
    is(part->encoding, "7bit");
    is(part->parameters->name, "charset");
    is(part->parameters->value, "us-ascii");
    assert_null(part->id.bytes);
    assert_null(part->disposition.bytes);
    assert_null(tree_of(slice_text("Content-Type: image/png\r\n\r\n"), 9)->parameters);
}

static size_t count_of(const struct message_part *part, unsigned *depth)
{
    size_t count = 1;
    *depth = part->depth > *depth ? part->depth : *depth;
    for (const struct message_part *child = part->children; child != NULL; child = child->next) {
        count += count_of(child, depth);
    }
    return count;
}

static void there_are_no_more_parts_than_the_limit(void **state)
{
    size_t lines = STRUCTURE_PARTS_MAX + 50, used = strlen(MIXED);
    char *text = malloc(used + lines * 7 + 1);
    unsigned depth = 0;
    (void)state;
    strcpy(text, MIXED);
    for (size_t i = 0; i < lines; i++, used += 7) {
        memcpy(text + used, "--b\r\n\r\n", 8);
    }
    const struct message_part *root = tree_of(slice_of(text, used), 4096);
    assert_int_equal(count_of(root, &depth), STRUCTURE_PARTS_MAX);
    assert_int_equal(root->body_offset + root->body_bytes, used);
    free(text);
}

static void below_the_deepest_level_a_part_is_one_piece(void **state)
{
    static const char line[] = "Content-Type: message/rfc822\r\n\r\n";
    char text[sizeof(line) * 150];
    size_t used = 0;
    unsigned depth = 0;
    (void)state;
    for (size_t i = 0; i < 140; i++, used += sizeof(line) - 1) {
        memcpy(text + used, line, sizeof(line));
    }
    const struct message_part *part = tree_of(slice_of(text, used), 100);
    assert_int_equal(count_of(part, &depth), STRUCTURE_DEPTH_MAX + 1);
    assert_int_equal(depth, STRUCTURE_DEPTH_MAX);
    while (part->children != NULL) {
        part = part->children;
    }
    is(part->type, "application");
    is(part->subtype, "octet-stream");
    assert_int_equal(part->body_bytes, (140 - STRUCTURE_DEPTH_MAX - 1) * (sizeof(line) - 1));
}

static void fields_behind_so_many_bytes_of_headers_are_not_seen(void **state)
{
    struct structure structure;
    char line[1025];
    (void)state;
    memset(line, 'x', sizeof(line));
    memcpy(line, "A: ", 3);
    memcpy(line + 1022, "\r\n", 3);
    assert_int_equal(structure_open(&structure, &arena), 0);
    structure_feed(&structure, slice_text("Subject: one\r\n"));
    for (size_t i = 0; i <= STRUCTURE_HEADERS_BYTES_MAX / 1024; i++) {
        structure_feed(&structure, slice_text(line));
    }
    structure_feed(&structure, slice_text("Subject: two\r\n\r\nbody"));
    const struct message_part *root = structure_finish(&structure);
    is(root->envelope[ENVELOPE_SUBJECT]->value, "one");
    assert_null(root->envelope[ENVELOPE_SUBJECT]->next);
    assert_int_equal(root->body_bytes, 4);
}

static void a_boundary_is_found_beside_those_that_begin_alike(void **state)
{
    char text[16384], boundary[32];
    size_t used = 0, depth = 90;
    (void)state;
    for (size_t i = 0; i < depth; i++) {
        snprintf(boundary, sizeof(boundary), "%.*s%02zu", (int)(i % 12), "aaaaaaaaaaaa", i);
        used +=
            (size_t)sprintf(text + used, "Content-Type: multipart/x; boundary=%s\r\n\r\n--%s\r\n",
                            boundary, boundary);
    }
    used += (size_t)sprintf(text + used, "\r\nx\r\n--a\r\n--\r\n");
    for (size_t i = depth; i-- > 0;) {
        used +=
            (size_t)sprintf(text + used, "\r\n--%.*s%02zu--\r\n", (int)(i % 12), "aaaaaaaaaaaa", i);
    }
    const struct message_part *part = tree_of(slice_of(text, used), 100);
    for (size_t i = 0; i < depth; i++, part = part->children) {
        assert_true(part->boundary_over);
        assert_int_equal(part->child_count, 1);
    }
    assert_int_equal(part->body_bytes, 12);
}

static void a_long_field_is_cut_and_a_full_arena_ends_the_search(void **state)
{
    size_t size = 200000;
    char *text = malloc(size);
    (void)state;
    memset(text, 'x', size);
    memcpy(text, "Subject: ", 9);
    const struct message_part *root = tree_of(slice_of(text, size), 1000);
    assert_int_equal(root->envelope[ENVELOPE_SUBJECT]->value.size, STRUCTURE_FIELD_BYTES_MAX - 9);
    free(text);

    struct arena small;
    struct structure structure;
    arena_open(&small, 2048);
    assert_int_equal(structure_open(&structure, &small), 0);
    structure_feed(&structure, slice_text(MIXED));
    for (size_t i = 0; i < 100; i++) {
        structure_feed(&structure, slice_text("--b\r\nContent-ID: x\r\n\r\nx\r\n"));
    }
    root = structure_finish(&structure);
    assert_true(root->child_count > 0 && root->child_count < 20);
    assert_int_equal(root->body_bytes, 2500);
    arena_close(&small);
    arena_open(&small, 16);
    assert_int_not_equal(structure_open(&structure, &small), 0);
    arena_close(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_are_found_whatever_pieces_a_message_comes_in),
        cmocka_unit_test(offsets_lead_to_header_and_body),
        cmocka_unit_test(parameters_are_read_as_far_as_they_can_be),
        cmocka_unit_test(fields_are_kept_in_one_line),
        cmocka_unit_test(content_fields_need_a_mime_message),
        cmocka_unit_test(what_is_not_said_has_a_default),
        cmocka_unit_test(there_are_no_more_parts_than_the_limit),
        cmocka_unit_test(below_the_deepest_level_a_part_is_one_piece),
        cmocka_unit_test(fields_behind_so_many_bytes_of_headers_are_not_seen),
        cmocka_unit_test(a_boundary_is_found_beside_those_that_begin_alike),
        cmocka_unit_test(a_long_field_is_cut_and_a_full_arena_ends_the_search),
    };
    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
