/*
 * GETMETADATA and SETMETADATA (RFC 5464), and what LIST returns of METADATA (RFC 9590).
 *
 * An entry is a property of the mailbox, or of the user where the server is asked: "metadata/USER/private/..." is what
 * this user alone sees, "metadata//shared/..." what all see. No user's name has a slash in it. A value has a byte in
 * front, so that an empty one is one.
 */
#include "engine/mailbox/imap_session.h"
#include "engine/core/check.h"
#include <stdlib.h>

#define FAMILY "metadata/"
#define NAME_BYTES_MAX 256u          /* of an entry; longer: NO [LIMIT] */
#define VALUE_BYTES_MAX (16u * 1024) /* larger: NO [METADATA MAXSIZE 16384] */
#define ENTRIES_MAX 100u /* of a mailbox for one user, and of it for all: NO [METADATA TOOMANY] */
#define ASKED_MAX 256u   /* entries in one command; more: NO [METADATA TOOMANY] */
#define LINE_BYTES (64u * 1024)   /* then another response begins */
#define LINE_BYTES_MAX (4u << 20) /* holds all entries there may be */
static_assert(ASKED_MAX <= MAILSTORE_PROPERTIES_MAX, "one change must take them");
static_assert(2 * ENTRIES_MAX * (VALUE_BYTES_MAX + NAME_BYTES_MAX + 32) + LINE_BYTES <
                  LINE_BYTES_MAX,
              "what one entry with DEPTH infinity names must fit in a response");

/* ---- Names ---- */

static bool begins(struct slice text, struct slice prefix)
{
    return text.size >= prefix.size && memcmp(text.bytes, prefix.bytes, prefix.size) == 0;
}

/* Small letters: "/shared/Comment" is "/shared/comment". False: too long. */
static bool entry_canonical(struct slice asked, char entry[NAME_BYTES_MAX], struct slice *name)
{
    if (asked.size > NAME_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < asked.size; i++) {
        uint8_t byte = asked.bytes[i];
        entry[i] = (char)(byte >= 'A' && byte <= 'Z' ? byte + ('a' - 'A') : byte);
    }
    *name = slice_of(entry, asked.size);
    return true;
}

static bool is_private(struct slice asked)
{
    struct slice root = slice_text("/private");
    return slice_equal_nocase(slice_first(asked, root.size), root) &&
           (asked.size == root.size || asked.bytes[root.size] == '/');
}

static bool is_shared(struct slice asked)
{
    struct slice root = slice_text("/shared");
    return slice_equal_nocase(slice_first(asked, root.size), root) &&
           (asked.size == root.size || asked.bytes[root.size] == '/');
}

/* "/private", "/shared": what can be asked for with DEPTH only. */
static bool is_root(struct slice asked)
{
    return slice_equal_nocase(asked, slice_text("/private")) ||
           slice_equal_nocase(asked, slice_text("/shared"));
}

/* The key of a property. Its first *prefix_bytes are not the entry's name. */
static struct slice key_of(const struct imap_session *session, struct slice name,
                           char key[MAILSTORE_PROPERTY_KEY_BYTES_MAX], size_t *prefix_bytes)
{
    struct slice user = is_private(name) ? slice_text(session->user->name) : slice_of(NULL, 0);
    size_t size = sizeof(FAMILY) - 1;
    check(size + user.size + name.size <= MAILSTORE_PROPERTY_KEY_BYTES_MAX);
    memcpy(key, FAMILY, size);
    if (user.size > 0) {
        memcpy(key + size, user.bytes, user.size);
    }
    *prefix_bytes = size + user.size;
    memcpy(key + *prefix_bytes, name.bytes, name.size);
    return slice_of(key, *prefix_bytes + name.size);
}

bool imap_metadata_entry(const struct imap_session *session, struct slice key, struct slice *entry)
{
    struct slice family = slice_text(FAMILY), user = slice_text(session->user->name);
    if (!begins(key, family)) {
        return false;
    }
    struct slice rest = slice_from(key, family.size);
    *entry = begins(rest, user) ? slice_from(rest, user.size) : slice_of(NULL, 0);
    if (is_private(*entry)) {
        return true;
    }
    *entry = rest;
    return is_shared(rest);
}

/* ---- Entries that are not kept as such ---- */

static const uint32_t uses[] = {IMAP_USE_ARCHIVE, IMAP_USE_DRAFTS, IMAP_USE_JUNK,
                                IMAP_USE_SENT,    IMAP_USE_TRASH,  IMAP_USE_IMPORTANT};
#define USES (sizeof(uses) / sizeof(uses[0]))

/* "\Sent \Junk". Returns its size; 0: it has none. */
static size_t special_use_text(const struct mailstore_box *box, char text[128])
{
    size_t size = 0;
    for (size_t i = 0; i < USES; i++) {
        if (box->special_use & uses[i]) {
            struct slice word = imap_special_use_word(uses[i]);
            check(size + word.size + 1 < 128);
            text[size] = ' ';
            size += size > 0;
            memcpy(text + size, word.bytes, word.size);
            size += word.size;
        }
    }
    return size;
}

/* False: there is such a word that no mailbox here can be used for. */
static bool special_use_read(struct slice text, uint32_t *bits)
{
    *bits = 0;
    while (text.size > 0) {
        const uint8_t *blank = (const uint8_t *)memchr(text.bytes, ' ', text.size);
        struct slice word =
            slice_first(text, blank != NULL ? (size_t)(blank - text.bytes) : text.size);
        text = slice_from(text, word.size + 1);
        uint32_t use = 0;
        for (size_t i = 0; i < USES; i++) {
            use |= slice_equal_nocase(word, imap_special_use_word(uses[i])) ? uses[i] : 0;
        }
        if (use == 0 && word.size > 0) {
            return false;
        }
        *bits |= use;
    }
    return true;
}

/* ---- GETMETADATA ---- */

struct found { /* what is written of the entries that one name stands for */
    struct imap_session *session;
    struct imap_writer *writer;
    const struct imap_metadata *metadata;
    struct mailstore_box *box; /* NULL: the server */
    struct slice name;
    size_t prefix_bytes;
    bool began;       /* "* METADATA x (" is there */
    bool any;         /* something was there, or too long */
    uint32_t longest; /* what MAXSIZE has left out */
};

static void found_begin(struct found *found)
{
    imap_write(found->writer, found->began ? " " : "* METADATA ");
    if (!found->began) {
        if (found->box != NULL) {
            imap_box_name_write(found->session, found->writer, found->box);
        } else {
            imap_write(found->writer, "\"\"");
        }
        imap_write(found->writer, " (");
    }
    found->began = true;
}

static void value_write(struct found *found, struct slice name, struct slice value)
{
    const struct imap_metadata *metadata = found->metadata;
    found->any = true;
    if (metadata->size_max_given && value.size > metadata->size_max) {
        found->longest = value.size > found->longest ? (uint32_t)value.size : found->longest;
        return;
    }
    found_begin(found);
    imap_write_astring(found->writer, name);
    imap_write(found->writer, " ");
    if (value.size > 0 && memchr(value.bytes, 0, value.size) != NULL) {
        imap_write_literal8_head(found->writer, value.size);
        imap_write_bytes(found->writer, value);
    } else {
        imap_write_string(found->writer, value);
    }
}

/* Does the name stand for this entry, too? */
static bool reaches(const struct found *found, struct slice entry)
{
    struct slice name = found->name;
    if (slice_equal(entry, name)) {
        return true;
    }
    if (found->metadata->depth == IMAP_DEPTH_0 || !begins(entry, name) ||
        entry.bytes[name.size] != '/') {
        return false;
    }
    struct slice below = slice_from(entry, name.size + 1);
    return found->metadata->depth == IMAP_DEPTH_INFINITY ||
           memchr(below.bytes, '/', below.size) == NULL;
}

static void entry_visit(void *owner, struct slice key, struct slice value)
{
    struct found *found = (struct found *)owner;
    struct slice entry = slice_from(key, found->prefix_bytes);
    if (reaches(found, entry) && value.size > 0) {
        value_write(found, entry, slice_from(value, 1));
    }
}

static void unkept_write(struct found *found)
{
    char text[128];
    struct slice special_use = slice_text(IMAP_METADATA_SPECIAL_USE);
    bool own = found->box != NULL && found->box->user == found->session->user;
    if (own && reaches(found, special_use)) {
        size_t size = special_use_text(found->box, text);
        if (size > 0) {
            value_write(found, special_use, slice_of(text, size));
        }
    }
    const struct mailboxd_conf *conf = found->session->session.mailbox->conf;
    const struct {
        const char *name, *value;
    } of_server[] = {{"/shared/admin", conf->imap.server_admin},
                     {"/shared/comment", conf->imap.server_comment}};
    for (size_t i = 0; found->box == NULL && i < sizeof(of_server) / sizeof(of_server[0]); i++) {
        struct slice name = slice_text(of_server[i].name);
        if (of_server[i].value != NULL && reaches(found, name)) {
            value_write(found, name, slice_text(of_server[i].value));
        }
    }
}

/* 0, -EIO, -ENOMEM. */
static int name_write(struct found *found, struct slice asked)
{
    char key[MAILSTORE_PROPERTY_KEY_BYTES_MAX], entry[NAME_BYTES_MAX];
    struct mailstore_property property = {.box = found->box};
    int status = 0;
    found->any = false;
    if (entry_canonical(asked, entry, &found->name)) {
        property.key = key_of(found->session, found->name, key, &found->prefix_bytes);
        const struct mailstore_user *owner =
            found->box != NULL ? found->box->user : found->session->user;
        status = mailstore_property_each(imap_session_store(found->session), owner, &property,
                                         entry_visit, found);
        unkept_write(found);
    } else {
        found->name = asked; /* so long that there is none */
    }
    if (status == 0 && !found->any && found->metadata->depth == IMAP_DEPTH_0) {
        found_begin(found);
        imap_write_astring(found->writer, found->name);
        imap_write(found->writer, " NIL");
    }
    return status;
}

static bool found_send(struct found *found)
{
    if (found->began) {
        imap_write(found->writer, ")\r\n");
        found->began = false;
        return imap_session_send(found->session, found->writer);
    }
    return true;
}

struct getting {
    struct imap_task task;
    const struct imap_metadata *metadata;
    struct imap_place place; /* its box is looked up again in each step */
    uint64_t box;            /* 0: the server */
    uint32_t index;
    uint32_t longest;
};

static enum imap_step gotten(struct imap_session *session, const struct getting *getting)
{
    char code[48];
    if (getting->longest == 0) {
        return imap_session_ok(session);
    }
    snprintf(code, sizeof(code), "METADATA LONGENTRIES %u", getting->longest);
    const struct imap_answer answer = {.result = IMAP_OK, .code = slice_text(code)};
    return imap_session_answer(session, &answer);
}

static enum imap_step getting_step(struct imap_session *session, struct imap_task *task)
{
    struct getting *getting = (struct getting *)task;
    const struct imap_text_list *entries = &getting->metadata->entries;
    struct imap_writer writer;
    struct found found = {.session = session,
                          .writer = &writer,
                          .metadata = getting->metadata,
                          .longest = getting->longest};
    if (getting->box != 0) {
        found.box = mailstore_box_by_id(getting->place.owner, getting->box);
    }
    bool lost = found.box != NULL && !imap_metadata_allowed(imap_rights_of(session, found.box));
    if (getting->box != 0 && (found.box == NULL || lost)) {
        return imap_session_refuse(session, -ENOENT);
    }
    int status = 0;
    imap_writer_open(&writer, LINE_BYTES_MAX);
    writer.utf8 = imap_session_utf8(session);
    while (status == 0 && getting->index < entries->count && writer.size < LINE_BYTES) {
        status = name_write(&found, entries->items[getting->index++]);
    }
    status = status == 0 && !found_send(&found) ? -ENOMEM : status;
    imap_writer_close(&writer);
    getting->longest = found.longest;
    if (status != 0) {
        return imap_session_refuse(session, status);
    }
    return getting->index < entries->count ? IMAP_STEP_MORE : gotten(session, getting);
}

/* False: answered. */
static bool name_check(struct imap_session *session, struct slice asked)
{
    if (is_private(asked) || is_shared(asked)) {
        return true;
    }
    imap_session_bad(session, "Names of entries begin with /private/ or /shared/");
    return false;
}

bool imap_metadata_check(struct imap_session *session, const struct imap_text_list *entries)
{
    for (uint32_t i = 0; i < entries->count; i++) {
        if (!name_check(session, entries->items[i])) {
            return false;
        }
    }
    if (entries->count > ASKED_MAX) {
        imap_session_no(session, "METADATA TOOMANY", "Too many entries at once");
        return false;
    }
    return true;
}

bool imap_metadata_allowed(uint32_t rights)
{
    const uint32_t uses_it =
        IMAP_RIGHT_READ | IMAP_RIGHT_SEEN | IMAP_RIGHT_WRITE | IMAP_RIGHT_INSERT | IMAP_RIGHT_POST;
    return (rights & IMAP_RIGHT_LOOKUP) && (rights & uses_it);
}

/* Its box: NULL: the server. False: answered. */
static bool target_find(struct imap_session *session, const struct imap_metadata *metadata,
                        struct imap_place *place)
{
    *place = (struct imap_place){.owner = session->user};
    if (metadata->of_server) {
        return true;
    }
    int status = imap_place_find_with(session, metadata->mailbox, IMAP_RIGHT_LOOKUP, place);
    if (status == 0 && !imap_metadata_allowed(place->rights)) {
        imap_place_leave(session, place);
        status = -EACCES;
    }
    if (status != 0) {
        imap_session_refuse(session, status);
    }
    return status == 0;
}

static void getting_end(struct imap_session *session, struct imap_task *task)
{
    imap_place_leave(session, &((struct getting *)task)->place);
}

void imap_metadata_get(struct imap_session *session, const struct imap_metadata *metadata)
{
    struct imap_place place;
    if (!imap_metadata_check(session, &metadata->entries) ||
        !target_find(session, metadata, &place)) {
        return;
    }
    struct getting *getting =
        (struct getting *)imap_session_task(session, sizeof(*getting), getting_step);
    if (getting == NULL) {
        imap_place_leave(session, &place);
        return;
    }
    getting->task.end = getting_end;
    getting->metadata = metadata;
    getting->place = place;
    getting->box = place.box != NULL ? place.box->id : 0;
    imap_session_begin(session);
}

bool imap_metadata_write(struct imap_session *session, struct imap_writer *writer,
                         struct mailstore_box *box, const struct imap_text_list *entries)
{
    static const struct imap_metadata plainly = {.depth = IMAP_DEPTH_0};
    struct found found = {.session = session, .writer = writer, .metadata = &plainly, .box = box};
    bool good = true;
    for (uint32_t i = 0; i < entries->count && good; i++) {
        good = name_write(&found, entries->items[i]) == 0;
    }
    if (found.began) {
        imap_write(writer, ")\r\n");
    }
    return good;
}

/* ---- SETMETADATA ---- */

struct setting {
    struct mailstore_properties properties;
    struct mailstore_property_change changes[ASKED_MAX];
    uint8_t *memory; /* of keys and values; of the heap */
    size_t used;
};

static struct slice setting_keep(struct setting *setting, struct slice bytes)
{
    uint8_t *at = setting->memory + setting->used;
    memcpy(at, bytes.bytes, bytes.size);
    setting->used += bytes.size;
    return slice_of(at, bytes.size);
}

static enum imap_step metadata_told(struct imap_session *session, struct imap_change *change)
{
    if (change->status == -EDQUOT) {
        return imap_session_no(session, "METADATA TOOMANY", "There may be no more entries");
    }
    return change->status == 0 ? imap_session_ok(session)
                               : imap_session_refuse(session, change->status);
}

static void value_set(const struct imap_session *session, struct setting *setting,
                      struct slice name, const struct imap_pair *pair)
{
    char key[MAILSTORE_PROPERTY_KEY_BYTES_MAX];
    size_t prefix_bytes;
    struct slice of = key_of(session, name, key, &prefix_bytes);
    struct mailstore_property_change *change = NULL;
    for (uint32_t i = 0; i < setting->properties.change_count && change == NULL; i++) {
        change = slice_equal(setting->changes[i].key, of) ? &setting->changes[i] : NULL;
    }
    if (change == NULL) {
        change = &setting->changes[setting->properties.change_count++];
        change->key = setting_keep(setting, of);
    }
    change->value = slice_of(NULL, 0); /* of two the last counts */
    if (!pair->nil) {
        change->value = setting_keep(setting, slice_text("="));
        change->value.size += setting_keep(setting, pair->value).size;
    }
}

/* What is wrong with it, was answered: false. */
static bool pair_set(struct imap_session *session, struct setting *setting,
                     const struct imap_place *place, const struct imap_pair *pair)
{
    char entry[NAME_BYTES_MAX];
    struct slice name;
    struct mailstore_properties *properties = &setting->properties;
    if (!entry_canonical(pair->name, entry, &name)) {
        imap_session_no(session, "LIMIT", "The name of an entry is too long");
        return false;
    }
    if (pair->value.size > VALUE_BYTES_MAX) {
        imap_session_no(session, "METADATA MAXSIZE 16384", "A value is too long");
        return false;
    }
    if (properties->box == NULL && is_shared(name)) {
        imap_session_no(session, "NOPERM", "The administrator speaks for the server");
        return false;
    }
    if (properties->box != NULL && place->owner == session->user &&
        slice_equal(name, slice_text(IMAP_METADATA_SPECIAL_USE))) {
        properties->special_use_given = true;
        if (special_use_read(pair->value, &properties->special_use)) {
            return true;
        }
        imap_session_no(session, "USEATTR", "No mailbox can be used so");
        return false;
    }
    value_set(session, setting, name, pair);
    return true;
}

static int setting_open(const struct imap_metadata *metadata, struct setting **result)
{
    size_t bytes = 1;
    for (uint32_t i = 0; i < metadata->value_count; i++) {
        bytes += MAILSTORE_PROPERTY_KEY_BYTES_MAX + 1 + metadata->values[i].value.size;
    }
    struct setting *setting = (struct setting *)calloc(1, sizeof(*setting));
    uint8_t *memory = setting != NULL ? (uint8_t *)malloc(bytes) : NULL;
    if (memory == NULL) {
        free(setting);
        return -ENOMEM;
    }
    setting->memory = memory;
    setting->properties.changes = setting->changes;
    *result = setting;
    return 0;
}

/* The place is given. */
static void setting_submit(struct imap_session *session, struct setting *setting,
                           struct imap_place *place)
{
    char mine[sizeof(FAMILY) + USER_NAME_BYTES];
    snprintf(mine, sizeof(mine), "%s%s/", FAMILY, session->user->name);
    const struct mailstore_property_family families[] = {{slice_text(mine), ENTRIES_MAX},
                                                         {slice_text(FAMILY "/"), ENTRIES_MAX}};
    struct imap_change *change = imap_change_new(session, metadata_told);
    if (change != NULL) {
        setting->properties.families = families;
        setting->properties.family_count = 2;
        int status = mailstore_properties_set(imap_session_store(session), place->owner,
                                              &setting->properties, &change->waiter);
        imap_change_hold(session, change, place);
        imap_change_begin(session, change, status);
    }
}

void imap_metadata_set(struct imap_session *session, const struct imap_metadata *metadata)
{
    struct imap_place place;
    struct setting *setting;
    for (uint32_t i = 0; i < metadata->value_count; i++) {
        if (!name_check(session, metadata->values[i].name)) {
            return;
        }
        if (is_root(metadata->values[i].name)) { /* RFC 5464 §3.2 */
            imap_session_bad(session, "Entries are below /private and /shared");
            return;
        }
    }
    if (metadata->value_count > ASKED_MAX) {
        imap_session_no(session, "METADATA TOOMANY", "Too many entries at once");
        return;
    }
    if (!target_find(session, metadata, &place)) {
        return;
    }
    if (setting_open(metadata, &setting) != 0) {
        imap_place_leave(session, &place);
        imap_session_refuse(session, -ENOMEM);
        return;
    }
    setting->properties.box = place.box;
    bool good = true;
    for (uint32_t i = 0; good && i < metadata->value_count; i++) { /* gone when it is answered */
        good = pair_set(session, setting, &place, &metadata->values[i]);
    }
    if (good) {
        setting_submit(session, setting, &place);
    }
    imap_place_leave(session, &place);
    free(setting->memory);
    free(setting);
}
