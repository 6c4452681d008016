/*
 * mutation: mistakes that one build of the simulator can make on purpose, to see that it finds them.
 *
 * Each is one line in the code that it breaks, as `if (!MUTATED(OVERLAP_LEAK)) { mbuf_drop(...); }`. In
 * all other builds MUTATED() is the constant false and the line costs nothing. With
 * -DTUBEPOST_MUTATIONS (build/tests/sim/sim-mutant) the command line chooses one: --mutation NAME.
 *
 * Whoever adds one names the scenario that must find it within 200 seeds; tests/run sim tries all.
 */
#pragma once
#include <stdbool.h>

/* X(name, scenario of tests/sim, what is wrong then) */
#define MUTATIONS(X)                                                                               \
    /* TCP, sending */                                                                             \
    X(RETRANSMIT_TIMER_LOST, "streams", "the retransmission timer is never started")               \
    X(SCOREBOARD_OFF_BY_ONE, "streams", "a byte more counts as sacked than the peer has said")     \
    X(CWND_IGNORED, "streams", "the congestion window holds nothing back")                         \
    X(WINDOW_IGNORED, "streams", "segments leave that the peer's window has no room for")          \
    X(WINDOW_PROBE_FORGOTTEN, "streams", "nobody asks whether a closed window has opened")         \
    X(RESENT_SHIFTED, "streams", "what is sent again is taken from one byte further")              \
    /* TCP, receiving */                                                                           \
    X(CHECKSUM_UNCHECKED, "streams", "segments with a wrong checksum are believed")                \
    X(EARLY_ONE_LATE, "streams", "early bytes are kept one place too late")                        \
    X(OVERLAP_TWICE, "streams", "early bytes that have come otherwise meanwhile come again")       \
    X(OVERLAP_LEAK, "streams", "the buffer of a repeated early segment is not given back")         \
    X(WINDOW_SHRINKS, "streams", "a window that was offered is taken back")                        \
    X(FIN_BEFORE_BYTES, "streams", "a FIN counts though bytes before it are missing")              \
    X(ACKED_TOO_FAR, "streams", "behind a gap, a byte is acknowledged that has not come")          \
    /* TCP, connections */                                                                         \
    X(TIME_WAIT_SKIPPED, "streams", "who closes first forgets the connection at once")             \
    X(CLOSING_IS_LAST_ACK, "streams", "after FINs that crossed, no TIME-WAIT")                     \
    X(HALF_OPEN_LEAK, "streams", "the entry of a handshake stays when it is done")                 \
    X(TIMER_LEFT_ARMED, "streams", "the timer of a connection outlives it")                        \
    /* The log */                                                                                  \
    X(PROMISED_WHEN_SENT, "mail", "a write counts as durable before the disk says so")             \
    X(FAILED_WRITE_BELIEVED, "mail", "a write that failed counts as durable")                      \
    X(CRC_UNCHECKED, "mail", "records are believed whatever their CRC says")                       \
    X(STALE_GENERATION, "mail", "records of an earlier life of their segment are believed")        \
    X(LAST_RECORD_LOST, "mail", "recovery overlooks the last record of each write")                \
    X(VOID_IGNORED, "mail", "recovery believes what was refused after a failed write")             \
    /* The spool */                                                                                \
    X(BODY_INCOMPLETE, "mail", "recovery takes messages of whose body a part is missing")          \
    X(STATUS_UNWRITTEN, "mail", "that a recipient has it is not written down")                     \
    /* The relay */                                                                                \
    X(RECIPIENTS_SWAPPED, "mail", "answers are taken for those of another recipient")              \
    X(DEFERRED_FORGOTTEN, "mail", "a restart forgets what was tried before")                       \
    X(DEFERRED_IS_DELIVERED, "mail", "an answer of 4xx counts as delivered")                       \
    X(DOT_LOST, "mail", "the dot of a line that begins with one is dropped")                       \
    /* The Maildir store */                                                                        \
    X(MAILDIR_TEXT_UNSYNCED, "mailbox", "a text gets into new/ before it is on the device")        \
    X(MAILDIR_NAME_UNSYNCED, "mailbox", "new/ is not synced before the answer")                    \
    X(MAILDIR_USER_UNSYNCED, "mailbox", "a user's new folders are not synced")                     \
    X(MAILDIR_LINK_BELIEVED, "mailbox", "what could not be put into new/ counts as stored")        \
    X(MAILDIR_SYNC_BELIEVED, "mailbox", "a failed sync of new/ counts as done")                    \
    X(MAILDIR_STAGING_KEPT, "mailbox", "what a crash left in the staging folder stays there")      \
    X(MAILDIR_SHORT_WRITE, "mailbox", "a write in part counts as whole")                           \
    X(MAILDIR_FILE_OPEN, "mailbox", "files of aborted messages stay open")                         \
    X(MAILDIR_USERS_MIXED, "mailbox", "the second recipient's mail gets to the first one's user")  \
    /* The mailboxes */                                                                            \
    X(EXPUNGE_NUMBER_OFF, "imap", "what has gone is told by the number of the message before it")  \
    X(EXISTS_UNTOLD, "imap", "sessions are not told of messages that came")                        \
    X(FLAGS_UNTOLD, "imap", "sessions are not told of flags that others have changed")             \
    X(UID_AGAIN, "imap", "the last uid of a mailbox that is loaded is given again")                \
    /* TLS */                                                                                      \
    X(TLS_CLEAR_ALLOWED, "secure",                                                                 \
      "after a failed handshake mail goes in the clear, whatever was demanded")                    \
    X(TLS_BYTE_TWICE, "secure", "where a piece is more than a record, a byte is in both")          \
    X(TLS_STREAM_LEAK, "secure", "a released stream stays")                                        \
    /* The schedule */                                                                             \
    X(WAIT_NOT_DOUBLED, "week", "each wait is as long as the first")                               \
    X(SITE_NEVER_RESTS, "week", "a site that cannot be reached is tried again at once")            \
    X(SUSPENSION_FORGOTTEN, "week", "a suspension ends with the process")                          \
    X(SUSPENSION_IGNORED, "week", "a site that is suspended is tried nevertheless")                \
    X(WARNING_UNWRITTEN, "week", "that a sender was told of a delay is not written down")

#define MUTATION_ENUMERATOR(name, scenario, what) MUTATION_##name,
enum mutation { MUTATION_NONE, MUTATIONS(MUTATION_ENUMERATOR) MUTATION_COUNT };

#ifdef TUBEPOST_MUTATIONS
extern enum mutation mutation_chosen; /* tests/sim/mutations.c */
#define MUTATED(name) (mutation_chosen == MUTATION_##name)
#else
#define MUTATED(name) ((void)MUTATION_##name, false)
#endif
