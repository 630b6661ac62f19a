/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Sums in ones' complement (RFC 1071), of words as they lie on the wire.
 */
#pragma once

#include "packet.h"

/* What a word that changes adds to a sum. */
ALWAYS_INLINE __u64 change(__u32 old, __u32 new)
{
	return (__u64)(__u32)~old + new;
}

ALWAYS_INLINE __u32 fold32(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (sum & 0xffffffff) + (sum >> 32);
}

ALWAYS_INLINE __u16 fold16(__u64 sum)
{
	__u32 folded = fold32(sum);

	folded = (folded & 0xffff) + (folded >> 16);
	return (folded & 0xffff) + (folded >> 16);
}

/* Of the pseudo-header. */
ALWAYS_INLINE __u16 pseudo_sum(const __be32 *from, const __be32 *to, __u8 protocol, __u32 length)
{
	__u64 sum = bpf_htons(length) + bpf_htons(protocol);

	for (int i = 0; i < 4; i++)
		sum += (__u64)from[i] + to[i];
	return fold16(sum);
}
