/* compile_private: what compile.c, compile_commands.c, compile_tests.c and compile_strings.c share. */
#pragma once
#include "proto/sieve/code.h"
#include "proto/sieve/compile.h"
#include "proto/sieve/limits.h"
#include "proto/sieve/match.h"
#include "proto/sieve/tree.h"

struct sieve_variable_name {
    struct slice name;
    bool global;
    uint32_t slot;
};

struct sieve_variable_names {
    struct sieve_variable_name names[SIEVE_VARIABLES_MAX * 2];
    uint32_t count;
    uint32_t slots; /* of those that are not declared elsewhere */
};

struct sieve_unit {
    struct slice name; /* owned by the compiler's arena */
    enum sieve_location location;
    bool done, present;
    uint32_t locals;
    struct sieve_code code;
};

struct sieve_compiler {
    const struct sieve_compile_settings *settings;
    struct arena names; /* what lives as long as the compiler */
    struct arena tree;  /* what is forgotten after each script */
    struct sieve_error error;
    struct sieve_unit units[SIEVE_SCRIPTS_MAX];
    uint32_t unit_count, current;
    struct sieve_variable_names globals;
    struct sieve_code strings;
    uint32_t string_count;
    struct sieve_code program;
    /* Of the script being compiled. */
    struct sieve_variable_names locals;
    uint32_t regexes;
    uint32_t enabled; /* extensions */
    uint32_t line;    /* of the node being compiled */
};

/* The arguments of a node, sorted. */
struct sieve_given {
    enum sieve_word word;
    const struct sieve_node *node;
    const struct sieve_argument *tags[SIEVE_TAGS], *values[SIEVE_TAGS];
    const struct sieve_argument *positional[4];
    const struct sieve_argument *groups[SIEVE_TAG_GROUPS];
};

/* A string with what stands for characters put in, and what stands for variables found. */
struct sieve_compiled_string {
    enum sieve_string_kind kind;
    struct slice bytes;
};

static inline struct sieve_code *sieve_unit_code(struct sieve_compiler *compiler)
{
    return &compiler->units[compiler->current].code;
}

static inline bool sieve_enabled(const struct sieve_compiler *compiler,
                                 enum sieve_extension extension)
{
    return extension == SIEVE_EXTENSION_NONE || (compiler->enabled >> extension & 1);
}

/* ---- compile.c ---- */
/* Return false, always. */
bool sieve_wrong_at(struct sieve_compiler *compiler, const struct sieve_node *node,
                    const char *what);
bool sieve_wrong_argument(struct sieve_compiler *compiler, const struct sieve_argument *argument,
                          const char *what);
/* Whose extension is missing: *deferred says that `ihave` may still explain it when it runs; else false is returned and
 * the error is set. */
bool sieve_given_sort(struct sieve_compiler *compiler, const struct sieve_node *node, bool test,
                      struct sieve_given *given, bool *deferred);
void sieve_begin(struct sieve_compiler *compiler, enum sieve_operation operation);
void sieve_flags(struct sieve_compiler *compiler, uint32_t flags);
/* The script fails when it comes there, with what the error says now, which is forgotten. */
bool sieve_defer(struct sieve_compiler *compiler);

/* ---- compile_commands.c ---- */
bool sieve_commands_compile(struct sieve_compiler *compiler, const struct sieve_node *first);

/* ---- compile_tests.c ---- */
bool sieve_test_compile(struct sieve_compiler *compiler, const struct sieve_node *node);
bool sieve_match_given(struct sieve_compiler *compiler, const struct sieve_given *given,
                       uint32_t *match);
bool sieve_patterns_check(struct sieve_compiler *compiler, uint32_t match,
                          const struct sieve_argument *keys);

/* ---- compile_strings.c ---- */
bool sieve_string_compile(struct sieve_compiler *compiler, const struct sieve_string *string,
                          struct sieve_compiled_string *compiled);
/* Without variables. */
bool sieve_constant(struct sieve_compiler *compiler, const struct sieve_argument *argument,
                    struct slice *text);
/* As an operand: s, or o, l, x. NULL is none. */
bool sieve_put_string(struct sieve_compiler *compiler, const struct sieve_argument *argument);
bool sieve_put_text(struct sieve_compiler *compiler, struct slice text);
bool sieve_put_optional(struct sieve_compiler *compiler, const struct sieve_argument *argument);
bool sieve_put_list(struct sieve_compiler *compiler, const struct sieve_argument *argument);
bool sieve_put_optional_list(struct sieve_compiler *compiler,
                             const struct sieve_argument *argument);
/* The variable that a `set` or setflag names. False: the error is set. */
bool sieve_variable_given(struct sieve_compiler *compiler, const struct sieve_string *name,
                          uint32_t *variable);
bool sieve_global_declare(struct sieve_compiler *compiler, const struct sieve_string *name);
bool sieve_field_name_valid(struct slice name);
