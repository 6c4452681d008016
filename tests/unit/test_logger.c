#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/core/logger.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct fixture {
    struct logger logger;
    int pipe[2];
    char text[70000];
};

static int open_pipe(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    if (f == NULL || pipe2(f->pipe, O_CLOEXEC) < 0) {
        return -1;
    }
    logger_open(&f->logger, f->pipe[1], LOGGER_INFO);
    *state = f;
    return 0;
}

static int close_pipe(void **state)
{
    struct fixture *f = *state;
    close(f->pipe[0]);
    close(f->pipe[1]);
    free(f);
    return 0;
}

/* What was written; the pipe is empty afterwards. */
static const char *written(struct fixture *f)
{
    fcntl(f->pipe[0], F_SETFL, O_NONBLOCK);
    size_t size = 0;
    ssize_t got;
    while ((got = read(f->pipe[0], f->text + size, sizeof(f->text) - 1 - size)) > 0) {
        size += (size_t)got;
    }
    f->text[size] = 0;
    return f->text;
}

static void a_line_says_its_level(void **state)
{
    struct fixture *f = *state;
    logger_line(&f->logger, LOGGER_ERROR, "disk: %s", "full");
    logger_line(&f->logger, LOGGER_WARNING, "b: %d", 2);
    logger_line(&f->logger, LOGGER_INFO, "c");
    assert_string_equal(written(f), "ERROR disk: full\nWARNING b: 2\nINFO c\n");
}

static void a_finer_level_is_not_written(void **state)
{
    struct fixture *f = *state;
    logger_line(&f->logger, LOGGER_DEBUG, "quiet");
    assert_string_equal(written(f), "");
    f->logger.level = LOGGER_DEBUG;
    logger_line(&f->logger, LOGGER_DEBUG, "loud");
    assert_string_equal(written(f), "DEBUG loud\n");
}

static void bytes_of_a_peer_cannot_forge_a_line(void **state)
{
    struct fixture *f = *state;
    const char peer[] = "x\r\nERROR y\x1b[2J\x7f\x9b\\n";
    logger_line(&f->logger, LOGGER_INFO, "smtp: HELO %.*s", (int)sizeof(peer) - 1, peer);
    assert_string_equal(written(f), "INFO smtp: HELO x\\x0d\\x0aERROR y\\x1b[2J\\x7f\\x9b\\\\n\n");
}

static void a_long_line_is_cut_and_still_ends(void **state)
{
    struct fixture *f = *state;
    char peer[5000];
    memset(peer, '\n', sizeof(peer));
    logger_line(&f->logger, LOGGER_INFO, "%.*s", (int)sizeof(peer), peer);
    const char *text = written(f);
    size_t size = strlen(text);
    assert_true(size > 4000 && size <= 4096);
    assert_string_equal(text + size - 4, "...\n");
    assert_ptr_equal(strchr(text, '\n'), text + size - 1);
}

static void a_full_pipe_drops_lines_and_says_so_later(void **state)
{
    struct fixture *f = *state;
    char filler[1000];
    memset(filler, 'x', sizeof(filler));
    for (unsigned i = 0; i < 100; i++) { /* a pipe holds 64 KiB */
        logger_line(&f->logger, LOGGER_INFO, "%.*s", (int)sizeof(filler), filler);
    }
    uint64_t dropped = f->logger.dropped_count;
    assert_true(dropped > 30 && dropped < 50);
    written(f);
    logger_line(&f->logger, LOGGER_INFO, "again");
    char expected[100];
    snprintf(expected, sizeof(expected),
             "WARNING logger: %u lines dropped, nobody read them\nINFO again\n", (unsigned)dropped);
    assert_string_equal(written(f), expected);
    assert_int_equal(f->logger.dropped_count, 0);
}

static void a_plain_file_takes_lines(void **state)
{
    struct fixture *f = *state;
    char name[] = "/tmp/test_logger.XXXXXX";
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    unlink(name);
    f->logger.fd = fd;
    logger_line(&f->logger, LOGGER_INFO, "one");
    logger_line(&f->logger, LOGGER_INFO, "two");
    ssize_t size = pread(fd, f->text, sizeof(f->text) - 1, 0);
    close(fd);
    assert_int_equal(size, 18);
    f->text[18] = 0;
    assert_string_equal(f->text, "INFO one\nINFO two\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_line_says_its_level, open_pipe, close_pipe),
        cmocka_unit_test_setup_teardown(a_finer_level_is_not_written, open_pipe, close_pipe),
        cmocka_unit_test_setup_teardown(bytes_of_a_peer_cannot_forge_a_line, open_pipe, close_pipe),
        cmocka_unit_test_setup_teardown(a_long_line_is_cut_and_still_ends, open_pipe, close_pipe),
        cmocka_unit_test_setup_teardown(a_full_pipe_drops_lines_and_says_so_later, open_pipe,
                                        close_pipe),
        cmocka_unit_test_setup_teardown(a_plain_file_takes_lines, open_pipe, close_pipe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
