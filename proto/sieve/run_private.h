/* run_private: what the files of the interpreter share: run.c (the machine), run_tests.c, run_match.c, run_actions.c,
 * run_values.c (strings, variables, flags), run_fields.c (the header as edited), run_vacation.c. */
#pragma once
#include "proto/sieve/limits.h"
#include "proto/sieve/match.h"
#include "proto/sieve/run.h"

struct sieve_value {
    uint8_t *bytes; /* SIEVE_VALUE_BYTES_MAX of them, once it is set */
    size_t size;
};

/* A script that runs. */
struct sieve_frame {
    uint32_t script;
    size_t at;
    struct arena arena;
    struct sieve_value *locals;
    struct arena captured; /* what the match variables stand for */
    struct slice captures[SIEVE_MATCH_VALUES_MAX];
    unsigned capture_count;
};

struct sieve_run {
    const struct sieve_program *program;
    const struct sieve_message *message;
    const struct sieve_settings *settings;
    struct sieve_frame frames[SIEVE_INCLUDE_DEPTH_MAX + 1];
    unsigned depth;    /* frames in use */
    uint64_t included; /* a bit for each script */
    struct sieve_value globals[SIEVE_VARIABLES_MAX];
    struct sieve_value flags;
    bool test; /* the last test's outcome */
    bool ended, implicit_keep;
    uint64_t work, work_max;
    uint32_t field_next; /* of a name: the one that is found without going back to the top */
    struct sieve_instruction instruction; /* the one that runs */
    struct arena scratch;                 /* of one instruction */
    struct arena arena;                   /* of the result, and the globals */
    struct sieve_asked asked;
    uint32_t asked_index; /* of a list, which one */
    bool answered, answer;
    struct sieve_result result;
    struct sieve_action actions[SIEVE_ACTIONS_MAX];
    struct sieve_edit edits[SIEVE_EDITS_MAX];
    struct sieve_seen seen[SIEVE_DUPLICATES_MAX];
    uint32_t redirects;
};

static inline struct sieve_frame *sieve_frame(struct sieve_run *run)
{
    return &run->frames[run->depth - 1];
}

/* The script ends here, and the message is kept. Returns false, always. The line is that of the instruction. */
bool sieve_fail(struct sieve_run *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
bool sieve_fail_memory(struct sieve_run *run);

/* ---- run_values.c; false: the script has failed ---- */
/* Valid until the next instruction. */
bool sieve_string(struct sieve_run *run, uint32_t index, struct slice *text);
/* The index-th string operand; one that is not there is empty. */
bool sieve_operand(struct sieve_run *run, unsigned index, struct slice *text);
bool sieve_list_strings(struct sieve_run *run, struct sieve_list list, struct slice **texts);
struct slice sieve_variable_get(struct sieve_run *run, uint32_t variable);
bool sieve_variable_set(struct sieve_run *run, uint32_t variable, struct slice text);
bool sieve_set_run(struct sieve_run *run);
bool sieve_setflag_run(struct sieve_run *run);
/* The flags of an action: those given, or those of the internal variable; in the result's arena. */
bool sieve_action_flags(struct sieve_run *run, struct sieve_list list, struct slice *flags);
/* The next of a list of flags, which moves behind it. False: no more. */
bool sieve_flag_next(struct slice *flags, struct slice *flag);
/* At most so many bytes, no character cut in two. */
struct slice sieve_cut(struct slice text, size_t bytes);
void sieve_captures_keep(struct sieve_run *run, const struct sieve_captures *captures);

/* ---- run_match.c ---- */
/* The keys of a test, and what was found so far. */
struct sieve_matcher {
    struct sieve_run *run;
    uint32_t match;
    struct slice *keys;
    struct sieve_regex **regexes; /* of the keys, with :regex */
    uint32_t key_count;
    uint64_t count; /* values that were offered */
    bool matched;
};
bool sieve_matcher_open(struct sieve_matcher *matcher, struct sieve_run *run,
                        struct sieve_list keys);
/* True: no further value has to be offered. */
bool sieve_matcher_offer(struct sieve_matcher *matcher, struct slice value);
/* The outcome is run->test. False: the script has failed. */
bool sieve_matcher_close(struct sieve_matcher *matcher);

/* ---- run_fields.c ---- */
/* How many there are, at most SIEVE_FIELDS_MAX. */
uint32_t sieve_field_count(struct sieve_run *run, struct slice name);
bool sieve_field(struct sieve_run *run, struct slice name, uint32_t index,
                 enum sieve_field_form form, struct slice *value);
/* Which of them an index (0: all) and :last mean: from *begin to before *end, which with 0 may lie behind the last. */
void sieve_field_range(struct sieve_run *run, struct slice name, uint32_t *begin, uint32_t *end);
struct slice sieve_trim(struct slice text);
bool sieve_addheader_run(struct sieve_run *run);
bool sieve_deleteheader_run(struct sieve_run *run);

/* ---- run_tests.c ---- */
/* The outcome is run->test; or run->asked says what must be known first. False: the script has failed. */
bool sieve_test_run(struct sieve_run *run);

/* ---- run_actions.c ---- */
bool sieve_keep_run(struct sieve_run *run);
bool sieve_fileinto_run(struct sieve_run *run);
bool sieve_redirect_run(struct sieve_run *run);
bool sieve_reject_run(struct sieve_run *run);
struct sieve_action *sieve_action_add(struct sieve_run *run, enum sieve_action_kind kind);
/* local@domain that mail can be sent to? */
bool sieve_address_valid(struct slice address);

/* ---- run_vacation.c ---- */
bool sieve_vacation_run(struct sieve_run *run);
