#include "tests/unit/imap_dump.h"
#include <stdarg.h>
#include <stdio.h>

struct out {
    char *text;
    size_t size, room;
};

__attribute__((format(printf, 2, 3))) static void put(struct out *out, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(out->text + out->size, out->room - out->size, format, arguments);
    va_end(arguments);
    out->size += (size_t)size;
    if (out->size >= out->room) {
        out->size = out->room - 1;
    }
}

static void put_slice(struct out *out, const char *name, struct slice text)
{
    put(out, " %s=<%.*s>", name, (int)text.size, (const char *)text.bytes);
}

static void put_texts(struct out *out, const char *name, struct imap_text_list list)
{
    for (uint32_t i = 0; i < list.count; i++) {
        put_slice(out, name, list.items[i]);
    }
}

static void put_set(struct out *out, const struct imap_set *set)
{
    put(out, " %s", set->saved ? "$" : "");
    for (uint32_t i = 0; i < set->count; i++) {
        put(out, "%s%u:%u", i > 0 ? "," : "", set->ranges[i].first, set->ranges[i].last);
    }
    if (set->open_from > 0) {
        put(out, "%s%u:*", set->count > 0 ? "," : "", set->open_from);
    }
}

static void put_flags(struct out *out, const struct imap_flags *flags)
{
    put(out, " flags=%x", flags->system);
    put_texts(out, "k", flags->keywords);
}

static void put_key(struct out *out, const struct imap_search_key *key)
{
    put(out, " %s%d", key->fuzzy ? "~" : "", key->kind);
    switch ((enum imap_search_kind)key->kind) {
    case IMAP_SEARCH_AND:
    case IMAP_SEARCH_OR:
    case IMAP_SEARCH_NOT:
        put(out, "(");
        for (uint32_t i = 0; i < key->count; i++) {
            put_key(out, &key->keys[i]);
        }
        put(out, " )");
        return;
    case IMAP_SEARCH_NUMBERS:
    case IMAP_SEARCH_UIDS:
        put_set(out, &key->set);
        return;
    case IMAP_SEARCH_FLAG:
    case IMAP_SEARCH_UNFLAG:
        put(out, " %x", key->flag);
        return;
    case IMAP_SEARCH_HEADER:
        put_slice(out, "name", key->name);
        put_slice(out, "text", key->text);
        return;
    case IMAP_SEARCH_BEFORE:
    case IMAP_SEARCH_ON:
    case IMAP_SEARCH_SINCE:
    case IMAP_SEARCH_SENTBEFORE:
    case IMAP_SEARCH_SENTON:
    case IMAP_SEARCH_SENTSINCE:
    case IMAP_SEARCH_SAVEDBEFORE:
    case IMAP_SEARCH_SAVEDON:
    case IMAP_SEARCH_SAVEDSINCE:
        put(out, " day=%d", key->day);
        return;
    case IMAP_SEARCH_LARGER:
    case IMAP_SEARCH_SMALLER:
    case IMAP_SEARCH_OLDER:
    case IMAP_SEARCH_YOUNGER:
        put(out, " %llu", (unsigned long long)key->number);
        return;
    case IMAP_SEARCH_MODSEQ:
        put(out, " %llu", (unsigned long long)key->number);
        put_slice(out, "entry", key->text);
        return;
    case IMAP_SEARCH_KEYWORD:
    case IMAP_SEARCH_UNKEYWORD:
    case IMAP_SEARCH_FROM:
    case IMAP_SEARCH_TO:
    case IMAP_SEARCH_CC:
    case IMAP_SEARCH_BCC:
    case IMAP_SEARCH_SUBJECT:
    case IMAP_SEARCH_BODY:
    case IMAP_SEARCH_TEXT:
    case IMAP_SEARCH_EMAILID:
    case IMAP_SEARCH_THREADID:
        put_slice(out, "text", key->text);
        return;
    case IMAP_SEARCH_ALL:
    case IMAP_SEARCH_NEW:
    case IMAP_SEARCH_OLD:
    case IMAP_SEARCH_RECENT:
    case IMAP_SEARCH_SAVEDATESUPPORTED:
        return;
    }
}

static void put_partial(struct out *out, const struct imap_partial *partial)
{
    put(out, " partial=%s%u:%u", partial->from_end ? "-" : "", partial->first, partial->last);
}

static void put_items(struct out *out, const struct imap_fetch_item *items, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct imap_fetch_item *item = &items[i];
        put(out, " %d%s%s", item->kind, item->peek ? "p" : "", item->lazy ? "z" : "");
        for (uint32_t part = 0; part < item->section.part_count; part++) {
            put(out, "%s%u", part > 0 ? "." : "[", item->section.parts[part]);
        }
        if (item->section.text != IMAP_SECTION_ALL) {
            put(out, "/%d", item->section.text);
        }
        put_texts(out, "f", item->section.fields);
        if (item->partial) {
            put(out, " <%u.%u>", item->partial_first, item->partial_bytes);
        }
    }
}

static void put_search(struct out *out, const struct imap_search *search)
{
    if (search->extended) {
        put(out, " return=%x", search->returns);
    }
    if (search->partial.first > 0) {
        put_partial(out, &search->partial);
    }
    if (search->charset.size > 0) {
        put_slice(out, "charset", search->charset);
    }
    if (search->update_count > 0) {
        put_items(out, search->update, search->update_count);
    }
    for (uint32_t i = 0; i < search->sort_count; i++) {
        put(out, " %s%d", search->sort[i].reverse ? "-" : "+", search->sort[i].kind);
    }
    put_key(out, &search->key);
}

static void put_select(struct out *out, const struct imap_select *select)
{
    put_slice(out, "mailbox", select->mailbox);
    put(out, "%s", select->condstore ? " condstore" : "");
    if (!select->qresync) {
        return;
    }
    put(out, " qresync %u %llu", select->uid_validity, (unsigned long long)select->mod_sequence);
    if (select->known_uids_given) {
        put_set(out, &select->known_uids);
    }
    if (select->match_given) {
        put_set(out, &select->match_numbers);
        put_set(out, &select->match_uids);
    }
}

static void put_list(struct out *out, const struct imap_list *list)
{
    put(out, "%s", list->extended ? " extended" : "");
    put_slice(out, "reference", list->reference);
    put_texts(out, "pattern", list->patterns);
    put(out, " select=%x return=%x status=%x", list->select, list->returns, list->status_items);
    put_texts(out, "metadata", list->metadata);
}

static void put_fetch(struct out *out, const struct imap_fetch *fetch)
{
    put_set(out, &fetch->set);
    put_items(out, fetch->items, fetch->count);
    if (fetch->changed_since_given) {
        put(out, " since=%llu", (unsigned long long)fetch->changed_since);
    }
    put(out, "%s", fetch->vanished ? " vanished" : "");
    if (fetch->partial_given) {
        put_partial(out, &fetch->partial);
    }
}

static void put_store(struct out *out, const struct imap_store *store)
{
    put_set(out, &store->set);
    put(out, " mode=%d%s", store->mode, store->silent ? " silent" : "");
    if (store->unchanged_since_given) {
        put(out, " since=%llu", (unsigned long long)store->unchanged_since);
    }
    put_flags(out, &store->flags);
}

static void put_pairs(struct out *out, const struct imap_pair *pairs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        put_slice(out, "name", pairs[i].name);
        if (pairs[i].nil) {
            put(out, " nil");
        } else {
            put_slice(out, "value", pairs[i].value);
        }
    }
}

static void put_metadata(struct out *out, const struct imap_metadata *metadata)
{
    if (metadata->of_server) {
        put(out, " server");
    } else {
        put_slice(out, "mailbox", metadata->mailbox);
    }
    if (metadata->size_max_given) {
        put(out, " maxsize=%u", metadata->size_max);
    }
    put(out, " depth=%d", metadata->depth);
    put_texts(out, "entry", metadata->entries);
    put_pairs(out, metadata->values, metadata->value_count);
}

static void put_notify(struct out *out, const struct imap_notify *notify)
{
    put(out, "%s", notify->status ? " status" : "");
    for (uint32_t i = 0; i < notify->count; i++) {
        const struct imap_notify_group *group = &notify->groups[i];
        put(out, " (%d", group->filter);
        put_texts(out, "m", group->mailboxes);
        put(out, " events=%x", group->events);
        put_items(out, group->fetch, group->fetch_count);
        put(out, ")");
    }
}

static void put_quota(struct out *out, const struct imap_quota *quota)
{
    put_slice(out, "root", quota->root);
    for (uint32_t i = 0; i < quota->count; i++) {
        put_slice(out, "r", quota->limits[i].resource);
        put(out, " %llu", (unsigned long long)quota->limits[i].limit);
    }
}

static void put_acl(struct out *out, const struct imap_acl *acl)
{
    put_slice(out, "mailbox", acl->mailbox);
    put_slice(out, "who", acl->identifier);
    put(out, " mode=%d", acl->mode);
    put_slice(out, "rights", acl->rights);
}

static void put_small(struct out *out, const struct imap_command *command)
{
    switch (command->kind) {
    case IMAP_LOGIN:
        put_slice(out, "user", command->login.user);
        put_slice(out, "password", command->login.password);
        break;
    case IMAP_AUTHENTICATE:
        put_slice(out, "mechanism", command->authenticate.mechanism);
        if (command->authenticate.initial_given) {
            put_slice(out, "initial", command->authenticate.initial);
        }
        break;
    case IMAP_ENABLE:
        put(out, " %x", command->enable);
        break;
    case IMAP_ID:
        put_pairs(out, command->id.pairs, command->id.count);
        break;
    case IMAP_RENAME:
        put_slice(out, "from", command->rename.from);
        put_slice(out, "to", command->rename.to);
        break;
    case IMAP_STATUS:
        put_slice(out, "mailbox", command->status.mailbox);
        put(out, " %x", command->status.items);
        break;
    case IMAP_EXPUNGE:
        if (command->uid) {
            put_set(out, &command->expunge);
        }
        break;
    case IMAP_COPY:
    case IMAP_MOVE:
        put_set(out, &command->copy.set);
        put_slice(out, "mailbox", command->copy.mailbox);
        break;
    case IMAP_CANCELUPDATE:
        put_texts(out, "tag", command->tags);
        break;
    case IMAP_APPEND:
    case IMAP_REPLACE:
        put_slice(out, "mailbox", command->appended.mailbox);
        put(out, " %u", command->appended.messages);
        break;
    case IMAP_CREATE:
    case IMAP_DELETE:
    case IMAP_SUBSCRIBE:
    case IMAP_UNSUBSCRIBE:
    case IMAP_GETQUOTAROOT:
    case IMAP_GETACL:
    case IMAP_MYRIGHTS:
        put_slice(out, "mailbox", command->mailbox.name);
        if (command->mailbox.special_use > 0) {
            put(out, " use=%x", command->mailbox.special_use);
        }
        break;
    default: /* has no arguments, or is in imap_dump */
        break;
    }
}

void imap_dump(const struct imap_command *command, char *text, size_t room)
{
    struct out out = {text, 0, room};
    text[0] = '\0';
    put(&out, "%.*s%s%s", (int)command->tag.size, (const char *)command->tag.bytes,
        command->uid ? " uid" : "", command->condstore ? " +condstore" : "");
    switch (command->kind) {
    case IMAP_SELECT:
    case IMAP_EXAMINE:
        put_select(&out, &command->select);
        return;
    case IMAP_LIST:
    case IMAP_LSUB:
        put_list(&out, &command->list);
        return;
    case IMAP_SEARCH:
    case IMAP_SORT:
        put_search(&out, &command->search);
        return;
    case IMAP_THREAD:
        put(&out, " by=%d", command->search.thread);
        put_search(&out, &command->search);
        return;
    case IMAP_FETCH:
        put_fetch(&out, &command->fetch);
        return;
    case IMAP_STORE:
        put_store(&out, &command->store);
        return;
    case IMAP_GETQUOTA:
    case IMAP_SETQUOTA:
        put_quota(&out, &command->quota);
        return;
    case IMAP_SETACL:
    case IMAP_DELETEACL:
    case IMAP_LISTRIGHTS:
        put_acl(&out, &command->acl);
        return;
    case IMAP_GETMETADATA:
    case IMAP_SETMETADATA:
        put_metadata(&out, &command->metadata);
        return;
    case IMAP_NOTIFY:
        put_notify(&out, &command->notify);
        return;
    default:
        put_small(&out, command);
        return;
    }
}

void imap_dump_append(const struct imap_append *append, char *text, size_t room)
{
    struct out out = {text, 0, room};
    text[0] = '\0';
    put_slice(&out, "mailbox", append->mailbox);
    if (append->replace) {
        put(&out, " %s%s%u", append->uid ? "uid " : "", append->star ? "*" : "", append->number);
    }
    put_flags(&out, &append->flags);
    if (append->date_given) {
        put(&out, " date=%lld zone=%d", (long long)append->date_s, append->zone_minutes);
    }
    put(&out, "%s%s%s %llu", append->catenate ? " catenate" : "", append->binary ? " binary" : "",
        append->utf8 ? " utf8" : "", (unsigned long long)append->bytes);
}
