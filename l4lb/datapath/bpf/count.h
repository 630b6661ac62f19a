/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Counters: per CPU where every packet counts, shared and atomic where a choice depends on them.
 */
#pragma once

#include "maps.h"
#include "packet.h"

ALWAYS_INLINE void count_verdict(__u32 verdict)
{
	__u64 *count = bpf_map_lookup_elem(&verdicts, &verdict);
	if (count)
		*count += 1;
}

ALWAYS_INLINE void count_reason(__u32 reason)
{
	__u64 *count = bpf_map_lookup_elem(&drops, &reason);
	if (count)
		*count += 1;
}

ALWAYS_INLINE void count_packet(__u32 path, const struct packet *p, int from_client)
{
	struct traffic *counts = bpf_map_lookup_elem(&traffic, &path);
	if (!counts)
		return;
	if (from_client) {
		counts->packets_in += 1;
		counts->bytes_in += p->end - IP_OFFSET;
	} else {
		counts->packets_out += 1;
		counts->bytes_out += p->end - IP_OFFSET;
	}
}

/* Something that happens to a connection. */
enum event_counted { CONNECTION_BEGAN, CONNECTION_CONFIRMED, BACKEND_RESET, SYN_SENT_AGAIN, NOBODY_ANSWERED };

ALWAYS_INLINE void count_event(__u32 path, enum event_counted what)
{
	struct load *load = bpf_map_lookup_elem(&loads, &path);
	if (!load)
		return;
	if (what == CONNECTION_BEGAN)
		__sync_fetch_and_add(&load->connections, 1);
	else if (what == CONNECTION_CONFIRMED)
		__sync_fetch_and_add(&load->confirmed, 1);
	else if (what == BACKEND_RESET)
		__sync_fetch_and_add(&load->resets, 1);
	else if (what == SYN_SENT_AGAIN)
		__sync_fetch_and_add(&load->retransmissions, 1);
	else
		__sync_fetch_and_add(&load->unanswered, 1);
}

/* One more request waits for a backend, since `asked`, or one less. In this order: who reads in between takes them
 * to have waited for less than nothing, not for as long as the host is up. */
ALWAYS_INLINE void count_waiting(__u32 path, int change, __u64 asked)
{
	struct load *load = bpf_map_lookup_elem(&loads, &path);
	if (!load)
		return;
	if (change < 0) {
		__sync_fetch_and_add(&load->outstanding, change);
		__sync_fetch_and_add(&load->asked, -asked);
	} else {
		__sync_fetch_and_add(&load->requests, 1);
		__sync_fetch_and_add(&load->asked, asked);
		__sync_fetch_and_add(&load->outstanding, change);
	}
}

/* A backend has answered, after so many TIME_UNITs. */
ALWAYS_INLINE void count_answer(__u32 path, __u32 units)
{
	struct load *load = bpf_map_lookup_elem(&loads, &path);
	if (!load)
		return;
	__sync_fetch_and_add(&load->answers, 1);
	__sync_fetch_and_add(&load->answered, units);
}

/* How many connections a backend has. The daemon counts anew now and then: the kernel does not say which
 * half-open ones it pushes out. */
ALWAYS_INLINE void count_load(__u32 path, int half_open, int established)
{
	struct load *load = bpf_map_lookup_elem(&loads, &path);
	if (!load)
		return;
	if (half_open)
		__sync_fetch_and_add(&load->half_open, half_open);
	if (established)
		__sync_fetch_and_add(&load->established, established);
}

ALWAYS_INLINE void count_total(int half_open, int established)
{
	__u32 zero = 0;
	struct totals *all = bpf_map_lookup_elem(&totals, &zero);
	if (!all)
		return;
	if (half_open)
		__sync_fetch_and_add(&all->half_open, half_open);
	if (established)
		__sync_fetch_and_add(&all->established, established);
}
