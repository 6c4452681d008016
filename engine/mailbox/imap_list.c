/*
 * LIST and LSUB (RFC 9051 §6.3.9, RFC 3501 §6.3.9, RFC 5258, RFC 5819, RFC 6154, RFC 9590).
 *
 * All names are gathered once and put in the order in which children follow their parents at once; so one walk knows
 * what has children, and which parents there are that are no mailboxes. They are told so many a turn: what has gone
 * between is not there.
 */
#include "engine/mailbox/imap_session.h"
#include <stdlib.h>

#define LINE_BYTES_MAX (64u * 1024)
#define METADATA_BYTES_MAX (8u << 20) /* holds all that can be asked of one mailbox */
#define COST_A_STEP 4096u             /* a name is 1, each entry that is asked for with it, too */
#define NAMES_BYTES_MAX (64u << 20)

struct name {
    struct slice text;
    const struct imap_found *found; /* of another shard; NULL: it is not */
    struct mailstore_box *box;      /* NULL: there is none; looked for again in each turn */
    struct mailstore_user *owner;
    struct slice called; /* by him; as `text` lies */
    uint64_t id;         /* of the box */
    bool subscribed;
    bool has_children;
    bool child_subscribed;
};

struct names {
    struct name *all; /* of the heap */
    size_t count, room;
    struct arena texts;           /* of mailboxes' own names, which a RENAME would take away */
    struct imap_finding *finding; /* of other shards; NULL: nothing is looked for there */
    struct imap_shared *shared;   /* what others let him see; their names lie there */
    bool failed;
};

static struct name *name_add(struct names *names, struct slice text)
{
    if (names->count == names->room) {
        size_t room = names->room * 2 + 32;
        struct name *grown = (struct name *)realloc(names->all, room * sizeof(grown[0]));
        if (grown == NULL) {
            names->failed = true;
            return NULL;
        }
        names->all = grown;
        names->room = room;
    }
    struct name *name = &names->all[names->count++];
    *name = (struct name){.text = text};
    return name;
}

static bool text_keep(struct names *names, struct slice text, struct slice *copy)
{
    *copy = slice_of("", 0);
    bool good = text.size == 0 || arena_copy(&names->texts, text, copy);
    names->failed = names->failed || !good;
    return good;
}

static struct name *own_name_add(struct names *names, struct slice text)
{
    struct slice copy;
    return text_keep(names, text, &copy) ? name_add(names, copy) : NULL;
}

static void box_set(struct name *name, struct mailstore_box *box, struct slice called)
{
    name->box = box;
    name->owner = box != NULL ? box->user : NULL;
    name->called = called;
    name->id = box != NULL ? box->id : 0;
}

static void subscribed_visit(void *owner, struct slice text)
{
    struct name *name = own_name_add((struct names *)owner, text);
    if (name != NULL) {
        name->subscribed = true;
    }
}

/* By bytes, but the separator is before all others and INBOX before all names. */
static int name_order(const void *left, const void *right)
{
    const struct slice a = ((const struct name *)left)->text;
    const struct slice b = ((const struct name *)right)->text;
    bool a_inbox = slice_equal(slice_first(a, 5), slice_text("INBOX")) &&
                   (a.size == 5 || a.bytes[5] == IMAP_SEPARATOR);
    bool b_inbox = slice_equal(slice_first(b, 5), slice_text("INBOX")) &&
                   (b.size == 5 || b.bytes[5] == IMAP_SEPARATOR);
    if (a_inbox != b_inbox) {
        return a_inbox ? -1 : 1;
    }
    size_t size = a.size < b.size ? a.size : b.size;
    for (size_t i = 0; i < size; i++) {
        if (a.bytes[i] != b.bytes[i]) {
            int one = a.bytes[i] == IMAP_SEPARATOR ? -1 : a.bytes[i];
            int other = b.bytes[i] == IMAP_SEPARATOR ? -1 : b.bytes[i];
            return one - other;
        }
    }
    return a.size < b.size ? -1 : a.size > b.size;
}

/* The parents of each name that has a separator; most of them are there already. */
static void parents_add(struct names *names)
{
    size_t count = names->count;
    for (size_t i = 0; i < count; i++) {
        struct slice text = names->all[i].text;
        for (size_t at = 0; at < text.size; at++) {
            if (text.bytes[at] == IMAP_SEPARATOR) {
                name_add(names, slice_first(text, at));
            }
        }
    }
}

/* Equal names become one. */
static void names_join(struct names *names)
{
    size_t kept = 0;
    if (names->count > 0) {
        qsort(names->all, names->count, sizeof(names->all[0]), name_order);
    }
    for (size_t i = 0; i < names->count; i++) {
        if (kept > 0 && slice_equal(names->all[kept - 1].text, names->all[i].text)) {
            struct name *same = &names->all[kept - 1];
            same->subscribed = same->subscribed || names->all[i].subscribed;
            if (same->box == NULL) {
                box_set(same, names->all[i].box, names->all[i].called);
            }
            if (same->found == NULL) {
                same->found = names->all[i].found;
            }
        } else {
            names->all[kept++] = names->all[i];
        }
    }
    names->count = kept;
}

static bool is_below(struct slice child, struct slice parent)
{
    return child.size > parent.size && child.bytes[parent.size] == IMAP_SEPARATOR &&
           memcmp(child.bytes, parent.bytes, parent.size) == 0;
}

/* On this shard, or on another. */
static bool exists(const struct name *name)
{
    return name->box != NULL || name->found != NULL;
}

/* What stands behind a name, from the last to the first. */
static void families_find(struct names *names)
{
    struct name *above[IMAP_MAILBOX_LEVELS_MAX + 1];
    size_t depth = 0;
    for (size_t i = 0; i < names->count; i++) {
        struct name *name = &names->all[i];
        while (depth > 0 && !is_below(name->text, above[depth - 1]->text)) {
            depth--;
        }
        for (size_t d = 0; d < depth; d++) {
            above[d]->has_children = above[d]->has_children || exists(name);
            above[d]->child_subscribed = above[d]->child_subscribed || name->subscribed;
        }
        if (depth < IMAP_MAILBOX_LEVELS_MAX) {
            above[depth++] = name;
        }
    }
}

static void shared_visit(void *owner, struct slice text, struct mailstore_box *box)
{
    struct names *names = (struct names *)owner;
    struct name *name = name_add(names, text);
    struct slice called;
    if (name != NULL && text_keep(names, box->name, &called)) {
        box_set(name, box, called);
    }
}

static void found_add(struct names *names)
{
    const struct imap_found *found = NULL;
    while (names->finding != NULL && (found = imap_finding_next(names->finding, found)) != NULL) {
        struct name *name = name_add(names, found->name);
        if (name != NULL) {
            name->found = found;
        }
    }
}

static void names_gather(struct imap_session *session, const struct imap_list *list,
                         struct names *names)
{
    struct mailstore_box *box = NULL;
    while (!session->guest && (box = mailstore_box_next(session->user, box)) != NULL) {
        struct name *name = own_name_add(names, box->name);
        if (name != NULL) {
            box_set(name, box, name->text);
        }
    }
    struct name *inbox = session->guest ? NULL : name_add(names, slice_text("INBOX"));
    if (inbox != NULL) {
        box_set(inbox, mailstore_box_find(session->user, inbox->text), inbox->text);
    }
    if (!session->guest) {
        mailstore_each_subscribed(session->user, subscribed_visit, names);
    }
    if (imap_shared_open(session, &list->patterns, &names->shared) != 0) {
        names->failed = true;
    } else {
        imap_shared_each(names->shared, shared_visit, names);
    }
    found_add(names);
    parents_add(names);
    names_join(names);
    families_find(names);
}

/* ---- What is told ---- */

static const struct {
    uint32_t use;
    const char *word;
} uses[] = {
    {IMAP_USE_ALL, "\\All"},       {IMAP_USE_ARCHIVE, "\\Archive"},
    {IMAP_USE_DRAFTS, "\\Drafts"}, {IMAP_USE_FLAGGED, "\\Flagged"},
    {IMAP_USE_JUNK, "\\Junk"},     {IMAP_USE_SENT, "\\Sent"},
    {IMAP_USE_TRASH, "\\Trash"},   {IMAP_USE_IMPORTANT, "\\Important"},
};

struct slice imap_special_use_word(uint32_t use)
{
    for (size_t i = 0; i < sizeof(uses) / sizeof(uses[0]); i++) {
        if (uses[i].use == use) {
            return slice_text(uses[i].word);
        }
    }
    return slice_of(NULL, 0);
}

static void word_write(struct imap_writer *writer, const char **blank, const char *word)
{
    imap_write(writer, *blank);
    imap_write(writer, word);
    *blank = " ";
}

static bool is_there(const struct name *name)
{
    return exists(name) || slice_equal(name->text, slice_text("INBOX"));
}

static void attributes_write(const struct imap_session *session, struct imap_writer *writer,
                             const struct name *name, const struct imap_list *list, bool lsub)
{
    const char *blank = "";
    bool extended = list->extended || imap_session_has(session, IMAP_ENABLED_REV2);
    if (lsub) {
        if (!name->subscribed) {
            word_write(writer, &blank, "\\Noselect"); /* stands for what is below */
        }
        return;
    }
    if (!is_there(name)) {
        word_write(writer, &blank, extended ? "\\NonExistent" : "\\Noselect");
    }
    word_write(writer, &blank, name->has_children ? "\\HasChildren" : "\\HasNoChildren");
    bool asks = (list->returns & IMAP_RETURN_SUBSCRIBED) || (list->select & IMAP_LIST_SUBSCRIBED);
    if (asks && name->subscribed) {
        word_write(writer, &blank, "\\Subscribed");
    }
    bool own = name->box != NULL && name->box->user == session->user;
    for (size_t i = 0; own && i < sizeof(uses) / sizeof(uses[0]); i++) {
        if (name->box->special_use & uses[i].use) {
            word_write(writer, &blank, uses[i].word);
        }
    }
}

void imap_list_attributes_write(const struct imap_session *session, struct imap_writer *writer,
                                const struct imap_list_name *told)
{
    static const struct imap_found somewhere;
    const struct imap_list list = {.extended = true, .returns = IMAP_RETURN_SUBSCRIBED};
    const struct name name = {.text = told->text,
                              .box = told->box,
                              .found = told->is_abroad ? &somewhere : NULL,
                              .subscribed = told->subscribed,
                              .has_children = told->has_children};
    attributes_write(session, writer, &name, &list, false);
}

static void line_write(const struct imap_session *session, struct imap_writer *writer,
                       const struct name *name, const struct imap_list *list, bool lsub)
{
    bool selected = (list->select & IMAP_LIST_SUBSCRIBED) == 0 || name->subscribed;
    imap_write(writer, lsub ? "* LSUB (" : "* LIST (");
    attributes_write(session, writer, name, list, lsub);
    imap_write(writer, ") \"/\" ");
    imap_name_write(session, writer, name->text);
    if ((list->select & IMAP_LIST_RECURSIVEMATCH) && name->child_subscribed) {
        imap_write(writer, " (CHILDINFO (\"SUBSCRIBED\"))");
    }
    imap_write(writer, "\r\n");
    if (!exists(name) || lsub || !selected) {
        return;
    }
    if (name->box == NULL) {
        return; /* what is told besides comes from there */
    }
    bool asks = list->returns & (IMAP_RETURN_STATUS | IMAP_RETURN_MYRIGHTS);
    uint32_t rights = asks ? imap_rights_of(session, name->box) : 0;
    if ((list->returns & IMAP_RETURN_STATUS) && (rights & IMAP_RIGHT_READ)) {
        imap_status_write(session, writer, name->box, list->status_items);
    }
    if ((list->returns & IMAP_RETURN_MYRIGHTS) && rights != 0) { /* RFC 8440 */
        char text[IMAP_RIGHTS_BYTES];
        imap_write(writer, "* MYRIGHTS ");
        imap_name_write(session, writer, name->text);
        imap_write(writer, " ");
        imap_write_astring(writer, imap_rights_text_told(rights, text));
        imap_write(writer, "\r\n");
    }
}

static bool matches(const struct imap_list *list, struct slice name)
{
    for (uint32_t i = 0; i < list->patterns.count; i++) {
        if (imap_pattern_match(list->patterns.items[i], name)) {
            return true;
        }
    }
    return false;
}

/* A pattern that ends in '%' does not reach what is below: then a parent stands for it. */
static bool is_told(const struct mailstore_user *user, const struct name *name,
                    const struct imap_list *list, bool lsub)
{
    bool subscribed = name->subscribed;
    if (lsub) {
        return subscribed || name->child_subscribed;
    }
    if (list->select & IMAP_LIST_SPECIAL_USE) {
        return name->box != NULL && name->box->user == user && name->box->special_use != 0;
    }
    if (list->select & IMAP_LIST_SUBSCRIBED) {
        bool below = (list->select & IMAP_LIST_RECURSIVEMATCH) && name->child_subscribed;
        return subscribed || below;
    }
    return is_there(name) || name->has_children;
}

/* Of LSUB: a parent is told only when no pattern tells what is below it (RFC 3501 §6.3.9). */
static bool stands_for_children(const struct name *names, size_t index, size_t count,
                                const struct imap_list *list)
{
    const struct name *name = &names[index];
    for (size_t i = index + 1; i < count && is_below(names[i].text, name->text); i++) {
        if (names[i].subscribed && !matches(list, names[i].text)) {
            return true;
        }
    }
    return false;
}

/* RFC 9590 */
static int metadata_tell(struct imap_session *session, const struct imap_list *list,
                         struct mailstore_box *box)
{
    struct imap_writer writer;
    imap_writer_open(&writer, METADATA_BYTES_MAX);
    writer.utf8 = imap_session_utf8(session);
    int status = imap_metadata_write(session, &writer, box, &list->metadata) ? 0 : -EIO;
    if (status == 0) {
        status = imap_session_send(session, &writer) ? 0 : -ENOMEM;
    }
    imap_writer_close(&writer);
    return status;
}

static bool is_wanted(const struct imap_session *session, const struct names *names, size_t index,
                      const struct imap_list *list, bool lsub)
{
    const struct name *name = &names->all[index];
    bool parent_only = lsub ? !name->subscribed : !is_there(name) && !name->subscribed;
    if (!is_told(session->user, name, list, lsub) || !matches(list, name->text)) {
        return false;
    }
    return !parent_only || (list->select & IMAP_LIST_RECURSIVEMATCH) || !lsub ||
           stands_for_children(names->all, index, names->count, list);
}

struct listing {
    struct imap_task task;
    const struct imap_list *list;
    bool lsub;
    struct names names;
    bool gathered;
    size_t index;
};

/* It may have gone since the names were gathered: then it is a name that stands for others, or was subscribed to, or none. */
static void name_refresh(struct name *name)
{
    if (name->id == 0) {
        return;
    }
    name->box = mailstore_box_find(name->owner, name->called);
    if (name->box == NULL || name->box->id != name->id) { /* it was renamed meanwhile */
        name->box = mailstore_box_by_id(name->owner, name->id);
    }
}

static int name_tell(struct imap_session *session, struct listing *listing, struct name *name)
{
    const struct imap_list *list = listing->list;
    struct imap_writer writer;
    imap_writer_open(&writer, LINE_BYTES_MAX);
    writer.utf8 = imap_session_utf8(session);
    line_write(session, &writer, name, list, listing->lsub);
    int status = imap_session_send(session, &writer) ? 0 : -ENOMEM;
    imap_writer_close(&writer);
    bool selected = (list->select & IMAP_LIST_SUBSCRIBED) == 0 || name->subscribed;
    if (status == 0 && name->box == NULL && name->found != NULL && selected && !listing->lsub) {
        outbox_write(&session->outbox, imap_finding_told(listing->names.finding, name->found));
    }
    if (status == 0 && (list->returns & IMAP_RETURN_METADATA) && name->box != NULL &&
        imap_metadata_allowed(imap_rights_of(session, name->box))) {
        status = metadata_tell(session, list, name->box);
    }
    return status;
}

static enum imap_step listing_step(struct imap_session *session, struct imap_task *task)
{
    struct listing *listing = (struct listing *)task;
    struct names *names = &listing->names;
    if (names->finding != NULL && !listing->gathered) {
        int found = imap_finding_step(session, names->finding);
        if (found > 0) {
            return IMAP_STEP_WAIT;
        }
        names->failed = found < 0;
    }
    if (!listing->gathered) {
        listing->gathered = true;
        names_gather(session, listing->list, names);
    }
    uint32_t each = 1 + listing->list->metadata.count;
    int status = names->failed ? -ENOMEM : 0;
    for (uint32_t cost = 0; status == 0 && listing->index < names->count; cost += each) {
        if (cost >= COST_A_STEP || outbox_is_full(&session->outbox)) {
            return IMAP_STEP_MORE;
        }
        size_t at = listing->index++;
        name_refresh(&names->all[at]);
        if (is_wanted(session, names, at, listing->list, listing->lsub)) {
            status = name_tell(session, listing, &names->all[at]);
        }
    }
    return status == 0 ? imap_session_ok(session) : imap_session_refuse(session, status);
}

static void listing_end(struct imap_session *session, struct imap_task *task)
{
    struct names *names = &((struct listing *)task)->names;
    imap_finding_close(names->finding);
    imap_shared_close(session, names->shared);
    arena_close(&names->texts);
    free(names->all);
}

void imap_list(struct imap_session *session, const struct imap_list *list, bool lsub)
{
    if (list->patterns.count == 1 && list->patterns.items[0].size == 0 && !list->extended) {
        imap_session_write(session, lsub ? "* LSUB (\\Noselect) \"/\" \"\"\r\n"
                                         : "* LIST (\\Noselect) \"/\" \"\"\r\n");
        imap_session_ok(session);
        return;
    }
    if (!imap_metadata_check(session, &list->metadata)) {
        return;
    }
    struct listing *listing =
        (struct listing *)imap_session_task(session, sizeof(*listing), listing_step);
    if (listing == NULL) {
        return;
    }
    listing->task.end = listing_end;
    listing->list = list;
    listing->lsub = lsub;
    arena_open(&listing->names.texts, NAMES_BYTES_MAX);
    if (!lsub) { /* which tells of subscriptions alone */
        listing->names.failed = imap_finding_open(session, list, &listing->names.finding) != 0;
    }
    imap_session_begin(session);
}
