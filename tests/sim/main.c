/*
 * sim: runs scenarios of the simulator, each by a range of seeds.
 *
 *   sim --scenario NAME [--seed N] [--seeds COUNT | --seconds S] [--verbose] [--pcap FILE]
 *       [--without FAULT[,FAULT...]] [--plant MISTAKE] [--list]
 *
 * Ends with 0 when all were clean. The first failure ends it with another status, and prints the
 * command that shows it again.
 */
#include "engine/core/check.h"
#include "tests/sim/pcap.h"
#include "tests/sim/relay_host.h"
#include "tests/sim/sim.h"
#include <getopt.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define HANG_S 30u /* of real time, for one seed */

static const struct sim_scenario *const scenarios[] = {&streams_scenario, &mail_scenario};

static struct sim_options options = {.seed = 1};
static uint64_t seed_count = 1;
static unsigned seconds;
static char without_text[256];

static char
    failed_text[512]; /* made before each run, since a failing one may have broken anything */
static size_t failed_bytes;

static void failed_write(void)
{
    int size = snprintf(failed_text, sizeof(failed_text),
                        "sim: FAILED: scenario %s, seed %llu\n"
                        "replay: build/tests/sim/sim --scenario %s --seed %llu%s%s%s%s --verbose\n",
                        options.scenario, (unsigned long long)options.seed, options.scenario,
                        (unsigned long long)options.seed, without_text[0] ? " --without " : "",
                        without_text, options.plant != SIM_PLANT_NONE ? " --plant " : "",
                        options.plant != SIM_PLANT_NONE ? sim_plant_names[options.plant] : "");
    failed_bytes = size > 0 && (size_t)size < sizeof(failed_text) ? (size_t)size : 0;
}

static void failed(int number)
{
    static const char hangs[] = "sim: it hangs\n";
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

static uint32_t faults_parse(char *names)
{
    uint32_t faults = 0;
    for (char *rest = NULL, *name = strtok_r(names, ",", &rest); name != NULL;
         name = strtok_r(NULL, ",", &rest)) {
        unsigned i = 0;
        while (i < SIM_FAULTS && strcmp(name, sim_fault_names[i]) != 0) {
            i++;
        }
        if (i == SIM_FAULTS) {
            fprintf(stderr, "sim: there is no fault %s\n", name);
            exit(64);
        }
        faults |= 1u << i;
    }
    return faults;
}

static enum sim_plant plant_parse(const char *name)
{
    for (unsigned i = 0; i < SIM_PLANTS; i++) {
        if (strcmp(name, sim_plant_names[i]) == 0) {
            return (enum sim_plant)i;
        }
    }
    fprintf(stderr, "sim: there is no mistake %s\n", name);
    exit(64);
}

static void list_all(void)
{
    printf("scenarios:");
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
        printf(" %s", scenarios[i]->name);
    }
    printf("\nfaults:");
    for (unsigned i = 0; i < SIM_FAULTS; i++) {
        printf(" %s", sim_fault_names[i]);
    }
    printf("\nmistakes:");
    for (unsigned i = 0; i < SIM_PLANTS; i++) {
        printf(" %s", sim_plant_names[i]);
    }
    printf("\n");
    exit(0);
}

static void options_read(int argc, char **argv)
{
    static const struct option known[] = {
        {"scenario", required_argument, NULL, 's'}, {"seed", required_argument, NULL, 'n'},
        {"seeds", required_argument, NULL, 'c'},    {"seconds", required_argument, NULL, 't'},
        {"verbose", no_argument, NULL, 'v'},        {"pcap", required_argument, NULL, 'p'},
        {"without", required_argument, NULL, 'w'},  {"plant", required_argument, NULL, 'm'},
        {"list", no_argument, NULL, 'l'},           {NULL, 0, NULL, 0}};
    int letter;
    while ((letter = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (letter) {
        case 's':
            options.scenario = optarg;
            break;
        case 'n':
            options.seed = strtoull(optarg, NULL, 10);
            break;
        case 'c':
            seed_count = strtoull(optarg, NULL, 10);
            break;
        case 't':
            seconds = (unsigned)strtoul(optarg, NULL, 10);
            seed_count = UINT64_MAX;
            break;
        case 'v':
            options.verbose = true;
            break;
        case 'p':
            options.pcap = optarg;
            break;
        case 'w':
            snprintf(without_text, sizeof(without_text), "%s", optarg);
            options.without = faults_parse(optarg);
            break;
        case 'm':
            options.plant = plant_parse(optarg);
            break;
        case 'l':
            list_all();
            break;
        default:
            exit(64);
        }
    }
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    const struct sim_scenario *scenario = NULL;
    options_read(argc, argv);
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
        if (options.scenario != NULL && strcmp(options.scenario, scenarios[i]->name) == 0) {
            scenario = scenarios[i];
        }
    }
    if (scenario == NULL) {
        fprintf(stderr, "sim: --scenario: one of those that --list shows\n");
        return 64;
    }
    if (sim_start() < 0 || (options.pcap != NULL && pcap_open(options.pcap) < 0)) {
        fprintf(stderr, "sim: no memory, or %s cannot be written\n",
                options.pcap == NULL ? "no file" : options.pcap);
        return 1;
    }
    handlers_set();
    double start_s = now_s();
    uint64_t run = 0;
    for (; run < seed_count && (seconds == 0 || now_s() - start_s < seconds); run++) {
        failed_write();
        alarm(HANG_S);
        scenario->run(&options);
        options.seed++;
    }
    alarm(0);
    pcap_close();
    double took_s = now_s() - start_s;
    printf("%s: %llu seeds clean, to seed %llu, in %.1f s, %.1f ms each\n", scenario->name,
           (unsigned long long)run, (unsigned long long)options.seed - 1, took_s,
           took_s * 1000 / (double)(run > 0 ? run : 1));
    return 0;
}
