#include "tests/sim/shrink.h"
#include "engine/core/check.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SHRINK_S 60 /* of real time; a try that has begun is let finish */
#define SAID_BYTES_MAX 1024u
#define PATH_BYTES_MAX 512u
#define COMPARE_BYTES 65536u

struct shrink {
    struct command smallest;
    char kind[SAID_BYTES_MAX]; /* of the failure */
    time_t until_s;
    unsigned tries;
};

static time_t now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* What has failed, whoever it is that has: the words without the numbers. */
static void kind_of(const char *said, char kind[static SAID_BYTES_MAX])
{
    size_t count = 0;
    for (; *said != '\0' && *said != '\n' && count + 1 < SAID_BYTES_MAX; said++) {
        if (!isdigit((unsigned char)*said) && *said != '.' && *said != ' ' && *said != '-') {
            kind[count++] = *said;
        }
    }
    kind[count] = '\0';
}

/* ---- One run, in a process of its own ---- */

__attribute__((noreturn)) static void become(const struct command *command, int out, int error)
{
    char text[COMMAND_BYTES_MAX];
    char *arguments[COMMAND_ARGUMENTS_MAX];
    unsigned count = 0;
    command_write(command, text);
    for (char *rest = NULL, *word = strtok_r(text, " ", &rest);
         word != NULL && count < COMMAND_ARGUMENTS_MAX - 5; word = strtok_r(NULL, " ", &rest)) {
        arguments[count++] = word;
    }
    arguments[count++] = "--no-shrink";
    if (command->options.verbose) {
        arguments[count++] = "--verbose";
    }
    if (command->options.pcap != NULL) {
        arguments[count++] = "--pcap";
        arguments[count++] = (char *)(uintptr_t)command->options.pcap;
    }
    arguments[count] = NULL;
    dup2(out, STDOUT_FILENO);
    dup2(error, STDERR_FILENO);
    execv("/proc/self/exe", arguments);
    _exit(127);
}

/* Returns its exit status; -1: it could not be run. */
static int run(const struct command *command, int out, int error)
{
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        become(command, out, error);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) {
        return -1;
    }
    return WEXITSTATUS(status);
}

static bool fails_likewise(struct shrink *shrink, const struct command *command)
{
    char said[SAID_BYTES_MAX] = "", kind[SAID_BYTES_MAX];
    int error = memfd_create("sim", MFD_CLOEXEC), out = open("/dev/null", O_WRONLY | O_CLOEXEC);
    check(error >= 0 && out >= 0);
    shrink->tries++;
    int status = run(command, out, error);
    ssize_t size = pread(error, said, sizeof(said) - 1, 0);
    said[size > 0 ? size : 0] = '\0';
    close(error);
    close(out);
    kind_of(said, kind);
    return status == 2 && strcmp(kind, shrink->kind) == 0;
}

/* Keeps it when it still fails. */
static bool attempt(struct shrink *shrink, const struct command *smaller)
{
    if (now_s() >= shrink->until_s || !fails_likewise(shrink, smaller)) {
        return false;
    }
    shrink->smallest = *smaller;
    return true;
}

/* ---- Smaller ---- */

static void faults_leave_out(struct shrink *shrink, uint32_t drawn)
{
    struct command smaller = shrink->smallest;
    smaller.options.without |= drawn;
    if (drawn == 0 || attempt(shrink, &smaller)) {
        return;
    }
    for (unsigned i = 0; i < SIM_FAULTS; i++) {
        smaller = shrink->smallest;
        if ((drawn & ~smaller.options.without & 1u << i) != 0) {
            smaller.options.without |= 1u << i;
            attempt(shrink, &smaller);
        }
    }
}

static void scale_down(struct shrink *shrink)
{
    static const uint32_t counts[] = {1, 2, 3, 5, 8, 16}, bytes[] = {1000, 5000, 20000, 100000};
    for (unsigned i = 0; i < RTE_DIM(counts); i++) {
        struct command smaller = shrink->smallest;
        smaller.options.most = counts[i];
        if ((shrink->smallest.options.most != 0 && shrink->smallest.options.most <= counts[i]) ||
            attempt(shrink, &smaller)) {
            break;
        }
    }
    for (unsigned i = 0; i < RTE_DIM(bytes); i++) {
        struct command smaller = shrink->smallest;
        smaller.options.bytes = bytes[i];
        if ((shrink->smallest.options.bytes != 0 && shrink->smallest.options.bytes <= bytes[i]) ||
            attempt(shrink, &smaller)) {
            break;
        }
    }
}

/* ---- What happens in it ---- */

static bool files_equal(const char *one, const char *other)
{
    static uint8_t left[COMPARE_BYTES], right[COMPARE_BYTES];
    FILE *a = fopen(one, "re"), *b = fopen(other, "re");
    bool equal = a != NULL && b != NULL;
    size_t count = 1;
    while (equal && count > 0) {
        count = fread(left, 1, sizeof(left), a);
        equal = fread(right, 1, sizeof(right), b) == count && memcmp(left, right, count) == 0;
    }
    if (a != NULL) {
        fclose(a);
    }
    if (b != NULL) {
        fclose(b);
    }
    return equal;
}

static bool record(const struct command *smallest, const char *trace, const char *pcap)
{
    struct command told = *smallest;
    told.options.verbose = true;
    told.options.pcap = pcap;
    int out = open(trace, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
    if (out < 0) {
        return false;
    }
    int status = run(&told, out, out);
    close(out);
    return status == 2;
}

/* Twice, since what a seed decides is the same each time, or else that is the worst of it. */
static void record_twice(const struct command *smallest)
{
    char paths[4][PATH_BYTES_MAX];
    static const char *const ends[4] = {"trace", "pcap", "trace.again", "pcap.again"};
    for (unsigned i = 0; i < 4; i++) {
        snprintf(paths[i], sizeof(paths[i]), "%s/%s-%llu.%s", smallest->folder,
                 smallest->options.scenario, (unsigned long long)smallest->options.seed, ends[i]);
    }
    if ((mkdir(smallest->folder, 0755) < 0 && errno != EEXIST) ||
        !record(smallest, paths[0], paths[1]) || !record(smallest, paths[2], paths[3])) {
        fprintf(stderr, "sim: it could not be recorded in %s\n", smallest->folder);
        return;
    }
    bool same = files_equal(paths[0], paths[2]) && files_equal(paths[1], paths[3]);
    fprintf(stderr, "sim: what happens: %s, %s; %s\n", paths[0], paths[1],
            same ? "a second run gave the same"
                 : "A SECOND RUN GAVE SOMETHING ELSE (.again): the simulator is not exact");
    if (same) {
        unlink(paths[2]);
        unlink(paths[3]);
    }
}

void shrink(const struct command *command, uint32_t drawn, const char *said)
{
    struct shrink shrink = {.smallest = *command, .until_s = now_s() + SHRINK_S};
    char text[COMMAND_BYTES_MAX];
    kind_of(said, shrink.kind);
    if (!fails_likewise(&shrink, command)) {
        fprintf(stderr, "sim: alone it does not fail like this: something was left of the seeds "
                        "before it\n");
        return;
    }
    faults_leave_out(&shrink, drawn);
    scale_down(&shrink);
    faults_leave_out(&shrink, drawn & ~shrink.smallest.options.without);
    command_write(&shrink.smallest, text);
    fprintf(stderr, "sim: after %u tries, the smallest that fails like this: %s --verbose\n",
            shrink.tries, text);
    record_twice(&shrink.smallest);
}
