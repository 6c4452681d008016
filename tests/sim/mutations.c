#include "tests/sim/mutations.h"
#include "engine/core/mutation.h"
#include <ctype.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#ifdef TUBEPOST_MUTATIONS

enum mutation mutation_chosen;

static const struct {
    const char *name, *scenario, *what;
} mutations[MUTATION_COUNT] = {
#define MUTATION_ROW(name, scenario, what) [MUTATION_##name] = {#name, scenario, what},
    MUTATIONS(MUTATION_ROW)};

/* As it is written on a command line. */
static const char *name_of(unsigned i)
{
    static char name[64];
    size_t at = 0;
    for (; mutations[i].name[at] != '\0' && at + 1 < sizeof(name); at++) {
        char letter = mutations[i].name[at];
        name[at] = letter == '_' ? '-' : (char)tolower((unsigned char)letter);
    }
    name[at] = '\0';
    return name;
}

bool mutation_choose(const char *name)
{
    for (unsigned i = MUTATION_NONE + 1; i < MUTATION_COUNT; i++) {
        if (strcmp(name, name_of(i)) == 0) {
            mutation_chosen = (enum mutation)i;
            return true;
        }
    }
    return false;
}

void mutations_print(void)
{
    for (unsigned i = MUTATION_NONE + 1; i < MUTATION_COUNT; i++) {
        printf("%-24s %-8s %s\n", name_of(i), mutations[i].scenario, mutations[i].what);
    }
}

#else

bool mutation_choose(const char *name)
{
    (void)name;
    return false;
}

void mutations_print(void)
{
}

#endif
