#include "engine/conf/auth_conf.h"
#include <string.h>

/* "KIND:WHERE": engine/auth opens it, and says what is wrong with it then. */
bool auth_conf_is_backend(const char *text)
{
    static const char *const kinds[] = {"passwd-file", "static", "pam",  "sqlite",
                                        "pgsql",       "ldap",   "lmdb", "texthash"};
    const char *colon = strchr(text, ':');
    for (size_t i = 0; colon != NULL && colon[1] != '\0' && i < sizeof kinds / sizeof *kinds; i++) {
        size_t size = strlen(kinds[i]);
        if (size == (size_t)(colon - text) && memcmp(text, kinds[i], size) == 0) {
            return true;
        }
    }
    return false;
}

/* A mechanism of SCRAM stands for itself and for the one with channel binding, "-PLUS". */
bool auth_conf_is_mechanism(const char *text)
{
    static const char *const known[] = {"PLAIN",       "LOGIN",         "CRAM-MD5", "DIGEST-MD5",
                                        "SCRAM-SHA-1", "SCRAM-SHA-256", "EXTERNAL"};
    bool found = false;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        found = found || strcmp(text, known[i]) == 0;
    }
    return found;
}

bool auth_conf_is_separator(const char *text)
{
    return strchr("*%!|", text[0]) != NULL && text[1] == '\0';
}

void auth_conf_check(struct reader *reader, const struct conf_auth *conf)
{
    if (conf->master_separator != NULL && conf->masters_count == 0) {
        reader_problem(reader, "auth.master_separator", "alone, expected auth.masters with it");
    }
}
