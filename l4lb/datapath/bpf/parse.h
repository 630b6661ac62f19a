/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Step 1, parse: plain packets, which are nearly all: TCP or UDP behind a bare IP header, whole and well
 * formed. Anything else is parsed by parse_any.h.
 */
#pragma once

#include "packet.h"

enum parsed { PARSED, NOT_PLAIN };

/* False for addresses that no packet on a link may come from (RFC 1122 3.2.1.3). */
ALWAYS_INLINE int can_be_source4(__be32 address)
{
	__u32 a = bpf_ntohl(address);
	__u8 first = a >> 24;

	return first != 0 && first != 127 && (first & 0xf0) != 0xe0 && a != 0xffffffff;
}

/* Unspecified, loopback and multicast (RFC 4291 2.5.2, 2.5.3, 2.7). */
ALWAYS_INLINE int can_be_source6(const __be32 *a)
{
	if ((a[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000))
		return 0;
	return a[0] || a[1] || a[2] || bpf_ntohl(a[3]) > 1;
}

ALWAYS_INLINE int can_be_source(const struct end *end, int version)
{
	return version == 4 ? can_be_source4(end->ip[3]) : can_be_source6(end->ip);
}

/* No router forwards packets from or to these (RFC 4291 2.5.6). */
ALWAYS_INLINE int is_link_local(const struct end *end, int version)
{
	return version == 6 && (end->ip[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

ALWAYS_INLINE int source_is_possible(const struct packet *p)
{
	/* Or forged: RFC 1812 5.3.7. */
	return !same_address(p->source.ip, p->destination.ip) && can_be_source(&p->source, p->version);
}

ALWAYS_INLINE int parse_transport(struct packet *p, void *at, void *data_end)
{
	if (p->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = at;

		if ((void *)(tcp + 1) > data_end)
			return NOT_PLAIN;
		p->header = tcp->doff * 4;
		if (p->header < sizeof(*tcp) || p->transport + p->header > p->end)
			return NOT_PLAIN;
		p->source.port = tcp->source;
		p->destination.port = tcp->dest;
		p->sequence = bpf_ntohl(tcp->seq);
		p->acknowledgement = bpf_ntohl(tcp->ack_seq);
		p->flags = ((__u8 *)tcp)[13] & FLAGS_THAT_MATTER;
		p->payload = p->end - p->transport - p->header;
	} else if (p->protocol == IPPROTO_UDP) {
		struct udphdr *udp = at;
		__u16 length;

		if ((void *)(udp + 1) > data_end)
			return NOT_PLAIN;
		length = bpf_ntohs(udp->len);
		if (length < sizeof(*udp) || length > p->end - p->transport)
			return NOT_PLAIN;
		p->source.port = udp->source;
		p->destination.port = udp->dest;
	} else {
		return NOT_PLAIN;
	}
	p->source.id = p->destination.id = p->protocol;
	return source_is_possible(p) ? PARSED : NOT_PLAIN;
}

/* `p` is zero but for its length. */
ALWAYS_INLINE int parse_plain(struct packet *p, void *data, void *data_end)
{
	struct ethhdr *ethernet = data;
	void *network = data + IP_OFFSET;

	if (network > data_end)
		return NOT_PLAIN;
	if (ethernet->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = network;

		if ((void *)(ip + 1) > data_end)
			return NOT_PLAIN;
		if (*(__u8 *)ip != 0x45 || ip->frag_off & bpf_htons(0x3fff))
			return NOT_PLAIN;
		p->version = 4;
		p->protocol = ip->protocol;
		p->ttl = ip->ttl;
		p->source.ip[3] = ip->saddr;
		p->destination.ip[3] = ip->daddr;
		p->transport = IP_OFFSET + sizeof(*ip);
		p->end = IP_OFFSET + bpf_ntohs(ip->tot_len);
		if (p->end > p->length || p->end < p->transport)
			return NOT_PLAIN;
		return parse_transport(p, ip + 1, data_end);
	}
	if (ethernet->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = network;

		if ((void *)(ip + 1) > data_end || *(__u8 *)ip >> 4 != 6)
			return NOT_PLAIN;
		p->version = 6;
		p->protocol = ip->nexthdr;
		p->ttl = ip->hop_limit;
		__builtin_memcpy(p->source.ip, &ip->saddr, sizeof(p->source.ip));
		__builtin_memcpy(p->destination.ip, &ip->daddr, sizeof(p->destination.ip));
		p->transport = IP_OFFSET + sizeof(*ip);
		p->end = p->transport + bpf_ntohs(ip->payload_len);
		if (p->end > p->length)
			return NOT_PLAIN;
		return parse_transport(p, ip + 1, data_end);
	}
	return NOT_PLAIN;
}
