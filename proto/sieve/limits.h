/*
 * limits: every bound of the Sieve compiler and interpreter, with what happens when it is reached.
 *
 * Source: RFC 5228 §2.10.5 (at least 15 nested tests and blocks); RFC 5229 §3 (values of at least 4000 characters, 128
 * variables, names of 32); RFC 6609 §3.1 (include depth).
 */
#pragma once

/* The compiler: the script is refused, with the place. */
#define SIEVE_SCRIPT_BYTES_MAX (1024u * 1024)
#define SIEVE_NESTING_MAX 32u     /* of blocks, and of tests in tests */
#define SIEVE_COMMANDS_MAX 10000u /* commands and tests of one script */
#define SIEVE_ARGUMENTS_MAX 100u  /* of one command */
#define SIEVE_STRING_BYTES_MAX (256u * 1024)
#define SIEVE_LIST_STRINGS_MAX 10000u
#define SIEVE_REGEXES_MAX 1000u     /* of a script; small ones can be dear to compile */
#define SIEVE_SCRIPTS_MAX 64u       /* a script and all that it includes */
#define SIEVE_INCLUDE_DEPTH_MAX 10u /* also when it runs */
#define SIEVE_SCRIPT_NAME_BYTES_MAX 256u
#define SIEVE_VARIABLES_MAX 128u /* of a script, and the same for those that are global */
#define SIEVE_VARIABLE_NAME_BYTES_MAX 32u
#define SIEVE_COMPILE_BYTES_MAX (64u * 1024 * 1024) /* memory */
#define SIEVE_PROGRAM_BYTES_MAX (16u * 1024 * 1024) /* bytecode, all scripts together */

/* The interpreter: values are cut; all else ends the script with an error, and the message is kept. */
#define SIEVE_VALUE_BYTES_MAX 4096u           /* of a variable */
#define SIEVE_EXPANDED_BYTES_MAX (64u * 1024) /* of a string with variables in it */
#define SIEVE_MATCH_VALUES_MAX 32u            /* ${0} to ${31}; what is behind them is empty */
#define SIEVE_MATCH_BYTES_MAX (256u * 1024)   /* of all of them together */
#define SIEVE_PATTERN_BYTES_MAX 2048u         /* of a regular expression */
#define SIEVE_REGEX_VALUE_BYTES_MAX 8192u     /* what is behind them is not looked at */
#define SIEVE_REGEX_STEPS_MAX 100000u         /* of one match; past them it does not match */
#define SIEVE_WORK_MAX                                                                             \
    50000000u /* the most that a script's budget may be: about a byte looked at each */
#define SIEVE_REGEX_COMPILE_WORK 20000u /* what compiling one is taken to cost */
#define SIEVE_REGEX_KILOBYTES_MAX 2048u /* likewise */
#define SIEVE_FLAGS_BYTES_MAX 1024u     /* of a list of flags */
#define SIEVE_ACTIONS_MAX 64u
#define SIEVE_EDITS_MAX 64u /* header fields added or deleted */
#define SIEVE_DUPLICATES_MAX 16u
#define SIEVE_FIELDS_MAX 1000u /* of one name that are looked at */
#define SIEVE_MAILBOX_BYTES_MAX 1024u
#define SIEVE_ADDRESS_BYTES_MAX 320u
#define SIEVE_REASON_BYTES_MAX (64u * 1024)
#define SIEVE_RUN_BYTES_MAX (16u * 1024 * 1024) /* memory for one instruction, and for the result */
