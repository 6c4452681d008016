#include "engine/relay/recipient_judge.h"

/* Routing inside the local part ("user%victim", "victim!user", "user@victim" in quotes) would make the next hop
 * relay for strangers. */
static bool local_part_routes(struct slice local)
{
    for (size_t i = 0; i < local.size; i++) {
        if (local.bytes[i] == '%' || local.bytes[i] == '!' || local.bytes[i] == '@') {
            return true;
        }
    }
    return false;
}

bool recipient_judge_way(const struct relay_conf *conf, const struct conf_route *way,
                         bool client_trusted, const struct smtp_path *path,
                         struct smtp_verdict *verdict)
{
    const struct conf_route *route = relay_conf_route(conf, path->mailbox);
    if (way != NULL && way->via == CONF_VIA_ERROR) {
        *verdict =
            (struct smtp_verdict){way->reply_code, way->reply_status, slice_text(way->reply_text)};
        return false;
    }
    bool for_anyone = route != NULL && route->accept_from == CONF_ACCEPT_ANYONE;
    if (way == NULL || (!for_anyone && !client_trusted)) {
        *verdict = (struct smtp_verdict){554, "5.7.1", slice_text("Relay access denied")};
        return false;
    }
    if (!client_trusted && local_part_routes(path->local)) {
        *verdict = (struct smtp_verdict){
            554, "5.7.1", slice_text("Routing inside the local part is not for strangers")};
        return false;
    }
    return true;
}

bool recipient_judge(const struct relay_conf *conf, bool client_trusted,
                     const struct smtp_path *path, struct smtp_verdict *verdict)
{
    return recipient_judge_way(conf, relay_conf_route(conf, path->mailbox), client_trusted, path,
                               verdict);
}
