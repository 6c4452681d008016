#include "engine/net/tcp_cubic.h"
#include <assert.h>
#include <stdbool.h>
#include <string.h>

#define MS_NS 1000000ull
#define T_MAX_MS 60000          /* 86,400 segments more; beyond it the cube would overflow */
#define BETA_OF_10 7u           /* RFC 9438 §4.6 */
#define RTT_SAMPLES 8u          /* RFC 9406 §4.3: N_RTT_SAMPLE */
#define RTT_THRESH_MIN_US 4000u /* MIN_RTT_THRESH */
#define RTT_THRESH_MAX_US 16000u
#define RTT_DIVISOR 8u /* MIN_RTT_DIVISOR */
#define CSS_GROWTH 4u  /* CSS_GROWTH_DIVISOR */
#define CSS_ROUNDS 5u

enum slow_start { SLOW_START, CONSERVATIVE_SLOW_START };

struct cubic {
    uint64_t epoch_ns; /* when the stage of congestion avoidance began; 0: not in one */
    uint64_t acked_ns; /* the last acknowledgement that counted */
    uint32_t w_max;    /* the window before the loss; 0: none, the stage grows from where it is */
    uint32_t cwnd_prior;
    uint32_t k_ms;
    uint32_t w_est;       /* what Reno would have */
    uint32_t w_est_acked; /* bytes since it grew last, times alpha * 17 */
    uint32_t grown;       /* of a segment of growth, what did not make a byte: in bytes * cwnd */
    /* HyStart++. */
    uint32_t window_end;
    uint32_t rtt_last_us, rtt_us; /* the least of the last round and of this; 0: none */
    uint32_t rtt_baseline_us;
    uint8_t samples, rounds, phase; /* enum slow_start */
};
static_assert(sizeof(struct cubic) <= sizeof(((struct tcp_congestion *)0)->private),
              "a method has no other memory");

static struct cubic *cubic_of(struct tcp_congestion *congestion)
{
    return (struct cubic *)(void *)congestion->private;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* The largest whole number whose cube is at most x. */
static uint32_t cube_root(uint64_t x)
{
    uint64_t root = 0;
    for (int bit = 20; bit >= 0; bit--) {
        uint64_t more = root | 1ull << bit;
        root = more * more * more <= x ? more : root;
    }
    return (uint32_t)root;
}

/* cbrt((W_max - cwnd) / C): in segments and seconds; C is 0.4, and a second cubed 10^9 ms^3. */
uint32_t tcp_cubic_k_ms(uint32_t w_max, uint32_t cwnd, uint32_t mss)
{
    return cube_root((uint64_t)(w_max - cwnd) * 2500000000ull / mss);
}

int64_t tcp_cubic_growth(int64_t t_ms, uint32_t mss)
{
    t_ms = t_ms < T_MAX_MS ? t_ms : T_MAX_MS;
    t_ms = t_ms > -T_MAX_MS ? t_ms : -T_MAX_MS;
    return t_ms * t_ms * t_ms * 4 * mss / 10000000000ll;
}

static void cubic_open(struct tcp_congestion *congestion)
{
    memset(cubic_of(congestion), 0, sizeof(struct cubic));
}

/* RFC 9406 §4.2. A round ends when what was sent at its begin is acknowledged. */
static void round_look(struct tcp_congestion *congestion, const struct tcp_congestion_ack *ack)
{
    struct cubic *cubic = cubic_of(congestion);
    if (cubic->window_end == 0 || (int32_t)(ack->snd_una - cubic->window_end) >= 0) {
        cubic->rounds += cubic->phase == CONSERVATIVE_SLOW_START;
        cubic->window_end = ack->snd_nxt == 0 ? 1 : ack->snd_nxt;
        cubic->rtt_last_us = cubic->rtt_us;
        cubic->rtt_us = 0;
        cubic->samples = 0;
    }
    if (ack->rtt_us == 0) {
        return;
    }
    cubic->samples += cubic->samples < UINT8_MAX;
    cubic->rtt_us = cubic->rtt_us == 0 ? ack->rtt_us : smaller(cubic->rtt_us, ack->rtt_us);
    if (cubic->samples < RTT_SAMPLES) {
        return;
    }
    if (cubic->phase == SLOW_START && cubic->rtt_last_us != 0) {
        uint32_t thresh =
            larger(RTT_THRESH_MIN_US, smaller(cubic->rtt_last_us / RTT_DIVISOR, RTT_THRESH_MAX_US));
        if (cubic->rtt_us >= cubic->rtt_last_us + thresh) {
            cubic->rtt_baseline_us = cubic->rtt_us;
            cubic->phase = CONSERVATIVE_SLOW_START;
            cubic->rounds = 0;
        }
    } else if (cubic->phase == CONSERVATIVE_SLOW_START && cubic->rtt_us < cubic->rtt_baseline_us) {
        cubic->phase = SLOW_START; /* it was chance */
    }
}

/* All bytes count, not eight segments a time: receivers that merge segments acknowledge dozens at
 * once. HyStart++ belongs to the first slow start alone, RFC 9406 §4.3. */
static void slow_start(struct tcp_congestion *congestion, const struct tcp_congestion_ack *ack)
{
    struct cubic *cubic = cubic_of(congestion);
    uint32_t bytes = smaller(ack->bytes, TCP_CWND_MAX);
    if (congestion->ssthresh == UINT32_MAX) {
        round_look(congestion, ack);
        bytes /= cubic->phase == CONSERVATIVE_SLOW_START ? CSS_GROWTH : 1;
    }
    congestion->cwnd = smaller(congestion->cwnd + bytes, TCP_CWND_MAX);
    if (cubic->phase == CONSERVATIVE_SLOW_START && cubic->rounds >= CSS_ROUNDS) {
        congestion->ssthresh = congestion->cwnd;
        cubic->phase = SLOW_START;
    }
}

/* RFC 9438 §4.2, and §4.8 and §4.10 where there was no loss to come back to. */
static void epoch_begin(struct tcp_congestion *congestion, uint64_t now_ns)
{
    struct cubic *cubic = cubic_of(congestion);
    cubic->epoch_ns = now_ns;
    cubic->acked_ns = now_ns;
    cubic->grown = 0;
    cubic->w_est = congestion->cwnd;
    cubic->w_est_acked = 0;
    if (cubic->w_max <= congestion->cwnd) {
        cubic->w_max = congestion->cwnd;
        cubic->k_ms = 0;
    } else {
        cubic->k_ms = tcp_cubic_k_ms(cubic->w_max, congestion->cwnd, congestion->mss);
    }
}

/* §4.3: alpha is 3 * (1 - 0.7) / (1 + 0.7) = 9/17 of a segment in a round trip, until the window is
 * where the loss was; then as Reno. */
static void reno_estimate(struct tcp_congestion *congestion, uint32_t bytes)
{
    struct cubic *cubic = cubic_of(congestion);
    uint32_t alpha = cubic->w_est >= cubic->cwnd_prior ? 17 : 9;
    uint64_t acked = cubic->w_est_acked + (uint64_t)bytes * alpha;
    uint64_t round = 17ull * congestion->cwnd;
    uint64_t segments = acked / round;
    cubic->w_est = smaller(cubic->w_est + (uint32_t)segments * congestion->mss, TCP_CWND_MAX);
    cubic->w_est_acked = (uint32_t)(acked % round);
}

static uint32_t window_at(const struct tcp_congestion *congestion, const struct cubic *cubic,
                          uint64_t t_ms)
{
    int64_t window = cubic->w_max + tcp_cubic_growth((int64_t)t_ms - cubic->k_ms, congestion->mss);
    window = window > (int64_t)TCP_CWND_MAX ? (int64_t)TCP_CWND_MAX : window;
    return window < (int64_t)congestion->mss ? congestion->mss : (uint32_t)window;
}

static void avoidance(struct tcp_congestion *congestion, const struct tcp_congestion_ack *ack)
{
    struct cubic *cubic = cubic_of(congestion);
    uint64_t rtt_ns = ack->srtt_us * 1000ull;
    if (cubic->epoch_ns == 0) {
        epoch_begin(congestion, ack->now_ns);
    }
    /* §4.2: time in which the window was not what held us back does not count. */
    uint64_t silent_ns = ack->now_ns - cubic->acked_ns;
    if (silent_ns > 2 * rtt_ns) {
        cubic->epoch_ns += silent_ns - rtt_ns;
    }
    cubic->acked_ns = ack->now_ns;
    reno_estimate(congestion, ack->bytes);
    uint64_t t_ms = (ack->now_ns - cubic->epoch_ns) / MS_NS;
    uint32_t cwnd = congestion->cwnd;
    if (window_at(congestion, cubic, t_ms) < cubic->w_est) {
        congestion->cwnd = larger(cwnd, cubic->w_est);
        return;
    }
    uint32_t target = window_at(congestion, cubic, t_ms + rtt_ns / MS_NS);
    target = larger(target, cwnd);
    target = smaller(target, cwnd + cwnd / 2);
    /* (target - cwnd) / cwnd of a byte for each one acknowledged. */
    uint64_t grown = cubic->grown + (uint64_t)(target - cwnd) * smaller(ack->bytes, cwnd);
    cubic->grown = (uint32_t)(grown % cwnd);
    congestion->cwnd = smaller(cwnd + (uint32_t)(grown / cwnd), TCP_CWND_MAX);
}

static void cubic_acked(struct tcp_congestion *congestion, const struct tcp_congestion_ack *ack)
{
    if (congestion->cwnd < congestion->ssthresh) {
        slow_start(congestion, ack);
    } else {
        avoidance(congestion, ack);
    }
}

/* §4.6, and §4.7: who loses before coming back to where he was leaves room for others. */
static void cubic_lost(struct tcp_congestion *congestion, uint32_t flight_bytes, uint64_t now_ns)
{
    struct cubic *cubic = cubic_of(congestion);
    (void)now_ns;
    uint32_t cwnd = congestion->cwnd;
    cubic->cwnd_prior = cwnd;
    cubic->w_max = cwnd < cubic->w_max ? (uint32_t)((uint64_t)cwnd * (10 + BETA_OF_10) / 20) : cwnd;
    cubic->epoch_ns = 0;
    cubic->phase = SLOW_START;
    congestion->ssthresh =
        larger((uint32_t)((uint64_t)flight_bytes * BETA_OF_10 / 10), 2 * congestion->mss);
}

static void cubic_timed_out(struct tcp_congestion *congestion, uint32_t flight_bytes,
                            uint64_t now_ns)
{
    cubic_lost(congestion, flight_bytes, now_ns);
    cubic_of(congestion)->w_max = 0; /* §4.8 */
    congestion->cwnd = congestion->mss;
}

const struct tcp_congestion_ops tcp_congestion_cubic = {.name = "cubic",
                                                        .open = cubic_open,
                                                        .acked = cubic_acked,
                                                        .lost = cubic_lost,
                                                        .timed_out = cubic_timed_out};
