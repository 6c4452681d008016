#include "engine/mailbox/delivery_quota.h"
#include "engine/core/check.h"
#include "engine/mailbox/quota.h"
#include <stdlib.h>

#define BUCKETS 4096u /* a power of two */
#define ACCOUNTS_MAX                                                                               \
    65536u /* whose has not been needed for longest is forgotten: he is looked at first, then */
#define FRESH_NS (60ull * 1000000000ull)
#define LOOKS_MAX 4u /* while others of the user's messages are under way */
#define NO_TWIN UINT32_MAX

struct quota_account {
    struct quota_account *next; /* in the bucket */
    struct list_node node;      /* of the ledger's, least recently needed first */
    struct quota_ledger *ledger;
    struct mailstore_waiter looked;
    struct list_node waiting; /* claims: for the look that is under way */
    bool looking;
    uint64_t looked_ns;          /* when the last one has ended well; 0: never, or not of late */
    uint32_t holds;              /* claims */
    struct quota_claims *claims; /* the last that asked, and which of it */
    uint32_t index;
    char user[USER_NAME_BYTES];
};
struct quota_ledger {
    struct mailbox *mailbox;
    struct quota_account *buckets[BUCKETS];
    struct list_node accounts, claims;
    uint32_t count;
    bool rests;
};

bool quota_is_limited(const struct mailbox *mailbox)
{
    return mailbox->conf->users.quota_bytes != 0 || mailbox->conf->users.quota_messages != 0;
}

int quota_ledger_open(struct quota_ledger **made, struct mailbox *mailbox)
{
    struct quota_ledger *ledger = (struct quota_ledger *)calloc(1, sizeof *ledger);
    if (ledger == NULL) {
        return -ENOMEM;
    }
    ledger->mailbox = mailbox;
    list_init(&ledger->accounts);
    list_init(&ledger->claims);
    *made = ledger;
    return 0;
}

/* ---- Accounts ---- */

static struct quota_account **bucket_of(struct quota_ledger *ledger, const char *user)
{
    uint32_t hash = 2166136261u; /* FNV-1a; ACCOUNTS_MAX bounds what a bucket can have */
    for (const char *at = user; *at != '\0'; at++) {
        hash = (hash ^ (uint8_t)*at) * 16777619u;
    }
    return &ledger->buckets[hash & (BUCKETS - 1)];
}

static void account_free(struct quota_account *account)
{
    struct quota_account **link = bucket_of(account->ledger, account->user);
    while (*link != account) {
        link = &(*link)->next;
    }
    *link = account->next;
    list_remove(&account->node);
    account->ledger->count--;
    free(account);
}

static void oldest_forget(struct quota_ledger *ledger)
{
    for (struct list_node *node = ledger->accounts.next; node != &ledger->accounts;
         node = node->next) {
        struct quota_account *account = list_entry(node, struct quota_account, node);
        if (account->holds == 0 && !account->looking) {
            account_free(account);
            return;
        }
    }
}

static void account_looked(struct mailstore_waiter *waiter, int status);

static struct quota_account *account_get(struct quota_ledger *ledger, const char *user)
{
    struct quota_account **bucket = bucket_of(ledger, user);
    for (struct quota_account *account = *bucket; account != NULL; account = account->next) {
        if (strcmp(account->user, user) == 0) {
            list_remove(&account->node);
            list_append(&ledger->accounts, &account->node);
            return account;
        }
    }
    if (ledger->count >= ACCOUNTS_MAX) {
        oldest_forget(ledger);
    }
    struct quota_account *account = (struct quota_account *)calloc(1, sizeof *account);
    if (account != NULL) {
        strcpy(account->user, user);
        account->ledger = ledger;
        account->looked.done = account_looked;
        list_init(&account->waiting);
        list_init(&account->node);
        list_append(&ledger->accounts, &account->node);
        account->next = *bucket;
        *bucket = account;
        ledger->count++;
    }
    return account;
}

/* ---- Judging ---- */

static bool is_over(const struct quota_account *account, struct mailstore_user *user,
                    const struct quota_claims *claims)
{
    const struct quota limit =
        quota_limit(account->ledger->mailbox->conf, user, slice_text("INBOX"));
    uint64_t bytes = user->totals.bytes + user->coming.bytes + claims->bytes;
    uint64_t messages = user->totals.messages + user->coming.messages + 1;
    return (limit.bytes != 0 && bytes > limit.bytes) ||
           (limit.messages != 0 && messages > limit.messages);
}

static bool is_fresh(const struct quota_account *account)
{
    uint64_t now_ns = account->ledger->mailbox->shard->now_ns;
    return account->looked_ns != 0 && now_ns - account->looked_ns < FRESH_NS;
}

bool quota_is_fresh(struct quota_ledger *ledger, const char *user)
{
    const struct quota_account *account = account_get(ledger, user);
    return account != NULL && is_fresh(account);
}

void quota_looked(struct quota_ledger *ledger, const char *user)
{
    struct quota_account *account = account_get(ledger, user);
    if (account != NULL) {
        account->looked_ns = ledger->mailbox->shard->now_ns;
    }
}

/* 0: and it is charged; -EDQUOT, -EINPROGRESS: after a look; -errno. */
static int claim_judge(struct quota_claim *claim)
{
    struct quota_account *account = claim->account;
    struct mailstore *store = account->ledger->mailbox->texts;
    struct mailstore_user *user;
    if (!claim->last && !is_fresh(account)) {
        return -EINPROGRESS;
    }
    int status = mailstore_user_open(store, slice_text(account->user), &user);
    if (status != 0) {
        return status;
    }
    if (is_over(account, user, claim->claims)) {
        bool charged = user->coming.messages > 0;
        bool looks = claim->looks == 0 || (charged && claim->looks < LOOKS_MAX);
        status = !claim->last && looks ? -EINPROGRESS : -EDQUOT;
    } else {
        status = mailstore_comes(store, user, claim->claims->bytes);
    }
    mailstore_user_close(store, user);
    return status;
}

static void claim_drop(struct quota_claim *claim)
{
    list_remove(&claim->node);
    if (claim->account != NULL) {
        claim->account->holds--;
        claim->account = NULL;
    }
}

/* ---- Looking ---- */

/* Whoever cannot be looked at is judged by what is known. */
static void look_begin(struct quota_account *account)
{
    struct mailstore *store = account->ledger->mailbox->texts;
    struct mailstore_user *user;
    for (struct list_node *node = account->waiting.next; node != &account->waiting;
         node = node->next) {
        list_entry(node, struct quota_claim, node)->looks++;
    }
    int status = mailstore_user_open(store, slice_text(account->user), &user);
    if (status == 0) {
        status = mailstore_peek(store, user, &account->looked);
        mailstore_user_close(store, user);
    }
    account->looking = status == 0;
}

/* All that wait for the account's look are judged, and those that must look once more wait for the next. */
static void waiting_judge(struct quota_account *account)
{
    struct list_node waiting;
    list_init(&waiting);
    list_splice(&waiting, &account->waiting);
    account->holds++; /* it stays, whatever `known` does */
    for (struct list_node *node; (node = list_pop(&waiting)) != NULL;) {
        struct quota_claim *claim = list_entry(node, struct quota_claim, node);
        struct quota_claims *claims = claim->claims;
        list_init(&claim->node);
        claim->status = claim_judge(claim);
        if (claim->status == -EINPROGRESS) {
            list_append(&account->waiting, &claim->node);
            continue;
        }
        if (--claims->waiting == 0) {
            list_remove(&claims->node);
            claims->known(claims);
        }
    }
    account->holds--;
}

static void looks_go_on(struct quota_account *account)
{
    while (!list_empty(&account->waiting) && !account->looking) {
        look_begin(account);
        if (account->looking) {
            return;
        }
        for (struct list_node *node = account->waiting.next; node != &account->waiting;
             node = node->next) {
            list_entry(node, struct quota_claim, node)->last = true;
        }
        waiting_judge(account);
    }
}

static void account_looked(struct mailstore_waiter *waiter, int status)
{
    struct quota_account *account = list_entry(waiter, struct quota_account, looked);
    account->looking = false;
    account->looked_ns = status == 0 ? account->ledger->mailbox->shard->now_ns : 0;
    for (struct list_node *node = account->waiting.next; node != &account->waiting && status != 0;
         node = node->next) {
        list_entry(node, struct quota_claim, node)->last = true;
    }
    account->holds++;
    waiting_judge(account);
    looks_go_on(account);
    account->holds--;
}

/* ---- Claims ---- */

struct quota_claims *quota_claims_new(struct quota_ledger *ledger, uint64_t bytes, uint32_t count)
{
    struct quota_claims *claims =
        (struct quota_claims *)calloc(1, sizeof *claims + count * sizeof claims->each[0]);
    if (claims == NULL) {
        return NULL;
    }
    claims->ledger = ledger;
    claims->bytes = bytes;
    claims->count = count;
    list_init(&claims->node);
    for (uint32_t i = 0; i < count; i++) {
        claims->each[i].claims = claims;
        claims->each[i].twin = NO_TWIN;
        list_init(&claims->each[i].node);
    }
    return claims;
}

/* False: it has an answer. */
static bool claim_begin(struct quota_claim *claim, uint32_t index, const char *user)
{
    struct quota_account *account = account_get(claim->claims->ledger, user);
    if (account == NULL) {
        claim->status = -ENOMEM;
        return false;
    }
    if (account->claims == claim->claims) {
        claim->twin = account->index;
        claim->status = -ECANCELED; /* until that one is known */
        return false;
    }
    account->claims = claim->claims;
    account->index = index;
    account->holds++;
    claim->account = account;
    claim->status = claim_judge(claim);
    return claim->status == -EINPROGRESS;
}

int quota_claims_ask(struct quota_claims *claims,
                     const char *(*user)(const struct quota_claims *claims, uint32_t index))
{
    claims->waiting = 1; /* nobody is told from inside this call */
    for (uint32_t i = 0; i < claims->count; i++) {
        struct quota_claim *claim = &claims->each[i];
        if (claim_begin(claim, i, user(claims, i))) {
            claims->waiting++;
            list_append(&claim->account->waiting, &claim->node);
            looks_go_on(claim->account);
        }
    }
    for (uint32_t i = 0; i < claims->count; i++) { /* another may have the same memory later */
        if (claims->each[i].account != NULL) {
            claims->each[i].account->claims = NULL;
        }
    }
    if (--claims->waiting == 0) {
        return 0;
    }
    list_append(&claims->ledger->claims, &claims->node);
    return -EINPROGRESS;
}

void quota_claim_settle(struct quota_claim *claim, bool stored)
{
    struct quota_account *account = claim->account;
    check(claim->status == 0 && account != NULL);
    mailstore_came(account->ledger->mailbox->texts, slice_text(account->user), claim->claims->bytes,
                   stored);
    claim_drop(claim);
}

void quota_claims_free(struct quota_claims *claims)
{
    if (claims == NULL) {
        return;
    }
    for (uint32_t i = 0; i < claims->count; i++) {
        struct quota_claim *claim = &claims->each[i];
        if (claim->account != NULL && claim->status == 0) {
            quota_claim_settle(claim, false);
        }
        claim_drop(claim);
    }
    list_remove(&claims->node);
    free(claims);
}

/* ---- Its end ---- */

void quota_ledger_rest(struct quota_ledger *ledger)
{
    if (ledger == NULL) {
        return;
    }
    for (struct list_node *node = ledger->accounts.next; node != &ledger->accounts;
         node = node->next) {
        struct quota_account *account = list_entry(node, struct quota_account, node);
        if (account->looking) {
            mailstore_waiter_cancel(ledger->mailbox->texts, &account->looked);
            account->looking = false;
        }
    }
    for (struct list_node *node; (node = list_pop(&ledger->claims)) != NULL;) {
        struct quota_claims *claims = list_entry(node, struct quota_claims, node);
        list_init(&claims->node);
        claims->end(claims);
    }
}

void quota_ledger_close(struct quota_ledger *ledger)
{
    if (ledger == NULL) {
        return;
    }
    while (!list_empty(&ledger->accounts)) {
        account_free(list_entry(ledger->accounts.next, struct quota_account, node));
    }
    free(ledger);
}
