/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The XDP hook says and drops nothing: the packet goes on as it came, and the TC hook does.
 */
#pragma once

#include "work.h"

#define UNUSED __attribute__((unused))

ALWAYS_INLINE int dropped(UNUSED __u32 reason)
{
	return HOOK_PASS;
}

ALWAYS_INLINE int refuse(context *ctx, UNUSED struct work *w, UNUSED const struct settings *settings,
			 UNUSED __u32 reason)
{
	/* Or the compiler, seeing no use, would call functions that the verifier checks with another one. */
	asm volatile("" : : "r"(ctx));
	return HOOK_PASS;
}

ALWAYS_INLINE int time_exceeded(UNUSED context *ctx, UNUSED struct work *w, UNUSED const struct settings *settings,
				UNUSED const __be32 *here)
{
	return HOOK_PASS;
}

ALWAYS_INLINE int too_big(UNUSED context *ctx, UNUSED struct work *w, UNUSED const struct settings *settings,
			  UNUSED const __be32 *here)
{
	return HOOK_PASS;
}
