/*
 * file_limit: how many files and sockets the process may have open. The mains of the programs that serve call it at start.
 */
#pragma once

/* The soft limit becomes the hard one: every connection takes a descriptor, every Maildir in use some, and the usual soft
 * limit is 1,024. Where it cannot be raised it stays. */
void file_limit_raise(void);
