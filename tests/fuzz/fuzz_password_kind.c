/*
 * What is stored as a password, of any form: what kind it is, and what a population makes of a few of them.
 */
#include "engine/auth/population.h"
#include "engine/core/check.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void population_check(struct slice stored)
{
    static const uint8_t secret[32];
    static const enum password_use uses[] = {PASSWORD_FOR_VERIFY, PASSWORD_FOR_SCRAM_SHA_1,
                                             PASSWORD_FOR_SCRAM_SHA_256};
    struct password_kind kind;
    struct population *population = population_open(secret, "CRYPT");
    check(population != NULL);
    population_note(population, slice_text("tim"), stored, 1);
    bool known = password_kind_read(stored, "CRYPT", &kind);
    check(known == (kind.uses != 0 && kind.text[0] != '\0'));
    for (unsigned i = 0; i < 3; i++) {
        char example[PASSWORD_STORED_MAX + 1];
        bool has = population_example(population, slice_text("nobody"), uses[i], example);
        check(has == (known && (kind.uses & uses[i]) != 0));
        check(!has || strncmp(example, (const char *)stored.bytes, stored.size) == 0);
    }
    population_close(population);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    /* As a file of users has it: a line, without NUL. */
    if (size > 0 && memchr(bytes, '\0', size) != NULL) {
        return 0;
    }
    uint8_t *copy = malloc(size + (size == 0));
    check(copy != NULL);
    memcpy(copy, bytes, size);
    population_check(slice_of(copy, size));
    free(copy);
    return 0;
}
