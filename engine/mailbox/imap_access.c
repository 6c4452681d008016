/*
 * Which mailbox a name means, and what the user may do with it (RFC 4314).
 *
 * A user's own mailboxes come first. Below imap.shared_namespace each level is another user, and below that are his
 * mailboxes. Rights are properties of the mailbox: "acl/bob" is what bob has, "acl/-bob" what he has not whoever gives it,
 * "acl/anyone" is everybody's. They are asked for anew when a property of the mailbox has changed, so what is taken is
 * taken at once.
 */
#include "engine/mailbox/imap_session.h"
#include "engine/core/check.h"

#define SHARED_OFF "off"

static const char letters[] = "lrwstipekxa"; /* in the order of enum imap_right */
static_assert(IMAP_RIGHTS_ALL == (1u << (sizeof(letters) - 1)) - 1, "a letter for each right");

/* ---- Rights ---- */

uint32_t imap_right_of(uint8_t letter)
{
    const char *at = letter != '\0' ? strchr(letters, letter) : NULL;
    if (letter == 'c') { /* RFC 4314 §2.1.1 */
        return IMAP_RIGHT_CREATE | IMAP_RIGHT_DELETE;
    }
    if (letter == 'd') {
        return IMAP_RIGHT_EXPUNGE | IMAP_RIGHT_DELETED;
    }
    return at != NULL ? 1u << (at - letters) : 0;
}

uint32_t imap_rights_read(struct slice value)
{
    uint32_t rights = 0;
    for (size_t i = 0; i < value.size; i++) {
        rights |= imap_right_of(value.bytes[i]);
    }
    return rights;
}

struct slice imap_rights_text(uint32_t rights, char text[IMAP_RIGHTS_BYTES])
{
    size_t size = 0;
    for (size_t i = 0; letters[i] != '\0'; i++) {
        if (rights & 1u << i) {
            text[size++] = letters[i];
        }
    }
    return slice_of(text, size);
}

struct slice imap_rights_text_told(uint32_t rights, char text[IMAP_RIGHTS_BYTES])
{
    size_t size = imap_rights_text(rights, text).size;
    if (rights & (IMAP_RIGHT_CREATE | IMAP_RIGHT_DELETE)) {
        text[size++] = 'c';
    }
    if (rights & (IMAP_RIGHT_EXPUNGE | IMAP_RIGHT_DELETED)) {
        text[size++] = 'd';
    }
    return slice_of(text, size);
}

struct summing {
    struct slice me;
    uint32_t mine, everybodys, taken;
    bool mine_given;
};

static void share_visit(void *owner, struct slice key, struct slice value)
{
    struct summing *summing = (struct summing *)owner;
    struct slice who = slice_from(key, sizeof(MAILSTORE_SHARE_KEY) - 1);
    bool taken = who.size > 0 && who.bytes[0] == '-';
    struct slice name = taken ? slice_from(who, 1) : who;
    bool me = slice_equal(name, summing->me);
    if (!me && !slice_equal(name, slice_text(IMAP_ANYONE))) {
        return;
    }
    if (taken) {
        summing->taken |= imap_rights_read(value);
    } else if (me) {
        summing->mine |= imap_rights_read(value);
        summing->mine_given = true;
    } else {
        summing->everybodys |= imap_rights_read(value);
    }
}

uint32_t imap_rights_of(const struct imap_session *session, struct mailstore_box *box)
{
    return imap_rights_of_user(imap_session_store(session), slice_text(session->user->name), box);
}

uint32_t imap_rights_of_user(struct mailstore *store, struct slice user, struct mailstore_box *box)
{
    const struct mailstore_property property = {.box = box, .key = slice_text(MAILSTORE_SHARE_KEY)};
    struct summing summing = {.me = user};
    bool own = slice_equal(slice_text(box->user->name), user);
    if (mailstore_property_each(store, box->user, &property, share_visit, &summing) != 0) {
        return own ? IMAP_RIGHTS_OWNER : 0;
    }
    uint32_t given = own && !summing.mine_given ? IMAP_RIGHTS_ALL : summing.mine;
    uint32_t rights = (given | summing.everybodys) & ~summing.taken;
    return own ? rights | IMAP_RIGHTS_OWNER : rights;
}

uint8_t imap_flags_allowed(uint32_t rights)
{
    const uint8_t others = MAILSTORE_FLAGS_ALL & ~(MAILSTORE_SEEN | MAILSTORE_DELETED);
    return (uint8_t)((rights & IMAP_RIGHT_SEEN ? MAILSTORE_SEEN : 0) |
                     (rights & IMAP_RIGHT_DELETED ? MAILSTORE_DELETED : 0) |
                     (rights & IMAP_RIGHT_WRITE ? others : 0));
}

/* ---- The selected mailbox ---- */

void imap_access_begin(struct imap_session *session, uint32_t rights)
{
    session->rights = rights;
    session->rights_seen = session->view.box->properties;
    session->rights_untold = false;
}

bool imap_access_is_stale(const struct imap_session *session)
{
    return session->view.is_open && session->view.box->properties != session->rights_seen;
}

bool imap_access_lost(struct imap_session *session)
{
    if (imap_access_is_stale(session)) {
        uint32_t before = session->rights;
        session->rights = imap_rights_of(session, session->view.box);
        session->rights_seen = session->view.box->properties;
        session->rights_untold = session->rights_untold ||
                                 imap_flags_allowed(before) != imap_flags_allowed(session->rights);
    }
    return session->view.is_open && session->view.box->state == MAILSTORE_BOX_LIVE &&
           (session->rights & IMAP_RIGHT_READ) == 0;
}

/* ---- Names ---- */

struct slice imap_shared_root(const struct imap_session *session)
{
    struct slice root = slice_text(session->session.mailbox->conf->imap.shared_namespace);
    return slice_equal(root, slice_text(SHARED_OFF)) ? slice_of(NULL, 0) : root;
}

/* The name of another user, and what stands behind it. False: it is not of that form. */
static bool shared_name_split(struct slice root, struct slice name, struct slice *user,
                              struct slice *rest)
{
    struct slice behind = slice_from(name, root.size + 1);
    const uint8_t *separator =
        behind.size > 0 ? (const uint8_t *)memchr(behind.bytes, IMAP_SEPARATOR, behind.size) : NULL;
    if (separator == NULL) {
        return false;
    }
    *user = slice_first(behind, (size_t)(separator - behind.bytes));
    *rest = slice_from(behind, user->size + 1);
    return rest->size > 0;
}

int imap_owner_open(struct imap_session *session, struct slice user, struct mailstore_user **owner)
{
    char name[USER_NAME_BYTES];
    struct mailstore_user *opened;
    if (user_name_of_mailbox(user, name) != 0 || !slice_equal(slice_text(name), user) ||
        slice_equal(user, slice_text(session->user->name))) {
        return -ENOENT;
    }
    int status = mailstore_user_open(imap_session_store(session), user, &opened);
    if (status == 0 && opened->id == 0) {
        mailstore_user_close(imap_session_store(session), opened);
        return -ENOENT;
    }
    *owner = status == 0 ? opened : NULL;
    return status;
}

static bool is_below_root(struct slice root, struct slice name)
{
    return root.size > 0 && slice_equal(slice_first(name, root.size), root) &&
           (name.size == root.size || name.bytes[root.size] == IMAP_SEPARATOR);
}

bool imap_name_is_shared(const struct imap_session *session, struct slice name)
{
    return is_below_root(imap_shared_root(session), name);
}

struct slice imap_shared_name_user(const struct imap_session *session, struct slice name)
{
    if (!imap_name_is_shared(session, name)) {
        return slice_of(NULL, 0);
    }
    struct slice behind = slice_from(name, imap_shared_root(session).size + 1);
    const uint8_t *separator =
        behind.size > 0 ? (const uint8_t *)memchr(behind.bytes, IMAP_SEPARATOR, behind.size) : NULL;
    return separator == NULL ? behind : slice_first(behind, (size_t)(separator - behind.bytes));
}

static struct mailstore_box *own_find(const struct imap_session *session, struct slice name)
{
    return session->guest ? NULL : mailstore_box_find(session->user, name);
}

int imap_abroad_shard(const struct imap_session *session, struct slice name)
{
    const struct mailbox *mailbox = session->session.mailbox;
    struct slice root = imap_shared_root(session), user, rest;
    char owner[USER_NAME_BYTES];
    if (mailbox->group->count == 1 || session->session.of_service || !is_below_root(root, name) ||
        own_find(session, name) != NULL || !shared_name_split(root, name, &user, &rest) ||
        user_name_of_mailbox(user, owner) != 0 || !slice_equal(slice_text(owner), user)) {
        return -1;
    }
    unsigned shard = mailbox_group_shard(mailbox->group, owner);
    return shard == mailbox_index(mailbox) ? -1 : (int)shard;
}

bool imap_place_names(const struct imap_session *session, struct slice name, struct slice *owner,
                      struct slice *mailbox)
{
    struct slice root = imap_shared_root(session);
    if (own_find(session, name) == NULL && is_below_root(root, name)) {
        return shared_name_split(root, name, owner, mailbox);
    }
    *owner = slice_text(session->user->name);
    *mailbox = name;
    return true;
}

int imap_place_find(struct imap_session *session, struct slice name, struct imap_place *place)
{
    struct slice root = imap_shared_root(session), user, rest;
    *place = (struct imap_place){.name = name};
    struct mailstore_box *own = own_find(session, name);
    if (session->guest && !is_below_root(root, name)) {
        return 0;
    }
    if (own != NULL || !is_below_root(root, name)) {
        place->owner = session->user;
        place->box = own;
        place->rights = own != NULL ? imap_rights_of(session, own) : IMAP_RIGHTS_ALL;
        return 0;
    }
    if (!shared_name_split(root, name, &user, &rest)) {
        return 0;
    }
    int status = imap_owner_open(session, user, &place->owner);
    if (status != 0) {
        return status == -ENOENT ? 0 : status;
    }
    place->name = rest;
    place->box = mailstore_box_find(place->owner, rest);
    place->rights = place->box != NULL ? imap_rights_of(session, place->box) : 0;
    return 0;
}

void imap_place_leave(struct imap_session *session, struct imap_place *place)
{
    if (place->owner != NULL && place->owner != session->user) {
        mailstore_user_close(imap_session_store(session), place->owner);
    }
    *place = (struct imap_place){.box = NULL};
}

int imap_place_need(const struct imap_place *place, uint32_t rights)
{
    if (place->box == NULL) {
        return -ENOENT;
    }
    if ((place->rights & rights) == rights) {
        return 0;
    }
    return place->rights & IMAP_RIGHT_LOOKUP ? -EACCES : -ENOENT;
}

int imap_place_find_with(struct imap_session *session, struct slice name, uint32_t rights,
                         struct imap_place *place)
{
    int status = imap_place_find(session, name, place);
    status = status == 0 ? imap_place_need(place, rights) : status;
    if (status != 0) {
        imap_place_leave(session, place);
    }
    return status;
}

/* RFC 4314 §4: what counts is the nearest mailbox above it. Refused alike whether there is one that is not to be seen, or none. */
int imap_place_may_create(struct imap_session *session, const struct imap_place *place)
{
    if (place->owner == NULL) {
        return -EACCES;
    }
    struct mailstore_box *above = mailstore_box_above(place->owner, place->name);
    if (above != NULL) {
        return imap_rights_of(session, above) & IMAP_RIGHT_CREATE ? 0 : -EACCES;
    }
    return place->owner == session->user ? 0 : -EACCES;
}

size_t imap_box_name(const struct imap_session *session, const struct mailstore_box *box,
                     char text[IMAP_SHARED_NAME_BYTES])
{
    struct slice root = imap_shared_root(session), user = slice_text(box->user->name);
    size_t size = 0;
    if (box->user != session->user) {
        check(root.size + user.size + 2 + box->name.size <= IMAP_SHARED_NAME_BYTES);
        memcpy(text, root.bytes, root.size);
        text[root.size] = IMAP_SEPARATOR;
        memcpy(text + root.size + 1, user.bytes, user.size);
        size = root.size + 1 + user.size;
        text[size++] = IMAP_SEPARATOR;
    }
    memcpy(text + size, box->name.bytes, box->name.size);
    return size + box->name.size;
}

void imap_box_name_write(const struct imap_session *session, struct imap_writer *writer,
                         const struct mailstore_box *box)
{
    char text[IMAP_SHARED_NAME_BYTES];
    imap_name_write(session, writer, slice_of(text, imap_box_name(session, box, text)));
}
