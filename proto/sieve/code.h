/*
 * code: the instructions of a compiled script, how they are written down and read.
 *
 * Jumps lead forward only, so that every script ends; what it may cost is bounded by the interpreter's budget. All
 * reading is checked: bytecode that was stored beside a script is a stranger's.
 *
 * An instruction is its operation (a byte), the line of the script, and operands as SIEVE_OPERATIONS says. Numbers
 * take 7 bits a byte, the lowest first; the target of a jump takes four bytes.
 */
#pragma once
#include "engine/core/slice.h"

#define SIEVE_CODE_VERSION 1u

/*
 * Operands: s string; o string or none; l strings; x strings or none; m match (enum sieve_match bits); n number;
 * f flags; i index (0: none); p part; z kind; v variable; w variables; j jump; k script.
 *
 * X(name, operands, the flags' highest value)
 */
#define SIEVE_OPERATIONS(X)                                                                        \
    X(STOP, "", 0)                                                                                 \
    X(RETURN, "", 0)                                                                               \
    X(JUMP, "j", 0)                                                                                \
    X(JUMP_FALSE, "j", 0)                                                                          \
    X(JUMP_TRUE, "j", 0)                                                                           \
    X(NOT, "", 0)                                                                                  \
    X(TRUE, "", 0)                                                                                 \
    X(FALSE, "", 0)                                                                                \
    X(FAIL, "s", 0)                                                                                \
    X(INCLUDE, "kf", 3)                                                                            \
    X(KEEP, "x", 0)                                                                                \
    X(DISCARD, "", 0)                                                                              \
    X(FILEINTO, "sxf", 3)                                                                          \
    X(REDIRECT, "sf", 1)                                                                           \
    X(REJECT, "sf", 1)                                                                             \
    X(VACATION, "snooxof", 3)                                                                      \
    X(SETFLAG, "vl", 0)                                                                            \
    X(ADDFLAG, "vl", 0)                                                                            \
    X(REMOVEFLAG, "vl", 0)                                                                         \
    X(SET, "vsf", 127)                                                                             \
    X(ADDHEADER, "ssf", 1)                                                                         \
    X(DELETEHEADER, "simfx", 1)                                                                    \
    X(ADDRESS, "mpifll", 1)                                                                        \
    X(ENVELOPE, "mpll", 0)                                                                         \
    X(EXISTS, "l", 0)                                                                              \
    X(HEADER, "mifll", 1)                                                                          \
    X(SIZE, "nf", 1)                                                                               \
    X(STRING, "mll", 0)                                                                            \
    X(HASFLAG, "mwl", 0)                                                                           \
    X(DATE, "mifzossl", 1)                                                                         \
    X(CURRENTDATE, "mzosl", 0)                                                                     \
    X(BODY, "mzxl", 0)                                                                             \
    X(ENVIRONMENT, "msl", 0)                                                                       \
    X(MAILBOXEXISTS, "l", 0)                                                                       \
    X(DUPLICATE, "ooonf", 3)

#define SIEVE_ENUMERATOR(name, operands, flags_max) SIEVE_OP_##name,
enum sieve_operation { SIEVE_OPERATIONS(SIEVE_ENUMERATOR) SIEVE_OP_COUNT };
#undef SIEVE_ENUMERATOR

/* Flags of single instructions. */
enum {
    SIEVE_INCLUDE_ONCE = 1,
    SIEVE_INCLUDE_OPTIONAL = 2,
    SIEVE_COPY = 1,   /* FILEINTO, REDIRECT */
    SIEVE_CREATE = 2, /* FILEINTO */
    SIEVE_EREJECT = 1,
    SIEVE_VACATION_MIME = 1,
    SIEVE_VACATION_SECONDS = 2, /* the number is given, else the default */
    SIEVE_LAST = 1,             /* ADDHEADER, DELETEHEADER, and tests with an index */
    SIEVE_OVER = 1,
    SIEVE_DUPLICATE_LAST = 1,
    SIEVE_DUPLICATE_SECONDS = 2, /* the number is given */
};

/* SET's, in the order in which they are applied, the highest first (RFC 5229 §4.1). */
enum {
    SIEVE_SET_LOWER = 1,
    SIEVE_SET_UPPER = 2,
    SIEVE_SET_LOWERFIRST = 4,
    SIEVE_SET_UPPERFIRST = 8,
    SIEVE_SET_QUOTEWILDCARD = 16,
    SIEVE_SET_QUOTEREGEX = 32,
    SIEVE_SET_LENGTH = 64,
};

enum sieve_part { SIEVE_ALL, SIEVE_LOCALPART, SIEVE_DOMAIN, SIEVE_USER, SIEVE_DETAIL, SIEVE_PARTS };
enum sieve_zone { SIEVE_ZONE_LOCAL, SIEVE_ZONE_GIVEN, SIEVE_ZONE_ORIGINAL };
enum sieve_transform { SIEVE_BODY_TEXT, SIEVE_BODY_RAW, SIEVE_BODY_CONTENT };
#define SIEVE_KINDS 3u /* of each of the two */

/* A variable: 0 is the one of the flags (RFC 5232); else 1 + 2 * slot, and 1 more when it is global. */
#define SIEVE_VARIABLE_FLAGS 0u

static inline uint32_t sieve_variable(uint32_t slot, bool global)
{
    return 1 + 2 * slot + global;
}

/* Kinds of strings, and of the pieces of one with variables. */
enum sieve_string_kind { SIEVE_TEXT, SIEVE_TEMPLATE };
enum sieve_piece { SIEVE_PIECE_TEXT, SIEVE_PIECE_LOCAL, SIEVE_PIECE_GLOBAL, SIEVE_PIECE_MATCH };

/* ---- Writing ---- */

struct sieve_code {
    uint8_t *bytes; /* owned */
    size_t size, room;
    bool failed; /* no memory, or more than SIEVE_PROGRAM_BYTES_MAX: what was put since is lost */
};

void sieve_code_put(struct sieve_code *code, struct slice bytes);
void sieve_code_number(struct sieve_code *code, uint64_t number);
/* Where the target is put in, later. */
size_t sieve_code_jump(struct sieve_code *code, enum sieve_operation operation, uint32_t line);
void sieve_code_land(struct sieve_code *code, size_t jump); /* here */
void sieve_code_close(struct sieve_code *code);

/* ---- Reading ---- */

struct sieve_list {
    struct slice items; /* numbers */
    uint32_t count;
    bool present;
};

struct sieve_instruction {
    enum sieve_operation operation;
    uint32_t line;
    uint64_t number;
    uint32_t match, flags, part, kind, variable, target, script;
    uint64_t index;
    uint32_t strings[4]; /* in their order; SIEVE_NO_STRING: none */
    struct sieve_list lists[2];
};
#define SIEVE_NO_STRING UINT32_MAX

/* What numbers must stay below, to be good. */
struct sieve_bounds {
    uint32_t strings, locals, globals, scripts;
};

/* The one at *at, which moves behind it. False: it is none. Targets are not looked at. */
bool sieve_instruction_read(struct slice code, size_t *at, const struct sieve_bounds *bounds,
                            struct sieve_instruction *instruction);
bool sieve_number_read(struct slice *bytes, uint64_t *number);
/* The next of the list. False: no more. */
bool sieve_list_next(struct sieve_list *list, uint32_t *item);
