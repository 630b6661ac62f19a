/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The hook of xdp.c: packets are bytes as the driver received them, before there is a socket buffer. Only
 * plain packets come this far, so headers are at fixed offsets.
 */
#pragma once

#include "maps.h"
#include "sum.h"

typedef struct xdp_md context;

#define HOOK_IS_XDP 1

#define HOOK_PASS XDP_PASS
#define HOOK_DROP XDP_DROP

#define DATA(ctx) ((void *)(long)(ctx)->data)
#define DATA_END(ctx) ((void *)(long)(ctx)->data_end)

ALWAYS_INLINE __u32 segment_length(context *ctx, const struct packet *p)
{
	(void)ctx;
	return p->end - IP_OFFSET;
}

ALWAYS_INLINE void *transport_of(context *ctx, const struct packet *p)
{
	return DATA(ctx) + IP_OFFSET + (p->version == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr));
}

/* Up to 40 bytes of TCP options; how many. */
ALWAYS_INLINE __u32 read_options(context *ctx, const struct packet *p, __u8 options[40])
{
	__u8 *at = transport_of(ctx, p) + sizeof(struct tcphdr);
	__u32 length = p->header - sizeof(struct tcphdr);

	for (__u32 i = 0; i < 40; i++) {
		if (i >= length)
			break;
		if ((void *)(at + i + 1) > DATA_END(ctx))
			return 0;
		options[i] = at[i];
	}
	return length > 40 ? 0 : length;
}

/* Ports and the transport checksum. `addresses` and `ports` are what is added to the sum. */
ALWAYS_INLINE int rewrite_transport(context *ctx, const struct packet *p, __be16 source, __be16 destination,
				    __u32 addresses, __u32 ports)
{
	void *transport = transport_of(ctx, p);
	__be16 *both = transport, *check;
	__u64 sum = (__u64)addresses + ports;

	if (p->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = transport;

		if ((void *)(tcp + 1) > DATA_END(ctx))
			return -1;
		check = &tcp->check;
	} else {
		struct udphdr *udp = transport;

		if ((void *)(udp + 1) > DATA_END(ctx))
			return -1;
		check = &udp->check;
	}
	both[0] = source;
	both[1] = destination;
	if (p->protocol == IPPROTO_UDP && !*check)
		return 0;
	*check = ~fold16(sum + (__u16)~*check);
	if (p->protocol == IPPROTO_UDP && !*check)
		*check = 0xffff;
	return 0;
}

/* There is no sum beside the packet yet. */
#define note_change(ctx, change) ((void)(change))

/* True if the transport checksum seems to be left to the receiver, as between veths: then the field holds
 * the pseudo-header's sum. The frame would leave without saying so. Of others one in 65,536 looks like it. */
ALWAYS_INLINE int sum_is_left_out(context *ctx, const struct packet *p)
{
	__u16 sum = pseudo_sum(p->source.ip, p->destination.ip, p->protocol, p->end - p->transport);
	struct tcphdr *tcp = transport_of(ctx, p);
	struct udphdr *udp = transport_of(ctx, p);
	__be16 field;

	if (p->protocol == IPPROTO_TCP) {
		if ((void *)(tcp + 1) > DATA_END(ctx))
			return 1;
		field = tcp->check;
	} else {
		if ((void *)(udp + 1) > DATA_END(ctx))
			return 1;
		field = udp->check;
	}
	return field == sum;
}

/* True if a frame is for this host: of a socket buffer the kernel has seen it (pkt_type), and a card may be
 * promiscuous. `back` is the hop of the packet's answers, which come from the address that this packet has to be
 * for; where it is another one, as of a new connection, the interface's own tells. */
ALWAYS_INLINE int is_for_us(context *ctx, const struct hop *back)
{
	__u32 index = ctx->ingress_ifindex;
	struct interface *interface;
	__u16 *to = DATA(ctx);
	const __u16 *us = (const __u16 *)back->addresses + 3;

	if ((void *)(to + 3) > DATA_END(ctx))
		return 0;
	if (back->ifindex == index && to[0] == us[0] && to[1] == us[1] && to[2] == us[2])
		return 1;
	interface = bpf_map_lookup_elem(&interfaces, &index);
	if (!interface)
		return 0;
	us = (const __u16 *)interface->mac;
	return to[0] == us[0] && to[1] == us[1] && to[2] == us[2];
}

/* Cut the Ethernet trailer off. */
ALWAYS_INLINE int trim(context *ctx, const struct packet *p)
{
	return p->end < p->length ? bpf_xdp_adjust_tail(ctx, (int)p->end - (int)p->length) : 0;
}
