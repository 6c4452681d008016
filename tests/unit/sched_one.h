/*
 * sched_one: a scheduler with one site, for tests of single deliveries.
 */
#pragma once
#include "queue/sched/sched.h"
#include "queue/spool/spool.h"

#define SECOND 1000000000ull
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)
#define START (1000 * SECOND)

extern const struct sched_site_settings settings;
extern struct sched *sched;
extern struct sched_site *site;

int open_one(void **state);
int close_one(void **state);
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_one, close_one)

void add(struct message *message, uint32_t index, uint64_t now_ns);
enum sched_defer defer_all(struct sched_delivery *delivery, uint64_t now_ns, const char *reason);
void connect_one(void);
