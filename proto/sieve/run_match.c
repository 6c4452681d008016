#include "proto/sieve/run_private.h"
#include <stdio.h>

bool sieve_matcher_open(struct sieve_matcher *matcher, struct sieve_run *run,
                        struct sieve_list keys)
{
    *matcher = (struct sieve_matcher){
        .run = run, .match = run->instruction.match, .key_count = keys.count};
    if (!sieve_list_strings(run, keys, &matcher->keys)) {
        return false;
    }
    if (sieve_match_type(matcher->match) == SIEVE_REGEX) {
        matcher->regexes =
            arena_take_array(&run->scratch, keys.count, sizeof(struct sieve_regex *));
        return matcher->regexes != NULL || sieve_fail_memory(run);
    }
    return true;
}

/* Compiled when it is needed first: most keys of a long list never are. */
static bool regex_offer(struct sieve_matcher *matcher, uint32_t key, struct slice value,
                        struct sieve_captures *captures)
{
    struct sieve_run *run = matcher->run;
    char problem[128];
    if (matcher->regexes[key] == NULL) {
        run->work += SIEVE_REGEX_COMPILE_WORK;
        matcher->regexes[key] =
            sieve_regex_open(matcher->keys[key], sieve_match_comparator(matcher->match), problem);
        if (matcher->regexes[key] == NULL) {
            return problem[0] != '\0'
                       ? sieve_fail(run, "the regular expression is wrong: %s", problem)
                       : sieve_fail_memory(run);
        }
    }
    return sieve_regex_match(matcher->regexes[key], value, captures, &run->work);
}

bool sieve_matcher_offer(struct sieve_matcher *matcher, struct slice value)
{
    struct sieve_run *run = matcher->run;
    enum sieve_match_type type = sieve_match_type(matcher->match);
    struct sieve_captures captures = {.count = 0};
    matcher->count++;
    run->work++;
    if (type == SIEVE_COUNT) {
        return run->work > run->work_max;
    }
    for (uint32_t i = 0; i < matcher->key_count; i++) {
        bool matched = type == SIEVE_REGEX ? regex_offer(matcher, i, value, &captures)
                                           : sieve_match(matcher->match, value, matcher->keys[i],
                                                         &captures, &run->work);
        if (matched) {
            if (type == SIEVE_MATCHES || type == SIEVE_REGEX) {
                sieve_captures_keep(run, &captures);
                run->work += captures.values[0].size / 8;
            }
            matcher->matched = true;
            return true;
        }
        if (run->work > run->work_max || run->result.failed) {
            return true;
        }
    }
    return false;
}

bool sieve_matcher_close(struct sieve_matcher *matcher)
{
    struct sieve_run *run = matcher->run;
    char count[24];
    int size = snprintf(count, sizeof(count), "%llu", (unsigned long long)matcher->count);
    bool counts = sieve_match_type(matcher->match) == SIEVE_COUNT;
    for (uint32_t i = 0; counts && i < matcher->key_count && !matcher->matched; i++) {
        int order = sieve_compare(sieve_match_comparator(matcher->match),
                                  slice_of(count, (size_t)size), matcher->keys[i]);
        matcher->matched = sieve_relate(sieve_match_relation(matcher->match), order);
    }
    for (uint32_t i = 0; matcher->regexes != NULL && i < matcher->key_count; i++) {
        sieve_regex_close(matcher->regexes[i]);
    }
    run->test = matcher->matched;
    return !run->result.failed;
}
