/* Whose passwords nobody's seem to be like. */
#include "engine/auth/directory_private.h"
#include "engine/core/check.h"
#include "proto/sasl/made_up.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define POINTS_OF_KIND 32u

static const struct directory_backend *backends_of(const struct directory *directory, bool masters,
                                                   unsigned *count)
{
    *count = masters ? directory->master_count : directory->user_count;
    return masters ? directory->masters : directory->users;
}

/* The last that keeps anything: who is nobody has been looked for there, as its users have been. NULL: none does. */
static const struct directory_backend *last_of(const struct directory *directory, bool masters)
{
    unsigned count;
    const struct directory_backend *backends = backends_of(directory, masters, &count);
    while (count > 0 && backends[count - 1].kind->find == NULL) {
        count--;
    }
    return count == 0 ? NULL : &backends[count - 1];
}

/* The first of those at the end that are all in memory, which take the same time; behind the last, if there is none. */
static unsigned first_read(const struct directory *directory, bool masters)
{
    unsigned count;
    const struct directory_backend *backends = backends_of(directory, masters, &count);
    while (count > 0 &&
           (backends[count - 1].kind->find == NULL || backends[count - 1].kind->survey != NULL)) {
        count--;
    }
    return count;
}

static uint64_t generation_of(const struct directory *directory, bool masters, uint64_t now_ns)
{
    unsigned count;
    uint64_t sum = 0;
    const struct directory_backend *backends = backends_of(directory, masters, &count);
    for (unsigned i = first_read(directory, masters); i < count; i++) {
        sum += backends[i].kind->generation == NULL
                   ? 0
                   : backends[i].kind->generation(backends[i].source, now_ns);
    }
    return sum;
}

static void user_told(void *self, struct slice name, struct slice stored)
{
    if (name.size <= SASL_MADE_UP_NAME_MAX) { /* else nobody can say it */
        population_note(self, name, stored, 0);
    }
}

/* NULL: no memory. */
static struct population *population_read(const struct directory *directory, bool masters)
{
    unsigned count;
    const struct directory_backend *backends = backends_of(directory, masters, &count);
    struct population *made =
        population_open(directory->settings.secret, directory->settings.scheme);
    for (unsigned i = first_read(directory, masters); i < count && made != NULL; i++) {
        if (backends[i].kind->survey != NULL) {
            backends[i].kind->survey(backends[i].source, user_told, made);
        }
    }
    return made;
}

/* As if each were that of as many users. */
static int configured_note(struct population *population, const struct directory_settings *settings,
                           char problem[BACKEND_PROBLEM_MAX])
{
    struct password_kind kind;
    for (unsigned i = 0; settings->kinds[i] != NULL; i++) {
        struct slice stored = slice_text(settings->kinds[i]);
        if (!password_kind_read(stored, settings->scheme, &kind)) {
            snprintf(problem, BACKEND_PROBLEM_MAX,
                     "kinds: number %u is no password that could be used", i + 1);
            return -EINVAL;
        }
        for (unsigned point = 0; point < POINTS_OF_KIND; point++) {
            char name[32];
            snprintf(name, sizeof(name), "%u of kind %u", point, i);
            population_note(population, slice_text(name), stored, 0);
        }
    }
    return 0;
}

int directory_kinds_open(struct directory *directory, char problem[BACKEND_PROBLEM_MAX])
{
    const char *const *configured = directory->settings.kinds;
    for (unsigned i = 0; i < 2; i++) {
        struct directory_kinds *kinds = &directory->kinds[i];
        const struct directory_backend *last = last_of(directory, i);
        kinds->read = last != NULL && last->kind->survey != NULL;
        kinds->generation = kinds->read ? generation_of(directory, i, 1) : 0;
        kinds->population = population_read(directory, i);
        if (kinds->population == NULL) {
            return -ENOMEM;
        }
        kinds->configured = i == 0 && !kinds->read && configured != NULL && configured[0] != NULL;
    }
    return directory->kinds[0].configured
               ? configured_note(directory->kinds[0].population, &directory->settings, problem)
               : 0;
}

void directory_kinds_close(struct directory *directory)
{
    for (unsigned i = 0; i < 2; i++) {
        population_close(directory->kinds[i].population);
    }
}

/* Without the lock, which shards want: it takes as long as there are users. */
static void kinds_read(struct directory *directory, bool masters, uint64_t generation)
{
    struct directory_kinds *kinds = &directory->kinds[masters];
    struct population *made = population_read(directory, masters);
    if (made == NULL) {
        return; /* the old ones are better than none */
    }
    pthread_mutex_lock(&directory->lock);
    struct population *before = kinds->population;
    kinds->population = made;
    kinds->generation = generation;
    pthread_mutex_unlock(&directory->lock);
    population_close(before);
}

static bool is_fresh(struct directory *directory, bool masters, uint64_t generation)
{
    pthread_mutex_lock(&directory->lock);
    bool fresh = directory->kinds[masters].generation == generation;
    pthread_mutex_unlock(&directory->lock);
    return fresh;
}

bool directory_kinds_are_fresh(struct directory *directory, uint64_t now_ns)
{
    for (unsigned i = 0; i < 2; i++) {
        if (directory->kinds[i].read &&
            !is_fresh(directory, i, generation_of(directory, i, now_ns))) {
            return false;
        }
    }
    return true;
}

void directory_kinds_refresh(struct directory *directory, uint64_t now_ns)
{
    for (unsigned i = 0; i < 2; i++) {
        uint64_t generation = directory->kinds[i].read ? generation_of(directory, i, now_ns) : 0;
        if (!directory->kinds[i].read || is_fresh(directory, i, generation)) {
            continue;
        }
        if (pthread_mutex_trylock(&directory->surveying) != 0) {
            return; /* another is at it: till then names look as they did */
        }
        if (!is_fresh(directory, i, generation)) {
            kinds_read(directory, i, generation);
        }
        pthread_mutex_unlock(&directory->surveying);
    }
}

/* Users of another backend than the last stand for its own until one of these is seen. */
void directory_kinds_found(struct directory *directory, const struct directory_backend *backend,
                           struct slice name, const struct auth_user *user, uint64_t now_ns)
{
    bool masters =
        backend >= directory->masters && backend < directory->masters + DIRECTORY_BACKENDS_MAX;
    bool last = backend == last_of(directory, masters);
    struct directory_kinds *kinds = &directory->kinds[masters];
    if (kinds->read || kinds->configured) {
        return;
    }
    pthread_mutex_lock(&directory->lock);
    if (last && !kinds->of_last) {
        population_clear(kinds->population);
        kinds->of_last = true;
    }
    if (last || !kinds->of_last) {
        population_note(kinds->population, name, slice_text(user->stored), now_ns);
    }
    pthread_mutex_unlock(&directory->lock);
}

bool directory_kinds_example(struct directory *directory, bool master, struct slice name,
                             enum password_use use, char stored[PASSWORD_STORED_MAX + 1])
{
    pthread_mutex_lock(&directory->lock);
    bool known = population_example(directory->kinds[master].population,
                                    slice_first(name, SASL_MADE_UP_NAME_MAX), use, stored);
    pthread_mutex_unlock(&directory->lock);
    return known;
}
