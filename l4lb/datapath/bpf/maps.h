/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Everything the programs remember. Both hooks share these maps by their pins; sizes that depend on the
 * config are set when they are made. "4" and "6" are the versions of IP: of the first, keys are the last
 * 8 bytes of struct end.
 */
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "layout.h"

#define KEY4 (sizeof(struct end) - END4_OFFSET)
#define KEY6 sizeof(struct end)

#define MAP(kind, map_name, key_bytes, value_bytes, entries, how)                                              \
	struct {                                                                                               \
		__uint(type, BPF_MAP_TYPE_##kind);                                                             \
		__uint(key_size, key_bytes);                                                                   \
		__uint(value_size, value_bytes);                                                               \
		__uint(max_entries, entries);                                                                  \
		__uint(map_flags, how);                                                                        \
	} map_name SEC(".maps")

#define PAIR(kind, name, value_bytes, entries, how)                                                            \
	MAP(kind, name##4, KEY4, value_bytes, entries, how);                                                   \
	MAP(kind, name##6, KEY6, value_bytes, entries, how)

/* -- what should be: written by the daemon ------------------------------------------------------- */

MAP(ARRAY, ends, sizeof(__u32), sizeof(__u64), 2 * MOST_ENDS, BPF_F_MMAPABLE);
MAP(ARRAY, services, sizeof(__u32), sizeof(struct service), 4096, 0);
MAP(ARRAY, backends, sizeof(__u32), sizeof(struct backend), 65536, 0);
MAP(ARRAY, paths, sizeof(__u32), sizeof(struct path), 65536, 0);
MAP(ARRAY, costs, sizeof(__u32), sizeof(__u32), 65536, 0);
MAP(ARRAY, settings, sizeof(__u32), sizeof(struct settings), 1, 0);

static __attribute__((always_inline)) inline struct settings *read_settings(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

MAP(HASH, interfaces, sizeof(__u32), sizeof(struct interface), 1024, BPF_F_NO_PREALLOC);

/* Prefix -> MTU of its route, 0 without one. bpf_fib_lookup tells the device's MTU, and the route's only if
 * it is locked (ip_mtu_from_fib_result); the kernel's own forwarding keeps to both. */
MAP(LPM_TRIE, route_mtus4, sizeof(struct prefix) - 3 * sizeof(__be32), sizeof(__u32), 65536, BPF_F_NO_PREALLOC);
MAP(LPM_TRIE, route_mtus6, sizeof(struct prefix), sizeof(__u32), 65536, BPF_F_NO_PREALLOC);

/* All addresses of VIPs and backends: whose other packets, damaged or fragments, are looked at. The key
 * is an end without a port, its id 0. */
PAIR(HASH, addresses, sizeof(__u8), 65536, BPF_F_NO_PREALLOC);

/* By a service's number: how many paths follow; then these. Replaced as a whole, so a choice sees the old selection
 * or the new one. */
struct selection {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_INNER_MAP);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
	__uint(max_entries, 4096);
	__array(values, struct selection);
} selections SEC(".maps");

/* -- what is: written by the programs ------------------------------------------------------------ */

/* The client's end with the service's number -> connection. What a flood can reach is in half_open and
 * pushes out only what is there. Memory that can be mapped begins with a page, so a slot with a line. */
MAP(ARRAY, connections4, sizeof(__u32), sizeof(struct slots), 1000000, BPF_F_MMAPABLE);
/* Without values: the daemon's walk over connections4, so many pairs at a step. */
MAP(ARRAY, blocks, sizeof(__u32), sizeof(__u32), 1000000 / BLOCK_PAIRS, 0);
MAP(HASH, connections6, KEY6, sizeof(struct connection), 1000000, BPF_F_NO_PREALLOC);
/* Those that are over and give way where there is no room. The oldest are left out where they are more. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(value_size, sizeof(struct rested));
	__uint(max_entries, 65536);
} rested SEC(".maps");

PAIR(LRU_HASH, half_open, sizeof(struct connection), 65536, 0);

/* The end that the backend sees with the backend's number -> the connection's key, where the backend's
 * packets do not show it by themselves. */
PAIR(HASH, reverse, sizeof(struct end), 1000000, BPF_F_NO_PREALLOC);
PAIR(LRU_HASH, half_open_reverse, sizeof(struct end), 65536, 0);

/* The end that the backend sees with the backend's number: a connection past the VIP. */
PAIR(LRU_HASH, direct, sizeof(__u8), 65536, 0);

/* The client's address with the service's number -> path. Who has not yet had an established connection, as all
 * that a flood invents, is a newcomer. */
PAIR(LRU_HASH, affinities, sizeof(struct affinity), 262144, 0);
PAIR(LRU_HASH, newcomers, sizeof(struct affinity), 65536, 0);

MAP(LRU_HASH, fragments, sizeof(struct datagram), sizeof(struct fragment), 4096, 0);

MAP(ARRAY, turns, sizeof(__u32), sizeof(__u32), 4096, 0);
MAP(ARRAY, decisions, sizeof(__u32), sizeof(struct decision), DECISIONS_KEPT, 0);
MAP(ARRAY, keep_at, sizeof(__u32), sizeof(__u64), 4096, 0); /* ns, by a service's number */
MAP(ARRAY, loads, sizeof(__u32), sizeof(struct load), 65536, 0);
MAP(HASH, measured, sizeof(__u32), sizeof(struct measured), 65536, BPF_F_NO_PREALLOC);
MAP(ARRAY, totals, sizeof(__u32), sizeof(struct totals), 1, 0);
MAP(PERCPU_ARRAY, traffic, sizeof(__u32), sizeof(struct traffic), 65536, 0);
MAP(PERCPU_ARRAY, drops, sizeof(__u32), sizeof(__u64), REASONS, 0);
MAP(PERCPU_ARRAY, verdicts, sizeof(__u32), sizeof(__u64), VERDICTS, 0); /* all but FORWARD */
