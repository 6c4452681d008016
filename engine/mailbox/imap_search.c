#include "engine/mailbox/imap_session.h"

void imap_search(struct imap_session *session, const struct imap_command *command)
{
    (void)command;
    imap_session_bad(session, "later");
}
