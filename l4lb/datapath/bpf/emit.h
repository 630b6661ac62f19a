/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Step 6, emit: the next hop, and out. A hop that was found is kept with the path or the connection for a
 * while, so established packets need no lookup in the kernel's routes. Each time it runs out, one packet
 * goes through the kernel's neighbour table, which so learns that the neighbour is in use and probes it.
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
	__u32 *flags;
	__u32 mtu;
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
	found = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	__builtin_memset(way, 0, sizeof(*way));
	way->version = p->version;
	way->hop.ifindex = fib.ifindex;
	if (found == BPF_FIB_LKUP_RET_NO_NEIGH) {
		way->hop.mtu = 0xffff; /* not known yet */
		if (p->version == 4)
			way->neighbour[3] = fib.ipv4_dst;
		else
			__builtin_memcpy(way->neighbour, fib.ipv6_dst, 16);
		return TO_RESOLVE;
	}
	if (found != BPF_FIB_LKUP_RET_SUCCESS)
		return NOT_ROUTED;
	way->hop.generation = settings->generation;
	way->hop.until = (p->now >> TICK) + HOP_TICKS;
	way->hop.mtu = fib.mtu_result;
	flags = bpf_map_lookup_elem(&interfaces, &fib.ifindex);
	way->hop.flags = flags ? *flags : 0;
	__builtin_memcpy(way->hop.addresses, fib.dmac, 6);
	__builtin_memcpy(way->hop.addresses + 6, fib.smac, 6);
	mtu = route_mtu(&to->destination, p->version, (struct prefix *)&fib);
	if (mtu && mtu < way->hop.mtu)
		way->hop.mtu = mtu;
	return ROUTED;
}

/* Where the packet goes: `kept` if it is still good, or what the kernel says now, which is kept. Another
 * CPU may read `kept` while it changes; that costs one packet, once in a change of routes. */
ALWAYS_INLINE int next_hop(context *ctx, struct way *way, struct hop *kept, const struct translation *to,
			   const struct packet *p, const struct settings *settings)
{
	int route;

	if (is_fresh(kept, settings, p->now)) {
		way->hop = *kept;
		return ROUTED;
	}
	route = find_way(ctx, way, to, p, settings);
	if (route == ROUTED)
		*kept = way->hop;
	return route;
}
