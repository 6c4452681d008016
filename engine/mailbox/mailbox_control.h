/*
 * mailbox_control: answers the operator's questions (engine/control) about the mailbox service.
 *
 * mailbox.c has one on each shard, on its thread. That of shard 0 has the socket; what is asked it takes to the shards that
 * know. Besides `status`, whose counters and gauges are as control.h says, of all shards:
 *
 *   mailbox who [user=MASK] [network=PREFIX] [cursor=N]
 *                     a line for each session: {"session","user" (none: nobody is logged in),"protocol","address","port",
 *                     "tls","operator","age_s"}; "next" as with other lists
 *   mailbox kick [user=MASK] [network=PREFIX] [session=N]
 *                     ends those, at least one word; {"kicked":N}. Those between commands are told, others are cut
 *                     after two seconds
 *   mailbox imap user=NAME [create=yes]
 *                     no answer but IMAP's from here on: a session of the user's that is logged in (PREAUTH). An error
 *                     is a line as always. create: he need not have any mail yet
 *   mailbox users [user=MASK] [cursor=NAME]
 *                     a line for each user who has mail: {"user"}, in order of bytes, behind the cursor. A page may be empty
 *                     and still have a "next", which is a name. Those that begin with a dot are the service's own
 *   mailbox quota user=NAME
 *                     {"user","bytes","messages" (what counts),"mailboxes","bytes_max","messages_max" (0: none)}
 *   mailbox kept user=NAME mailbox=NAME [cursor=N]
 *                     what was expunged and can be had back, a line each: {"uid","bytes","flags","date","expunged"}
 *                     (seconds of the epoch), in order of expunge; "next"
 *   mailbox undelete user=NAME mailbox=NAME [uids=1:3,7] [since=SECONDS]
 *                     all of it, or these, or what was expunged in the last so many seconds; {"restored","first","last"}
 *   mailbox check [user=NAME]
 *                     is the index as the log says? Of each shard, one after the other, or of the user's, by
 *                     mailstore_audit.h. Meanwhile a line each half second: {"progress":{"shard","step" ("reads", "builds",
 *                     "compares"),"done","all" (0: not known)}}. Then of each shard: what differs, the first hundred:
 *                     {"shard","what","user" (if it is somebody's),"key","where"}; and {"shard","users","log_bytes",
 *                     "damaged_bytes","torn_bytes","differences"}; or {"shard","failed","code"}: it could not be checked;
 *                     "log" and "several" (shards) are in all of them. With a user: his differences. It ends when the operator goes
 *   mailbox rebuild [user=NAME]
 *                     the same, and an index of which rows differ is built anew by the next start: "marked"; not when the log is damaged
 *
 * MASK is a pattern of fnmatch(3), in any letters; PREFIX as network_prefix_parse takes it.
 */
#pragma once
#include <stdbool.h>

struct mailbox;
struct mailbox_control;

/* When all shards of the group are there. 0 or -errno. mailbox: borrowed until mailbox_control_close. */
int mailbox_control_open(struct mailbox_control **control, struct mailbox *mailbox);
/* No question is under way any more, or none on this shard. */
bool mailbox_control_is_quiet(const struct mailbox_control *control);
/* After the sessions have ended, before the store is closed. What is still asked is answered that it has failed. */
void mailbox_control_close(struct mailbox_control *control);
