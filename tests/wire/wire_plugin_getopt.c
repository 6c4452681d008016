/*
 * wire_plugin_getopt: getopt_long for the EAL inside packetdrill.
 *
 * packetdrill loads us with RTLD_DEEPBIND, and uses getopt_long itself: then its program file holds
 * the one `optind` and `optarg` that libc writes, while libraries that are loaded with us read libc's
 * own, which nobody writes, so the EAL would see none of its arguments. With DEEPBIND they look here
 * first: these variables follow those that libc uses.
 */
#include <dlfcn.h>
#include <getopt.h>
#include <stddef.h>

#define SHARED __attribute__((visibility("default")))

SHARED char *optarg;
SHARED int optind = 1, opterr = 1, optopt;

typedef int getopt_function(int, char *const *, const char *, const struct option *, int *);

SHARED int getopt_long(int argc, char *const *argv, const char *letters, const struct option *words,
                       int *index)
{
    void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    void *program = dlopen(NULL, RTLD_NOW);
    getopt_function *of_libc = (getopt_function *)dlsym(libc, "getopt_long");
    char **argument = dlsym(program, "optarg");
    int *next = dlsym(program, "optind");
    int *report = dlsym(program, "opterr");
    int *unknown = dlsym(program, "optopt");
    *next = optind;
    *report = opterr;
    int letter = of_libc(argc, argv, letters, words, index);
    optind = *next;
    optarg = *argument;
    optopt = *unknown;
    dlclose(program);
    dlclose(libc);
    return letter;
}
