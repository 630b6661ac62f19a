/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Step 6 for socket buffers.
 */
#pragma once

#include "emit.h"

ALWAYS_INLINE int emit(context *ctx, const struct way *way)
{
	struct ethhdr *ethernet;

	if (!way->hop.generation) {
		struct bpf_redir_neigh neighbour = {};

		if (way->version == 4) {
			neighbour.nh_family = AF_INET;
			neighbour.ipv4_nh = way->neighbour[3];
		} else {
			neighbour.nh_family = AF_INET6;
			__builtin_memcpy(neighbour.ipv6_nh, way->neighbour, 16);
		}
		return bpf_redirect_neigh(way->hop.ifindex, &neighbour, sizeof(neighbour), 0);
	}
	ethernet = DATA(ctx);
	if ((void *)(ethernet + 1) > DATA_END(ctx))
		return HOOK_DROP;
	write_addresses(ethernet, &way->hop);
	if (way->hop.flags & HOP_PEER)
		return bpf_redirect_peer(way->hop.ifindex, 0);
	return bpf_redirect(way->hop.ifindex, 0);
}
