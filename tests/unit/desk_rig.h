/*
 * desk_rig: sessions on the shard and the store of pop3_rig.h, before the login desk of login_fake.h, in the clear or
 * with STARTTLS. A program includes it once, behind DESK_ROOM (of the network, in each direction) and DESK_ACCEPTED (what
 * takes its connections).
 */
#pragma once
#include "tests/unit/login_fake.h"
#include "tests/unit/pop3_rig.h"

static struct pop3_rig rig;
static struct tls_rig tls;
static struct login_desk desk;

static void rig_open(struct tls_rig *with_tls)
{
    login_fake_open(&desk);
    pop3_rig_open(&rig, DESK_ROOM, with_tls);
    rig.mailbox.logins = &desk;
    rig.logins_round = login_fake_round;
    pop3_rig_listen(&rig, DESK_ACCEPTED);
}

static int set_up(void **state)
{
    (void)state;
    rig_open(NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    pop3_rig_close(&rig);
    check(desk.attempts == 0);
    return 0;
}

static int set_up_tls(void **state)
{
    (void)state;
    tls_rig_open(&tls, DESK_ROOM, NULL);
    rig_open(&tls);
    rig.door.tls = CONF_TLS_STARTTLS;
    return 0;
}

static int tear_down_tls(void **state)
{
    tear_down(state);
    tls_rig_close(&tls);
    return 0;
}

#define talk(client, text) pop3_client_talk(&rig, (client), (text))
