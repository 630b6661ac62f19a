/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The hook of tc.c: packets are socket buffers, of up to 64 KB, whose checksum may be left to the
 * receiver. The kernel's helpers know which kind it is.
 */
#pragma once

#include "packet.h"

typedef struct __sk_buff context;

#define HOOK_IS_XDP 0

/* TC_ACT_*, linux/pkt_cls.h. UNSPEC leaves the packet to other programs and then to the kernel. */
#define HOOK_PASS (-1)
#define HOOK_DROP 2

#define DATA(ctx) ((void *)(long)(ctx)->data)
#define DATA_END(ctx) ((void *)(long)(ctx)->data_end)

/* IP bytes of the largest packet that the frame puts on the wire. */
ALWAYS_INLINE __u32 segment_length(context *ctx, const struct packet *p)
{
	__u32 length = p->end - IP_OFFSET, segment;

	if (!ctx->gso_size)
		return length;
	segment = p->transport - IP_OFFSET + (p->protocol == IPPROTO_TCP ? p->header : sizeof(struct udphdr)) +
		  ctx->gso_size;
	return segment < length ? segment : length;
}

/* Up to 40 bytes of TCP options; how many. */
ALWAYS_INLINE __u32 read_options(context *ctx, const struct packet *p, __u8 options[40])
{
	__u32 last = p->header - sizeof(struct tcphdr) - 1;

	OPAQUE(last); /* as in sum_of() */
	if (last >= 40)
		return 0;
	return bpf_skb_load_bytes(ctx, p->transport + sizeof(struct tcphdr), options, last + 1) ? 0 : last + 1;
}

/* Ports and the transport checksum. `addresses` and `ports` are what is added to the sum. */
ALWAYS_INLINE int rewrite_transport(context *ctx, const struct packet *p, __be16 source, __be16 destination,
				    __u32 addresses, __u32 ports)
{
	__u32 at = p->transport + (p->protocol == IPPROTO_TCP ? __builtin_offsetof(struct tcphdr, check)
							      : __builtin_offsetof(struct udphdr, check));
	__u64 how = p->protocol == IPPROTO_TCP ? 0 : BPF_F_MARK_MANGLED_0;

	if (bpf_l4_csum_replace(ctx, at, 0, addresses, how | BPF_F_PSEUDO_HDR))
		return -1;
	if (ports) {
		__be16 both[2] = {source, destination}, check = 1;

		if (bpf_l4_csum_replace(ctx, at, 0, ports, how) ||
		    (how && bpf_skb_load_bytes(ctx, at, &check, sizeof(check))))
			return -1;
		/* Of UDP without a checksum nothing makes up for the ports. */
		if (bpf_skb_store_bytes(ctx, p->transport, both, sizeof(both), check ? 0 : BPF_F_RECOMPUTE_CSUM))
			return -1;
	}
	return 0;
}

/* The device may have summed the whole packet (CHECKSUM_COMPLETE). What changes in an IPv4 header, its own
 * checksum makes up for; of IPv6 the sum has to be told, as bpf_l4_csum_replace() takes either for IPv4. */
ALWAYS_INLINE void note_change(context *ctx, __u32 change)
{
	bpf_csum_update(ctx, change);
}

/* The kernel's helpers know. */
#define sum_is_left_out(ctx, p) 0

/* The kernel has looked. */
#define is_for_us(ctx, back) 1

/* Cut the Ethernet trailer off. */
ALWAYS_INLINE int trim(context *ctx, const struct packet *p)
{
	return p->end < p->length ? bpf_skb_change_tail(ctx, p->end, 0) : 0;
}
