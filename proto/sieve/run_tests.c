#include "proto/sieve/run_private.h"
#include "proto/message/address_list.h"
#include "proto/sieve/moment.h"
#include <errno.h>

/* ---- Addresses (RFC 5228 §5.1, RFC 5233) ---- */

/* A local part without its quotes, into room as large as it. */
static struct slice unquoted(struct slice local, uint8_t *room)
{
    if (local.size < 2 || local.bytes[0] != '"') {
        return local;
    }
    size_t used = 0;
    for (size_t i = 1; i + 1 < local.size; i++) {
        if (local.bytes[i] == '\\' && i + 2 < local.size) {
            i++;
        }
        room[used++] = local.bytes[i];
    }
    return slice_of(room, used);
}

/* False: the address has no such part. */
static bool part_get(const struct sieve_run *run, struct slice address, uint8_t *room,
                     struct slice *part)
{
    const uint8_t *at = address.size > 0 ? memrchr(address.bytes, '@', address.size) : NULL;
    size_t local_size = at != NULL ? (size_t)(at - address.bytes) : address.size;
    struct slice local = unquoted(slice_first(address, local_size), room);
    struct slice separator = run->settings->separator;
    const uint8_t *mark = separator.size > 0 && local.size > 0
                              ? memmem(local.bytes, local.size, separator.bytes, separator.size)
                              : NULL;
    *part = local;
    switch ((enum sieve_part)run->instruction.part) {
    case SIEVE_ALL:
        *part = address;
        return true;
    case SIEVE_LOCALPART:
        return true;
    case SIEVE_DOMAIN:
        *part = slice_from(address, local_size + 1);
        return at != NULL;
    case SIEVE_USER:
        *part = mark != NULL ? slice_first(local, (size_t)(mark - local.bytes)) : local;
        return true;
    case SIEVE_DETAIL:
        if (mark != NULL) {
            *part = slice_from(local, (size_t)(mark - local.bytes) + separator.size);
        }
        return mark != NULL;
    case SIEVE_PARTS:
        break;
    }
    return false;
}

static bool address_offer(struct sieve_matcher *matcher, struct slice address)
{
    uint8_t room[1024];
    struct slice part;
    return part_get(matcher->run, slice_first(address, sizeof(room)), room, &part) &&
           sieve_matcher_offer(matcher, part);
}

/* Those of one field. What cannot be read counts as a whole. */
static bool addresses_offer(struct sieve_matcher *matcher, struct slice value)
{
    char mailbox[1024];
    size_t size;
    struct slice list = value;
    matcher->run->work += value.size / 4;
    for (int status; (status = address_list_next(&list, mailbox, sizeof(mailbox), &size)) != 0;) {
        bool enough = false;
        if (status == 1) {
            enough = address_offer(matcher, slice_of(mailbox, size));
        } else if (status == -EINVAL && matcher->run->instruction.part == SIEVE_ALL) {
            enough = sieve_matcher_offer(matcher, sieve_trim(value));
        }
        if (enough) {
            return true;
        }
    }
    return false;
}

/* `header` and `address`. */
static bool header_run(struct sieve_run *run)
{
    bool addresses = run->instruction.operation == SIEVE_OP_ADDRESS;
    struct sieve_list names = run->instruction.lists[0];
    struct slice *texts;
    struct sieve_matcher matcher;
    if (!sieve_list_strings(run, names, &texts) ||
        !sieve_matcher_open(&matcher, run, run->instruction.lists[1])) {
        return false;
    }
    bool enough = false;
    for (uint32_t i = 0; i < names.count && !enough; i++) {
        uint32_t begin, end;
        sieve_field_range(run, texts[i], &begin, &end);
        for (; begin < end && !enough; begin++) {
            struct slice value;
            if (!sieve_field(run, texts[i], begin, addresses ? SIEVE_FIELD_RAW : SIEVE_FIELD_TEXT,
                             &value)) {
                break;
            }
            enough = addresses ? addresses_offer(&matcher, value)
                               : sieve_matcher_offer(&matcher, sieve_trim(value));
            enough = enough || run->work > run->work_max;
        }
        enough = enough || run->work > run->work_max;
    }
    return sieve_matcher_close(&matcher);
}

static bool envelope_run(struct sieve_run *run)
{
    struct sieve_list names = run->instruction.lists[0];
    struct slice *texts;
    struct sieve_matcher matcher;
    if (!sieve_list_strings(run, names, &texts) ||
        !sieve_matcher_open(&matcher, run, run->instruction.lists[1])) {
        return false;
    }
    bool enough = false;
    for (uint32_t i = 0; i < names.count && !enough; i++) {
        if (slice_equal_nocase(texts[i], slice_text("to"))) {
            enough = address_offer(&matcher, run->message->envelope_to);
        } else if (slice_equal_nocase(texts[i], slice_text("from"))) {
            /* RFC 5228 §5.4: the null path is the empty string, whichever part is asked for. */
            enough = run->message->envelope_from.size == 0
                         ? sieve_matcher_offer(&matcher, run->message->envelope_from)
                         : address_offer(&matcher, run->message->envelope_from);
        }
    }
    return sieve_matcher_close(&matcher);
}

static bool exists_run(struct sieve_run *run)
{
    struct sieve_list names = run->instruction.lists[0];
    struct slice *texts;
    if (!sieve_list_strings(run, names, &texts)) {
        return false;
    }
    run->test = true;
    for (uint32_t i = 0; i < names.count && run->test && run->work <= run->work_max; i++) {
        struct slice value;
        run->test = sieve_field(run, texts[i], 0, SIEVE_FIELD_RAW, &value);
    }
    return true;
}

static bool string_run(struct sieve_run *run)
{
    struct sieve_list sources = run->instruction.lists[0];
    struct slice *texts;
    struct sieve_matcher matcher;
    if (!sieve_list_strings(run, sources, &texts) ||
        !sieve_matcher_open(&matcher, run, run->instruction.lists[1])) {
        return false;
    }
    bool counts = sieve_match_type(run->instruction.match) == SIEVE_COUNT;
    for (uint32_t i = 0; i < sources.count; i++) {
        /* RFC 5229 §5: empty strings do not count. */
        if (!(counts && texts[i].size == 0) && sieve_matcher_offer(&matcher, texts[i])) {
            break;
        }
    }
    return sieve_matcher_close(&matcher);
}

/* RFC 5232 §4: with each flag; :count counts those of all variables, each key's flags by themselves. */
static bool hasflag_run(struct sieve_run *run)
{
    struct sieve_list variables = run->instruction.lists[0];
    struct sieve_matcher matcher;
    uint32_t variable;
    if (!sieve_matcher_open(&matcher, run, run->instruction.lists[1])) {
        return false;
    }
    bool enough = false;
    while (!enough && sieve_list_next(&variables, &variable)) {
        struct slice flags = sieve_variable_get(run, variable), flag;
        while (!enough && sieve_flag_next(&flags, &flag)) {
            enough = sieve_matcher_offer(&matcher, flag);
        }
    }
    return sieve_matcher_close(&matcher);
}

/* ---- Dates (RFC 5260) ---- */

/* The zone that is wanted. False: what :zone says is none, and nothing matches. */
static bool zone_get(struct sieve_run *run, struct sieve_moment *moment, bool *good)
{
    struct slice zone;
    *good = true;
    switch ((enum sieve_zone)run->instruction.kind) {
    case SIEVE_ZONE_LOCAL:
        moment->zone_minutes = run->settings->zone_minutes;
        break;
    case SIEVE_ZONE_ORIGINAL:
        break;
    case SIEVE_ZONE_GIVEN:
        if (!sieve_operand(run, 0, &zone)) {
            return false;
        }
        *good = sieve_zone_read(zone, &moment->zone_minutes);
        break;
    }
    return true;
}

static bool moment_offer(struct sieve_matcher *matcher, struct sieve_moment *moment,
                         struct slice part)
{
    char room[SIEVE_MOMENT_PART_BYTES];
    bool good;
    if (!zone_get(matcher->run, moment, &good)) {
        return true;
    }
    size_t size = good ? sieve_moment_part(moment, part, room) : 0;
    return size > 0 && sieve_matcher_offer(matcher, slice_of(room, size));
}

static bool currentdate_run(struct sieve_run *run)
{
    struct sieve_moment moment = {run->settings->now_s, run->settings->zone_minutes};
    struct sieve_matcher matcher;
    struct slice part;
    if (!sieve_operand(run, 1, &part) ||
        !sieve_matcher_open(&matcher, run, run->instruction.lists[0])) {
        return false;
    }
    moment_offer(&matcher, &moment, part);
    return sieve_matcher_close(&matcher);
}

static bool date_run(struct sieve_run *run)
{
    struct sieve_matcher matcher;
    struct slice name, part, value;
    uint32_t begin, end;
    if (!sieve_operand(run, 1, &name) || !sieve_operand(run, 2, &part) ||
        !sieve_matcher_open(&matcher, run, run->instruction.lists[0])) {
        return false;
    }
    sieve_field_range(run, name, &begin, &end);
    for (; begin < end && sieve_field(run, name, begin, SIEVE_FIELD_RAW, &value); begin++) {
        struct sieve_moment moment;
        /* Of a Received: field, what is behind its last semicolon. */
        const uint8_t *mark = value.size > 0 ? memrchr(value.bytes, ';', value.size) : NULL;
        if (mark != NULL) {
            value = slice_from(value, (size_t)(mark - value.bytes) + 1);
        }
        run->work += value.size / 4;
        if (sieve_moment_read(value, &moment) && moment_offer(&matcher, &moment, part)) {
            break;
        }
    }
    return sieve_matcher_close(&matcher);
}

/* ---- The body (RFC 5173) ---- */

/* "text" is any text, "text/html" itself, "" all. */
static bool type_fits(struct slice type, struct slice wanted)
{
    type = type.size == 0 ? slice_text("text/plain") : type;
    if (wanted.size == 0) {
        return true;
    }
    if (memchr(wanted.bytes, '/', wanted.size) != NULL) {
        return slice_equal_nocase(type, wanted);
    }
    return type.size > wanted.size && type.bytes[wanted.size] == '/' &&
           slice_equal_nocase(slice_first(type, wanted.size), wanted);
}

static bool part_wanted(const struct slice *types, uint32_t count, struct slice type)
{
    for (uint32_t i = 0; i < count; i++) {
        if (type_fits(type, types[i])) {
            return true;
        }
    }
    return false;
}

static bool body_run(struct sieve_run *run)
{
    const struct sieve_message *message = run->message;
    struct sieve_list list = run->instruction.lists[0];
    struct slice text = slice_text("text"), *types = &text, body;
    struct sieve_matcher matcher;
    uint32_t count = 1;
    if (run->instruction.kind == SIEVE_BODY_CONTENT) {
        count = list.count;
        if (!sieve_list_strings(run, list, &types)) {
            return false;
        }
    }
    if (!sieve_matcher_open(&matcher, run, run->instruction.lists[1])) {
        return false;
    }
    if (run->instruction.kind == SIEVE_BODY_RAW) {
        if (message->body != NULL && message->body(message->self, &body)) {
            sieve_matcher_offer(&matcher, body);
        }
        return sieve_matcher_close(&matcher);
    }
    /* Each part is decoded, wanted or not. */
    if (message->body != NULL && message->body(message->self, &body)) {
        run->work += body.size / 4;
    }
    struct sieve_body_part part;
    for (uint32_t i = 0; i < SIEVE_FIELDS_MAX && message->body_part != NULL &&
                         message->body_part(message->self, i, &part);
         i++) {
        run->work += 16;
        if (part_wanted(types, count, part.type) && sieve_matcher_offer(&matcher, part.content)) {
            break;
        }
    }
    return sieve_matcher_close(&matcher);
}

static bool environment_run(struct sieve_run *run)
{
    const struct sieve_message *message = run->message;
    struct sieve_matcher matcher;
    struct slice name, value;
    if (!sieve_operand(run, 0, &name) ||
        !sieve_matcher_open(&matcher, run, run->instruction.lists[0])) {
        return false;
    }
    if (message->environment != NULL && message->environment(message->self, name, &value)) {
        sieve_matcher_offer(&matcher, value);
    }
    return sieve_matcher_close(&matcher);
}

/* ---- What a store must be asked ---- */

/* One mailbox after the other, as long as they exist. */
static bool mailboxexists_run(struct sieve_run *run)
{
    struct sieve_list names = run->instruction.lists[0];
    struct slice *texts;
    if (!sieve_list_strings(run, names, &texts)) {
        return false;
    }
    if (run->answered) {
        run->answered = false;
        run->test = run->answer;
        run->asked_index++;
        if (!run->test) {
            return true;
        }
    }
    run->test = true;
    if (run->asked_index < names.count) {
        run->asked =
            (struct sieve_asked){.want = SIEVE_WANT_MAILBOX, .name = texts[run->asked_index]};
    }
    return true;
}

/* The id: what is given, or the value of a field, which may be missing: then nothing is a duplicate. */
static bool id_get(struct sieve_run *run, struct slice *id, bool *found)
{
    struct slice name = slice_text("Message-ID");
    *found = true;
    if (run->instruction.strings[2] != SIEVE_NO_STRING) {
        return sieve_operand(run, 2, id);
    }
    if (run->instruction.strings[1] != SIEVE_NO_STRING && !sieve_operand(run, 1, &name)) {
        return false;
    }
    *found = sieve_field(run, name, 0, SIEVE_FIELD_RAW, id);
    if (*found) {
        *id = sieve_trim(*id);
        *found = id->size > 0;
    }
    return true;
}

static bool duplicate_run(struct sieve_run *run)
{
    struct slice id, handle;
    bool found, last = (run->instruction.flags & SIEVE_DUPLICATE_LAST) != 0;
    if (!id_get(run, &id, &found) || !sieve_operand(run, 0, &handle)) {
        return false;
    }
    run->test = false;
    if (!found) {
        return true;
    }
    uint64_t seconds = (run->instruction.flags & SIEVE_DUPLICATE_SECONDS)
                           ? run->instruction.number
                           : run->settings->duplicate_default_s;
    uint32_t most = run->settings->duplicate_max_s;
    seconds = most > 0 && seconds > most ? most : seconds > UINT32_MAX ? UINT32_MAX : seconds;
    if (!run->answered) {
        run->asked =
            (struct sieve_asked){SIEVE_WANT_DUPLICATE, id, handle, (uint32_t)seconds, last};
        return true;
    }
    run->answered = false;
    run->test = run->answer;
    if (run->test && !last) {
        return true; /* it is remembered from when it was first seen */
    }
    if (run->result.seen_count == SIEVE_DUPLICATES_MAX) {
        return sieve_fail(run, "the script looks for duplicates too often");
    }
    struct sieve_seen *seen = &run->seen[run->result.seen_count];
    seen->seconds = (uint32_t)seconds;
    if (!arena_copy(&run->arena, id, &seen->name) ||
        !arena_copy(&run->arena, handle, &seen->handle)) {
        return sieve_fail_memory(run);
    }
    run->result.seen_count++;
    return true;
}

static bool size_run(struct sieve_run *run)
{
    uint64_t size = run->message->size, limit = run->instruction.number;
    run->test = (run->instruction.flags & SIEVE_OVER) ? size > limit : size < limit;
    return true;
}

bool sieve_test_run(struct sieve_run *run)
{
    switch (run->instruction.operation) {
    case SIEVE_OP_TRUE:
        run->test = true;
        return true;
    case SIEVE_OP_FALSE:
        run->test = false;
        return true;
    case SIEVE_OP_NOT:
        run->test = !run->test;
        return true;
    case SIEVE_OP_ADDRESS:
    case SIEVE_OP_HEADER:
        return header_run(run);
    case SIEVE_OP_ENVELOPE:
        return envelope_run(run);
    case SIEVE_OP_EXISTS:
        return exists_run(run);
    case SIEVE_OP_SIZE:
        return size_run(run);
    case SIEVE_OP_STRING:
        return string_run(run);
    case SIEVE_OP_HASFLAG:
        return hasflag_run(run);
    case SIEVE_OP_DATE:
        return date_run(run);
    case SIEVE_OP_CURRENTDATE:
        return currentdate_run(run);
    case SIEVE_OP_BODY:
        return body_run(run);
    case SIEVE_OP_ENVIRONMENT:
        return environment_run(run);
    case SIEVE_OP_MAILBOXEXISTS:
        return mailboxexists_run(run);
    case SIEVE_OP_DUPLICATE:
        return duplicate_run(run);
    default:
        return sieve_fail(run, "the program is damaged");
    }
}
