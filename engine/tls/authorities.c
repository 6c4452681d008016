/* Those whose certificates we trust: read once, shared by many contexts. */
#include "engine/tls/context_private.h"
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The file where the system has one: its folder of certificates would be looked through in each
 * handshake. */
static const char *file_of(const char *file)
{
    struct stat found;
    const char *system = X509_get_default_cert_file();
    return file != NULL ? file : stat(system, &found) == 0 ? system : NULL;
}

static void release(struct ref *ref)
{
    struct tls_authorities *self = (struct tls_authorities *)(void *)ref; /* its first member */
    X509_STORE_free(self->store);
    free(self->file);
    free(self);
}

static bool is_same(const struct tls_authorities *self, const char *file)
{
    struct stat now;
    return file != NULL && self->file != NULL && strcmp(self->file, file) == 0 &&
           stat(file, &now) == 0 && now.st_ino == self->inode && now.st_size == self->bytes &&
           memcmp(&now.st_mtim, &self->changed, sizeof(now.st_mtim)) == 0;
}

/* What is seen of the file before it is read: a change while we read makes it another one. */
static void look_at(struct tls_authorities *self, const char *file)
{
    struct stat now;
    if (stat(file, &now) == 0) {
        self->changed = now.st_mtim;
        self->bytes = now.st_size;
        self->inode = now.st_ino;
    }
}

int tls_authorities_read(struct tls_authorities **made, const char *file,
                         struct tls_authorities *before, char problem[TLS_PROBLEM_MAX])
{
    file = file_of(file);
    if (before != NULL && is_same(before, file)) {
        ref_take(&before->ref);
        *made = before;
        return 0;
    }
    struct tls_authorities *self = calloc(1, sizeof(*self));
    if (self == NULL) {
        return -ENOMEM;
    }
    ref_init(&self->ref, release);
    self->store = X509_STORE_new();
    self->file = file == NULL ? NULL : strdup(file);
    if (self->store == NULL || (file != NULL && self->file == NULL)) {
        ref_drop(&self->ref);
        return -ENOMEM;
    }
    ERR_clear_error();
    if (file != NULL) {
        look_at(self, file);
    }
    if (file != NULL ? X509_STORE_load_file(self->store, file) != 1
                     : X509_STORE_set_default_paths(self->store) != 1) {
        char reason[128];
        tls_problem(reason, sizeof(reason));
        snprintf(problem, TLS_PROBLEM_MAX, "authorities %s: %s", file != NULL ? file : "", reason);
        ref_drop(&self->ref);
        return -EINVAL;
    }
    *made = self;
    return 0;
}

void tls_authorities_drop(struct tls_authorities *authorities)
{
    ref_drop(&authorities->ref);
}
