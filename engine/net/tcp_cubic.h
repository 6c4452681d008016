/*
 * tcp_cubic: the arithmetic of CUBIC, and CUBIC with HyStart++ as a method of tcp_congestion.
 *
 * The window after a loss grows by a cubic function of the time since: fast at first, level where
 * the loss was, then fast again; but never more slowly than Reno's would. In the first slow start
 * HyStart++ looks for round trips that get longer, and leaves it before the queue overflows.
 * All in integers: bytes and milliseconds, so that every host computes the same.
 * Source: RFC 9438; RFC 9406.
 */
#pragma once
#include "engine/net/tcp_congestion.h"

/* K of RFC 9438 figure 2, in ms: how long the window takes from `cwnd` to `w_max`, > cwnd. */
uint32_t tcp_cubic_k_ms(uint32_t w_max, uint32_t cwnd, uint32_t mss);
/* C * t^3 of figure 1, in bytes; negative where t is. */
int64_t tcp_cubic_growth(int64_t t_ms, uint32_t mss);
