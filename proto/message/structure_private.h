/* structure_private: between structure.c, which finds the parts, and structure_fields.c, which reads their fields. */
#pragma once
#include "proto/message/structure.h"

/* One field of the part's header, folded. `of_message`: the part is a message, its envelope is wanted. */
void structure_field_read(struct arena *arena, struct message_part *part, struct slice whole,
                          bool of_message);
/* Its header is over: what was not said is filled in. `in_digest`: another type is the default. */
void structure_fields_default(struct arena *arena, struct message_part *part, bool in_digest);
