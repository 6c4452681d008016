/* Users of the system, by PAM: only it can tell whether a password is right. "pam:SERVICE", or "pam:/FOLDER/SERVICE"
 * where the service's file does not lie in /etc/pam.d. */
#include "engine/auth/backend.h"
#include <errno.h>
#include <pwd.h>
#include <security/pam_appl.h>
#include <stdio.h>
#include <stdlib.h>

struct backend_source {
    char *folder; /* NULL: PAM's own */
    const char *service;
    char text[];
};

static int pam_open(struct backend_source **opened, const char *kind, const char *where,
                    char problem[BACKEND_PROBLEM_MAX])
{
    size_t bytes = strlen(where) + 1;
    struct backend_source *source = malloc(sizeof(*source) + bytes);
    (void)kind;
    if (source == NULL) {
        return -ENOMEM;
    }
    memcpy(source->text, where, bytes);
    char *slash = strrchr(source->text, '/');
    source->folder = slash == NULL ? NULL : source->text;
    source->service = slash == NULL ? source->text : slash + 1;
    if (slash != NULL) {
        *slash = '\0';
    }
    if (source->service[0] == '\0') {
        snprintf(problem, BACKEND_PROBLEM_MAX, "pam: a service is expected");
        free(source);
        return -EINVAL;
    }
    *opened = source;
    return 0;
}

static void pam_close(struct backend_source *source)
{
    free(source);
}

/* Questions that are not to be shown are for the password; all others have no answer here. */
static int pam_talk(int count, const struct pam_message **messages, struct pam_response **responses,
                    void *password)
{
    struct pam_response *all =
        count <= 0 ? NULL : calloc((size_t)count, sizeof(struct pam_response));
    if (all == NULL) {
        return PAM_BUF_ERR;
    }
    for (int i = 0; i < count; i++) {
        if (messages[i]->msg_style == PAM_PROMPT_ECHO_OFF) {
            all[i].resp = strdup(password);
        }
        if (messages[i]->msg_style == PAM_PROMPT_ECHO_ON ||
            (messages[i]->msg_style == PAM_PROMPT_ECHO_OFF && all[i].resp == NULL)) {
            for (int done = 0; done < i; done++) {
                free(all[done].resp);
            }
            free(all);
            return PAM_CONV_ERR;
        }
    }
    *responses = all;
    return PAM_SUCCESS;
}

static enum backend_answer answer_of(int status)
{
    switch (status) {
    case PAM_SUCCESS:
        return BACKEND_FOUND;
    case PAM_AUTH_ERR:
    case PAM_USER_UNKNOWN:
    case PAM_PERM_DENIED:
    case PAM_ACCT_EXPIRED:
    case PAM_NEW_AUTHTOK_REQD:
    case PAM_MAXTRIES:
    case PAM_CRED_INSUFFICIENT:
        return BACKEND_WRONG;
    default: /* PAM's numbers are the system's, not ours to list */
        return BACKEND_FAILED;
    }
}

static enum backend_answer pam_verify(struct backend_source *source, struct slice name,
                                      struct slice password, char problem[BACKEND_PROBLEM_MAX])
{
    char user[BACKEND_NAME_MAX + 1], secret[PASSWORD_STORED_MAX + 1];
    const struct pam_conv conversation = {.conv = pam_talk, .appdata_ptr = secret};
    pam_handle_t *pam = NULL;
    if (name.size > BACKEND_NAME_MAX || password.size == 0 || password.size > PASSWORD_STORED_MAX ||
        memchr(password.bytes, '\0', password.size) != NULL) {
        return BACKEND_WRONG;
    }
    snprintf(user, sizeof(user), "%.*s", (int)name.size, (const char *)name.bytes);
    snprintf(secret, sizeof(secret), "%.*s", (int)password.size, (const char *)password.bytes);
    int status = pam_start_confdir(source->service, user, &conversation, source->folder, &pam);
    if (status == PAM_SUCCESS) {
        status = pam_authenticate(pam, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
    }
    if (status == PAM_SUCCESS) {
        status = pam_acct_mgmt(pam, PAM_SILENT);
    }
    enum backend_answer answer = answer_of(status);
    if (answer == BACKEND_FAILED) {
        snprintf(problem, BACKEND_PROBLEM_MAX, "pam: %s: %d", source->service, status);
    }
    if (pam != NULL) {
        pam_end(pam, status);
    }
    explicit_bzero(secret, sizeof(secret));
    return answer;
}

/* Users of the system, as its services of names know them. */
static enum backend_answer pam_exists(struct backend_source *source, struct slice name,
                                      char problem[BACKEND_PROBLEM_MAX])
{
    char user[BACKEND_NAME_MAX + 1], room[16384];
    struct passwd entry, *found = NULL;
    (void)source;
    if (name.size > BACKEND_NAME_MAX) {
        return BACKEND_ABSENT;
    }
    snprintf(user, sizeof(user), "%.*s", (int)name.size, (const char *)name.bytes);
    int status = getpwnam_r(user, &entry, room, sizeof(room), &found);
    bool absent = status == 0 || status == ENOENT || status == ESRCH;
    if (found == NULL && !absent) {
        snprintf(problem, BACKEND_PROBLEM_MAX, "users of the system: %s", strerror(status));
    }
    explicit_bzero(room, sizeof(room));
    return found != NULL ? BACKEND_FOUND : absent ? BACKEND_ABSENT : BACKEND_FAILED;
}

const struct backend_kind backend_pam = {.name = "pam",
                                         .open = pam_open,
                                         .close = pam_close,
                                         .verify = pam_verify,
                                         .exists = pam_exists};
