#include "engine/auth/backend_users.h"
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

struct user_line {
    struct slice name, rest;
    unsigned number;
};

struct users {
    char *text; /* owned */
    size_t bytes, count, room;
    struct user_line *lines; /* by name */
};

static struct slice field_take(struct slice *rest)
{
    const uint8_t *colon = rest->size == 0 ? NULL : memchr(rest->bytes, ':', rest->size);
    struct slice field =
        slice_first(*rest, colon == NULL ? rest->size : (size_t)(colon - rest->bytes));
    *rest = slice_from(*rest, field.size + 1);
    return field;
}

/* As a string. False: it is too long. */
static bool field_copy(struct slice field, char *to, size_t room)
{
    if (field.size >= room) {
        return false;
    }
    if (field.size > 0) {
        memcpy(to, field.bytes, field.size);
    }
    to[field.size] = '\0';
    return true;
}

bool auth_user_read(struct slice line, struct auth_user *user)
{
    struct slice stored = field_take(&line), uid = field_take(&line), gid = field_take(&line);
    field_take(&line); /* gecos */
    struct slice home = field_take(&line);
    field_take(&line); /* shell */
    return field_copy(stored, user->stored, sizeof(user->stored)) &&
           field_copy(uid, user->uid, sizeof(user->uid)) &&
           field_copy(gid, user->gid, sizeof(user->gid)) &&
           field_copy(home, user->home, sizeof(user->home)) &&
           field_copy(line, user->extra, sizeof(user->extra));
}

static int by_name(const void *a, const void *b)
{
    const struct user_line *one = a, *other = b;
    return slice_order_nocase(one->name, other->name);
}

static int line_add(struct users *users, struct slice line, unsigned number,
                    char problem[BACKEND_PROBLEM_MAX])
{
    const uint8_t *colon = memchr(line.bytes, ':', line.size);
    if (colon == NULL || colon == line.bytes) {
        snprintf(problem, BACKEND_PROBLEM_MAX, "line %u: \"user:password\" is expected", number);
        return -EINVAL;
    }
    if (users->count == users->room) {
        size_t room = users->room == 0 ? 64 : users->room * 2;
        struct user_line *more = realloc(users->lines, room * sizeof(*more));
        if (more == NULL) {
            return -ENOMEM;
        }
        users->lines = more;
        users->room = room;
    }
    struct slice name = slice_of(line.bytes, (size_t)(colon - line.bytes));
    users->lines[users->count++] =
        (struct user_line){name, slice_from(line, name.size + 1), number};
    return 0;
}

static int lines_read(struct users *users, char problem[BACKEND_PROBLEM_MAX])
{
    struct slice rest = slice_of(users->text, users->bytes);
    int status = 0;
    for (unsigned number = 1; rest.size > 0 && status == 0; number++) {
        const uint8_t *end = memchr(rest.bytes, '\n', rest.size);
        struct slice line = end == NULL ? rest : slice_of(rest.bytes, (size_t)(end - rest.bytes));
        rest = slice_from(rest, line.size + 1);
        line.size -= line.size > 0 && line.bytes[line.size - 1] == '\r';
        if (line.size > 0 && line.bytes[0] != '#') {
            status = line_add(users, line, number, problem);
        }
    }
    return status;
}

static int twice_refuse(const struct users *users, char problem[BACKEND_PROBLEM_MAX])
{
    for (size_t i = 1; i < users->count; i++) {
        if (by_name(&users->lines[i - 1], &users->lines[i]) == 0) {
            snprintf(problem, BACKEND_PROBLEM_MAX, "lines %u and %u are of the same user",
                     users->lines[i - 1].number, users->lines[i].number);
            return -EINVAL;
        }
    }
    return 0;
}

int users_open(struct users **opened, char *text, size_t bytes, char problem[BACKEND_PROBLEM_MAX])
{
    struct users *users = calloc(1, sizeof(*users));
    if (users == NULL) {
        OPENSSL_cleanse(text, bytes);
        free(text);
        return -ENOMEM;
    }
    users->text = text;
    users->bytes = bytes;
    int status = lines_read(users, problem);
    if (status == 0 && users->count > 0) {
        qsort(users->lines, users->count, sizeof(users->lines[0]), by_name);
        status = twice_refuse(users, problem);
    }
    if (status < 0) {
        users_close(users);
        return status;
    }
    *opened = users;
    return 0;
}

void users_close(struct users *users)
{
    OPENSSL_cleanse(users->text, users->bytes);
    free(users->text);
    free(users->lines);
    free(users);
}

enum backend_answer users_find(const struct users *users, struct slice name, struct auth_user *user,
                               char problem[BACKEND_PROBLEM_MAX])
{
    const struct user_line wanted = {.name = name};
    const struct user_line *line =
        users->count == 0 ? NULL
                          : bsearch(&wanted, users->lines, users->count, sizeof(wanted), by_name);
    if (line == NULL) {
        return BACKEND_ABSENT;
    }
    if (!auth_user_read(line->rest, user)) {
        snprintf(problem, BACKEND_PROBLEM_MAX, "line %u: a field is too long", line->number);
        return BACKEND_FAILED;
    }
    return BACKEND_FOUND;
}

void users_survey(const struct users *users, backend_told *told, void *self)
{
    for (size_t i = 0; i < users->count; i++) {
        struct slice rest = users->lines[i].rest;
        told(self, users->lines[i].name, field_take(&rest));
    }
}
