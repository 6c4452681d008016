#include "engine/mailbox/sieve_scripts.h"
#include "engine/core/check.h"
#include <stdio.h>
#include <stdlib.h>

/* Longest ago used last. Owned, with all that is in it. */
struct kept {
    struct list_node node;
    char user[MAILSTORE_USER_BYTES_MAX + 1];
    uint8_t *text;
    size_t text_bytes;
    uint8_t *code;
    struct sieve_program program;
    bool includes; /* of other scripts: good for this one time */
};

struct sieve_scripts {
    struct mailstore *store;
    struct list_node kept;
    uint32_t count, count_max;
    struct sieve_scripts_counters counters;
};

int sieve_scripts_open(struct sieve_scripts **made, struct mailstore *store, uint32_t count_max)
{
    struct sieve_scripts *scripts = (struct sieve_scripts *)calloc(1, sizeof *scripts);
    if (scripts == NULL) {
        return -ENOMEM;
    }
    check(count_max > 0);
    scripts->store = store;
    scripts->count_max = count_max;
    list_init(&scripts->kept);
    *made = scripts;
    return 0;
}

static struct kept *kept_of(struct list_node *node)
{
    return list_entry(node, struct kept, node);
}

static void kept_free(struct sieve_scripts *scripts, struct kept *kept)
{
    list_remove(&kept->node);
    scripts->count--;
    sieve_program_close(&kept->program);
    free(kept->code);
    free(kept->text);
    free(kept);
}

void sieve_scripts_close(struct sieve_scripts *scripts)
{
    while (scripts != NULL && !list_empty(&scripts->kept)) {
        kept_free(scripts, kept_of(scripts->kept.next));
    }
    free(scripts);
}

/* ---- The user's properties ---- */

static int property_get(const struct sieve_scripts *scripts, const struct mailstore_user *user,
                        struct slice key, struct slice *value)
{
    struct mailstore_property property = {.key = key};
    int status = mailstore_property_get(scripts->store, user, &property);
    *value = status == 0 ? property.value : slice_of(NULL, 0);
    return status;
}

static int script_get(const struct sieve_scripts *scripts, const struct mailstore_user *user,
                      struct slice name, struct slice *text)
{
    char key[sizeof SIEVE_SCRIPT_KEY + MAILSTORE_PROPERTY_KEY_BYTES_MAX];
    if (name.size > MAILSTORE_PROPERTY_KEY_BYTES_MAX - (sizeof SIEVE_SCRIPT_KEY - 1)) {
        return -ENOENT;
    }
    int size = snprintf(key, sizeof key, SIEVE_SCRIPT_KEY "%.*s", (int)name.size,
                        (const char *)name.bytes);
    return property_get(scripts, user, slice_of(key, (size_t)size), text);
}

static int active_get(const struct sieve_scripts *scripts, const struct mailstore_user *user,
                      struct slice *text)
{
    struct slice name;
    int status = property_get(scripts, user, slice_text(SIEVE_ACTIVE_KEY), &name);
    status = status == 0 ? script_get(scripts, user, name, text) : status;
    free((void *)(uintptr_t)name.bytes);
    return status;
}

/* ---- Compiling ---- */

static enum sieve_compiled includes_give(const struct sieve_scripts *scripts,
                                         const struct mailstore_user *user,
                                         struct sieve_compiler *compiler)
{
    struct sieve_need need = sieve_compile_need(compiler);
    struct slice text = slice_of(NULL, 0);
    if (need.location != SIEVE_PERSONAL || script_get(scripts, user, need.name, &text) != 0) {
        return sieve_compile_absent(compiler);
    }
    enum sieve_compiled compiled = sieve_compile(compiler, text);
    free((void *)(uintptr_t)text.bytes);
    return compiled;
}

static int compiled_take(struct kept *kept, struct slice code)
{
    kept->code = (uint8_t *)malloc(code.size);
    if (kept->code == NULL) {
        return -ENOMEM;
    }
    memcpy(kept->code, code.bytes, code.size);
    return sieve_program_open(&kept->program, slice_of(kept->code, code.size));
}

static int compile(const struct sieve_scripts *scripts, const struct mailstore_user *user,
                   struct kept *kept, struct sieve_error *error)
{
    const struct sieve_compile_settings settings = {.extensions = SIEVE_EXTENSIONS_HERE};
    struct sieve_compiler *compiler = sieve_compiler_open(&settings);
    if (compiler == NULL) {
        return -ENOMEM;
    }
    enum sieve_compiled compiled = sieve_compile(compiler, slice_of(kept->text, kept->text_bytes));
    while (compiled == SIEVE_COMPILE_NEED) {
        kept->includes = true;
        compiled = includes_give(scripts, user, compiler);
    }
    int status = -EINVAL;
    if (compiled == SIEVE_COMPILE_GOOD) {
        status = compiled_take(kept, sieve_compiled_program(compiler));
    } else {
        *error = *sieve_compile_error(compiler);
    }
    sieve_compiler_close(compiler);
    return status;
}

/* ---- What is kept ---- */

static struct kept *kept_find(struct sieve_scripts *scripts, const char *user)
{
    struct list_node *node = scripts->kept.next;
    while (node != &scripts->kept && strcmp(kept_of(node)->user, user) != 0) {
        node = node->next;
    }
    return node != &scripts->kept ? kept_of(node) : NULL;
}

/* Takes the text. NULL: memory is short, and the text is freed. */
static struct kept *kept_new(struct sieve_scripts *scripts, const char *user, struct slice text)
{
    struct kept *kept = (struct kept *)calloc(1, sizeof *kept);
    if (kept == NULL) {
        free((void *)(uintptr_t)text.bytes);
        return NULL;
    }
    if (scripts->count == scripts->count_max) {
        kept_free(scripts, kept_of(scripts->kept.prev));
    }
    snprintf(kept->user, sizeof kept->user, "%s", user);
    kept->text = (uint8_t *)(uintptr_t)text.bytes;
    kept->text_bytes = text.size;
    check(scripts->kept.next != NULL); /* a list is a ring: the analyser cannot know */
    list_prepend(&scripts->kept, &kept->node);
    scripts->count++;
    return kept;
}

int sieve_scripts_active(struct sieve_scripts *scripts, const struct mailstore_user *user,
                         const struct sieve_program **program, struct sieve_error *error)
{
    struct slice text;
    int status = active_get(scripts, user, &text);
    if (status != 0) {
        return status;
    }
    struct kept *kept = kept_find(scripts, user->name);
    if (kept != NULL && !kept->includes &&
        slice_equal(text, slice_of(kept->text, kept->text_bytes))) {
        free((void *)(uintptr_t)text.bytes);
    } else {
        if (kept != NULL) {
            kept_free(scripts, kept);
        }
        kept = kept_new(scripts, user->name, text);
        if (kept == NULL) {
            return -ENOMEM;
        }
        scripts->counters.compiled++;
        status = compile(scripts, user, kept, error);
        if (status != 0) {
            kept_free(scripts, kept);
            return status;
        }
    }
    list_remove(&kept->node);
    list_prepend(&scripts->kept, &kept->node);
    *program = &kept->program;
    return 0;
}

uint32_t sieve_scripts_want(struct sieve_scripts *scripts, const struct mailstore_user *user)
{
    const struct sieve_program *program;
    struct sieve_error error;
    uint64_t compiled = scripts->counters.compiled;
    int status = sieve_scripts_active(scripts, user, &program, &error);
    if (status != 0) {
        return status == -ENOENT ? 0 : SIEVE_SCRIPTS_HEADER; /* it may be better when it runs */
    }
    scripts->counters.found += scripts->counters.compiled == compiled;
    return SIEVE_SCRIPTS_HEADER | (program->reads_body ? SIEVE_SCRIPTS_BODY : 0u) |
           (program->edits_header ? SIEVE_SCRIPTS_EDIT : 0u) |
           (program->asks_mailboxes ? SIEVE_SCRIPTS_MAILBOXES : 0u);
}

const struct sieve_scripts_counters *sieve_scripts_counters(const struct sieve_scripts *scripts)
{
    return &scripts->counters;
}
