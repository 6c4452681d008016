/*
 * system_world: the world as it is: the kernel's monotonic and real clock, its random source.
 *
 * Only main and tests of whole programs call this. Stateless; one world may serve every shard.
 */
#pragma once
#include "engine/core/world.h"

void system_world_fill(struct world *world);
