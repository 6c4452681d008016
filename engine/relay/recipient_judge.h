/*
 * recipient_judge: may this client send to this recipient? What RCPT is answered.
 *
 * Pure: the configuration decides. Whom a route refuses is told so by its reply, whoever asks, since
 * what is refused here need not be returned to a sender who may be forged.
 */
#pragma once
#include "engine/conf/conf.h"
#include "proto/smtp/server.h"

/* client_trusted: may send to any destination. False: *verdict is the refusal, borrowed from conf. */
bool recipient_judge(const struct relay_conf *conf, bool client_trusted,
                     const struct smtp_path *path, struct smtp_verdict *verdict);
/* The same where a transport map has named the way: the map says where mail goes, the routes whose. NULL: there is no
 * way. The refusal is borrowed from the way. */
bool recipient_judge_way(const struct relay_conf *conf, const struct conf_route *way,
                         bool client_trusted, const struct smtp_path *path,
                         struct smtp_verdict *verdict);
