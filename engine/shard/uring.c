#include "engine/shard/uring.h"
#include <errno.h>
#include <string.h>

int uring_open(struct uring *uring, unsigned entries, enum uring_mode mode)
{
    /* From the best to the plainest that the kernel has. In URING_POLLS nobody enters the kernel to
     * fetch completions, so they must be posted by themselves: no DEFER_TASKRUN there. */
    static const unsigned sleeps[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        0,
    };
    static const unsigned polls[] = {IORING_SETUP_SINGLE_ISSUER, 0};
    const unsigned *flags = mode == URING_SLEEPS ? sleeps : polls;
    size_t count =
        mode == URING_SLEEPS ? sizeof(sleeps) / sizeof(*sleeps) : sizeof(polls) / sizeof(*polls);
    int status = -ENOSYS;
    memset(uring, 0, sizeof(*uring));
    uring->mode = mode;
    for (size_t i = 0; i < count; i++) {
        struct io_uring_params params = {
            .flags = flags[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
            .cq_entries = entries * 8,
        };
        status = io_uring_queue_init_params(entries, &uring->ring, &params);
        if (status != -EINVAL) {
            break;
        }
    }
    if (status == 0) {
        io_uring_register_ring_fd(
            &uring->ring); /* saves a table look-up for each call; fine without */
    }
    return status;
}

void uring_close(struct uring *uring)
{
    io_uring_queue_exit(&uring->ring);
}

int uring_probe(void)
{
    static const int needed[] = {
        IORING_OP_WRITE_FIXED, IORING_OP_READ,    IORING_OP_ACCEPT,       IORING_OP_RECV,
        IORING_OP_SENDMSG,     IORING_OP_CONNECT, IORING_OP_ASYNC_CANCEL, IORING_OP_POLL_ADD,
        IORING_OP_SEND_ZC}; /* the last says 6.0, which multishot receive came with */
    struct io_uring ring;
    int status = io_uring_queue_init(4, &ring, 0);
    if (status < 0) {
        return status;
    }
    struct io_uring_probe *probe = io_uring_get_probe_ring(&ring);
    status = probe == NULL ? -ENOSYS : 0;
    for (size_t i = 0; status == 0 && i < sizeof(needed) / sizeof(*needed); i++) {
        if (!io_uring_opcode_supported(probe, needed[i])) {
            status = -ENOSYS;
        }
    }
    io_uring_free_probe(probe);
    io_uring_queue_exit(&ring);
    return status;
}

struct io_uring_sqe *uring_entry(struct uring *uring, struct uring_op *op)
{
    struct io_uring_sqe *entry;
    while ((entry = io_uring_get_sqe(&uring->ring)) == NULL) {
        uring->enter_count++;
        io_uring_submit(&uring->ring);
    }
    uring->unsubmitted_count++;
    io_uring_sqe_set_data(entry, op);
    entry->flags = 0;
    return entry;
}

static int uring_work_pending(const struct uring *uring)
{
    unsigned flags = IO_URING_READ_ONCE(*uring->ring.sq.kflags);
    return (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

int uring_submit(struct uring *uring)
{
    int status = 0;
    if (uring->mode == URING_SLEEPS && uring_work_pending(uring)) {
        uring->enter_count++;
        status = io_uring_submit_and_get_events(&uring->ring);
    } else if (uring->unsubmitted_count > 0) {
        uring->enter_count++;
        status = io_uring_submit(&uring->ring);
    } else if (uring_work_pending(uring)) {
        uring->enter_count++;
        status = io_uring_get_events(&uring->ring);
    }
    if (status >= 0) {
        uring->unsubmitted_count = io_uring_sq_ready(&uring->ring);
    }
    return status < 0 ? status : 0;
}

unsigned uring_reap(struct uring *uring)
{
    struct io_uring_cqe *entry;
    unsigned count = 0;
    /* A bounded piece a round: completions that `done` brings about wait for the next. */
    unsigned head;
    unsigned limit = io_uring_cq_ready(&uring->ring);
    io_uring_for_each_cqe(&uring->ring, head, entry)
    {
        if (count == limit) {
            break;
        }
        struct uring_op *op = io_uring_cqe_get_data(entry);
        int32_t result = entry->res;
        uint32_t flags = entry->flags;
        count++;
        io_uring_cq_advance(&uring->ring, 1);
        if (op != NULL) {
            op->done(op, result, flags);
        }
    }
    return count;
}

int uring_wait(struct uring *uring, uint64_t timeout_ns)
{
    struct __kernel_timespec timeout = {.tv_sec = (long long)(timeout_ns / 1000000000ull),
                                        .tv_nsec = (long long)(timeout_ns % 1000000000ull)};
    struct io_uring_cqe *entry = NULL;
    uring->enter_count++;
    int status = io_uring_submit_and_wait_timeout(&uring->ring, &entry, 1, &timeout, NULL);
    uring->unsubmitted_count = io_uring_sq_ready(&uring->ring);
    return status < 0 ? status : 0;
}
