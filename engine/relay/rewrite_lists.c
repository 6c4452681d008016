#include "engine/relay/rewrite_lists.h"
#include "engine/core/check.h"
#include "engine/core/limits.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define OWNER "owner-"

struct rewrite_list {
    uint32_t parent; /* counted from 1, as all are; 0: none */
    bool has_owner;
    bool of_owner;        /* it is an owner, or comes from one */
    uint16_t alias_bytes; /* of the text, "owner-NAME" */
    uint16_t size;
    char *text; /* the whole address; owned. NULL: an owner, who has no owner himself */
};

static bool name_is_owner(struct slice name)
{
    return name.size >= strlen(OWNER) &&
           slice_equal_nocase(slice_first(name, strlen(OWNER)), slice_text(OWNER));
}

/* 0, or -ENOMEM. */
static int text_make(struct rewrite_list *list, struct slice name, struct slice domain)
{
    size_t bytes = strlen(OWNER) + name.size + 1 + domain.size;
    list->text = malloc(bytes + 1);
    if (list->text == NULL) {
        return -ENOMEM;
    }
    snprintf(list->text, bytes + 1, OWNER "%.*s@%.*s", (int)name.size, (const char *)name.bytes,
             (int)domain.size, (const char *)domain.bytes);
    list->alias_bytes = (uint16_t)(strlen(OWNER) + name.size);
    list->size = (uint16_t)bytes;
    return 0;
}

int rewrite_lists_open(struct rewrite_lists *lists, uint32_t parent, struct slice name,
                       struct slice domain)
{
    bool is_owner = name_is_owner(name);
    /* What is quoted does not become longer in front. */
    if (!is_owner && (name.size == 0 || name.bytes[0] == '"' ||
                      strlen(OWNER) + name.size + 1 + domain.size > SMTP_ADDRESS_BYTES_MAX)) {
        return (int)parent;
    }
    if (lists->count == lists->size) {
        uint32_t size = lists->size * 2 + 2;
        struct rewrite_list *grown = realloc(lists->lists, size * sizeof(*grown));
        if (grown == NULL) {
            return -ENOMEM;
        }
        lists->lists = grown;
        lists->size = size;
    }
    struct rewrite_list *list = &lists->lists[lists->count];
    *list = (struct rewrite_list){.parent = parent,
                                  .of_owner = is_owner || rewrite_lists_of_owner(lists, parent)};
    if (!is_owner && text_make(list, name, domain) < 0) {
        return -ENOMEM;
    }
    return (int)++lists->count;
}

bool rewrite_lists_ask(struct rewrite_lists *lists, struct slice *alias)
{
    while (lists->at < lists->count && lists->lists[lists->at].text == NULL) {
        lists->at++;
    }
    if (lists->at == lists->count) {
        return false;
    }
    *alias = slice_of(lists->lists[lists->at].text, lists->lists[lists->at].alias_bytes);
    return true;
}

void rewrite_lists_told(struct rewrite_lists *lists, bool has_owner)
{
    check(lists->at < lists->count);
    lists->lists[lists->at++].has_owner = has_owner;
}

struct slice rewrite_lists_owner(const struct rewrite_lists *lists, uint32_t list)
{
    while (list > 0 && !lists->lists[list - 1].has_owner) {
        list = lists->lists[list - 1].parent; /* which is always a lower number */
    }
    return list > 0 ? slice_of(lists->lists[list - 1].text, lists->lists[list - 1].size)
                    : slice_of(NULL, 0);
}

bool rewrite_lists_of_owner(const struct rewrite_lists *lists, uint32_t list)
{
    return list > 0 && lists->lists[list - 1].of_owner;
}

void rewrite_lists_free(struct rewrite_lists *lists)
{
    for (uint32_t i = 0; i < lists->count; i++) {
        free(lists->lists[i].text);
    }
    free(lists->lists);
}
