/* imap_dump: a command's tree as one line of text, for the tables of tests. */
#pragma once
#include "proto/imap/command.h"

/* NUL-terminated; what does not fit is cut. */
void imap_dump(const struct imap_command *command, char *out, size_t room);
/* One message of APPEND. */
void imap_dump_append(const struct imap_append *append, char *out, size_t room);
