/* tubepost mailbox: users' mail, and who reads it, in the manner of doveadm. */
#include "engine/main/tubepost_mailbox.h"
#include "engine/conf/value.h"
#include "engine/control/control.h"
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 100000

static const char usage[] =
    "Usage: tubepost [-c FILE] [-s SOCKET] [--json] mailbox COMMAND\n"
    "  who [-1] [USER] [ADDRESS[/BITS]]\n"
    "                         who is logged in, by user and protocol; -1: a line for each "
    "session,\n"
    "                         with its number; * and ? in USER stand for anything\n"
    "  kick USER [ADDRESS[/BITS]] | --session N\n"
    "                         end these sessions\n"
    "  stats [SECONDS]        counters and their rates over so many seconds (default 1; 0: no "
    "rates)\n"
    "  stats --prometheus     the same once, in Prometheus' text format\n"
    "  list -u USER [-s] [MASK...]\n"
    "                         his mailboxes; -s: those that he has subscribed to. MASK: * stands "
    "for\n"
    "                         anything, % for anything but /\n"
    "  status -u USER [-t] FIELD... MASK...\n"
    "                         FIELD: messages unseen deleted uidnext uidvalidity highestmodseq "
    "vsize\n"
    "                         guid, or all; -t: the sums\n"
    "  quota -u USER          what he has, and may have\n"
    "  search -u USER QUERY   a line for each message that is found: its mailbox's id and its uid\n"
    "  fetch -u USER FIELDS QUERY\n"
    "                         FIELDS, one word: user mailbox mailbox-guid uid guid seq flags "
    "modseq\n"
    "                         size.virtual date.received date.saved hdr hdr.NAME body "
    "body.SECTION\n"
    "                         text imap.envelope imap.body imap.bodystructure\n"
    "  expunge -u USER QUERY  remove these messages; the query must name a mailbox and say which\n"
    "  undelete -u USER [--list] [--since 2h] [--uid SET] MAILBOX\n"
    "                         have back what was expunged (store.keep_expunged), all or these\n"
    "  import -u USER mbox:FILE|maildir:FOLDER [MAILBOX]\n"
    "                         put these messages into MAILBOX (INBOX), with flags and dates; "
    "folders\n"
    "                         of a Maildir into those of their names below it. mbox:- is stdin\n"
    "  export -u USER mbox:FILE|maildir:FOLDER [MASK]\n"
    "                         the messages of these mailboxes (INBOX) into a new file, or a new\n"
    "                         Maildir. mbox:- is stdout. Of several users: %u in the name stands "
    "for\n"
    "                         each\n"
    "  check [-u USER] [FOLDER]\n"
    "                         is the index as the log says? Of a service that runs, while it does; "
    "of one\n"
    "                         that does not, or of a FOLDER, the store is opened as a start does. "
    "-u: what\n"
    "                         differs of this user alone\n"
    "  rebuild [-u USER] [FOLDER]\n"
    "                         and make it so; of a service that runs by its next start, where "
    "something\n"
    "                         differs. -u: where this user's mail is\n"
    "      QUERY: mailbox MASK..., then keys of IMAP's SEARCH: all seen unseen answered deleted "
    "draft\n"
    "             flagged keyword K from X to X cc X bcc X subject X body X text X header NAME X\n"
    "             larger 10K smaller 1M before|on|since 2026-11-28|7d sentbefore ... savedbefore "
    "...\n"
    "             uid SET not KEY or KEY KEY ( KEY... ). All hold together; without a mailbox: in "
    "all\n"
    "      USER: but for import also a mask (* and ? stand for anything), or -A for -u USER: all "
    "who\n"
    "             have mail; then each line begins with the user\n"
    "  -c FILE                the configuration of tubepost-mailboxd, which names its socket; else "
    "that\n"
    "                         of the environment's TUBEPOST_MAILBOXD_CONFIG\n"
    "  -s SOCKET              its socket (before the command)\n"
    "  --json                 a line of JSON for each line\n";

int mailbox_usage(int code)
{
    fputs(usage, code == EX_OK ? stdout : stderr);
    return code;
}

json_t *mailbox_json(struct slice bytes)
{
    json_t *json = json_stringn((const char *)bytes.bytes, bytes.size);
    return json != NULL ? json : control_text(bytes);
}

void mailbox_print(FILE *out, const char *text)
{
    json_t *json = control_text(slice_text(text));
    fputs(json != NULL ? json_string_value(json) : "?", out);
    json_decref(json);
}

/* ---- The command line ---- */

enum { OPTION_SINCE = 256, OPTION_UID, OPTION_SESSION, OPTION_LIST, OPTION_METRICS };

static const struct option options[] = {
    TOOL_OPTIONS,
    {"user", required_argument, NULL, 'u'},
    {"all", no_argument, NULL, 'A'},
    {"since", required_argument, NULL, OPTION_SINCE},
    {"uid", required_argument, NULL, OPTION_UID},
    {"session", required_argument, NULL, OPTION_SESSION},
    {"list", no_argument, NULL, OPTION_LIST},
    {"prometheus", no_argument, NULL, OPTION_METRICS},
    {NULL, 0, NULL, 0},
};

static const struct mailbox_command {
    const char *name;
    int (*run)(struct tool *tool, const struct mailbox_options *given);
    /* Options besides those of every command; "u": must be there; "A" behind it, or one of many users. "*": it goes over
     * the store once, whoever is meant. */
    const char *letters;
    int words_min, words_max;
} commands[] = {
    {"check", mailbox_check, "*u", 0, 1},          {"expunge", mailbox_expunge, "uA", 1, WORDS_MAX},
    {"export", mailbox_export, "uA", 1, 2},        {"fetch", mailbox_fetch, "uA", 2, WORDS_MAX},
    {"import", mailbox_import, "u", 1, 2},         {"kick", mailbox_kick, "N", 0, 2},
    {"list", mailbox_list, "uAs", 0, WORDS_MAX},   {"quota", mailbox_quota, "uA", 0, 0},
    {"rebuild", mailbox_rebuild, "*u", 0, 1},      {"search", mailbox_search, "uA", 1, WORDS_MAX},
    {"stats", mailbox_stats, "P", 0, 1},           {"status", mailbox_status, "uAt", 1, WORDS_MAX},
    {"undelete", mailbox_undelete, "uALIS", 1, 1}, {"who", mailbox_who, "1", 0, 2},
};

static bool since_read(const char *text, uint64_t *seconds)
{
    uint64_t ns;
    if (value_parse_duration(text, &ns) < 0 || ns < 1000000000ull) {
        return false;
    }
    *seconds = ns / 1000000000ull;
    return true;
}

/* The letter that allows an option in mailbox_command.letters; 0: any command has it. */
static int option_take(struct mailbox_options *given, int option)
{
    switch (option) {
    case 'u':
        given->user = optarg;
        return 'u';
    case 'A':
        given->all = true;
        return 'A';
    case '1':
        given->each = true;
        return '1';
    case 't':
        given->totals = true;
        return 't';
    case OPTION_UID:
        given->uids = optarg;
        return 'I';
    case OPTION_SESSION:
        given->session = optarg;
        return 'N';
    case OPTION_METRICS:
        given->metrics = true;
        return 'P';
    case OPTION_LIST:
        given->list = true;
        return 'L';
    case OPTION_SINCE:
        return since_read(optarg, &given->since_s) ? 'S' : '?';
    default:
        return 0;
    }
}

/* -s is the socket of every command, but in front of `list`'s words. */
static int options_read(struct tool *tool, const struct mailbox_command *command,
                        struct mailbox_options *given, int count, char **words)
{
    bool lists = command->run == mailbox_list;
    optind = 0;
    for (int option; (option = getopt_long(count, words, lists ? "+c:shju:A" : "+c:s:hju:A1t",
                                           options, NULL)) != -1;) {
        if (lists && option == 's') {
            given->subscribed = true;
            continue;
        }
        int letter = option_take(given, option);
        if (letter == 0 && (option == 'h' || option == '?')) {
            return mailbox_usage(option == 'h' ? EX_OK : EX_USAGE);
        }
        if (letter == 0) {
            int code = tool_option(tool, option);
            if (code != TOOL_TAKEN) {
                return code;
            }
        } else if (strchr(command->letters, letter) == NULL) {
            return mailbox_usage(EX_USAGE);
        }
    }
    given->words = words + optind;
    given->count = count - optind;
    return TOOL_TAKEN;
}

static int run(struct tool *tool, const struct mailbox_command *command, int count, char **words)
{
    struct mailbox_options given = {.user = NULL};
    int code = options_read(tool, command, &given, count, words);
    if (code != TOOL_TAKEN) {
        return code;
    }
    if (given.count < command->words_min || given.count > command->words_max) {
        return mailbox_usage(EX_USAGE);
    }
    if (given.all && given.user != NULL) {
        return tool_fail(EX_USAGE, "mailbox %s: expected -u USER or -A", command->name);
    }
    if (command->letters[0] == 'u' && given.user == NULL && !given.all) {
        return tool_fail(EX_USAGE, "mailbox %s: whose? Expected -u USER", command->name);
    }
    bool many = strchr(command->letters, 'A') != NULL && command->letters[0] != '*';
    return many && (given.all || users_are_masked(given.user))
               ? users_each(tool, &given, command->run)
               : command->run(tool, &given);
}

int tubepost_mailbox(struct tool *tool, int count, char **words)
{
    const char *relays = getenv("TUBEPOST_CONFIG");
    if (tool->conf_path == relays) { /* not given */
        tool->conf_path = getenv("TUBEPOST_MAILBOXD_CONFIG");
    }
    tool->of_mailboxd = true;
    if (count >= 2 && strcmp(words[1], "help") == 0) {
        return mailbox_usage(EX_OK);
    }
    for (size_t i = 0; count >= 2 && i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(words[1], commands[i].name) == 0) {
            return run(tool, &commands[i], count - 1, words + 1);
        }
    }
    if (count >= 2 && (strcmp(words[1], "--help") == 0 || strcmp(words[1], "-h") == 0)) {
        return mailbox_usage(EX_OK);
    }
    return mailbox_usage(EX_USAGE);
}
