/*
 * run: plays one script in packetdrill's language against the stack.
 *
 * Usage: run SCRIPT. Exit 0: it went as written; 1: it did not, and stderr says where.
 */
#include "tests/wire/wire_run.h"

static char *file_read(const char *name)
{
    FILE *file = fopen(name, "r");
    char *text = NULL;
    size_t size = 0;
    if (file != NULL && getdelim(&text, &size, '\0', file) < 0) {
        free(text);
        text = NULL;
    }
    if (file != NULL) {
        fclose(file);
    }
    return text;
}

int main(int argc, char **argv)
{
    static struct wire_script script;
    static struct wire_run run;
    if (argc != 2) {
        fprintf(stderr, "usage: run SCRIPT\n");
        return 2;
    }
    char *text = file_read(argv[1]);
    if (text == NULL) {
        fprintf(stderr, "%s: cannot be read\n", argv[1]);
        return 1;
    }
    int status = wire_script_parse(&script, text);
    free(text);
    if (status < 0) {
        fprintf(stderr, "%s:%u: %s\n", argv[1], script.error_line, script.error);
        return 1;
    }
    return wire_run_script(&run, &script, argv[1]) < 0;
}
