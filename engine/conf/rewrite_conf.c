#include "engine/conf/rewrite_conf.h"
#include "engine/conf/names.h"
#include "engine/conf/words.h"
#include <string.h>

#define MAPS_MAX 32

typedef struct relay_conf R; /* in the tables only */

bool map_name_is_good(const char *text)
{
    static const char *const of_files[] = {"texthash", "aliases", "pcre",  "cidr",
                                           "lmdb",     "sqlite",  "pgsql", "ldap"};
    const char *colon = strchr(text, ':');
    if (colon == NULL || !name_is_printable(text)) {
        return false;
    }
    size_t size = (size_t)(colon - text);
    if (size == 6 && memcmp(text, "inline", size) == 0) {
        return colon[1] == '{' && text[strlen(text) - 1] == '}';
    }
    for (size_t i = 0; i < sizeof(of_files) / sizeof(*of_files); i++) {
        if (strlen(of_files[i]) == size && memcmp(of_files[i], text, size) == 0) {
            return name_is_absolute_path(colon + 1);
        }
    }
    return false;
}

static bool is_extension(const char *text)
{
    return strchr("+-_.=#", text[0]) != NULL && text[1] == '\0';
}

#define KEY_MAPS(key, member)                                                                      \
    KEY_LIST(key, R, member, READER_TEXT, .max = MAPS_MAX, .good = map_name_is_good,               \
             .expected = MAP_NAME_EXPECTED)

const struct reader_key rewrite_conf_keys[] = {
    KEY_MAPS("sender_canonical", rewrite.sender_canonical),
    KEY_MAPS("recipient_canonical", rewrite.recipient_canonical),
    KEY_MAPS("virtual_aliases", rewrite.virtual_aliases),
    KEY_MAPS("aliases", rewrite.aliases),
    KEY_WORD("includes", R, rewrite.includes, "true", word_switches),
    KEY_LIST("local_domains", R, rewrite.local_domains, READER_TEXT, .max = 10000,
             .good = name_is_domain, .expected = NAME_DOMAIN_EXPECTED),
    KEY_TEXT("extension", R, rewrite.extension, is_extension, "one of + - _ . = #"),
    KEY_END,
};
