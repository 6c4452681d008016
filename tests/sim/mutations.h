/* mutations: which mistake of engine/core/mutation.h this run makes, in a build that can make them. */
#pragma once
#include <stdbool.h>

/* By its name on the command line: lost-timer for LOST_TIMER. False: there is none of that name. */
bool mutation_choose(const char *name);
/* A line for each: its name and the scenario that must find it. Nothing in a build without. */
void mutations_print(void);
