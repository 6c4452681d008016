/* imap_belief: a client that believes what NOTIFY tells it of names. */
#pragma once
#include "tests/unit/imap_listen.h"
#include "tests/unit/imap_two.h"

#define NAMES_MAX 64u
#define NAME_BYTES 64u

struct belief {
    char names[NAMES_MAX][NAME_BYTES];
    uint32_t count;
};

static inline void believe(struct belief *belief, const char *name)
{
    for (uint32_t i = 0; i < belief->count; i++) {
        if (strcmp(belief->names[i], name) == 0) {
            return;
        }
    }
    assert_true(belief->count < NAMES_MAX && strlen(name) < NAME_BYTES);
    strcpy(belief->names[belief->count++], name);
}

static inline void doubt(struct belief *belief, const char *name)
{
    for (uint32_t i = 0; i < belief->count; i++) {
        if (strcmp(belief->names[i], name) == 0) {
            memmove(belief->names[i], belief->names[--belief->count], NAME_BYTES);
        }
    }
}

/* What is below goes along (§5.4). */
static inline void rename_believed(struct belief *belief, const char *from, const char *to)
{
    size_t size = strlen(from);
    for (uint32_t i = 0; i < belief->count; i++) {
        char *name = belief->names[i], renamed[2 * NAME_BYTES];
        if (strncmp(name, from, size) == 0 && (name[size] == '\0' || name[size] == '/')) {
            snprintf(renamed, sizeof(renamed), "%s%s", to, name + size);
            assert_true(strlen(renamed) < NAME_BYTES);
            strcpy(name, renamed);
        }
    }
}

/* All LIST responses that a client has heard. */
static inline void hear_lists(const struct imap_client *client, struct belief *belief)
{
    for (const char *line = strstr(client->heard, "* LIST ("); line != NULL;
         line = strstr(line + 1, "* LIST (")) {
        char attributes[100], name[NAME_BYTES], old[NAME_BYTES];
        int count = sscanf(line, "* LIST (%99[^)]) \"/\" %63[^ \r] (\"OLDNAME\" (%63[^)]",
                           attributes, name, old);
        assert_in_range(count, 2, 3);
        if (count == 3) {
            rename_believed(belief, old, name);
        }
        if (strstr(attributes, "\\NonExistent") != NULL) {
            doubt(belief, name);
        } else if (strstr(attributes, "\\Noselect") == NULL) {
            believe(belief, name);
        }
    }
}

/* Alice does things by chance, bob listens, and LIST shows what he should have heard. */
static inline void lists_are_believed(struct imap_rig *rig)
{
    static const char *const names[] = {"a", "a/b", "a/b/c", "d", "d/e"};
    static const struct {
        const char *word, *identifier;
    } rights[] = {{"SETACL", "bob lr"},   {"SETACL", "bob l"},     {"SETACL", "bob \"\""},
                  {"SETACL", "anyone l"}, {"DELETEACL", "anyone"}, {"SETACL", "-bob l"},
                  {"DELETEACL", "-bob"}};
    struct belief told = {.count = 0};
    uint64_t seed = 5;
    for (unsigned i = 0; i < 3; i++) {
        log_in_as(rig, i, i == 0 ? "alice" : "bob");
    }
    talk(rig, 1, "n NOTIFY SET (subtree shared (MailboxName))\r\n", "OK");
    for (unsigned i = 0; i < 600; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        const char *name = names[(seed >> 33) % 5], *other = names[(seed >> 40) % 5];
        size_t right = (seed >> 53) % (sizeof(rights) / sizeof(rights[0]));
        char command[100];
        struct belief shown = {.count = 0};
        switch ((seed >> 48) % 6) {
        case 0:
            snprintf(command, sizeof(command), "x CREATE %s\r\n", name);
            break;
        case 1:
            snprintf(command, sizeof(command), "x DELETE %s\r\n", name);
            break;
        case 2:
            snprintf(command, sizeof(command), "x RENAME %s %s\r\n", name, other);
            break;
        default:
            snprintf(command, sizeof(command), "x %s %s %s\r\n", rights[right].word, name,
                     rights[right].identifier);
            break;
        }
        forget(rig, 1);
        talk(rig, 0, command, ""); /* refused, too */
        rig_rounds(rig, 10);
        hear_lists(&rig->clients[1], &told);
        talk(rig, 2, "l LIST \"\" shared/*\r\n", "OK");
        hear_lists(&rig->clients[2], &shown);
        bool same = told.count == shown.count;
        for (uint32_t n = 0; n < shown.count; n++) {
            believe(&told, shown.names[n]);
        }
        if (!same || told.count != shown.count) {
            fail_msg("%u: %s is told as\n%s\nand listed as\n%s", i, command, rig->clients[1].heard,
                     rig->clients[2].heard);
        }
    }
}
