/* Users that stand in the configuration itself: lines as in a passwd-file. For tests and demonstrations. */
#include "engine/auth/backend_users.h"
#include <errno.h>
#include <stdlib.h>

struct backend_source {
    struct users *users;
};

static int static_open(struct backend_source **opened, const char *kind, const char *where,
                       char problem[BACKEND_PROBLEM_MAX])
{
    struct backend_source *source = malloc(sizeof(*source));
    char *text = strdup(where);
    (void)kind;
    int status = source == NULL || text == NULL
                     ? -ENOMEM
                     : users_open(&source->users, text, strlen(where), problem);
    if (status < 0) {
        if (source == NULL) {
            free(text);
        }
        free(source);
        return status;
    }
    *opened = source;
    return 0;
}

static void static_close(struct backend_source *source)
{
    users_close(source->users);
    free(source);
}

static enum backend_answer static_find(struct backend_source *source, struct slice name,
                                       uint64_t now_ns, struct auth_user *user,
                                       char problem[BACKEND_PROBLEM_MAX])
{
    (void)now_ns;
    return users_find(source->users, name, user, problem);
}

static bool static_is_near(struct backend_source *source, uint64_t now_ns)
{
    (void)source;
    (void)now_ns;
    return true;
}

static void static_survey(struct backend_source *source, backend_told *told, void *self)
{
    users_survey(source->users, told, self);
}

const struct backend_kind backend_static = {.name = "static",
                                            .open = static_open,
                                            .close = static_close,
                                            .find = static_find,
                                            .is_near = static_is_near,
                                            .survey = static_survey};
