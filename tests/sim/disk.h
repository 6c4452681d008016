/* disk: what the simulator does to disks beyond what they do themselves (engine/disk/disk_fault.h). */
#pragma once
#include "engine/disk/disk_fault.h"

/* At a crash: the last of what was written is not there. SIM_PLANT_TORN. */
void sim_disk_forget(struct disk_fault *fault);
