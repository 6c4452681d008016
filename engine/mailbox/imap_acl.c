/*
 * GETACL, SETACL, DELETEACL, LISTRIGHTS, MYRIGHTS (RFC 4314).
 *
 * Who may not administer a mailbox is told so where he can see it, and else what he would be told if there were none. The
 * owner's line is his while nobody sets one, and never loses what he needs to set it right again.
 */
#include "engine/mailbox/imap_session.h"
#include "engine/core/check.h"
#include <stdlib.h>

#define LINE_BYTES_MAX (256u * 1024) /* holds as many as there may be */
#define IDENTIFIERS_MAX 500u         /* of a mailbox; more: NO [LIMIT] */
#define IDENTIFIER_BYTES (USER_NAME_BYTES + 1u)
static_assert(IDENTIFIERS_MAX * (2 * IDENTIFIER_BYTES + 32) + 8192 < LINE_BYTES_MAX,
              "all of them must fit in a response");

/* The name as it is kept: "bob" of "Bob@example.org"; "-bob". False: answered. */
static bool identifier_read(struct imap_session *session, struct slice given,
                            char identifier[IDENTIFIER_BYTES])
{
    bool taken = given.size > 0 && given.bytes[0] == '-';
    struct slice name = slice_from(given, taken);
    if (name.size > 0 && strchr("$#!", name.bytes[0]) != NULL) {
        imap_session_no(session, "CANNOT", "Only users and anyone can have rights");
        return false;
    }
    identifier[0] = '-';
    if (user_name_of_mailbox(name, identifier + taken) != 0) {
        imap_session_bad(session, "No user can be called so");
        return false;
    }
    bool anyone = strcmp(identifier + taken, IMAP_ANYONE) == 0;
    if (anyone && !session->session.mailbox->conf->imap.acl_anyone) {
        imap_session_no(session, "CANNOT", "Rights are not given to anyone here");
        return false;
    }
    return true;
}

/* Opened, and to be left. False: answered. */
static bool administered(struct imap_session *session, struct slice name, struct imap_place *place)
{
    int status = imap_place_find_with(session, name, IMAP_RIGHT_ADMINISTER, place);
    if (status != 0) {
        imap_session_refuse(session, status);
    }
    return status == 0;
}

/* A line of the response, then OK. */
static void line_say(struct imap_session *session, struct imap_writer *writer)
{
    imap_write(writer, "\r\n");
    imap_session_ok_with(session, writer);
}

static void line_begin(struct imap_session *session, struct imap_writer *writer, const char *word,
                       struct slice name)
{
    imap_writer_open(writer, LINE_BYTES_MAX);
    writer->utf8 = imap_session_utf8(session);
    imap_write(writer, word);
    imap_name_write(session, writer, name);
}

/* ---- What there is ---- */

struct listing {
    struct imap_writer *writer;
    struct slice owner;
    bool owner_given;
};

static void identifier_write(struct imap_writer *writer, struct slice identifier, uint32_t rights)
{
    char text[IMAP_RIGHTS_BYTES];
    imap_write(writer, " ");
    imap_write_astring(writer, identifier);
    imap_write(writer, " ");
    imap_write_astring(writer, imap_rights_text_told(rights, text));
}

static void share_visit(void *owner, struct slice key, struct slice value)
{
    struct listing *listing = (struct listing *)owner;
    struct slice identifier = slice_from(key, sizeof(MAILSTORE_SHARE_KEY) - 1);
    identifier_write(listing->writer, identifier, imap_rights_read(value));
    listing->owner_given = listing->owner_given || slice_equal(identifier, listing->owner);
}

void imap_acl_get(struct imap_session *session, struct slice name)
{
    struct imap_place place;
    struct imap_writer writer;
    if (!administered(session, name, &place)) {
        return;
    }
    struct listing listing = {.writer = &writer, .owner = slice_text(place.owner->name)};
    const struct mailstore_property property = {.box = place.box,
                                                .key = slice_text(MAILSTORE_SHARE_KEY)};
    line_begin(session, &writer, "* ACL ", name);
    int status = mailstore_property_each(imap_session_store(session), place.owner, &property,
                                         share_visit, &listing);
    if (!listing.owner_given) {
        identifier_write(&writer, listing.owner, IMAP_RIGHTS_ALL);
    }
    imap_place_leave(session, &place);
    if (status != 0) {
        imap_writer_close(&writer);
        imap_session_refuse(session, status);
        return;
    }
    line_say(session, &writer);
}

void imap_acl_mine(struct imap_session *session, struct slice name)
{
    const uint32_t any = IMAP_RIGHT_LOOKUP | IMAP_RIGHT_READ | IMAP_RIGHT_INSERT |
                         IMAP_RIGHT_CREATE | IMAP_RIGHT_DELETE | IMAP_RIGHT_ADMINISTER;
    char text[IMAP_RIGHTS_BYTES];
    struct imap_place place;
    struct imap_writer writer;
    int status = imap_place_find_with(session, name, 0, &place);
    if (status == 0 && (place.rights & any) == 0) {
        imap_place_leave(session, &place);
        status = -ENOENT;
    }
    if (status != 0) {
        imap_session_refuse(session, status);
        return;
    }
    line_begin(session, &writer, "* MYRIGHTS ", name);
    imap_write(&writer, " ");
    imap_write_astring(&writer, imap_rights_text_told(place.rights, text));
    imap_place_leave(session, &place);
    line_say(session, &writer);
}

void imap_acl_list_rights(struct imap_session *session, const struct imap_acl *acl)
{
    char identifier[IDENTIFIER_BYTES];
    struct imap_place place;
    struct imap_writer writer;
    if (!administered(session, acl->mailbox, &place)) {
        return;
    }
    bool owner = false;
    if (!identifier_read(session, acl->identifier, identifier)) {
        imap_place_leave(session, &place);
        return;
    }
    owner = strcmp(identifier, place.owner->name) == 0;
    imap_place_leave(session, &place);
    line_begin(session, &writer, "* LISTRIGHTS ", acl->mailbox);
    imap_write(&writer, " ");
    imap_write_astring(&writer, acl->identifier);
    imap_write(&writer, owner ? " la r w s t i p e k x c d" : " \"\" l r w s t i p e k x a c d");
    line_say(session, &writer);
}

/* ---- What is to be ---- */

/* False: answered. */
static bool rights_read(struct imap_session *session, struct slice letters, uint32_t *rights)
{
    *rights = 0;
    for (size_t i = 0; i < letters.size; i++) {
        uint32_t right = imap_right_of(letters.bytes[i]);
        if (right == 0) {
            imap_session_bad(session, "There is no such right");
            return false;
        }
        *rights |= right;
    }
    return true;
}

/* What the owner's line is to say; without one he has all rights. */
static int owner_rights(struct imap_session *session, const struct imap_place *place,
                        enum imap_acl_mode mode, uint32_t *rights)
{
    char key[sizeof(MAILSTORE_SHARE_KEY) + USER_NAME_BYTES];
    snprintf(key, sizeof(key), MAILSTORE_SHARE_KEY "%s", place->owner->name);
    struct mailstore_property property = {.box = place->box, .key = slice_text(key)};
    uint32_t is = IMAP_RIGHTS_ALL;
    int status = mailstore_property_get(imap_session_store(session), place->owner, &property);
    if (status == 0) {
        is = imap_rights_read(property.value);
        free((void *)(uintptr_t)property.value.bytes);
    }
    *rights = mode == IMAP_ACL_SET ? *rights : mode == IMAP_ACL_ADD ? is | *rights : is & ~*rights;
    *rights |= IMAP_RIGHTS_OWNER;
    return status == -ENOENT ? 0 : status;
}

static enum imap_step acl_told(struct imap_session *session, struct imap_change *change)
{
    if (change->status == -EDQUOT) {
        return imap_session_no(session, "LIMIT", "Too many have rights to it");
    }
    return change->status == 0 ? imap_session_ok(session)
                               : imap_session_refuse(session, change->status);
}

/* The place is given. */
static void line_set(struct imap_session *session, struct imap_place *place, const char *identifier,
                     enum mailstore_property_op op, uint32_t rights)
{
    char key[sizeof(MAILSTORE_SHARE_KEY) + IDENTIFIER_BYTES], text[IMAP_RIGHTS_BYTES];
    snprintf(key, sizeof(key), MAILSTORE_SHARE_KEY "%s", identifier);
    const struct mailstore_property_change line = {op, slice_text(key),
                                                   imap_rights_text(rights, text)};
    const struct mailstore_property_family family = {slice_text(MAILSTORE_SHARE_KEY),
                                                     IDENTIFIERS_MAX};
    const struct mailstore_properties properties = {.box = place->box,
                                                    .changes = &line,
                                                    .change_count = 1,
                                                    .families = &family,
                                                    .family_count = 1};
    struct imap_change *change = imap_change_new(session, acl_told);
    struct mailbox *mailbox = session->session.mailbox;
    mailbox->group->shares[mailbox_index(mailbox)] = true; /* before anybody may count on it */
    if (change != NULL) {
        int status = mailstore_properties_set(imap_session_store(session), place->owner,
                                              &properties, &change->waiter);
        imap_change_hold(session, change, place);
        imap_change_begin(session, change, status);
    }
    imap_place_leave(session, place);
}

void imap_acl_set(struct imap_session *session, const struct imap_acl *acl)
{
    static const enum mailstore_property_op ops[] = {[IMAP_ACL_SET] = MAILSTORE_PROPERTY_SET,
                                                     [IMAP_ACL_ADD] = MAILSTORE_PROPERTY_INCLUDE,
                                                     [IMAP_ACL_REMOVE] =
                                                         MAILSTORE_PROPERTY_EXCLUDE};
    char identifier[IDENTIFIER_BYTES];
    struct imap_place place;
    uint32_t rights;
    if (!rights_read(session, acl->rights, &rights) ||
        !administered(session, acl->mailbox, &place)) {
        return;
    }
    if (!identifier_read(session, acl->identifier, identifier)) {
        imap_place_leave(session, &place);
        return;
    }
    enum mailstore_property_op op = ops[acl->mode];
    if (strcmp(identifier, place.owner->name) == 0) {
        op = MAILSTORE_PROPERTY_SET;
        int status = owner_rights(session, &place, acl->mode, &rights);
        if (status != 0) {
            imap_place_leave(session, &place);
            imap_session_refuse(session, status);
            return;
        }
    }
    line_set(session, &place, identifier, op, rights);
}

void imap_acl_delete(struct imap_session *session, const struct imap_acl *acl)
{
    char identifier[IDENTIFIER_BYTES];
    struct imap_place place;
    if (!administered(session, acl->mailbox, &place)) {
        return;
    }
    if (!identifier_read(session, acl->identifier, identifier)) {
        imap_place_leave(session, &place);
        return;
    }
    line_set(session, &place, identifier, MAILSTORE_PROPERTY_SET, 0);
}
