/* What a client hears while the disk of a relay fails, or says nothing. */
#include "engine/relay/inbound_private.h"
#include "tests/unit/relay_rig_client.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define CONF "\n  - {match: \"*\", via: mx}\nrelay_networks: [192.0.2.0/24]\n"
#define CLIENT "192.0.2.77:4000"
#define MINUTE (60 * RIG_SECOND)

static void expect_codes(struct rig_client *client, const char *codes)
{
    assert_string_equal(rig_codes(client), codes);
}

/* Up to the end of the message. */
static void envelope(struct rig_client *client, const char *recipient)
{
    char lines[256];
    snprintf(lines, sizeof(lines), "MAIL FROM:<s@b.test>\r\nRCPT TO:<%s>\r\nDATA\r\n", recipient);
    rig_say(client, lines);
    expect_codes(client, "250 250 354");
}

static struct rig_client *greet(struct relay_rig *rig)
{
    struct rig_client *client = rig_dial(rig, CLIENT);
    rig_say(client, "EHLO c.test\r\n");
    expect_codes(client, "220 250");
    return client;
}

static const char letter[] = "Subject: x\r\n\r\nx\r\n.\r\n";

static struct relay_rig *rig_warmed_up(void)
{
    struct relay_rig *rig = rig_open_two(CONF);
    rig_post(rig, "s@b.test", "first@a.test");
    rig_pass(rig, 10 * RIG_SECOND); /* segments in reserve are made meanwhile */
    assert_int_equal(rig->letter_count, 1);
    return rig;
}

/* A durable write that fails is a flush that fails, too: the device has not said that it has the bytes. */
static void a_write_that_fails_is_451_and_service_goes_on(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_warmed_up();
    struct rig_client *client = greet(rig);
    envelope(client, "lost@a.test");
    disk_fault_fail(rig->log.fault, DISK_FAULT_WRITE, 0, 1, -EIO);
    rig_say(client, letter);
    expect_codes(client, "451");
    envelope(client, "kept@a.test");
    rig_say(client, letter);
    expect_codes(client, "250");
    rig_hang_up(client);
    assert_non_null(rig_letter_for(rig, "kept@a.test"));
    rig_restart(rig);
    rig_pass(rig, MINUTE);
    assert_null(rig_letter_for(rig, "lost@a.test"));
    assert_int_equal(rig->letter_count, 2);
    relay_rig_close(rig);
}

static void a_disk_that_is_silent_for_ten_seconds_is_waited_for_and_others_are_served(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_warmed_up();
    struct rig_client *client = greet(rig);
    envelope(client, "u@a.test");
    disk_fault_hold(rig->log.fault, true);
    rig_say(client, letter);
    rig_pass(rig, 10 * RIG_SECOND);
    struct rig_client *other = greet(rig);
    rig_say(other, "MAIL FROM:<s@b.test>\r\n");
    expect_codes(other, "250");
    expect_codes(client, "");
    disk_fault_hold(rig->log.fault, false);
    rig_settle(rig);
    expect_codes(client, "250");
    assert_non_null(rig_letter_for(rig, "u@a.test"));
    rig_hang_up(client);
    rig_hang_up(other);
    relay_rig_close(rig);
}

/* The text of its message fills the log's memory: until the disk answers, it is we who let time pass. */
static void a_client_that_waits_for_the_disk_loses_none_of_its_own_time(void **state)
{
    static char text[64 * 1024];
    (void)state;
    for (size_t i = 0; i < sizeof(text); i++) {
        text[i] = i % 64 == 62 ? '\r' : i % 64 == 63 ? '\n' : 'x';
    }
    struct relay_rig *rig = rig_warmed_up();
    struct rig_client *client = greet(rig);
    const struct inbound *session = inbound_of_node(rig->relay->inbounds.next);
    envelope(client, "u@a.test");
    rig_say(client, "Subject: x\r\n\r\n");
    disk_fault_hold(rig->log.fault, true);
    for (unsigned i = 0; i < 1000 && session->state != INBOUND_NO_ROOM; i++) {
        assert_true(rig_put(client, slice_of(text, sizeof(text))));
        rig_settle(rig);
    }
    assert_int_equal(session->state, INBOUND_NO_ROOM);
    rig_pass(rig, 7 * MINUTE);
    expect_codes(client, "");
    disk_fault_hold(rig->log.fault, false);
    rig_settle(rig);
    rig_pass(rig, 2 * MINUTE);
    rig_say(client, ".\r\n");
    expect_codes(client, "250");
    rig_hang_up(client);
    relay_rig_close(rig);
}

static void what_is_not_durable_in_time_is_451_and_goes_to_nobody(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_warmed_up();
    struct rig_client *client = greet(rig);
    envelope(client, "late@a.test");
    disk_fault_hold(rig->log.fault, true);
    rig_say(client, letter);
    rig_pass(rig, 9 * MINUTE);
    expect_codes(client, "");
    rig_pass(rig, 2 * MINUTE);
    expect_codes(client, "451");
    assert_true(client->closed);
    rig_hang_up(client);
    disk_fault_hold(rig->log.fault, false);
    rig_settle(rig);
    client = greet(rig); /* it sends it again */
    envelope(client, "late@a.test");
    rig_say(client, letter);
    expect_codes(client, "250");
    rig_hang_up(client);
    rig_pass(rig, MINUTE);
    assert_int_equal(rig->letter_count, 2);
    rig_restart(rig);
    rig_pass(rig, MINUTE);
    assert_int_equal(rig->letter_count, 2);
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_that_fails_is_451_and_service_goes_on),
        cmocka_unit_test(a_disk_that_is_silent_for_ten_seconds_is_waited_for_and_others_are_served),
        cmocka_unit_test(a_client_that_waits_for_the_disk_loses_none_of_its_own_time),
        cmocka_unit_test(what_is_not_durable_in_time_is_451_and_goes_to_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
