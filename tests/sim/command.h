/*
 * command: what the simulator is asked for, read from its command line and written as one again.
 */
#pragma once
#include "tests/sim/sim.h"
#include <stddef.h>

struct command {
    const char *program;
    const struct sim_scenario *scenario; /* NULL: all of them, one after the other */
    struct sim_options options;
    const char *mutation;
    uint64_t seed_count;
    unsigned seconds; /* 0: as many seeds as are asked for */
    bool no_shrink;
    const char *folder; /* for the trace and the frames of what fails */
};

#define COMMAND_BYTES_MAX 1024u
#define COMMAND_ARGUMENTS_MAX 32u

/* Ends the process when it is asked for a list, or for something that there is not. */
void command_read(struct command *command, int argc, char **argv);
/* The command for this one seed, with nothing of what is only for a range of them. */
void command_write(const struct command *command, char text[static COMMAND_BYTES_MAX]);

#define COMMAND_SCENARIOS 6u
extern const struct sim_scenario *const command_scenarios[COMMAND_SCENARIOS];
