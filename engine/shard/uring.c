#include "engine/shard/uring.h"
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

/* Completions for each entry: multishot receives answer often, and an overflow costs a call. */
#define COMPLETIONS_PER_ENTRY 8

/* From the best to the plainest; a kernel refuses flags that it does not know with EINVAL.
 * Where the shard enters the kernel anyway, completions wait for it (DEFER_TASKRUN, else
 * COOP_TASKRUN), and TASKRUN_FLAG says by one load whether any do. Where it never enters, they must
 * appear by themselves, so neither is taken. SUBMIT_ALL: one refused entry does not hold the rest. */
static const unsigned sleeps_flags[] = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
        IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
    0,
};
static const unsigned polls_flags[] = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_SUBMIT_ALL,
    0,
};
#define FLAGS_COUNT (sizeof(sleeps_flags) / sizeof(sleeps_flags[0]))

/* The kernel's own workers run where the thread that made the ring may, which is one processor for
 * a pinned shard: they would take turns with it. The process' first thread is not pinned. */
static void spread_workers(struct uring *uring)
{
    cpu_set_t cpus;
    if (sched_getaffinity(getpid(), sizeof(cpus), &cpus) == 0) {
        io_uring_register_iowq_aff(&uring->ring, sizeof(cpus), &cpus);
    }
}

int uring_open(struct uring *uring, unsigned entries, enum uring_mode mode)
{
    const unsigned *flags = mode == URING_SLEEPS ? sleeps_flags : polls_flags;
    int error = -EINVAL;
    for (size_t i = 0; i < FLAGS_COUNT && error == -EINVAL; i++) {
        struct io_uring_params params = {
            .flags = flags[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
            .cq_entries = entries * COMPLETIONS_PER_ENTRY,
        };
        memset(uring, 0, sizeof(*uring));
        uring->mode = mode;
        error = io_uring_queue_init_params(entries, &uring->ring, &params);
    }
    if (error < 0) {
        return error;
    }
    /* Both only make it faster. */
    io_uring_register_ring_fd(&uring->ring);
    spread_workers(uring);
    return 0;
}

void uring_close(struct uring *uring)
{
    io_uring_queue_exit(&uring->ring);
}

int uring_probe(void)
{
    static const int
        needed
            [] =
                {
                    IORING_OP_WRITE_FIXED, IORING_OP_READ,     IORING_OP_ACCEPT,
                    IORING_OP_RECV,        IORING_OP_SENDMSG,  IORING_OP_CONNECT,
                    IORING_OP_CLOSE,       IORING_OP_SHUTDOWN, IORING_OP_ASYNC_CANCEL,
                    IORING_OP_POLL_ADD,    IORING_OP_SEND_ZC, /* says 6.0, which multishot receive came with */
                };
    struct io_uring ring;
    int error = io_uring_queue_init(4, &ring, 0);
    if (error < 0) {
        return error;
    }
    struct io_uring_probe *probe = io_uring_get_probe_ring(&ring);
    error = probe == NULL ? -ENOSYS : 0;
    for (size_t i = 0; error == 0 && i < sizeof(needed) / sizeof(*needed); i++) {
        error = io_uring_opcode_supported(probe, needed[i]) ? 0 : -ENOSYS;
    }
    io_uring_free_probe(probe);
    io_uring_queue_exit(&ring);
    return error;
}

static void note_submitted(struct uring *uring)
{
    uring->unsubmitted_count = io_uring_sq_ready(&uring->ring);
}

struct io_uring_sqe *uring_entry(struct uring *uring, struct uring_op *op)
{
    struct io_uring_sqe *entry;
    while ((entry = io_uring_get_sqe(&uring->ring)) == NULL) {
        uring->enter_count++;
        io_uring_submit(&uring->ring);
    }
    note_submitted(uring);
    io_uring_sqe_set_data(entry, op); /* the io_uring_prep_ functions leave it alone */
    return entry;
}

/* Completions that wait in the kernel for us to enter it. */
static int completions_wait(const struct uring *uring)
{
    unsigned flags = IO_URING_READ_ONCE(*uring->ring.sq.kflags);
    return (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

int uring_submit(struct uring *uring)
{
    int status = 0;
    if (completions_wait(uring)) {
        uring->enter_count++;
        status = io_uring_submit_and_get_events(&uring->ring);
    } else if (uring->unsubmitted_count > 0) {
        uring->enter_count++;
        status = io_uring_submit(&uring->ring);
    }
    note_submitted(uring);
    return status < 0 ? status : 0;
}

unsigned uring_reap(struct uring *uring)
{
    /* What was there when it was called: completions that `done` brings about wait a round, so
     * that no connection can keep the others from their turn. */
    unsigned limit = io_uring_cq_ready(&uring->ring);
    unsigned count = 0;
    struct io_uring_cqe *entry;
    while (count < limit && io_uring_peek_cqe(&uring->ring, &entry) == 0) {
        struct uring_op *op = io_uring_cqe_get_data(entry);
        int32_t result = entry->res;
        uint32_t flags = entry->flags;
        /* Before `done`, so that its slot is free for what `done` submits. */
        io_uring_cqe_seen(&uring->ring, entry);
        count++;
        if (op != NULL) {
            op->done(op, result, flags);
        }
    }
    return count;
}

int uring_wait(struct uring *uring, uint64_t timeout_ns)
{
    struct __kernel_timespec timeout = {.tv_sec = (int64_t)(timeout_ns / 1000000000),
                                        .tv_nsec = (int64_t)(timeout_ns % 1000000000)};
    struct io_uring_cqe *entry;
    uring->enter_count++;
    int status = io_uring_submit_and_wait_timeout(&uring->ring, &entry, 1, &timeout, NULL);
    note_submitted(uring);
    return status < 0 ? status : 0;
}
