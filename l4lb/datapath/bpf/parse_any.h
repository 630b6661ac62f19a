/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Step 1 for packets that are not plain: options, extension headers, fragments, ICMP, and what is damaged.
 * Socket buffers only: their bytes are copied, so every offset may be one that the packet chose.
 */
#pragma once

#include "parse.h"

#define LONGEST_CHAIN 8 /* extension headers, as l4lb/wire/ipv6.py */

/* Where extension headers end. */
struct chain {
	__u32 at; /* of what `protocol` names */
	__be32 identification;
	__u16 offset; /* bytes; 0 of the first fragment */
	__u8 protocol;
	__u8 is_fragment;
	__u8 more;
};

/* Follow the extension headers from `at` on; false if they are malformed or reach beyond `end`. */
CHECKED_ALONE int walk(context *ctx, struct chain *chain, __u32 at, __u32 next_header, __u32 end)
{
	if (!chain)
		return 0;
	for (int i = 0; i < LONGEST_CHAIN; i++) {
		if (next_header == IPPROTO_HOPOPTS || next_header == IPPROTO_ROUTING ||
		    next_header == IPPROTO_DSTOPTS) {
			__u8 header[2];

			if (at + 8 > end || bpf_skb_load_bytes(ctx, at, header, sizeof(header)))
				return 0;
			next_header = header[0];
			at += 8 + 8 * header[1];
		} else if (next_header == IPPROTO_FRAGMENT) {
			struct {
				__u8 next, reserved;
				__be16 field;
				__be32 identification;
			} header;

			if (chain->is_fragment || at + 8 > end ||
			    bpf_skb_load_bytes(ctx, at, &header, sizeof(header)))
				return 0;
			chain->is_fragment = 1;
			next_header = header.next;
			chain->offset = bpf_ntohs(header.field) & 0xfff8;
			chain->more = bpf_ntohs(header.field) & 1;
			chain->identification = header.identification;
			at += 8;
			if (chain->offset) {
				chain->protocol = next_header;
				chain->at = at;
				return 1;
			}
		} else {
			chain->protocol = next_header;
			chain->at = at;
			return at <= end;
		}
	}
	return 0;
}

ALWAYS_INLINE int is_icmp_error(int version, __u8 type)
{
	if (version == 4)
		return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
	return type >= ICMPV6_DEST_UNREACH && type <= ICMPV6_PARAMPROB;
}

ALWAYS_INLINE void parse_any_transport(context *ctx, struct packet *p)
{
	if (p->protocol == IPPROTO_TCP) {
		struct tcphdr tcp;

		if (p->transport + sizeof(tcp) > p->end || bpf_skb_load_bytes(ctx, p->transport, &tcp, sizeof(tcp))) {
			p->error = BAD_TCP_HEADER;
			return;
		}
		p->header = tcp.doff * 4;
		if (p->header < sizeof(tcp) || p->transport + p->header > p->end)
			p->error = BAD_TCP_HEADER;
		p->source.port = tcp.source;
		p->destination.port = tcp.dest;
		p->sequence = bpf_ntohl(tcp.seq);
		p->acknowledgement = bpf_ntohl(tcp.ack_seq);
		p->flags = ((__u8 *)&tcp)[13] & FLAGS_THAT_MATTER;
		p->payload = p->end - p->transport - p->header;
	} else if (p->protocol == IPPROTO_UDP) {
		struct udphdr udp;
		__u16 length;

		if (p->transport + sizeof(udp) > p->end || bpf_skb_load_bytes(ctx, p->transport, &udp, sizeof(udp))) {
			p->error = BAD_UDP_HEADER;
			return;
		}
		length = bpf_ntohs(udp.len);
		/* A fragment's UDP length is the whole datagram's. */
		if (length < sizeof(udp) || (length > p->end - p->transport && !p->is_fragment))
			p->error = BAD_UDP_HEADER;
		p->source.port = udp.source;
		p->destination.port = udp.dest;
	} else if (p->protocol == (p->version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		__u8 type;

		/* Errors only: any other ICMP is the kernel's business. */
		if (p->transport + ICMP_SIZE > p->end ||
		    bpf_skb_load_bytes(ctx, p->transport, &type, sizeof(type)) || !is_icmp_error(p->version, type))
			return;
		p->icmp_error = 1;
		if (p->is_fragment)
			p->error = BAD_ICMP_HEADER;
	}
}

ALWAYS_INLINE int parse_any4(context *ctx, struct packet *p)
{
	__u32 header, total, fragment;
	struct iphdr ip;

	if (bpf_skb_load_bytes(ctx, IP_OFFSET, &ip, sizeof(ip)) || *(__u8 *)&ip >> 4 != 4)
		return 0;
	header = (*(__u8 *)&ip & 15) * 4;
	total = bpf_ntohs(ip.tot_len);
	fragment = bpf_ntohs(ip.frag_off);
	p->version = 4;
	p->source.ip[3] = ip.saddr;
	p->destination.ip[3] = ip.daddr;
	p->protocol = ip.protocol;
	p->ttl = ip.ttl;
	p->transport = IP_OFFSET + header;
	p->end = IP_OFFSET + total;
	if (header < sizeof(ip) || total < header)
		p->error = BAD_IP_HEADER;
	else if (p->end > p->length)
		p->error = TRUNCATED;
	if (fragment & 0x3fff) {
		p->is_fragment = 1;
		p->fragment_offset = (fragment & 0x1fff) * 8;
		p->more_fragments = !!(fragment & 0x2000);
		p->identification = ip.id;
		if (!p->error && (fragment & 0x1fff) * 8 + total - header > 0xffff) /* the "ping of death" */
			p->error = BAD_IP_HEADER;
	}
	return 1;
}

ALWAYS_INLINE int parse_any6(context *ctx, struct packet *p)
{
	struct chain chain = {};
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(ctx, IP_OFFSET, &ip, sizeof(ip)) || *(__u8 *)&ip >> 4 != 6)
		return 0;
	p->version = 6;
	__builtin_memcpy(p->source.ip, &ip.saddr, sizeof(p->source.ip));
	__builtin_memcpy(p->destination.ip, &ip.daddr, sizeof(p->destination.ip));
	p->ttl = ip.hop_limit;
	p->end = IP_OFFSET + sizeof(ip) + bpf_ntohs(ip.payload_len);
	if (p->end > p->length) {
		p->error = TRUNCATED;
		return 1;
	}
	if (!walk(ctx, &chain, IP_OFFSET + sizeof(ip), ip.nexthdr, p->end)) {
		p->error = BAD_EXTENSION_HEADERS;
		return 1;
	}
	p->protocol = chain.protocol;
	p->transport = chain.at;
	p->is_fragment = chain.is_fragment;
	p->fragment_offset = chain.offset;
	p->more_fragments = chain.more;
	p->identification = chain.identification;
	if (chain.is_fragment && chain.offset + p->end - chain.at > 0xffff)
		p->error = BAD_EXTENSION_HEADERS;
	return 1;
}

/* False if it is not IP, or too short or odd to tell whose it is. `p` is zero but for its length. */
CHECKED_ALONE int parse_any(context *ctx, struct packet *p)
{
	__be16 ethertype;

	if (!p || p->length < IP_OFFSET + sizeof(struct iphdr) ||
	    bpf_skb_load_bytes(ctx, __builtin_offsetof(struct ethhdr, h_proto), &ethertype, sizeof(ethertype)))
		return 0;
	if (ethertype == bpf_htons(ETH_P_IP)) {
		if (!parse_any4(ctx, p))
			return 0;
	} else if (ethertype != bpf_htons(ETH_P_IPV6) || !parse_any6(ctx, p)) {
		return 0;
	}
	if (!p->error && !p->fragment_offset)
		parse_any_transport(ctx, p);
	p->source.id = p->destination.id = p->protocol;
	if (!p->error && !source_is_possible(p))
		p->error = BAD_IP_HEADER;
	return 1;
}
