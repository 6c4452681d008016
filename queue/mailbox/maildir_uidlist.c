#include "queue/mailbox/maildir_uidlist.h"
#include "engine/core/check.h"
#include <errno.h>
#include <stdlib.h>

void maildir_uidlist_open(struct maildir_uidlist *list)
{
    *list = (struct maildir_uidlist){.uid_next = 1, .others = "", .file = -1, .version = 3};
    arena_open(&list->text, MAILDIR_UIDLIST_BYTES_MAX);
}

void maildir_uidlist_close(struct maildir_uidlist *list, const struct maildir_files *files)
{
    if (list->file >= 0) {
        files->close(files->self, list->file);
    }
    arena_close(&list->text);
    free(list->uids);
    free(list->table);
    maildir_uidlist_open(list);
}

/* ---- by base ---- */

/* Names are given by those who deliver, not by peers: no key is needed. */
static uint64_t hash_of(struct slice base)
{
    uint64_t hash = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < base.size; i++) {
        hash = (hash ^ base.bytes[i]) * 0x100000001b3ull;
    }
    return hash ^ hash >> 32;
}

/* Its place in the table, or the free one where it would be. */
static size_t place_of(const struct maildir_uidlist *list, struct slice base)
{
    size_t place = hash_of(base) & (list->table_room - 1);
    while (list->table[place] != 0 &&
           !slice_equal(slice_text(list->uids[list->table[place] - 1].base), base)) {
        place = (place + 1) & (list->table_room - 1);
    }
    return place;
}

static int table_fill(struct maildir_uidlist *list, size_t room)
{
    uint32_t *table = calloc(room, sizeof *table);
    if (table == NULL) {
        return -ENOMEM;
    }
    free(list->table);
    list->table = table;
    list->table_room = room;
    list->table_used = 0;
    for (size_t i = 0; i < list->count; i++) {
        table[place_of(list, slice_text(list->uids[i].base))] = (uint32_t)i + 1;
        list->table_used++;
    }
    return 0;
}

struct maildir_uid *maildir_uidlist_find(const struct maildir_uidlist *list, struct slice base)
{
    if (list->table_room == 0) {
        return NULL;
    }
    uint32_t index = list->table[place_of(list, base)];
    return index == 0 ? NULL : &list->uids[index - 1];
}

struct maildir_uid *maildir_uidlist_find_uid(const struct maildir_uidlist *list, uint32_t uid)
{
    size_t low = 0, high = list->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (list->uids[middle].uid < uid) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < list->count && list->uids[low].uid == uid ? &list->uids[low] : NULL;
}

static int room_make(struct maildir_uidlist *list)
{
    if (list->count == list->room) {
        size_t room = list->room == 0 ? 64 : list->room * 2;
        struct maildir_uid *uids = realloc(list->uids, room * sizeof *uids);
        if (uids == NULL) {
            return -ENOMEM;
        }
        list->uids = uids;
        list->room = room;
    }
    if (list->table_used * 2 >= list->table_room) {
        return table_fill(list, list->table_room == 0 ? 128 : list->table_room * 2);
    }
    return 0;
}

static const char *text_copy(struct maildir_uidlist *list, struct slice text)
{
    if (text.size == 0) {
        return "";
    }
    char *copy = arena_take(&list->text, text.size + 1);
    if (copy != NULL) {
        memcpy(copy, text.bytes, text.size);
    }
    return copy;
}

static int append(struct maildir_uidlist *list, uint32_t uid, struct slice base,
                  struct slice fields)
{
    int status = room_make(list);
    if (status < 0) {
        return status;
    }
    struct maildir_uid entry = {
        .uid = uid, .base = text_copy(list, base), .fields = text_copy(list, fields)};
    if (entry.base == NULL || entry.fields == NULL) {
        return list->text.bytes > MAILDIR_UIDLIST_BYTES_MAX / 2 ? -EFBIG : -ENOMEM;
    }
    size_t place = place_of(list, base);
    struct maildir_uid *earlier =
        list->table[place] == 0 ? NULL : &list->uids[list->table[place] - 1];
    list->uids[list->count] = entry;
    list->table[place] = (uint32_t)++list->count;
    if (earlier != NULL) { /* its last UID is the one it has */
        earlier->base = "";
        earlier->presence = MAILDIR_GONE;
        list->must_rewrite = true;
    } else {
        list->table_used++;
    }
    return 0;
}

int maildir_uidlist_add(struct maildir_uidlist *list, struct slice base)
{
    if (list->uid_next == UINT32_MAX) {
        return -EOVERFLOW;
    }
    int status = append(list, list->uid_next, base, slice_of(NULL, 0));
    list->uid_next += status == 0;
    return status;
}

void maildir_uidlist_drop_gone(struct maildir_uidlist *list)
{
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++) {
        if (list->uids[i].presence != MAILDIR_GONE) {
            list->uids[kept++] = list->uids[i];
        }
    }
    list->count = kept;
    if (list->table_room > 0) {
        memset(list->table, 0, list->table_room * sizeof *list->table);
        list->table_used = kept;
        for (size_t i = 0; i < kept; i++) {
            list->table[place_of(list, slice_text(list->uids[i].base))] = (uint32_t)i + 1;
        }
    }
}

/* ---- reading ---- */

static size_t find(struct slice text, uint8_t byte)
{
    const uint8_t *found = text.size == 0 ? NULL : memchr(text.bytes, byte, text.size);
    return found == NULL ? text.size : (size_t)(found - text.bytes);
}

static struct slice word_take(struct slice *line)
{
    struct slice word = slice_first(*line, find(*line, ' '));
    *line = slice_from(*line, word.size);
    while (line->size > 0 && line->bytes[0] == ' ') {
        *line = slice_from(*line, 1);
    }
    return word;
}

/* All of it is digits and fits; else UINT64_MAX. */
static uint64_t number_of(struct slice text, uint64_t most)
{
    uint64_t number = 0;
    for (size_t i = 0; i < text.size; i++) {
        unsigned digit = text.bytes[i] - (unsigned)'0';
        if (digit > 9 || number > (most - digit) / 10) {
            return UINT64_MAX;
        }
        number = number * 10 + digit;
    }
    return text.size == 0 ? UINT64_MAX : number;
}

uint64_t maildir_uid_field(const struct maildir_uid *uid, char key)
{
    struct slice fields = slice_text(uid->fields);
    while (fields.size > 0) {
        struct slice field = word_take(&fields);
        if (field.size > 0 && field.bytes[0] == (uint8_t)key) {
            return number_of(slice_from(field, 1), UINT64_MAX - 1);
        }
    }
    return UINT64_MAX;
}

static bool guid_read(struct maildir_uidlist *list, struct slice guid)
{
    for (size_t i = 0; i < guid.size; i++) {
        bool hex = (guid.bytes[i] >= '0' && guid.bytes[i] <= '9') ||
                   (guid.bytes[i] >= 'a' && guid.bytes[i] <= 'f');
        if (!hex) {
            return false;
        }
    }
    if (guid.size == 32) {
        memcpy(list->guid, guid.bytes, 32);
        list->guid[32] = 0;
    }
    return guid.size == 32;
}

static int header3_read(struct maildir_uidlist *list, struct slice line, uint64_t *validity,
                        uint64_t *next)
{
    char others[MAILDIR_UIDLIST_LINE_MAX];
    size_t used = 0;
    while (line.size > 0) {
        struct slice field = word_take(&line), value = slice_from(field, 1);
        if (field.size == 0) {
            continue;
        }
        switch (field.bytes[0]) {
        case 'V':
            *validity = number_of(value, UINT32_MAX);
            break;
        case 'N':
            *next = number_of(value, UINT32_MAX);
            break;
        case 'G':
            list->must_rewrite = !guid_read(list, value) || list->must_rewrite;
            break;
        default:
            others[used] = ' ';
            memcpy(others + used + 1, field.bytes, field.size);
            used += 1 + field.size;
        }
    }
    list->others = text_copy(list, slice_of(others, used));
    return list->others == NULL ? -ENOMEM : 0;
}

static int header_read(struct maildir_uidlist *list, struct slice line)
{
    uint64_t validity = 0, next = 0;
    if (line.size < 2 || line.size > MAILDIR_UIDLIST_LINE_MAX - 2 || line.bytes[1] != ' ') {
        return -EBADMSG;
    }
    list->version = line.bytes[0] - (unsigned)'0';
    line = slice_from(line, 2);
    int status = 0;
    if (list->version == 1) {
        validity = number_of(word_take(&line), UINT32_MAX);
        next = number_of(word_take(&line), UINT32_MAX);
        list->must_rewrite = true;
    } else if (list->version == 3) {
        status = header3_read(list, line, &validity, &next);
    }
    if (status < 0 || validity == 0 || next == 0 || validity > UINT32_MAX || next > UINT32_MAX) {
        return status < 0 ? status : -EBADMSG;
    }
    /* What we know to have been given is not given again, whatever the header says. */
    bool lower = validity == list->uidvalidity && next < list->uid_next;
    list->uid_next = lower ? list->uid_next : (uint32_t)next;
    list->uidvalidity = (uint32_t)validity;
    list->must_rewrite = list->must_rewrite || list->guid[0] == 0;
    list->header_read = true;
    return 0;
}

/* The fields in front of the ':', those that can be none left off. */
static struct slice fields_read(struct maildir_uidlist *list, struct slice *line,
                                char out[MAILDIR_UIDLIST_LINE_MAX])
{
    size_t used = 0;
    while (line->size > 0 && line->bytes[0] != ':') {
        struct slice field = word_take(line);
        if (field.bytes[0] < 'A' || field.bytes[0] > 'Z') {
            list->must_rewrite = true;
            continue;
        }
        if (used > 0) {
            out[used++] = ' ';
        }
        memcpy(out + used, field.bytes, field.size);
        used += field.size;
    }
    *line = slice_from(*line, 1);
    return slice_of(out, used);
}

/* 0, -ENOMEM, -EFBIG; -EINVAL: damaged. */
static int line_read(struct maildir_uidlist *list, struct slice line)
{
    char text[MAILDIR_UIDLIST_LINE_MAX];
    struct slice fields = slice_of(NULL, 0);
    bool whole = line.size < sizeof text && find(line, 0) == line.size;
    size_t digits = find(line, ' ');
    uint64_t uid = number_of(slice_first(line, digits), UINT32_MAX - 1);
    if (!whole || digits == line.size || uid == 0 || uid > UINT32_MAX || uid <= list->line_uid) {
        return -EINVAL;
    }
    word_take(&line);
    if (list->version == 3) {
        fields = fields_read(list, &line, text);
    }
    struct slice base = slice_first(line, find(line, ':'));
    if (base.size == 0 || find(base, '/') < base.size) {
        return -EINVAL;
    }
    int status = append(list, (uint32_t)uid, base, fields);
    if (status == 0) {
        list->line_uid = (uint32_t)uid;
        list->uid_next = list->uid_next > uid ? list->uid_next : (uint32_t)uid + 1;
    }
    return status;
}

ssize_t maildir_uidlist_take(struct maildir_uidlist *list, struct slice text)
{
    size_t taken = 0;
    for (;;) {
        struct slice rest = slice_from(text, taken);
        struct slice line = slice_first(rest, find(rest, '\n'));
        if (line.size == rest.size) {
            return (ssize_t)taken;
        }
        int status = list->header_read ? line_read(list, line) : header_read(list, line);
        if (status == -EINVAL) {
            list->damaged++;
            list->must_rewrite = true;
        } else if (status < 0) {
            return status;
        }
        taken += line.size + 1;
    }
}
