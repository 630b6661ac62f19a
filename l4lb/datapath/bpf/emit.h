/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Step 6, emit: the next hop, and out. A hop that was found is kept with the path or the connection for a
 * while, so established packets need no lookup in the kernel's routes.
 */
#pragma once

#include "maps.h"
#include "work.h"

#define HOP_TICKS 10

#ifndef AF_INET
#define AF_INET 2
#define AF_INET6 10
#endif

ALWAYS_INLINE int is_fresh(const struct hop *hop, const struct settings *settings, __u64 now)
{
	return hop->generation == settings->generation && hop->until > (__u32)(now >> TICK);
}

/* MTU of the route to an address, 0 if it has none of its own. The key is made in `space`: the stack is
 * small. */
ALWAYS_INLINE __u32 route_mtu(const struct end *to, int version, struct prefix *space)
{
	__u32 *mtu;

	if (version == 4) {
		space->length = 32;
		space->ip[0] = to->ip[3];
		mtu = bpf_map_lookup_elem(&route_mtus4, space);
	} else {
		space->length = 128;
		__builtin_memcpy(space->ip, to->ip, sizeof(space->ip));
		mtu = bpf_map_lookup_elem(&route_mtus6, space);
	}
	return mtu ? *mtu : 0;
}

CHECKED_ALONE int find_way(context *ctx, struct way *way, const struct translation *to, const struct packet *p,
			  const struct settings *settings)
{
	struct bpf_fib_lookup fib = {};
	struct interface *interface;
	__u32 mtu = 0, generation;
	long found;

	if (!way || !to || !p || !settings)
		return NOT_ROUTED;
	fib.ifindex = ctx->ingress_ifindex;
#if !HOOK_IS_XDP
	fib.ifindex = ctx->ifindex;
#endif
	fib.tot_len = 1; /* so that the answer has the MTU */
	if (p->version == 4) {
		fib.family = AF_INET;
		fib.ipv4_src = to->source.ip[3];
		fib.ipv4_dst = to->destination.ip[3];
	} else {
		fib.family = AF_INET6;
		__builtin_memcpy(fib.ipv6_src, to->source.ip, 16);
		__builtin_memcpy(fib.ipv6_dst, to->destination.ip, 16);
	}
	/* Before the kernel is asked: what it says may be old by the time that it is kept. */
	generation = *(volatile const __u32 *)&settings->generation;
	found = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	__builtin_memset(way, 0, sizeof(*way));
	if (found != BPF_FIB_LKUP_RET_SUCCESS && found != BPF_FIB_LKUP_RET_NO_NEIGH)
		return NOT_ROUTED;
	way->hop.ifindex = fib.ifindex;
	/* IPv4 may go by a neighbour that has an IPv6 address (RFC 8950). */
	way->version = fib.family == AF_INET ? 4 : 6;
	if (way->version == 4)
		way->neighbour[3] = fib.ipv4_dst;
	else
		__builtin_memcpy(way->neighbour, fib.ipv6_dst, 16);
	if (found == BPF_FIB_LKUP_RET_NO_NEIGH) {
		/* Then the answer has no MTU. */
		bpf_check_mtu(ctx, fib.ifindex, &mtu, 0, 0);
		way->hop.mtu = mtu && mtu < 0xffff ? mtu : 0xffff;
	} else {
		way->hop.generation = generation;
		way->hop.until = (p->now >> TICK) + HOP_TICKS;
		way->hop.mtu = fib.mtu_result;
		interface = bpf_map_lookup_elem(&interfaces, &fib.ifindex);
		way->hop.flags = interface ? interface->flags : 0;
		__builtin_memcpy(way->hop.addresses, fib.dmac, 6);
		__builtin_memcpy((__u8 *)way->hop.addresses + 6, fib.smac, 6);
	}
	mtu = route_mtu(&to->destination, p->version, (struct prefix *)&fib);
	if (mtu && mtu < way->hop.mtu)
		way->hop.mtu = mtu;
	return found == BPF_FIB_LKUP_RET_NO_NEIGH ? TO_RESOLVE : ROUTED;
}

/* In words: of bytes the compiler would copy one after the other. */
ALWAYS_INLINE void write_addresses(struct ethhdr *ethernet, const struct hop *hop)
{
	__u32 *to = (__u32 *)ethernet;

	to[0] = hop->addresses[0];
	to[1] = hop->addresses[1];
	to[2] = hop->addresses[2];
}

/* True if the packet is to go through the kernel's neighbour table, which otherwise takes a neighbour for one
 * that is not in use, never asks whether it is still there, and keeps its old address when it has another:
 * when a hop runs out, and so that there is one too where no connection lives that long, every second. */
ALWAYS_INLINE int is_to_confirm(struct work *w, const struct hop *kept, const struct settings *settings)
{
	__u32 tick = w->packet.now >> TICK, *last = &w->confirmed[HOOK_IS_XDP];

	if (kept->generation == settings->generation)
		return 1;
	if (*last == tick)
		return 0;
	*last = tick;
	return 1;
}

/* Where the packet goes, in w->way: `kept` if it is still good, or what the kernel says now, which is kept.
 * Another CPU may read `kept` while it changes; that costs one packet, once in a change of routes. */
ALWAYS_INLINE int next_hop(context *ctx, struct work *w, struct hop *kept, const struct settings *settings)
{
	int route, confirm;

	if (is_fresh(kept, settings, w->packet.now)) {
		w->way.hop = *kept;
		return ROUTED;
	}
	confirm = is_to_confirm(w, kept, settings);
	if (HOOK_IS_XDP && confirm)
		return TO_RESOLVE;
	route = find_way(ctx, &w->way, &w->to, &w->packet, settings);
	if (route == ROUTED) {
		*kept = w->way.hop;
		if (confirm)
			w->way.hop.generation = 0;
	}
	return route;
}
