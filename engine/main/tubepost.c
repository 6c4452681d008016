/*
 * tubepost: the operator's tool. Asks a running tubepostd, or tubepost-mailboxd, over its control socket and
 * prints what it says.
 *
 * Exit codes are those of sysexits.h: 0; 64 wrong usage; 65 no such message; 68 no mail goes there; 69 tubepostd cannot be
 * reached; 70 it failed; 75 try again; 76 it answered nonsense; 78 the configuration is wrong.
 */
#include "engine/main/tubepost.h"
#include "engine/relay/relay_tls.h"
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "Usage: tubepost [-c FILE] [-s SOCKET] [--json] COMMAND\n"
    "  queue list [WHICH]     the mail that waits, as mailq has it; * is being delivered, ! is "
    "held;\n"
    "                         with --json as postqueue -j\n"
    "  queue show ID [--headers] [--body]\n"
    "                         one message and its recipients; or its text\n"
    "  queue summary [WHICH] [--by domain|site|sender] [--top N]\n"
    "                         how many recipients wait, by age in minutes, as qshape\n"
    "  queue flush [WHICH]    try it now\n"
    "  queue hold WHICH       do not try these messages, also after a restart\n"
    "  queue release [WHICH]  try them again\n"
    "  queue delete WHICH     forget it; nobody is told\n"
    "  queue bounce WHICH [--text WORDS]\n"
    "                         return it to its senders\n"
    "  queue reroute WHICH --to NEXT-HOP\n"
    "                         whatever the routes say of it: 192.0.2.9:25, smtp:[192.0.2.9]:25,\n"
    "                         lmtp:unix:/run/lmtp; routes: where they lead after all\n"
    "  queue suspend --site NEXT-HOP | --domain D | --recipient R | --sender S | --pattern RE\n"
    "                [--for 5m] [--text WORDS]\n"
    "                         begin none of its deliveries for so long, new mail included\n"
    "  queue resume --site NEXT-HOP | --domain D | ... | --all\n"
    "  queue suspensions      what is suspended, until when, since when and by whom, and what was\n"
    "                         rerouted; also queue suspend --list\n"
    "  queue jobs             what was begun, and how far it is\n"
    "  queue cancel JOB       end it where it is\n"
    "      WHICH: ID...  --domain D  --site NEXT-HOP  --sender ADDRESS|DOMAIN|'<>'  --recipient R\n"
    "             --older 2h  --younger 3d  --pattern RE  --held  --ready  --deferred  --limit N\n"
    "             --all: everything. All conditions hold together. .example.org as a domain: what\n"
    "             is below it. RE: PCRE2, in sender, recipient or reason\n"
    "      --background: do not wait until it is done\n"
    "  status [SECONDS]       counters and their rates over so many seconds (default 1; 0: no "
    "rates)\n"
    "  status --prometheus    the same once, in Prometheus' text format\n"
    "  tls report             how TLS to next hops went today and yesterday, by domain\n"
    "  resolve DOMAIN         where mail for it goes: hosts, addresses, DANE, MTA-STS\n"
    "  net connections [state STATE] [local ADDRESS] [remote ADDRESS]\n"
    "                         of our own TCP, as ss -ti shows the kernel's; an ADDRESS is\n"
    "                         192.0.2.1:25, 192.0.2.0/24, [fd00::1]:25, fd00::1 or :25\n"
    "  net neighbors          as ip neigh\n"
    "  net routes             as ip route\n"
    "  net counters [all]     as nstat, those that are 0 too with all; and the longest gap "
    "between\n"
    "                         polls of each shard\n"
    "  net trace [live] [local ADDRESS] [remote ADDRESS]\n"
    "                         what happened on connections that recovered or failed; live: on "
    "those\n"
    "                         that are there\n"
    "  net capture -w FILE [--port NAME] [--count N] [--seconds N] [--snap BYTES]\n"
    "              [--connection A:p-B:p]\n"
    "                         frames of all ports into a new file (pcapng), 60 seconds unless "
    "said\n"
    "                         otherwise\n"
    "  mailbox ...            users' mail, and who reads it: tubepost mailbox help\n"
    "  config check           is the file of -c good?\n"
    "  spool check [DIR]      every record of the spool of a relay that does not run\n"
    "  spool stat [DIR]       what waits in it, by age and domain\n"
    "  spool export --to FOLDER [--id ID]... [--envelope json] [DIR]\n"
    "                         the messages that wait, as files ID.eml; DIR: else that of the\n"
    "                         configuration\n"
    "  -c FILE                the configuration of tubepostd, which names its socket; else that "
    "of\n"
    "                         the environment's TUBEPOST_CONFIG\n"
    "  -s SOCKET              its socket\n"
    "  --json                 the answer as it comes, a line of JSON each\n";

int tool_usage(int code)
{
    fputs(usage, code == EX_OK ? stdout : stderr);
    return code;
}

int tool_option(struct tool *tool, int option)
{
    if (option == 'c') {
        tool->conf_path = optarg;
    } else if (option == 's' && strlen(optarg) < sizeof tool->socket_path) {
        strcpy(tool->socket_path, optarg);
    } else if (option == 'j') {
        tool->as_json = true;
    } else {
        return tool_usage(option == 'h' ? EX_OK : EX_USAGE);
    }
    return TOOL_TAKEN;
}

int tool_options(struct tool *tool, int count, char **words)
{
    static const struct option options[] = {TOOL_OPTIONS, {NULL, 0, NULL, 0}};
    optind = 0; /* from the start, after the options before the command */
    for (int option; (option = getopt_long(count, words, TOOL_LETTERS, options, NULL)) != -1;) {
        int code = tool_option(tool, option);
        if (code != TOOL_TAKEN) {
            return code;
        }
    }
    return TOOL_TAKEN;
}

static int tubepost_config(struct tool *tool, int count, char **words)
{
    int taken = tool_options(tool, count, words);
    if (taken != TOOL_TAKEN) {
        return taken;
    }
    if (count - optind != 1 || strcmp(words[optind], "check") != 0) {
        return tool_usage(EX_USAGE);
    }
    struct relay_conf *conf = NULL;
    int code = tool_load_conf(tool->conf_path, &conf);
    char problem[TLS_PROBLEM_MAX];
    if (code == EX_OK && relay_tls_check(conf, problem) < 0) {
        fprintf(stderr, "%s: %s\n", tool->conf_path, problem);
        relay_conf_free(conf);
        return EX_CONFIG;
    }
    if (code == EX_OK) {
        printf("%s: good\n", tool->conf_path != NULL ? tool->conf_path : "defaults");
        relay_conf_free(conf);
    }
    return code;
}

static const struct command {
    const char *name;
    int (*run)(struct tool *tool, int count, char **words);
} commands[] = {
    {"config", tubepost_config}, {"mailbox", tubepost_mailbox}, {"net", tubepost_net},
    {"queue", tubepost_queue},   {"resolve", tubepost_resolve}, {"spool", tubepost_spool},
    {"status", tubepost_status}, {"tls", tubepost_tls},
};

static int run_command(struct tool *tool, int count, char **words)
{
    for (size_t i = 0; count > 0 && i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(words[0], commands[i].name) == 0) {
            return commands[i].run(tool, count, words);
        }
    }
    return tool_usage(EX_USAGE);
}

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

int main(int argc, char **argv)
{
    const char *name = name_of(argv[0] != NULL ? argv[0] : "");
    static const struct option options[] = {TOOL_OPTIONS, {NULL, 0, NULL, 0}};
    struct tool tool = {.conf_path = getenv("TUBEPOST_CONFIG")};
    int code = EX_OK;
    if (!tubepost_run_as(&tool, name, argc, argv, &code)) {
        /* +: those behind the command are its own. */
        for (int option;
             (option = getopt_long(argc, argv, "+" TOOL_LETTERS, options, NULL)) != -1;) {
            code = tool_option(&tool, option);
            if (code != TOOL_TAKEN) {
                return code;
            }
        }
        code = run_command(&tool, argc - optind, argv + optind);
    }
    if (tool.to != NULL) {
        fclose(tool.to);
    }
    if (tool.from != NULL) {
        fclose(tool.from);
    }
    return code;
}
