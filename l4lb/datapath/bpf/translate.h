/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Step 5, translate: addresses, ports, TTL and checksums (RFC 1624: what changed is added, never the whole
 * summed anew).
 */
#pragma once

#include "lookup.h"
#include "sum.h"
#include "work.h"

/* What one direction of a connection becomes. */
ALWAYS_INLINE void translation_of(struct translation *to, const struct packet *p, const struct flow *flow,
				  const struct connection *c, const struct path *path)
{
	to->source = p->source;
	to->destination = p->destination;
	if (flow->from_client) {
		__builtin_memcpy(to->destination.ip, path->address, sizeof(path->address));
		to->destination.port = path->port;
		if (c->flags & OTHER_SOURCE)
			seen_by_backend(&to->source, &flow->key, c, path);
	} else {
		__builtin_memcpy(to->source.ip, path->vip, sizeof(path->vip));
		to->source.port = path->vip_port;
		if (c->flags & OTHER_SOURCE) {
			__builtin_memcpy(to->destination.ip, flow->key.ip, sizeof(flow->key.ip));
			to->destination.port = flow->key.port;
		}
	}
}

ALWAYS_INLINE __u32 address_change(const struct packet *p, const struct translation *to)
{
	__u64 sum = change(p->source.ip[3], to->source.ip[3]) + change(p->destination.ip[3], to->destination.ip[3]);

	if (p->version == 6) {
		sum += change(p->source.ip[0], to->source.ip[0]) + change(p->source.ip[1], to->source.ip[1]);
		sum += change(p->source.ip[2], to->source.ip[2]);
		sum += change(p->destination.ip[0], to->destination.ip[0]);
		sum += change(p->destination.ip[1], to->destination.ip[1]);
		sum += change(p->destination.ip[2], to->destination.ip[2]);
	}
	return fold32(sum);
}

ALWAYS_INLINE __u32 port_change(const struct packet *p, const struct translation *to)
{
	if (p->source.port == to->source.port && p->destination.port == to->destination.port)
		return 0;
	return (__u32)(__u16)~p->source.port + to->source.port + (__u16)~p->destination.port + to->destination.port;
}

/* Addresses, TTL and the header's checksum, at their place in every IP header. */
ALWAYS_INLINE int rewrite_network(context *ctx, const struct packet *p, const struct translation *to,
				  __u32 addresses)
{
	void *network = DATA(ctx) + IP_OFFSET;

	if (p->version == 4) {
		struct iphdr *ip = network;
		__u64 sum;

		if ((void *)(ip + 1) > DATA_END(ctx))
			return -1;
		/* The TTL is the high byte of its word on the wire. */
		sum = (__u16)~ip->check + (__u64)addresses + (__u16)~bpf_htons(0x0100);
		ip->ttl -= 1;
		ip->check = ~fold16(sum);
		ip->saddr = to->source.ip[3];
		ip->daddr = to->destination.ip[3];
	} else {
		struct ipv6hdr *ip = network;

		if ((void *)(ip + 1) > DATA_END(ctx))
			return -1;
		ip->hop_limit -= 1;
		__builtin_memcpy(&ip->saddr, to->source.ip, sizeof(ip->saddr));
		__builtin_memcpy(&ip->daddr, to->destination.ip, sizeof(ip->daddr));
		/* The hop limit is the low byte of its word on the wire. */
		note_change(ctx, fold32((__u64)addresses + (__u16)~bpf_htons(0x0001)));
	}
	return 0;
}

ALWAYS_INLINE int translate(context *ctx, const struct packet *p, const struct translation *to)
{
	__u32 addresses = address_change(p, to);

	if (!p->fragment_offset && rewrite_transport(ctx, p, to->source.port, to->destination.port, addresses,
						     port_change(p, to)))
		return -1;
	return rewrite_network(ctx, p, to, addresses);
}
