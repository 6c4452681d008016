/*
 * sim: runs scenarios of the simulator, each by a range of seeds, or for a time.
 *
 *   sim [--scenario NAME|all] [--seed N] [--seeds COUNT | --seconds S] [--verbose] [--pcap FILE]
 *       [--without FAULT[,FAULT...]] [--most COUNT] [--bytes COUNT] [--plant MISTAKE]
 *       [--no-shrink] [--failures FOLDER] [--list]
 *   sim-mutant also: [--mutation NAME] [--mutations]
 *
 * --most: connections, or letters of each client; --bytes: of each of them. Ends with 0 when all were
 * clean. The first failure ends it with another status: it prints the seed, makes the run smaller, and
 * leaves a trace and the frames of it in the folder. A run that is --verbose or has a --pcap is not
 * made smaller: it is one that is looked at.
 */
#include "engine/core/check.h"
#include "tests/sim/command.h"
#include "tests/sim/imap_host.h"
#include "tests/sim/pcap.h"
#include "tests/sim/relay_host.h"
#include "tests/sim/shrink.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HANG_S 30u /* of real time, for one seed */
#define SAID_BYTES_MAX 65536u

static struct command command;

/* What is known outside of the process that runs a range of seeds. */
static struct progress {
    uint64_t seed;
    uint32_t faults;
} * progress;

static char
    failed_text[2048]; /* made before each run, since a failing one may have broken anything */
static size_t failed_bytes;

static void failed_write(void)
{
    char text[COMMAND_BYTES_MAX];
    command_write(&command, text);
    int size = snprintf(failed_text, sizeof(failed_text),
                        "sim: FAILED: scenario %s, seed %llu\nreplay: %s --verbose\n",
                        command.options.scenario, (unsigned long long)command.options.seed, text);
    failed_bytes = size > 0 && (size_t)size < sizeof(failed_text) ? (size_t)size : 0;
}

static void failed(int number)
{
    static const char hangs[] = "sim: it hangs\n";
    sim_imap_remove();
    if (number == SIGALRM && write(STDERR_FILENO, hangs, sizeof(hangs) - 1) < 0) {
        _exit(3);
    }
    if (write(STDERR_FILENO, failed_text, failed_bytes) < 0) {
        _exit(3);
    }
    _exit(2);
}

#ifdef __SANITIZE_ADDRESS__
void __sanitizer_set_death_callback(void (*callback)(void));
int __lsan_is_turned_off(void);

int __lsan_is_turned_off(void)
{
    return sim_relay_has_crashed;
}

static void died(void)
{
    failed(0);
}
#endif

static void handlers_set(void)
{
    static const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM};
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        signal(signals[i], failed);
    }
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_set_death_callback(died);
#endif
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* All of them in this process; it ends at the first that fails. Returns its exit status. */
static int seeds_run(const struct sim_scenario *scenario)
{
    if (sim_start() < 0 || (command.options.pcap != NULL && pcap_open(command.options.pcap) < 0)) {
        fprintf(stderr, "sim: no memory, or %s cannot be written\n",
                command.options.pcap == NULL ? "no file" : command.options.pcap);
        return 1;
    }
    handlers_set();
    double start_s = now_s();
    uint64_t done = 0;
    command.options.faults_drawn = &progress->faults;
    while (command.seconds > 0 ? now_s() - start_s < command.seconds : done < command.seed_count) {
        failed_write();
        *progress = (struct progress){.seed = command.options.seed};
        alarm(HANG_S);
        scenario->run(&command.options);
        command.options.seed++;
        done++;
    }
    alarm(0);
    pcap_close();
    double took_s = now_s() - start_s;
    printf("%s: %llu seeds clean, to seed %llu, in %.1f s, %.1f ms each\n", scenario->name,
           (unsigned long long)done, (unsigned long long)command.options.seed - 1, took_s,
           took_s * 1000 / (double)(done > 0 ? done : 1));
    return 0;
}

/* In a process of its own; what fails is made smaller. */
static int seeds_watch(const struct sim_scenario *scenario)
{
    static char said[SAID_BYTES_MAX];
    int error = memfd_create("sim", MFD_CLOEXEC), status = -1;
    check(error >= 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(error, STDERR_FILENO);
        exit(seeds_run(scenario));
    }
    check(child > 0 && waitpid(child, &status, 0) == child);
    ssize_t size = pread(error, said, sizeof(said) - 1, 0);
    said[size > 0 ? size : 0] = '\0';
    close(error);
    fputs(said, stderr);
    if (!WIFEXITED(status)) {
        fprintf(stderr, "sim: it was ended by signal %d\n", WTERMSIG(status));
        return 3;
    }
    if (WEXITSTATUS(status) == 2) {
        command.options.seed = progress->seed;
        shrink(&command, progress->faults, said);
    }
    return WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
    command_read(&command, argc, argv);
    bool looked_at = command.no_shrink || command.options.verbose || command.options.pcap != NULL;
    bool all = command.scenario == NULL;
    uint64_t first_seed = command.options.seed;
    progress =
        mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(progress != MAP_FAILED);
    if (all && looked_at) {
        fprintf(stderr, "sim: --scenario: one of those that --list shows\n");
        return 64;
    }
    unsigned count = all ? COMMAND_SCENARIOS : 1;
    command.seconds = (command.seconds + count - 1) / count;
    int status = 0;
    for (unsigned i = 0; status == 0 && i < count; i++) {
        const struct sim_scenario *scenario = all ? command_scenarios[i] : command.scenario;
        command.options.scenario = scenario->name;
        command.options.seed = first_seed;
        status = looked_at ? seeds_run(scenario) : seeds_watch(scenario);
    }
    return status;
}
