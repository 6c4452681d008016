#include "tests/sim/command.h"
#include "tests/sim/mutations.h"
#include <getopt.h>

const struct sim_scenario *const command_scenarios[COMMAND_SCENARIOS] = {
    &streams_scenario, &mail_scenario, &mailbox_scenario,
    &secure_scenario,  &imap_scenario, &week_scenario};

__attribute__((noreturn)) static void unknown(const char *what, const char *name)
{
    fprintf(stderr, "sim: there is no %s %s\n", what, name);
    exit(64);
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
            unknown("fault", name);
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
    unknown("mistake", name);
}

static const struct sim_scenario *scenario_parse(const char *name)
{
    for (unsigned i = 0; i < COMMAND_SCENARIOS; i++) {
        if (strcmp(name, command_scenarios[i]->name) == 0) {
            return command_scenarios[i];
        }
    }
    if (strcmp(name, "all") != 0) {
        unknown("scenario", name);
    }
    return NULL;
}

__attribute__((noreturn)) static void list_all(void)
{
    printf("scenarios: all");
    for (size_t i = 0; i < COMMAND_SCENARIOS; i++) {
        printf(" %s", command_scenarios[i]->name);
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

enum letter {
    SCENARIO = 1,
    SEED,
    SEEDS,
    SECONDS,
    VERBOSE,
    PCAP,
    WITHOUT,
    MOST,
    BYTES,
    PLANT,
    MUTATION,
    MUTATIONS_LIST,
    NO_SHRINK,
    FOLDER,
    LIST
};

static void option_take(struct command *command, enum letter letter, char *value)
{
    switch (letter) {
    case SCENARIO:
        command->scenario = scenario_parse(value);
        break;
    case SEED:
        command->options.seed = strtoull(value, NULL, 10);
        break;
    case SEEDS:
        command->seed_count = strtoull(value, NULL, 10);
        break;
    case SECONDS:
        command->seconds = (unsigned)strtoul(value, NULL, 10);
        break;
    case VERBOSE:
        command->options.verbose = true;
        break;
    case PCAP:
        command->options.pcap = value;
        break;
    case WITHOUT:
        command->options.without = faults_parse(value);
        break;
    case MOST:
        command->options.most = (uint32_t)strtoul(value, NULL, 10);
        break;
    case BYTES:
        command->options.bytes = (uint32_t)strtoul(value, NULL, 10);
        break;
    case PLANT:
        command->options.plant = plant_parse(value);
        break;
    case MUTATION:
        command->mutation = value;
        if (!mutation_choose(value)) {
            unknown("mutation", value);
        }
        break;
    case MUTATIONS_LIST:
        mutations_print();
        exit(0);
    case NO_SHRINK:
        command->no_shrink = true;
        break;
    case FOLDER:
        command->folder = value;
        break;
    case LIST:
        list_all();
    }
}

void command_read(struct command *command, int argc, char **argv)
{
    static const struct option known[] = {{"scenario", required_argument, NULL, SCENARIO},
                                          {"seed", required_argument, NULL, SEED},
                                          {"seeds", required_argument, NULL, SEEDS},
                                          {"seconds", required_argument, NULL, SECONDS},
                                          {"verbose", no_argument, NULL, VERBOSE},
                                          {"pcap", required_argument, NULL, PCAP},
                                          {"without", required_argument, NULL, WITHOUT},
                                          {"most", required_argument, NULL, MOST},
                                          {"bytes", required_argument, NULL, BYTES},
                                          {"plant", required_argument, NULL, PLANT},
                                          {"mutation", required_argument, NULL, MUTATION},
                                          {"mutations", no_argument, NULL, MUTATIONS_LIST},
                                          {"no-shrink", no_argument, NULL, NO_SHRINK},
                                          {"failures", required_argument, NULL, FOLDER},
                                          {"list", no_argument, NULL, LIST},
                                          {NULL, 0, NULL, 0}};
    *command = (struct command){.program = argv[0],
                                .options = {.seed = 1},
                                .seed_count = 1,
                                .folder = "build/sim-failures"};
    int letter;
    while ((letter = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (letter == '?') {
            exit(64);
        }
        option_take(command, (enum letter)letter, optarg);
    }
    if (optind < argc) {
        unknown("argument", argv[optind]);
    }
}

/* Appends; what does not fit is left out. */
__attribute__((format(printf, 2, 3))) static void append(char *text, const char *format, ...)
{
    size_t used = strlen(text);
    va_list values;
    va_start(values, format);
    vsnprintf(text + used, COMMAND_BYTES_MAX - used, format, values);
    va_end(values);
}

void command_write(const struct command *command, char text[static COMMAND_BYTES_MAX])
{
    const struct sim_options *options = &command->options;
    text[0] = '\0';
    append(text, "%s --scenario %s --seed %llu", command->program, options->scenario,
           (unsigned long long)options->seed);
    for (unsigned i = 0, count = 0; i < SIM_FAULTS; i++) {
        if ((options->without & 1u << i) != 0) {
            append(text, "%s%s", count++ == 0 ? " --without " : ",", sim_fault_names[i]);
        }
    }
    if (options->most > 0) {
        append(text, " --most %u", options->most);
    }
    if (options->bytes > 0) {
        append(text, " --bytes %u", options->bytes);
    }
    if (options->plant != SIM_PLANT_NONE) {
        append(text, " --plant %s", sim_plant_names[options->plant]);
    }
    if (command->mutation != NULL) {
        append(text, " --mutation %s", command->mutation);
    }
}
