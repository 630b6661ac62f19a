/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The time. It is the kernel's count of ticks as ns of CLOCK_MONOTONIC, late by up to two ticks: one load, which
 * the kernel compiles into the program. bpf_ktime_get_coarse_ns() is as coarse, a call of 10 ns for every packet,
 * and nothing that iterators have. What is measured takes the other clock, in TIME_UNITs.
 */
#pragma once

#include "maps.h"
#include "packet.h"

/* Set before loading, see l4lb/datapath/ebpf/clock.py. */
const volatile __u64 tick_length = 0; /* ns */
const volatile __u64 first_tick = 0;  /* the count at time 0 */

const volatile __u8 own_clock = 0; /* 1: the time is settings.clock, for tests alone; not a branch where it is 0 */

static __attribute__((always_inline)) inline __u64 time_now(const struct settings *settings)
{
	return own_clock ? settings->clock : (bpf_jiffies64() - first_tick) * tick_length;
}

/* True if so many ns have passed since then. Another CPU's packet may have seen a later tick, and what is doubted
 * (track.h) has a time before that of the first tick. */
ALWAYS_INLINE int has_passed(__u64 now, __u64 since, __u64 duration)
{
	return (__s64)(now - since) >= (__s64)duration;
}

/* Of their lower 32 bits, which a connection remembers, never 0. */
ALWAYS_INLINE __u64 time_units(const struct settings *settings)
{
	__u64 units = (own_clock ? settings->clock : bpf_ktime_get_ns()) >> TIME_SHIFT;

	return (__u32)units ? units : units + 1;
}

/* When it was `asked`, of which these bits are known: within the five hours before now. */
ALWAYS_INLINE __u64 time_asked(__u64 now, __u32 asked)
{
	return now - (__u32)((__u32)now - asked);
}
