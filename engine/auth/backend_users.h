/*
 * backend_users: the users of a text in the format of passwd-file, found by name. For backend_file and backend_static.
 *
 * Lines "user:password:uid:gid:gecos:home:shell:extra"; "#" begins a comment. Immutable once opened; any thread.
 */
#pragma once
#include "engine/auth/backend.h"

struct users;

/* text is given, NUL-terminated, made by malloc. 0; -EINVAL and `problem`: a line without name, or a name twice. */
int users_open(struct users **users, char *text, size_t bytes, char problem[BACKEND_PROBLEM_MAX]);
void users_close(struct users *users);
/* FOUND, ABSENT, or FAILED when a field is too long. */
enum backend_answer users_find(const struct users *users, struct slice name, struct auth_user *user,
                               char problem[BACKEND_PROBLEM_MAX]);
/* As backend.h. */
void users_survey(const struct users *users, backend_told *told, void *self);
