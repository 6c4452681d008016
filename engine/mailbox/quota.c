#include "engine/mailbox/quota.h"
#include <fnmatch.h>

/* The first that its name fits; NULL: none. */
static const struct conf_quota_rule *rule_find(const struct mailboxd_conf *conf, struct slice name)
{
    char text[MAILSTORE_NAME_BYTES_MAX + 1];
    if (conf->users.quota_rules_count == 0 || name.size >= sizeof text) {
        return NULL;
    }
    memcpy(text, name.bytes, name.size);
    text[name.size] = '\0';
    for (uint32_t i = 0; i < conf->users.quota_rules_count; i++) {
        if (fnmatch(conf->users.quota_rules[i].mailbox, text, 0) == 0) {
            return &conf->users.quota_rules[i];
        }
    }
    return NULL;
}

static bool any_uncounted(const struct mailboxd_conf *conf)
{
    bool any = false;
    for (uint32_t i = 0; i < conf->users.quota_rules_count; i++) {
        any = any || !conf->users.quota_rules[i].counted;
    }
    return any;
}

/* What lies in mailboxes that are left out. */
static struct quota uncounted(const struct mailboxd_conf *conf, struct mailstore_user *user)
{
    struct quota sum = {0};
    struct mailstore_box *box = NULL;
    bool any = any_uncounted(conf);
    while (any && (box = mailstore_box_next(user, box)) != NULL) {
        const struct conf_quota_rule *rule = rule_find(conf, box->name);
        if (rule != NULL && !rule->counted) {
            sum.bytes += box->bytes;
            sum.messages += box->count;
        }
    }
    return sum;
}

struct quota quota_limit(const struct mailboxd_conf *conf, struct mailstore_user *user,
                         struct slice mailbox)
{
    struct quota limit = {conf->users.quota_bytes, conf->users.quota_messages};
    if (conf->users.quota_rules_count == 0) {
        return limit;
    }
    const struct mailstore_box *box = mailstore_box_find(user, mailbox);
    const struct conf_quota_rule *rule =
        rule_find(conf, box != NULL ? box->name : slice_text("INBOX"));
    if (rule != NULL && !rule->counted) {
        return (struct quota){0};
    }
    struct quota more = uncounted(conf, user);
    more.bytes += rule != NULL ? rule->more_bytes : 0;
    more.messages += rule != NULL ? rule->more_messages : 0;
    limit.bytes += limit.bytes != 0 ? more.bytes : 0;
    limit.messages += limit.messages != 0 ? more.messages : 0;
    return limit;
}

struct quota quota_used(const struct mailboxd_conf *conf, struct mailstore_user *user)
{
    struct quota less = uncounted(conf, user);
    return (struct quota){user->totals.bytes - less.bytes, user->totals.messages - less.messages};
}
