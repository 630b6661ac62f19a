/* SPDX-License-Identifier: GPL-2.0-only
 *
 * ICMP errors that belong to a connection, and what they have to become. Socket buffers only.
 */
#pragma once

#include "answer_tc.h"
#include "parse_any.h"

/* The start of the packet that an error quotes: ends that answer it, and where its parts are. */
struct quoted {
	struct packet reply; /* of what answers it: its source is the quoted destination */
	struct translation answer; /* what that would become; the quote becomes its reverse */
	__u32 transport;
	__u32 end;
	__u8 has_ports;
};

MAP(PERCPU_ARRAY, quoted_space, sizeof(__u32), sizeof(struct quoted), 1, 0);

/* False if it is malformed. */
CHECKED_ALONE int parse_quoted(context *ctx, struct quoted *q, const struct packet *p)
{
	__u32 at, limit;
	__u8 protocol;
	__be16 ports[2];

	if (!q || !p)
		return 0;
	at = p->transport + ICMP_SIZE;
	limit = p->end;
	__builtin_memset(q, 0, sizeof(*q));
	q->reply.version = p->version;
	q->reply.now = p->now;
	if (p->version == 4) {
		__u32 header, total;
		struct iphdr ip;

		if (at + sizeof(ip) > limit || bpf_skb_load_bytes(ctx, at, &ip, sizeof(ip)))
			return 0;
		header = (*(__u8 *)&ip & 15) * 4;
		total = bpf_ntohs(ip.tot_len);
		if (*(__u8 *)&ip >> 4 != 4 || header < sizeof(ip) || total < header)
			return 0;
		q->transport = at + header;
		q->end = at + total < limit ? at + total : limit;
		q->has_ports = !(ip.frag_off & bpf_htons(0x1fff));
		protocol = ip.protocol;
		q->reply.source.ip[3] = ip.daddr;
		q->reply.destination.ip[3] = ip.saddr;
	} else {
		struct chain chain = {};
		struct ipv6hdr ip;
		__u32 end;

		if (at + sizeof(ip) > limit || bpf_skb_load_bytes(ctx, at, &ip, sizeof(ip)))
			return 0;
		end = at + sizeof(ip) + bpf_ntohs(ip.payload_len);
		q->end = end < limit ? end : limit;
		if (*(__u8 *)&ip >> 4 != 6 || !walk(ctx, &chain, at + sizeof(ip), ip.nexthdr, q->end))
			return 0;
		q->transport = chain.at;
		q->has_ports = !chain.offset;
		protocol = chain.protocol;
		__builtin_memcpy(q->reply.source.ip, &ip.daddr, 16);
		__builtin_memcpy(q->reply.destination.ip, &ip.saddr, 16);
	}
	q->reply.protocol = protocol;
	q->reply.source.id = q->reply.destination.id = protocol;
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) {
		q->has_ports = 0;
		return 1;
	}
	if (!q->has_ports)
		return 1;
	if (q->transport + 8 > q->end || bpf_skb_load_bytes(ctx, q->transport, ports, sizeof(ports)))
		return 0;
	q->reply.destination.port = ports[0];
	q->reply.source.port = ports[1];
	return 1;
}

/* Repair a checksum field of the quote; what that adds to the sum over it. */
ALWAYS_INLINE __u64 repair(context *ctx, __u32 at, __u64 changed, int udp)
{
	__be16 old, new;

	if (bpf_skb_load_bytes(ctx, at, &old, sizeof(old)) || (udp && !old))
		return 0;
	new = ~fold16((__u16)~old + changed);
	if (udp && !new)
		new = 0xffff;
	bpf_skb_store_bytes(ctx, at, &new, sizeof(new), 0);
	return (__u64)(__u16)~old + new;
}

/* Rewrite the quoted packet, and say what that adds to the sum over it. */
CHECKED_ALONE __u32 rewrite_quoted(context *ctx, const struct quoted *q, const struct packet *p)
{
	const struct end *source, *destination;
	__u64 addresses = 0, ports, all;
	__be16 both[2];
	__u32 at, check;

	if (!q || !p)
		return 0;
	at = p->transport + ICMP_SIZE;
	source = &q->answer.destination;
	destination = &q->answer.source;
	both[0] = source->port;
	both[1] = destination->port;
	for (int i = 0; i < 4; i++)
		addresses += change(q->reply.destination.ip[i], source->ip[i]) +
			     change(q->reply.source.ip[i], destination->ip[i]);
	addresses = fold32(addresses);
	all = addresses;
	if (p->version == 4) {
		all += repair(ctx, at + __builtin_offsetof(struct iphdr, check), addresses, 0);
		bpf_skb_store_bytes(ctx, at + __builtin_offsetof(struct iphdr, saddr), &source->ip[3], 4, 0);
		bpf_skb_store_bytes(ctx, at + __builtin_offsetof(struct iphdr, daddr), &destination->ip[3], 4, 0);
	} else {
		bpf_skb_store_bytes(ctx, at + __builtin_offsetof(struct ipv6hdr, saddr), source->ip, 16, 0);
		bpf_skb_store_bytes(ctx, at + __builtin_offsetof(struct ipv6hdr, daddr), destination->ip, 16, 0);
	}
	ports = (__u64)(__u16)~q->reply.destination.port + both[0] + (__u16)~q->reply.source.port + both[1];
	all += ports;
	bpf_skb_store_bytes(ctx, q->transport, both, sizeof(both), 0);
	check = q->transport + (q->reply.protocol == IPPROTO_TCP ? 16 : 6);
	if (check + 2 <= q->end)
		all += repair(ctx, check, addresses + ports, q->reply.protocol == IPPROTO_UDP);
	return fold32(all);
}

/* Read what an error quotes, before process_icmp_error(): one after the other they need less of the stack. */
ALWAYS_INLINE int read_quoted(context *ctx, const struct packet *p)
{
	__u32 zero = 0;
	struct quoted *q = bpf_map_lookup_elem(&quoted_space, &zero);

	return q && parse_quoted(ctx, q, p);
}

/* An error about a packet that we forwarded goes to who sent that packet. */
CHECKED_ALONE int process_icmp_error(context *ctx, struct work *w, const struct settings *settings)
{
	struct translation *to, *answer;
	struct packet *p;
	struct flow flow = {};
	struct connection *c;
	struct path *path;
	struct quoted *q;
	__u32 zero = 0, changed, outer;
	int from_client;

	if (!w || !settings)
		return HOOK_PASS;
	p = &w->packet;
	to = &w->to;
	q = bpf_map_lookup_elem(&quoted_space, &zero);
	if (!q)
		return HOOK_PASS;
	/* One that does not go to the sender of the packet it quotes is not honest. */
	if (!q->has_ports || !same_address(q->reply.destination.ip, p->destination.ip))
		return HOOK_PASS;
	if (!lookup(&flow, settings, &q->reply) || !flow.connection) {
		if (find_service(&q->reply.destination, p->version, settings))
			return dropped(ICMP_UNMATCHED);
		return HOOK_PASS;
	}
	c = flow.connection;
	path = path_of(c);
	if (!path)
		return dropped(INTERNAL);
	/* The quoted packet is one that we sent to the client, if what answers it is the client's. */
	from_client = flow.from_client;
	answer = &q->answer;
	translation_of(answer, &q->reply, &flow, c, path);
	/* The error goes where the answer would. Its own source is hidden behind the VIP on the way to a client
	 * (nf_nat_icmp_reply_translation), and so is that of a router which has a link-local one; towards a backend
	 * it stays, or becomes the only address that the backend can answer. */
	to->destination = answer->destination;
	to->source = p->source;
	if (!from_client || is_link_local(&p->source, p->version))
		__builtin_memcpy(to->source.ip, path->vip, sizeof(path->vip));
	if (from_client && !same_address(answer->source.ip, flow.key.ip))
		to->source = answer->source;
	if (next_hop(ctx, w, from_client ? &path->hop : &c->hop, settings) == NOT_ROUTED)
		return dropped(NO_ROUTE);
	if (p->ttl <= 1)
		return dropped(TTL_EXCEEDED);
	count_packet(c->path, p, from_client);
	if (trim(ctx, p))
		return dropped(INTERNAL);
	changed = rewrite_quoted(ctx, q, p);
	outer = address_change(p, to);
	bpf_l4_csum_replace(ctx, p->transport + ICMP_CHECKSUM, 0, changed, 0);
	if (p->version == 6)
		bpf_l4_csum_replace(ctx, p->transport + ICMP_CHECKSUM, 0, outer, BPF_F_PSEUDO_HDR);
	if (rewrite_network(ctx, p, to, outer))
		return dropped(INTERNAL);
	return emit(ctx, &w->way);
}
