#include "engine/relay/relay_capture.h"
#include "engine/core/check.h"
#include "engine/net/capture.h"
#include "engine/relay/worker.h"
#include "engine/shard/memory.h"
#include <assert.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LOOK_EVERY_US 5000u
#define LOOK_EVERY_NS (200ull * 1000000ull) /* after the operator */
#define SHARDS_WAIT_US (2000000u) /* for a shard's answer; one that has ended gives none */
#define FRAME_OVERHEAD 22u        /* Ethernet header and two tags around the MTU */

static_assert(CONF_PORTS_MAX <= CAPTURE_PORTS_MAX, "every port can be captured");

struct of_shard {
    struct shard_message begin, end;
    struct relay_capture *capture;
    struct worker *worker;
};

struct relay_capture {
    struct relay_capture_settings settings;
    struct capture_settings wanted;
    char path[PATH_MAX];
    uint32_t seconds;
    unsigned ports[CAPTURE_PORTS_MAX]; /* of the workers, in the order of wanted.devices */
    struct slice port_name;            /* of the only one, the request's; empty: all */
    struct capture *capture;           /* the thread's until it has ended */
    pthread_t thread;
    atomic_bool hurried; /* the operator has gone, or the relay ends */
    atomic_uint began, ended;
    int status;
    bool lone; /* no shard has a tap or a message of it any more */
    struct capture_counters counters;
    struct shard_message over;
    struct timer timer;
    struct of_shard shards[];
};

/* ---- on each shard ---- */

static void begin_arrived(struct shard_message *message, struct shard *shard)
{
    struct of_shard *of_shard = list_entry(message, struct of_shard, begin);
    (void)shard;
    struct relay_capture *self = of_shard->capture;
    for (uint16_t i = 0; i < self->wanted.port_count; i++) {
        struct network *stack = worker_stack(of_shard->worker, self->ports[i]);
        if (stack != NULL) {
            capture_begin(self->capture, stack, i);
        }
    }
    atomic_fetch_add(&self->began, 1);
}

static void end_arrived(struct shard_message *message, struct shard *shard)
{
    struct of_shard *of_shard = list_entry(message, struct of_shard, end);
    (void)shard;
    struct relay_capture *self = of_shard->capture;
    for (uint16_t i = 0; i < self->wanted.port_count; i++) {
        struct network *stack = worker_stack(of_shard->worker, self->ports[i]);
        if (stack != NULL) {
            capture_end(stack);
        }
    }
    atomic_fetch_add(&self->ended, 1);
}

/* ---- the thread ---- */

static bool wait_for(atomic_uint *count, unsigned wanted)
{
    for (unsigned waited = 0; atomic_load(count) < wanted; waited += LOOK_EVERY_US) {
        if (waited >= SHARDS_WAIT_US) {
            return false;
        }
        usleep(LOOK_EVERY_US);
    }
    return true;
}

static void post(struct worker *worker, struct shard_message *message)
{
    while (shard_post(worker_shard(worker), message) < 0) {
        usleep(LOOK_EVERY_US); /* no memory just now */
    }
}

/* Until it is over: writes every few milliseconds. 0 or -errno. */
static int write_on(struct relay_capture *self)
{
    uint64_t left_us = self->seconds * 1000000ull;
    int status = 0;
    while (status >= 0 && left_us > 0 && !capture_is_over(self->capture)) {
        if (atomic_load(&self->hurried)) {
            break;
        }
        usleep(LOOK_EVERY_US);
        left_us = left_us > LOOK_EVERY_US ? left_us - LOOK_EVERY_US : 0;
        status = capture_file_write(self->capture);
    }
    capture_stop(self->capture);
    return status < 0 ? status : 0;
}

/* A capture that a shard still has a tap of is left to it: its memory is not given back. */
static bool shards_capture(struct relay_capture *self)
{
    unsigned count = self->settings.worker_count;
    for (unsigned i = 0; i < count; i++) {
        post(self->settings.workers[i], &self->shards[i].begin);
    }
    wait_for(&self->began, count);
    self->status = write_on(self);
    for (unsigned i = 0; i < count; i++) {
        post(self->settings.workers[i], &self->shards[i].end);
    }
    bool all = wait_for(&self->ended, count);
    int status = self->status < 0 ? 0 : capture_file_write(self->capture);
    self->status = status < 0 ? status : self->status;
    return all;
}

static int file_make(struct relay_capture *self)
{
    int fd = open(self->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return fd < 0 ? -errno : capture_file_open(self->capture, fd);
}

static void *capture_main(void *owner)
{
    struct relay_capture *self = owner;
    self->lone = true;
    self->status = memory_thread_enter();
    if (self->status == 0) {
        self->status = capture_open(&self->capture, &self->wanted);
        if (self->status == 0) {
            self->status = file_make(self);
            if (self->status == 0) {
                self->lone = shards_capture(self);
                capture_file_close(self->capture);
            }
            capture_counters(self->capture, &self->counters);
            if (self->lone) {
                capture_close(self->capture);
            }
        }
        memory_thread_leave();
    }
    post(self->settings.workers[0], &self->over);
    return NULL;
}

/* ---- on shard 0 ---- */

static void answer(struct relay_capture *self)
{
    struct control_request *request = self->settings.request;
    if (self->status < 0) {
        control_finish_error(request, "failed", strerror(-self->status));
        return;
    }
    control_finish_with(request, "capture",
                        json_pack("{s:I,s:I}", "frames", (json_int_t)self->counters.written, "lost",
                                  (json_int_t)self->counters.lost));
}

static void over_arrived(struct shard_message *message, struct shard *shard)
{
    struct relay_capture *self = list_entry(message, struct relay_capture, over);
    pthread_join(self->thread, NULL);
    wheel_disarm(shard->wheel, &self->timer);
    answer(self);
    self->settings.over(self->settings.owner);
    if (self->lone) {
        free(self);
    }
}

static void look_for_end(struct timer *timer, uint64_t now_ns)
{
    struct relay_capture *self = list_entry(timer, struct relay_capture, timer);
    struct shard *home = worker_shard(self->settings.workers[0]);
    if (control_abandoned(self->settings.request) ||
        worker_is_draining(self->settings.workers[0])) {
        atomic_store(&self->hurried, true);
    }
    wheel_arm(home->wheel, timer, now_ns + LOOK_EVERY_NS);
}

static int number_of(struct slice text, uint64_t min, uint64_t max, uint64_t *number)
{
    *number = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.bytes[i] < '0' || text.bytes[i] > '9' || *number > max) {
            return -EINVAL;
        }
        *number = *number * 10 + (uint64_t)(text.bytes[i] - '0');
    }
    return text.size == 0 || *number < min || *number > max ? -EINVAL : 0;
}

static int path_read(struct relay_capture *self, struct slice word)
{
    if (word.size == 0 || word.size >= sizeof(self->path) || word.bytes[0] != '/') {
        return -EINVAL;
    }
    memcpy(self->path, word.bytes, word.size);
    self->path[word.size] = '\0';
    return 0;
}

static int ends_read(struct relay_capture *self, const struct slice *words)
{
    int status = 0;
    for (unsigned i = 0; i < 2 && status == 0; i++) {
        struct endpoint *end = &self->wanted.ends[i];
        status = endpoint_parse(end, words[i]);
        status = status == 0 && end->family == ENDPOINT_UNIX ? -EINVAL : status;
    }
    return status;
}

static int words_read(struct relay_capture *self)
{
    const struct control_request *request = self->settings.request;
    unsigned i = 0;
    int status = 0;
    while (i < request->word_count && status == 0) {
        const struct slice *word = &request->words[i];
        unsigned values = slice_equal(*word, slice_text("between")) ? 2 : 1;
        uint64_t number = 0;
        if (i + values >= request->word_count) {
            return -EINVAL;
        }
        if (values == 2) {
            status = ends_read(self, word + 1);
        } else if (slice_equal(*word, slice_text("file"))) {
            status = path_read(self, word[1]);
        } else if (slice_equal(*word, slice_text("port"))) {
            self->port_name = word[1];
        } else if (slice_equal(*word, slice_text("count"))) {
            status = number_of(word[1], 1, UINT32_MAX, &self->wanted.count_max);
        } else if (slice_equal(*word, slice_text("seconds"))) {
            status = number_of(word[1], 1, CAPTURE_SECONDS_MAX, &number);
            self->seconds = (uint32_t)number;
        } else if (slice_equal(*word, slice_text("snap"))) {
            status = number_of(word[1], CAPTURE_SNAP_MIN, CAPTURE_SNAP_MAX, &number);
            self->wanted.snap_bytes = (uint32_t)number;
        } else {
            return -EINVAL;
        }
        i += 1 + values;
    }
    return status == 0 && self->path[0] == '\0' ? -EINVAL : status;
}

static int device_add(struct relay_capture *self, unsigned port, uint32_t *frame_bytes)
{
    uint16_t *device = &self->wanted.devices[self->wanted.port_count];
    const char *name = worker_port_name(self->settings.workers[0], port);
    uint16_t mtu = 1500;
    int status = rte_eth_dev_get_port_by_name(name, device);
    if (status < 0) {
        return status;
    }
    if (rte_eth_dev_get_mtu(*device, &mtu) == 0 && *frame_bytes < mtu + FRAME_OVERHEAD) {
        *frame_bytes = mtu + FRAME_OVERHEAD;
    }
    self->ports[self->wanted.port_count++] = port;
    return 0;
}

/* All ports, or the one that was named; -EINVAL: there is no such. */
static int devices_find(struct relay_capture *self)
{
    const struct worker *home = self->settings.workers[0];
    uint32_t frame_bytes = 0;
    int status = 0;
    for (unsigned port = 0; status == 0 && port < worker_port_count(home); port++) {
        if (self->port_name.size == 0 ||
            slice_equal(self->port_name, slice_text(worker_port_name(home, port)))) {
            status = device_add(self, port, &frame_bytes);
        }
    }
    if (self->wanted.snap_bytes == 0) {
        self->wanted.snap_bytes = frame_bytes;
    }
    return status == 0 && self->wanted.port_count == 0 ? -EINVAL : status;
}

int relay_capture_start(struct relay_capture **started,
                        const struct relay_capture_settings *settings)
{
    struct relay_capture *self =
        calloc(1, sizeof(*self) + settings->worker_count * sizeof(struct of_shard));
    if (self == NULL) {
        return -ENOMEM;
    }
    self->settings = *settings;
    self->seconds = CAPTURE_SECONDS_DEFAULT;
    self->wanted.shard_count = (uint16_t)settings->worker_count;
    self->wanted.cycles = rte_get_tsc_cycles;
    self->over.run = over_arrived;
    for (unsigned i = 0; i < settings->worker_count; i++) {
        self->shards[i] = (struct of_shard){
            {.run = begin_arrived}, {.run = end_arrived}, self, settings->workers[i]};
    }
    timer_init(&self->timer, look_for_end);
    int status = words_read(self);
    status = status < 0 ? status : devices_find(self);
    status = status < 0 ? status : -pthread_create(&self->thread, NULL, capture_main, self);
    if (status < 0) {
        free(self);
        return status;
    }
    struct shard *home = worker_shard(settings->workers[0]);
    wheel_arm(home->wheel, &self->timer, home->now_ns + LOOK_EVERY_NS);
    *started = self;
    return 0;
}
