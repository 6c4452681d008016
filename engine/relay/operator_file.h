/*
 * operator_file: the file of the operator's orders (operator_orders.h), as the relay is handed it.
 *
 * Production's is "operator.json" in the folder of the spool; the simulator has its own. Both calls block: read is for
 * the start, replace for a helper thread.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct logger;
struct operator_orders;

#define OPERATOR_FILE_NAME "operator.json"
#define OPERATOR_FILE_BYTES_MAX (4u << 20)

struct operator_file {
    void *self;
    /* All of it, of malloc, with a NUL behind. -ENOENT: there is none; -EFBIG, or what the system says. */
    int (*read)(void *self, char **text, size_t *size);
    /* Whole and durable, or as it was: 0 or -errno. After an error either may be found at the next start. */
    int (*replace)(void *self, const char *text, size_t size);
};

/* The system's, in a folder that is open and stays so. */
void operator_file_system(struct operator_file *file, const int *folder);

/* Before any shard starts: what the operator has said to former lives of the relay. 0: it is the caller's; without a
 * file there is none. -errno: the log says what is wrong, with file and line; a relay that went on would send what it
 * was told to keep. folder: its name, for the log. */
int operator_file_load(struct operator_orders *orders, const struct operator_file *file,
                       const char *folder, struct logger *logger);
