/* What is wrong with a script, and where; and bytecode that comes from a stranger. */
#include "tests/unit/sieve_rig.h"
#include "proto/sieve/limits.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void mistakes_are_named_with_their_place(void **state)
{
    static const struct {
        const char *script, *outcome;
    } scripts[] = {
        {"keep", "error 1:5 expected ';' at the end of the command, or a block, but found the end "
                 "of the script"},
        {"\n  frobnicate;", "error 2:3 frobnicate: this command is unknown"},
        {"if frob { keep; }", "error 1:4 frob: this test is unknown"},
        {"fileinto \"x\";", "error 1:1 fileinto needs require \"fileinto\""},
        {"require \"nonsense\";", "error 1:9 require: the extension \"nonsense\" is not supported"},
        {"keep; require \"fileinto\";", "error 1:7 require: must stand before all other commands"},
        {"require \"fileinto\"; fileinto;", "error 1:21 fileinto: arguments are missing"},
        {"keep \"a\";", "error 1:1 keep: too many arguments"},
        {"redirect 5;", "error 1:10 argument 1 of redirect must be a string"},
        {"redirect :copy \"a@b\";", "error 1:10 the tag :copy needs require \"copy\""},
        {"redirect :nope \"a@b\";", "error 1:10 redirect has no tag :nope"},
        {"if header :is :contains \"a\" \"b\" {}", "error 1:15 this tag contradicts one before it"},
        {"if header :is :is \"a\" \"b\" {}", "error 1:15 this tag has been given before"},
        {"if header \"a\" :is \"b\" {}", "error 1:15 tags must stand before the other arguments"},
        {"if header :comparator \"i;x\" \"a\" \"b\" {}", "error 1:23 this comparator is unknown"},
        {"require \"comparator-i;ascii-numeric\";\nif header :comparator \"i;ascii-numeric\" "
         ":contains \"a\" \"b\" {}",
         "error 2:23 this comparator knows neither parts nor patterns of strings"},
        {"if header \"a b\" \"c\" {}", "error 1:11 \"a b\" is no name for a header field"},
        {"if address \"Subject\" \"c\" {}", "error 1:12 \"Subject\" is no field of addresses"},
        {"if size 5 {}", "error 1:4 size: it needs :over or :under"},
        {"if size :over 5X {}", "error 1:16 a number is digits, and K, M or G behind them"},
        {"if size :over 99999999999999999999 {}", "error 1:15 the number is too large"},
        {"if size :over 9999999999G {}", "error 1:15 the number is too large"},
        {"if not true, false {}",
         "error 1:12 expected ';' at the end of the command, or a block, but found ','"},
        {"if anyof true {}", "error 1:4 anyof: a list of tests in ( ) must stand here"},
        {"if anyof (true {}", "error 1:16 expected ',' or ')' behind the test, but found '{'"},
        {"if true keep;", "error 1:1 if: a block in { } is missing"},
        {"if true;", "error 1:1 if: a block in { } is missing"},
        {"keep {}", "error 1:1 keep: no block may stand here"},
        {"else { keep; }", "error 1:1 else: there is no if before it"},
        {"if true { keep; ", "error 1:9 the block that begins here has no end"},
        {"keep; }", "error 1:7 expected a command, but found '}'"},
        {"redirect \"a", "error 1:10 the string that begins here has no end"},
        {"redirect text:\nfoo\n", "error 1:10 the text that begins here has no line of a lone dot"},
        {"redirect text: x\n.\n;", "error 1:16 behind \"text:\" the line must end"},
        {"/* keep;", "error 1:1 the comment that begins here has no end"},
        {"redirect \"\xff\";", "error 1:11 this is not UTF-8 text"},
        {"redirect \"\xc3\xa9\" &", "error 1:14 '&' has no place outside of strings and comments"},
        {"redirect [];", "error 1:11 expected a string, but found ']'"},
        {"require \"variables\"; set \"1a\" \"x\";", "error 1:26 this is no name for a variable"},
        {"require \"variables\"; set \"a.b\" \"x\";", "error 1:26 this is no name for a variable"},
        {"require \"variables\"; redirect \"${foo.bar}\";",
         "error 1:31 this variable is in a namespace that is unknown"},
        {"require \"variables\"; set :lower :upper \"a\" \"x\";",
         "error 1:33 this tag contradicts one before it"},
        {"require \"regex\"; if header :regex \"a\" \"(\" {}",
         "error 1:39 the regular expression is wrong: missing closing parenthesis"},
        {"require \"relational\"; if header :value \"xx\" \"a\" \"b\" {}",
         "error 1:40 a relation is one of gt, ge, lt, le, eq and ne"},
        {"require \"date\"; if currentdate \"century\" \"b\" {}",
         "error 1:32 \"century\" is no part of a date"},
        {"require \"date\"; if currentdate :zone \"CET\" \"hour\" \"b\" {}",
         "error 1:38 a zone is written as \"+0100\""},
        {"require [\"index\"]; if header :last \"a\" \"b\" {}", "error 1:30 :last needs :index"},
        {"require [\"index\"]; if header :index 0 \"a\" \"b\" {}",
         "error 1:37 an index is at least 1"},
        {"require \"envelope\"; if envelope \"cc\" \"b\" {}",
         "error 1:33 \"cc\" is no part of the envelope (from, to)"},
        {"require \"include\"; include \"a\nb\";", "error 1:28 this is no name for a script"},
        {"require [\"include\",\"variables\"]; include \"${a}\";",
         "error 1:42 there may be no variables in this string"},
        {"require [\"include\",\"variables\"]; set \"a\" \"b\"; global \"a\";",
         "error 1:54 this variable is used already, and not global"},
        {"require \"encoded-character\"; redirect \"${unicode:d800}\";",
         "error 1:39 ${unicode:} names what is no character"},
        {"require \"editheader\"; deleteheader :last \"X\";", "error 1:36 :last needs :index"},
        {"require \"editheader\"; addheader \"X:\" \"a\";",
         "error 1:33 this is no name for a header field"},
        {"redirect \"\x1b[2J\"", "error 1:16 expected ';' at the end of the command, or a block, "
                                 "but found the end of the script"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        const struct sieve_scene scene = {.script = scripts[i].script};
        assert_string_equal(sieve_play(&scene), scripts[i].outcome);
    }
}

static void a_mistake_in_an_included_script_is_found(void **state)
{
    (void)state;
    const struct sieve_scene scene = {.script = "require \"include\"; include \"a\";",
                                      .includes = {"a", "keep;\nfrob;"}};
    assert_string_equal(sieve_play(&scene), "error 2:1 frob: this command is unknown");
}

/* `count` times `piece`, between two other texts. Given to free(). */
static char *repeated(const char *before, const char *piece, size_t count, const char *after)
{
    size_t size = strlen(piece);
    char *text = malloc(strlen(before) + count * size + strlen(after) + 1);
    char *at = stpcpy(text, before);
    for (size_t i = 0; i < count; i++) {
        memcpy(at, piece, size);
        at += size;
    }
    strcpy(at, after);
    return text;
}

static void bombs_are_refused_or_cost_little(void **state)
{
    static const struct {
        const char *before, *piece;
        size_t count;
        const char *after, *outcome;
    } bombs[] = {
        {"if ", "not ", 100000, "true {}", "error 1:132 tests are nested too deep"},
        {"if ", "not ", 31, "true { discard; }", "keep"},
        {"", "if true {", 100000, "", "error 1:297 blocks are nested too deep"},
        {"", "if true {", 32, "discard;}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}", "discard"},
        {"if anyof (", "anyof (", 100000, "", "error 1:228 tests are nested too deep"},
        {"", "keep;", 10001, "", "error 1:50001 the script has too many commands"},
        {"", "keep;", 10000, "", "keep"},
        {"if header \"a\" [\"a\"", ",\"a\"", 10000, "] {}",
         "error 1:40016 too many strings in one list"},
        {"if header \"a\" [\"a\"", ",\"a\"", 9999, "] {}", "keep"},
        {"keep; # ", "x", 1048576, "", "error 1:1 the script is larger than 1048576 bytes"},
        {"require \"regex\"; if header :regex \"a\" [\"x\"", ",\"(a{1000}){60}\"", 1000, "] {}",
         "error 1:16028 too many regular expressions"},
        {"redirect \"", "x", 262145, "\";", "error 1:10 the string is too long"},
        {"keep ", "1 ", 101, ";", "error 1:206 too many arguments of one command"},
        {"discard; /* ", "/* ", 100000, "*/", "discard"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(bombs) / sizeof(bombs[0]); i++) {
        char *script = repeated(bombs[i].before, bombs[i].piece, bombs[i].count, bombs[i].after);
        const struct sieve_scene scene = {.script = script};
        const char *outcome = sieve_play(&scene);
        free(script);
        assert_string_equal(outcome, bombs[i].outcome);
    }
}

static void too_many_variables_and_scripts_are_refused(void **state)
{
    char script[32768];
    const struct sieve_scene scene = {.script = script};
    (void)state;
    size_t size = (size_t)snprintf(script, sizeof(script), "require \"variables\";");
    for (int i = 0; i <= 128; i++) {
        size += (size_t)snprintf(script + size, sizeof(script) - size, "\nset \"v%d\" \"x\";", i);
    }
    assert_string_equal(sieve_play(&scene), "error 130:5 too many variables");
    size = (size_t)snprintf(script, sizeof(script), "require \"include\";");
    for (int i = 0; i < 64; i++) {
        size += (size_t)snprintf(script + size, sizeof(script) - size,
                                 "\ninclude :optional \"s%d\";", i);
    }
    assert_string_equal(sieve_play(&scene), "error 65:19 too many scripts are included");
}

static void the_owner_may_forbid_extensions(void **state)
{
    const struct sieve_compile_settings settings = {.extensions = SIEVE_EXTENSIONS_ALL &
                                                                  ~SIEVE_EXTENSION_BIT(EDITHEADER)};
    char list[512];
    (void)state;
    struct sieve_compiler *compiler = sieve_compiler_open(&settings);
    assert_int_equal(sieve_compile(compiler, slice_text("require \"editheader\";")),
                     SIEVE_COMPILE_WRONG);
    sieve_compiler_close(compiler);
    list[sieve_extensions_list(settings.extensions, list, sizeof(list))] = '\0';
    assert_non_null(strstr(list, "fileinto reject"));
    assert_null(strstr(list, "editheader"));
}

static void a_script_is_checked_without_those_it_includes(void **state)
{
    const struct sieve_compile_settings settings = {.extensions = SIEVE_EXTENSIONS_ALL,
                                                    .check_only = true};
    (void)state;
    struct sieve_compiler *compiler = sieve_compiler_open(&settings);
    assert_int_equal(sieve_compile(compiler, slice_text("require \"include\"; include \"x\";")),
                     SIEVE_COMPILE_GOOD);
    sieve_compiler_close(compiler);
}

/* ---- Bytecode ---- */

static const char varied[] =
    "require "
    "[\"fileinto\",\"variables\",\"imap4flags\",\"regex\",\"date\",\"vacation\",\"editheader\"];"
    "set :upper \"a\" \"x${1}\";"
    "if anyof (header :matches \"Subject\" \"*a*\", allof (not exists \"X\", size :over 10)) {"
    "  addflag [\"\\\\Seen\"]; fileinto \"in/${a}\"; }"
    "elsif header :regex \"Subject\" \"^(.*)$\" { addheader \"X\" \"${1}\"; }"
    "else { vacation :days 3 \"gone\"; stop; }"
    "if currentdate :matches \"hour\" \"*\" { keep; }";

static struct slice varied_compile(struct sieve_compiler **compiler)
{
    static const struct sieve_compile_settings settings = {.extensions = SIEVE_EXTENSIONS_ALL};
    *compiler = sieve_compiler_open(&settings);
    assert_int_equal(sieve_compile(*compiler, slice_text(varied)), SIEVE_COMPILE_GOOD);
    return sieve_compiled_program(*compiler);
}

static void bytecode_that_is_cut_anywhere_is_none(void **state)
{
    struct sieve_compiler *compiler;
    struct slice bytes = varied_compile(&compiler);
    const struct sieve_scene scene = {.script = varied};
    (void)state;
    assert_string_equal(sieve_play_program(&scene, bytes), "fileinto in/X [\\Seen]; keep [\\Seen]");
    for (size_t size = 0; size < bytes.size; size++) {
        uint8_t *cut = malloc(size + 1);
        memcpy(cut, bytes.bytes, size);
        assert_string_equal(sieve_play_program(&scene, slice_of(cut, size)), "no program: -22");
        free(cut);
    }
    sieve_compiler_close(compiler);
}

static void bytecode_with_any_byte_changed_is_none_or_ends(void **state)
{
    struct sieve_compiler *compiler;
    struct slice bytes = varied_compile(&compiler);
    const struct sieve_scene scene = {.script = varied, .work_max = 100000};
    uint8_t *changed = malloc(bytes.size);
    unsigned refused = 0;
    (void)state;
    for (size_t i = 0; i < bytes.size * 8; i++) {
        memcpy(changed, bytes.bytes, bytes.size);
        changed[i / 8] ^= (uint8_t)(1u << i % 8);
        const char *outcome = sieve_play_program(&scene, slice_of(changed, bytes.size));
        refused += strncmp(outcome, "no program", 10) == 0;
        assert_true(outcome[0] != '\0');
    }
    assert_true(refused > bytes.size);
    free(changed);
    sieve_compiler_close(compiler);
}

static void jumps_backwards_or_into_an_instruction_are_refused(void **state)
{
    /* Version 1, no globals, no strings, one script without a name: present, no locals, 7 bytes: JUMP; RETURN. */
    uint8_t bytes[] = {
        'T', 'P', 'S', 'V', 1, 0, 0, 1, 0, 1, 0, 8, SIEVE_OP_JUMP, 1, 6, 0, 0, 0, SIEVE_OP_RETURN,
        1};
    const struct sieve_scene scene = {.script = ""};
    static const struct {
        uint8_t target;
        const char *outcome;
    } targets[] = {{6, "keep"},
                   {0, "no program: -22"},
                   {7, "no program: -22"},
                   {2, "no program: -22"},
                   {8, "no program: -22"}};
    (void)state;
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        bytes[14] = targets[i].target;
        assert_string_equal(sieve_play_program(&scene, slice_of(bytes, sizeof(bytes))),
                            targets[i].outcome);
    }
    bytes[14] = 6;
    bytes[4] = 2; /* another version */
    assert_string_equal(sieve_play_program(&scene, slice_of(bytes, sizeof(bytes))),
                        "no program: -22");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_are_named_with_their_place),
        cmocka_unit_test(a_mistake_in_an_included_script_is_found),
        cmocka_unit_test(bombs_are_refused_or_cost_little),
        cmocka_unit_test(too_many_variables_and_scripts_are_refused),
        cmocka_unit_test(the_owner_may_forbid_extensions),
        cmocka_unit_test(a_script_is_checked_without_those_it_includes),
        cmocka_unit_test(bytecode_that_is_cut_anywhere_is_none),
        cmocka_unit_test(bytecode_with_any_byte_changed_is_none_or_ends),
        cmocka_unit_test(jumps_backwards_or_into_an_instruction_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
