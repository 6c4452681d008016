/* Is there room in the Maildirs of a message's recipients? */
#include "engine/mailbox/delivery_quota.h"
#include "engine/conf/conf.h"
#include "queue/mailbox/mailstore.h"
#include "tests/unit/maildirs_rig.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
    struct maildirs_rig *rig;
    struct mailboxd_conf conf;
    struct conf_quota_rule rule;
    struct shard shard;
    struct mailbox mailbox;
    struct quota_ledger *ledger;
    const char *users[4];
    unsigned known, ended;
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    void *rig;
    maildirs_set_up(&rig);
    fixture->rig = rig;
    maildirs_inbox(fixture->rig); /* two messages of ann's, which the store knows */
    fixture->shard.now_ns = 1;
    fixture->mailbox = (struct mailbox){
        .conf = &fixture->conf, .shard = &fixture->shard, .texts = fixture->rig->rig.store};
    assert_int_equal(quota_ledger_open(&fixture->ledger, &fixture->mailbox), 0);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    void *rig = fixture->rig;
    quota_ledger_rest(fixture->ledger);
    quota_ledger_close(fixture->ledger);
    maildirs_tear_down(&rig);
    free(fixture);
    return 0;
}

static const char *user_of(const struct quota_claims *claims, uint32_t index)
{
    return ((const struct fixture *)claims->owner)->users[index];
}

static void known(struct quota_claims *claims)
{
    ((struct fixture *)claims->owner)->known++;
}

static void ended(struct quota_claims *claims)
{
    ((struct fixture *)claims->owner)->ended++;
    quota_claims_free(claims);
}

static struct quota_claims *claims_of(struct fixture *fixture, uint64_t bytes, uint32_t count,
                                      const char *first, const char *second)
{
    struct quota_claims *claims = quota_claims_new(fixture->ledger, bytes, count);
    assert_non_null(claims);
    claims->known = known;
    claims->end = ended;
    claims->owner = fixture;
    fixture->users[0] = first;
    fixture->users[1] = second;
    return claims;
}

/* Asks, and waits for the answer. */
static struct quota_claims *ask(struct fixture *fixture, uint64_t bytes, uint32_t count,
                                const char *first, const char *second)
{
    struct quota_claims *claims = claims_of(fixture, bytes, count, first, second);
    unsigned before = fixture->known;
    if (quota_claims_ask(claims, user_of) != 0) {
        for (unsigned i = 0; fixture->known == before && i < 10000; i++) {
            mailstore_rig_round(&fixture->rig->rig);
        }
        assert_int_equal(fixture->known, before + 1);
    }
    return claims;
}

static int status_of(struct fixture *fixture, uint64_t bytes, bool stored)
{
    struct quota_claims *claims = ask(fixture, bytes, 1, "ann", NULL);
    int status = claims->each[0].status;
    if (status == 0) {
        quota_claim_settle(&claims->each[0], stored);
    }
    quota_claims_free(claims);
    return status;
}

static void what_others_have_put_there_counts_before_the_first_answer(void **state)
{
    struct fixture *fixture = *state;
    fixture->conf.users.quota_messages = 4;
    maildirs_put(fixture->rig, "new/c", "C\n\nz\n");
    maildirs_folder(fixture->rig, ".More");
    maildirs_put(fixture->rig, ".More/cur/d:2,S",
                 "D\n\nz\n"); /* four, of which the store knows two */
    assert_int_equal(status_of(fixture, 10, true), -EDQUOT);
    fixture->conf.users.quota_messages = 5;
    assert_int_equal(status_of(fixture, 10, true), 0);
}

static void what_is_not_seen_yet_is_charged(void **state)
{
    struct fixture *fixture = *state;
    fixture->conf.users.quota_messages = 4;
    struct quota_claims *one = ask(fixture, 10, 1, "ann", NULL);
    assert_int_equal(one->each[0].status, 0);
    assert_int_equal(status_of(fixture, 10, false), 0); /* it was not stored after all */
    struct quota_claims *two = ask(fixture, 10, 1, "ann", NULL);
    assert_int_equal(two->each[0].status, 0);
    assert_int_equal(status_of(fixture, 10, true), -EDQUOT);
    quota_claims_free(one); /* nor that one */
    assert_int_equal(status_of(fixture, 10, true), 0);
    maildirs_put(fixture->rig, "new/c", "C\n\nz\n"); /* this is what was stored */
    quota_claims_free(two);
    assert_int_equal(status_of(fixture, 10, true), 0);
    maildirs_put(fixture->rig, "new/d", "C\n\nz\n");
    assert_int_equal(status_of(fixture, 10, true), -EDQUOT);
}

static void bytes_are_counted_as_imap_counts_them(void **state)
{
    struct fixture *fixture = *state;
    uint64_t has = fixture->rig->user->totals.bytes;
    fixture->conf.users.quota_bytes = has + 100;
    assert_int_equal(status_of(fixture, 101, true), -EDQUOT);
    assert_int_equal(status_of(fixture, 60, true), 0);
    fixture->shard.now_ns += 1; /* no look is due: it is what is charged */
    struct quota_claims *claims = ask(fixture, 40, 1, "ann", NULL);
    assert_int_equal(claims->each[0].status, 0);
    quota_claims_free(claims);
}

static void who_would_be_refused_is_looked_at_before(void **state)
{
    struct fixture *fixture = *state;
    fixture->conf.users.quota_messages = 2;
    assert_int_equal(status_of(fixture, 10, true), -EDQUOT);
    maildirs_take(fixture->rig, "cur/a:2,S");
    assert_int_equal(status_of(fixture, 10, false), 0);
}

static void what_was_looked_at_a_minute_ago_is_looked_at_again(void **state)
{
    struct fixture *fixture = *state;
    fixture->conf.users.quota_messages = 3;
    assert_int_equal(status_of(fixture, 10, false), 0);
    maildirs_put(fixture->rig, "new/c", "C\n\nz\n");
    assert_int_equal(status_of(fixture, 10, false), 0);
    fixture->shard.now_ns += 61 * 1000000000ull;
    assert_int_equal(status_of(fixture, 10, false), -EDQUOT);
}

static void who_is_named_twice_has_one_claim(void **state)
{
    struct fixture *fixture = *state;
    fixture->conf.users.quota_messages = 3;
    struct quota_claims *claims = ask(fixture, 10, 2, "ann", "ann");
    assert_int_equal(claims->each[0].status, 0);
    assert_int_equal(claims->each[1].status, -ECANCELED);
    assert_int_equal(claims->each[1].twin, 0);
    quota_claims_free(claims);
}

static void each_recipient_is_judged_by_what_he_has(void **state)
{
    struct fixture *fixture = *state;
    fixture->conf.users.quota_messages = 2;
    struct quota_claims *claims = ask(fixture, 10, 2, "ann", "bob");
    assert_int_equal(claims->each[0].status, -EDQUOT);
    assert_int_equal(claims->each[1].status, 0);
    quota_claims_free(claims);
}

static void rules_are_of_folders(void **state)
{
    struct fixture *fixture = *state;
    fixture->conf.users.quota_messages = 3;
    fixture->conf.users.quota_rules = &fixture->rule;
    fixture->conf.users.quota_rules_count = 1;
    maildirs_folder(fixture->rig, ".Junk");
    maildirs_put(fixture->rig, ".Junk/cur/d:2,S", "D\n\nz\n");
    fixture->rule = (struct conf_quota_rule){.mailbox = "Junk", .counted = false};
    assert_int_equal(status_of(fixture, 10, false), 0);
    fixture->rule = (struct conf_quota_rule){.mailbox = "Junk", .counted = true};
    assert_int_equal(status_of(fixture, 10, false), -EDQUOT);
    fixture->rule =
        (struct conf_quota_rule){.mailbox = "INBOX", .counted = true, .more_messages = 1};
    assert_int_equal(status_of(fixture, 10, false), 0);
    fixture->rule = (struct conf_quota_rule){.mailbox = "INBOX", .counted = false};
    fixture->conf.users.quota_messages = 1;
    assert_int_equal(status_of(fixture, 10, false), 0);
}

static int root_refusing(void *self, const char *path)
{
    (void)self, (void)path;
    return -EIO;
}

static void whose_maildir_cannot_be_looked_at_is_judged_by_what_is_known(void **state)
{
    struct fixture *fixture = *state;
    struct maildir_files files = fixture->rig->files;
    fixture->conf.users.quota_messages = 3;
    mailstore_user_close(fixture->rig->rig.store, fixture->rig->user);
    mailstore_rig_stop(&fixture->rig->rig);
    maildirs_user_open(fixture->rig);
    fixture->mailbox.texts = fixture->rig->rig.store;
    fixture->rig->files.open_root = root_refusing;
    assert_int_equal(status_of(fixture, 10, true), 0);
    assert_int_equal(status_of(fixture, 10, true), -EDQUOT);
    fixture->rig->files = files;
    assert_int_equal(status_of(fixture, 10, true),
                     0); /* the other was not there, when it was seen */
}

static void who_waits_at_the_end_is_told(void **state)
{
    struct fixture *fixture = *state;
    fixture->conf.users.quota_messages = 3;
    struct quota_claims *claims = claims_of(fixture, 10, 2, "ann", "bob");
    assert_int_equal(quota_claims_ask(claims, user_of), -EINPROGRESS);
    quota_ledger_rest(fixture->ledger);
    assert_int_equal(fixture->ended, 1);
    mailstore_rig_settle(&fixture->rig->rig);
    assert_int_equal(fixture->known, 0);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(what_others_have_put_there_counts_before_the_first_answer),
        CASE(what_is_not_seen_yet_is_charged),
        CASE(bytes_are_counted_as_imap_counts_them),
        CASE(who_would_be_refused_is_looked_at_before),
        CASE(what_was_looked_at_a_minute_ago_is_looked_at_again),
        CASE(who_is_named_twice_has_one_claim),
        CASE(each_recipient_is_judged_by_what_he_has),
        CASE(rules_are_of_folders),
        CASE(whose_maildir_cannot_be_looked_at_is_judged_by_what_is_known),
        CASE(who_waits_at_the_end_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
