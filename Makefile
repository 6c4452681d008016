# Tubepost. `make`, `make run`, `make test`, `make bench`, `make bench-net`, `make bench-mailbox`, `make lint`, `make fuzz`, `make install`.
# Variants, each in its own folder below build/: SAN=1 (ASan, UBSan), TSAN=1, COVERAGE=1. CC=clang works too.

SHELL := /bin/bash
CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
# As many compilers at once as there are processors, unless -j says otherwise.
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc)
endif
PREFIX ?= /usr/local
DESTDIR ?=

B := build
VARIANT :=
ifdef SAN
B := build/san
VARIANT := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
endif
ifdef TSAN
B := build/tsan
# It does not follow fences: ours order atomics only, and DPDK's rings can do without.
VARIANT := -fsanitize=thread -DRTE_USE_C11_MEM_MODEL $(if $(findstring clang,$(CC)),,-Wno-tsan)
endif
ifdef COVERAGE
B := build/coverage
VARIANT := --coverage
endif

PACKAGES := libdpdk liburing libssl libcrypto zlib libcyaml jansson libidn2 libcurl libpcre2-8 lmdb sqlite3 libpq ldap libgsasl libcrypt libargon2
ifeq ($(filter clean help,$(MAKECMDGOALS)),)
ifneq ($(shell scripts/setup --check build && echo yes),yes)
$(shell scripts/setup build >&2)
endif
endif

OPT ?= -O2
MACHINE := $(shell uname -m)
MARCH ?= $(if $(filter x86_64,$(MACHINE)),-march=x86-64-v3)
# Asked once: CPPFLAGS is expanded for every file.
PACKAGE_CPPFLAGS := $(shell pkg-config --cflags $(filter-out libdpdk,$(PACKAGES)))
DPDK_CFLAGS := $(patsubst -I%,-isystem %,$(filter-out -O%,$(shell pkg-config --cflags libdpdk)))
CPPFLAGS += -I. -D_GNU_SOURCE $(PACKAGE_CPPFLAGS)
CFLAGS += -std=c17 $(OPT) -g -pthread -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
  -Wpointer-arith -Wvla -fno-strict-aliasing $(DPDK_CFLAGS) $(MARCH) $(VARIANT)
LDFLAGS += $(VARIANT) -pthread -Wl,--as-needed
GOLD := $(if $(TSAN)$(COVERAGE),,$(if $(shell command -v ld.gold),-fuse-ld=gold))
# A sanitizer brings its own heap.
HEAP := $(if $(SAN)$(TSAN),,-ljemalloc)
# PAM and libunistring have none (Debian 12), and libunbound's own asks for libevent, which only its event interface needs.
LDLIBS := $(shell pkg-config --libs $(PACKAGES)) -lunbound -lunistring -lpam $(HEAP)

LIB_SOURCES := $(filter-out engine/main/%,$(wildcard engine/*/*.c queue/*/*.c proto/*/*.c))
LIB_OBJECTS := $(LIB_SOURCES:%.c=$(B)/%.o)
PROGRAM_SOURCES := $(wildcard engine/main/*.c)
TOOL_SOURCES := $(wildcard engine/main/tubepost.c engine/main/tubepost_*.c engine/main/submit_*.c)
BENCH_SOURCES := $(wildcard bench/*.c)
UNIT_SOURCES := $(wildcard tests/unit/test_*.c)
UNIT_HELPERS := $(filter-out $(UNIT_SOURCES),$(wildcard tests/unit/*.c))
UNIT_TESTS := $(UNIT_SOURCES:tests/unit/%.c=$(B)/tests/unit/%)
SIM_SOURCES := $(wildcard tests/sim/*.c) $(addprefix tests/unit/,log_rig.c mailstore_rig.c net_link.c net_offload.c net_pair.c)

# The simulator with mistakes to choose from: what can make one is compiled again (engine/core/mutation.h). Variants, which are
# slow, do without: tests/run asks it of none.
MUTANT := $(if $(VARIANT),,$(B)/tests/sim/sim-mutant)
MUTANT_SOURCES := $(sort $(wildcard queue/log/*.c) tests/sim/mutations.c \
  $(shell grep -l '"engine/core/mutation.h"' $(LIB_SOURCES)))

WIRE_PLUGIN_SOURCES := $(filter-out tests/wire/wire_script%.c tests/wire/wire_run%.c,$(wildcard tests/wire/wire_*.c))
WIRE_RUN_SOURCES := $(filter-out tests/wire/wire_plugin%.c,$(wildcard tests/wire/*.c))
# The stack and what it stands on, for packetdrill to load: a variant's runtime cannot be loaded late.
PLUGIN := $(if $(VARIANT),,$(B)/tubepost-packetdrill.so)
PLUGIN_SOURCES := $(wildcard engine/core/*.c engine/net/*.c) engine/shard/memory.c $(WIRE_PLUGIN_SOURCES)

PROGRAMS := $(if $(wildcard engine/main/tubepostd.c),$(B)/tubepostd) \
  $(if $(wildcard engine/main/mailboxd.c),$(B)/tubepost-mailboxd) \
  $(if $(wildcard engine/main/tubepost.c),$(B)/tubepost) \
  $(if $(BENCH_SOURCES),$(B)/tubepost-bench)

.PHONY: all run test unit sim bench bench-net bench-mailbox lint fuzz install print-flags print-libraries clean help
.SECONDARY:
all: $(PROGRAMS)

$(B)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC $<"
	@$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(B)/libtubepost.a: $(LIB_OBJECTS)
	@rm -f $@
	@ar rcs $@ $^

$(B)/tubepostd: $(B)/engine/main/tubepostd.o $(B)/libtubepost.a
	@echo "  LD $@"
	@$(CC) $(LDFLAGS) $^ $(LDLIBS) -o $@
$(B)/tubepost-mailboxd: $(B)/engine/main/mailboxd.o $(B)/libtubepost.a
	@echo "  LD $@"
	@$(CC) $(LDFLAGS) $^ $(LDLIBS) -o $@
$(B)/tubepost: $(TOOL_SOURCES:%.c=$(B)/%.o) $(B)/libtubepost.a
	@echo "  LD $@"
	@$(CC) $(LDFLAGS) $^ $(LDLIBS) -o $@
$(B)/libbench.a: $(patsubst %.c,$(B)/%.o,$(filter-out bench/main.c,$(BENCH_SOURCES)))
	@rm -f $@
	ar rcs $@ $^
$(B)/tubepost-bench: $(B)/bench/main.o $(B)/libbench.a $(B)/libtubepost.a
	@echo "  LD $@"
	@$(CC) $(LDFLAGS) $^ $(LDLIBS) -o $@
$(B)/tests/unit/test_bench_%: $(B)/tests/unit/test_bench_%.o $(B)/libbench.a $(B)/libtubepost.a
	$(CC) $(LDFLAGS) $^ $(LDLIBS) -lcmocka -o $@
# The driver is among the plugins of the EAL, but the test makes devices by a call of it.
$(B)/tests/unit/test_net_ring: LDLIBS += -lrte_net_ring
# It counts how often one is looked for among all.
$(B)/tests/unit/test_imap_shared: LDFLAGS += -Wl,--wrap=mailstore_box_by_id
# It counts what is made up, of nobody and of somebody.
$(B)/tests/unit/test_sasl: LDFLAGS += -Wl,--wrap=sasl_make_up
# They say when memory is short, and what cannot be kept.
$(B)/tests/unit/test_reports_memory: LDFLAGS += -Wl,--wrap=calloc,--wrap=realloc
$(B)/tests/unit/test_sieve_memory: LDFLAGS += -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
$(B)/tests/unit/test_mailstore_memory: LDFLAGS += -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
$(B)/tests/unit/test_mailstore_index: LDFLAGS += -Wl,--wrap=mmap
$(B)/tests/unit/test_crossing_end: LDFLAGS += -Wl,--wrap=malloc,--wrap=calloc
$(B)/tests/unit/test_imap_search_fields: LDFLAGS += -Wl,--wrap=mailstore_cache_get,--wrap=mailstore_cache_put,--wrap=mailstore_text_open
$(B)/tests/unit/test_imap_trouble $(B)/tests/unit/test_imap_abroad $(B)/tests/unit/test_imap_abroad_copy $(B)/tests/unit/test_imap_notify_abroad: LDFLAGS += -Wl,--wrap=calloc
$(B)/tests/unit/test_delivery_edit: LDFLAGS += -Wl,--wrap=mailstore_begin
$(B)/tests/unit/test_delivery_maildirs: LDFLAGS += -Wl,--wrap=calloc,--wrap=op_new,--wrap=home_open
$(B)/tests/unit/test_delivery_sends: LDFLAGS += -Wl,--wrap=calloc,--wrap=mailstore_box_open
$(B)/tests/unit/test_delivery_shards: LDFLAGS += -Wl,--wrap=crossing_send,--wrap=mailstore_begin,--wrap=mailstore_append,--wrap=malloc,--wrap=calloc,--wrap=realloc
$(B)/tests/unit/test_delivery_shards_lmtp $(B)/tests/unit/test_delivery_shards_maildirs: LDFLAGS += -Wl,--wrap=crossing_send
$(B)/tests/unit/test_lists: LDFLAGS += -Wl,--wrap=spool_commit
# 250 programs of some 11 MB each: binutils' other linker makes one in 0.2 s of processor time instead of 0.5.
$(UNIT_TESTS): LDFLAGS += $(GOLD)
# Sessions before a login desk that says what the test wants.
LOGIN_DESK := login_in_clear login_mechanisms login_begin login_answer login_password login_cancel
RFC_TESTS := $(patsubst tests/unit/test_%.c,%,$(wildcard tests/unit/test_rfc_*.c))
LOGIN_DESK_TESTS := imap_abroad imap_abroad_copy imap_acl imap_append imap_compress imap_context imap_many imap_metadata imap_notify imap_notify_abroad imap_notify_events imap_notify_shared imap_progress imap_search imap_search_fields imap_session imap_shared imap_trouble $(RFC_TESTS) \
  mailbox_check_shards mailbox_control mailbox_control_shards managesieve_session pop3_maildrop pop3_session search_desk session_pass
$(LOGIN_DESK_TESTS:%=$(B)/tests/unit/test_%): LDFLAGS += $(LOGIN_DESK:%=-Wl,--wrap=%)
# Work is counted by what it is made of.
$(B)/tests/unit/test_directory_work: LDFLAGS += -Wl,--wrap=crypt_rn,--wrap=argon2_verify,--wrap=PKCS5_PBKDF2_HMAC
$(B)/tests/unit/test_outbox: LDFLAGS += -Wl,--wrap=malloc
$(B)/tests/unit/test_mailbox_log: LDFLAGS += -Wl,--wrap=mailstore_begin,--wrap=mailstore_append,--wrap=mailstore_commit,--wrap=quota_ledger_open
$(B)/tests/unit/%: $(B)/tests/unit/%.o $(UNIT_HELPERS:%.c=$(B)/%.o) $(B)/libtubepost.a
	@echo "  LD $@"
	@$(CC) $(LDFLAGS) $^ $(LDLIBS) -lcmocka -o $@

$(B)/tests/system/resolve_probe: $(B)/tests/system/resolve_probe.o $(B)/libtubepost.a
	@echo "  LD $@"
	@$(CC) $(LDFLAGS) $^ $(LDLIBS) -o $@
$(B)/tests/system/maildir_probe: $(B)/tests/system/maildir_probe.o $(B)/libtubepost.a
	@echo "  LD $@"
	@$(CC) $(LDFLAGS) $^ $(LDLIBS) -o $@
$(B)/tests/system/lossy_wire: $(B)/tests/system/lossy_wire.o
	@echo "  LD $@"
	@$(CC) $(LDFLAGS) $^ -o $@

$(B)/pic/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC $< (shared)"
	@$(CC) $(CPPFLAGS) $(CFLAGS) -fPIC -fvisibility=hidden -MMD -MP -c $< -o $@
$(B)/tubepost-packetdrill.so: $(PLUGIN_SOURCES:%.c=$(B)/pic/%.o)
	@echo "  LD $@"
	@$(CC) $(LDFLAGS) -shared -Wl,-z,defs $^ $(shell pkg-config --libs libdpdk) -lunistring -o $@
$(B)/tests/wire/run: $(WIRE_RUN_SOURCES:%.c=$(B)/%.o) $(B)/libtubepost.a
	@echo "  LD $@"
	@$(CC) $(LDFLAGS) $^ $(LDLIBS) -o $@

$(B)/tests/sim/sim $(B)/tests/sim/sim-mutant: LDFLAGS += $(LOGIN_DESK:%=-Wl,--wrap=%)
$(B)/tests/sim/sim: $(SIM_SOURCES:%.c=$(B)/%.o) $(B)/libtubepost.a
	@echo "  LD $@"
	@$(CC) $(LDFLAGS) $^ $(LDLIBS) -o $@

$(B)/mutant/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC $< (mutant)"
	@$(CC) $(CPPFLAGS) $(CFLAGS) -DTUBEPOST_MUTATIONS -MMD -MP -c $< -o $@
# The archive comes last: what was compiled again is not taken from it.
$(B)/tests/sim/sim-mutant: $(MUTANT_SOURCES:%.c=$(B)/mutant/%.o) \
  $(patsubst %.c,$(B)/%.o,$(filter-out $(MUTANT_SOURCES),$(SIM_SOURCES))) $(B)/libtubepost.a
	@echo "  LD $@"
	@$(CC) $(LDFLAGS) $^ $(LDLIBS) -o $@

unit: $(UNIT_TESTS)
	@tests/run --build $(B) unit

# SCENARIO: one of them. SEED: the first; SEEDS: how many; or SECONDS: for how long. What fails: build/sim-failures.
SCENARIO ?= all
SEED ?= 1
SEEDS ?= 1000
SECONDS ?=
sim: $(B)/tests/sim/sim
	@$(B)/tests/sim/sim --scenario $(SCENARIO) --seed $(SEED) \
	  $(if $(SECONDS),--seconds $(SECONDS),--seeds $(SEEDS)) --failures $(B)/sim-failures

run: all
	@scripts/run

test: all $(UNIT_TESTS) $(B)/tests/sim/sim $(MUTANT) $(B)/tests/system/lossy_wire $(B)/tests/system/resolve_probe \
  $(B)/tests/system/maildir_probe \
  $(B)/tests/wire/run $(PLUGIN)
	@scripts/setup test
	@tests/run --build $(B) all

bench: all
	@scripts/setup bench
	@bench/compare
	@bench/recovery
	@bench/beside
	@bench/backlog

bench-net: all $(B)/tests/system/lossy_wire
	@scripts/setup bench
	@bench/compare-net

bench-mailbox: all
	@scripts/setup bench
	@bench/mailbox

lint:
	@scripts/setup lint
	@scripts/lint

fuzz:
	@scripts/setup fuzz
	@tests/fuzz/run

install: all
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(B)/tubepostd $(B)/tubepost-mailboxd $(DESTDIR)$(PREFIX)/sbin/
	install -m 755 $(B)/tubepost $(B)/tubepost-bench $(DESTDIR)$(PREFIX)/bin/
	install -d $(DESTDIR)$(PREFIX)/lib/tubepost/bin
	for name in mailq newaliases postqueue postsuper sendmail; do \
	  ln -sfn ../../../bin/tubepost $(DESTDIR)$(PREFIX)/lib/tubepost/bin/$$name; done

print-flags:
	@echo $(CPPFLAGS) $(CFLAGS)
print-libraries:
	@echo $(LDLIBS)

clean:
	rm -rf build

help:
	@sed -n 's/^# //p' Makefile | head -2

-include $(shell find $(B) -name '*.d' -not -path '*/peers/*' 2>/dev/null)
