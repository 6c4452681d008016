/* Commands of tubepost mailbox for all users, or those of a mask, as doveadm's -A and -u. */
#include "engine/control/words.h"
#include "engine/main/tubepost_mailbox.h"
#include <stdlib.h>
#include <string.h>

#define CURSOR_BYTES 256

bool users_are_masked(const char *user)
{
    return strpbrk(user, "*?") != NULL;
}

void user_print(const struct mailbox_options *options)
{
    if (options->several) {
        mailbox_print(stdout, options->user);
        putchar(' ');
    }
}

void user_print_json(const struct mailbox_options *options, json_t *line)
{
    if (options->several) {
        json_t *with = json_pack("{s:o}", "username", mailbox_json(slice_text(options->user)));
        json_object_update(with, line);
        json_decref(line);
        line = with;
    }
    tool_print_json(line);
    json_decref(line);
}

/* ---- Who they are ---- */

struct page {
    struct name_list names;
    char cursor[CURSOR_BYTES]; /* "": it is the last one */
};

static void user_keep(void *owner, const json_t *line)
{
    const char *user = json_string_value(json_object_get(line, "user"));
    if (user != NULL) {
        name_list_add((struct name_list *)owner, user, strlen(user));
    }
}

/* The page behind page->cursor. The connection is not kept: the commands make their own. */
static int page_ask(struct tool *tool, const char *mask, struct page *page)
{
    char request[REQUEST_MAX] = "mailbox users";
    size_t used = strlen(request);
    json_t *last = NULL;
    if ((mask != NULL &&
         control_word_append(request, sizeof request, &used, "user", slice_text(mask)) < 0) ||
        (page->cursor[0] != '\0' && control_word_append(request, sizeof request, &used, "cursor",
                                                        slice_text(page->cursor)) < 0)) {
        return tool_fail(EX_USAGE, "the user's name is too long");
    }
    int code = tool_ask(tool, request, user_keep, &page->names, &last);
    const char *next = json_string_value(json_object_get(last, "next"));
    snprintf(page->cursor, sizeof page->cursor, "%s", next != NULL ? next : "");
    json_decref(last);
    tool_leave(tool);
    return code == EX_OK && page->names.failed ? tool_fail(EX_OSERR, "out of memory") : code;
}

/* ---- Each of them ---- */

/* Is it wrong with this user, and may be right with the next one? What cannot be made is of his name, too: an export of
 * some that was cut is run again, and finds those that were done. */
static bool is_of_one_user(int code)
{
    return code == EX_DATAERR || code == EX_TEMPFAIL || code == EX_CANTCREAT;
}

static int page_run(struct tool *tool, const struct page *page, struct mailbox_options *options,
                    int (*run)(struct tool *tool, const struct mailbox_options *options))
{
    int first_code = EX_OK, code = EX_OK;
    for (size_t i = 0; i < page->names.count && (code == EX_OK || is_of_one_user(code)); i++) {
        options->user = page->names.names[i];
        tool_about(options->user);
        code = run(tool, options);
        tool_about(NULL);
        tool_leave(tool);
        options->first = false;
        first_code = first_code == EX_OK ? code : first_code;
    }
    return code == EX_OK || is_of_one_user(code) ? first_code : code;
}

int users_each(struct tool *tool, const struct mailbox_options *options,
               int (*run)(struct tool *tool, const struct mailbox_options *options))
{
    struct mailbox_options each = *options;
    struct page page = {.cursor = ""};
    int first_code = EX_OK, code = EX_OK;
    each.several = each.first = true;
    do {
        code = page_ask(tool, options->user, &page);
        code = code == EX_OK ? page_run(tool, &page, &each, run) : code;
        first_code = first_code == EX_OK ? code : first_code;
        name_list_free(&page.names);
    } while (page.cursor[0] != '\0' && (code == EX_OK || is_of_one_user(code)));
    code = code == EX_OK || is_of_one_user(code) ? first_code : code;
    return code == EX_OK && each.first && options->user != NULL
               ? tool_fail(EX_DATAERR, "nobody who has mail is called %s", options->user)
               : code;
}
