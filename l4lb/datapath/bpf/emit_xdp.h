/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Step 6 for bare frames.
 */
#pragma once

#include "emit.h"

ALWAYS_INLINE int emit(context *ctx, const struct way *way)
{
	struct ethhdr *ethernet = DATA(ctx);

	if ((void *)(ethernet + 1) > DATA_END(ctx))
		return HOOK_DROP;
	write_addresses(ethernet, &way->hop);
	return bpf_redirect(way->hop.ifindex, 0);
}
