#include "proto/sieve/run_private.h"

struct slice sieve_trim(struct slice text)
{
    while (text.size > 0 && text.bytes[0] != '\0' && strchr(" \t\r\n", text.bytes[0]) != NULL) {
        text = slice_from(text, 1);
    }
    while (text.size > 0 && text.bytes[text.size - 1] != '\0' &&
           strchr(" \t\r\n", text.bytes[text.size - 1]) != NULL) {
        text.size--;
    }
    return text;
}

/* Who does not ask for the next one goes through the header from the top. */
static bool original(struct sieve_run *run, struct slice name, uint32_t index,
                     enum sieve_field_form form, struct slice *value)
{
    run->work += 8;
    run->work += index == 0 || index != run->field_next ? run->message->header_bytes / 4 : 0;
    bool found = run->message->field != NULL && index < SIEVE_FIELDS_MAX &&
                 run->message->field(run->message->self, name, index, form, value);
    run->field_next = found ? index + 1 : 0;
    return found;
}

static uint32_t original_count(struct sieve_run *run, struct slice name)
{
    struct slice value;
    uint32_t count = 0;
    while (original(run, name, count, SIEVE_FIELD_RAW, &value)) {
        count++;
    }
    return count;
}

/* ---- The header as the edits so far have made it ---- */

/* Where a field comes from: an edit that added it, or the message. */
struct place {
    int32_t edit; /* -1: the message */
    uint32_t index;
};

struct places {
    struct place at[SIEVE_FIELDS_MAX + SIEVE_EDITS_MAX];
    uint32_t count;
};

static void place_insert(struct places *places, uint32_t at, struct place place)
{
    memmove(&places->at[at + 1], &places->at[at], (places->count - at) * sizeof(places->at[0]));
    places->at[at] = place;
    places->count++;
}

static void place_remove(struct places *places, uint32_t at)
{
    places->count--;
    memmove(&places->at[at], &places->at[at + 1], (places->count - at) * sizeof(places->at[0]));
}

/* NULL: no memory, and the script has failed. */
static struct places *places_find(struct sieve_run *run, struct slice name)
{
    struct places *places = arena_take(&run->scratch, sizeof(*places));
    if (places == NULL) {
        sieve_fail_memory(run);
        return NULL;
    }
    uint32_t count = original_count(run, name);
    for (uint32_t i = 0; i < count; i++) {
        places->at[places->count++] = (struct place){.edit = -1, .index = i};
    }
    for (uint32_t i = 0; i < run->result.edit_count; i++) {
        const struct sieve_edit *edit = &run->edits[i];
        run->work++;
        if (!slice_equal_nocase(edit->name, name)) {
            continue;
        }
        if (edit->kind == SIEVE_EDIT_ADD) {
            place_insert(places, edit->last ? places->count : 0,
                         (struct place){.edit = (int32_t)i});
        } else if (edit->index < places->count) {
            place_remove(places, edit->index);
        }
    }
    return places;
}

static bool edited(const struct sieve_run *run, struct slice name)
{
    for (uint32_t i = 0; i < run->result.edit_count; i++) {
        if (slice_equal_nocase(run->edits[i].name, name)) {
            return true;
        }
    }
    return false;
}

uint32_t sieve_field_count(struct sieve_run *run, struct slice name)
{
    if (!edited(run, name)) {
        return original_count(run, name);
    }
    const struct places *places = places_find(run, name);
    return places != NULL ? places->count : 0;
}

bool sieve_field(struct sieve_run *run, struct slice name, uint32_t index,
                 enum sieve_field_form form, struct slice *value)
{
    if (!edited(run, name)) {
        return original(run, name, index, form, value);
    }
    const struct places *places = places_find(run, name);
    if (places == NULL || index >= places->count) {
        return false;
    }
    struct place place = places->at[index];
    if (place.edit < 0) {
        return original(run, name, place.index, form, value);
    }
    *value = run->edits[place.edit].value;
    return true;
}

void sieve_field_range(struct sieve_run *run, struct slice name, uint32_t *begin, uint32_t *end)
{
    uint64_t index = run->instruction.index;
    *begin = 0;
    if (index == 0) {
        *end = SIEVE_FIELDS_MAX + SIEVE_EDITS_MAX;
        return;
    }
    uint32_t count = sieve_field_count(run, name);
    *end = count;
    if (index > count) {
        *end = 0;
    } else {
        *begin =
            (run->instruction.flags & SIEVE_LAST) ? count - (uint32_t)index : (uint32_t)index - 1;
        *end = *begin + 1;
    }
}

/* ---- addheader, deleteheader (RFC 5293) ---- */

static bool name_get(struct sieve_run *run, struct slice *name)
{
    if (!sieve_operand(run, 0, name)) {
        return false;
    }
    bool good = name->size > 0 && name->size <= 256;
    for (size_t i = 0; i < name->size; i++) {
        good = good && name->bytes[i] > ' ' && name->bytes[i] <= '~' && name->bytes[i] != ':';
    }
    return good || sieve_fail(run, "this is no name for a header field");
}

static bool edit_add(struct sieve_run *run, const struct sieve_edit *edit)
{
    if (run->result.edit_count == SIEVE_EDITS_MAX) {
        return sieve_fail(run, "the script edits the header too often");
    }
    struct sieve_edit *place = &run->edits[run->result.edit_count];
    *place = *edit;
    if (!arena_copy(&run->arena, edit->name, &place->name) ||
        !arena_copy(&run->arena, edit->value, &place->value)) {
        return sieve_fail_memory(run);
    }
    run->result.edit_count++;
    return true;
}

/* One line: what ends a line would begin another field. */
static bool unfold(struct sieve_run *run, struct slice text, struct slice *line)
{
    uint8_t *bytes = arena_take(&run->scratch, text.size);
    if (bytes == NULL) {
        return sieve_fail_memory(run);
    }
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.bytes[i];
        if (byte == '\0') {
            return sieve_fail(run, "a header field cannot hold NUL");
        }
        bytes[i] = byte == '\r' || byte == '\n' ? ' ' : byte;
    }
    *line = sieve_trim(slice_of(bytes, text.size));
    return true;
}

bool sieve_addheader_run(struct sieve_run *run)
{
    struct sieve_edit edit = {.kind = SIEVE_EDIT_ADD,
                              .last = (run->instruction.flags & SIEVE_LAST) != 0};
    struct slice text;
    return name_get(run, &edit.name) && sieve_operand(run, 1, &text) &&
           unfold(run, sieve_cut(text, SIEVE_VALUE_BYTES_MAX), &edit.value) && edit_add(run, &edit);
}

bool sieve_deleteheader_run(struct sieve_run *run)
{
    struct sieve_edit edit = {.kind = SIEVE_EDIT_DELETE};
    struct sieve_list keys = run->instruction.lists[0];
    uint32_t begin, end;
    if (!name_get(run, &edit.name)) {
        return false;
    }
    if (slice_equal_nocase(edit.name, slice_text("Received")) ||
        slice_equal_nocase(edit.name, slice_text("Auto-Submitted"))) {
        return true; /* RFC 5293 §6 */
    }
    sieve_field_range(run, edit.name, &begin, &end);
    if (run->instruction.index == 0) {
        end = sieve_field_count(run, edit.name);
    }
    /* From the end: the numbers of those before do not change. */
    while (end > begin) {
        struct slice value;
        struct sieve_matcher matcher;
        bool deleted = !keys.present, saved = run->test;
        end--;
        if (keys.present) {
            if (!sieve_field(run, edit.name, end, SIEVE_FIELD_TEXT, &value)) {
                break;
            }
            if (!sieve_matcher_open(&matcher, run, keys)) {
                return false;
            }
            sieve_matcher_offer(&matcher, sieve_trim(value));
            if (!sieve_matcher_close(&matcher)) {
                return false;
            }
            deleted = run->test;
            run->test = saved;
        }
        edit.index = end;
        if (run->work > run->work_max) {
            break;
        }
        if (deleted && !edit_add(run, &edit)) {
            return false;
        }
    }
    return true;
}
