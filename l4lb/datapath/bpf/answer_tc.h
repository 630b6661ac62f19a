/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What the gateway says itself: RST and ICMP errors, made of the packet that they answer.
 */
#pragma once

#include "count.h"
#include "emit_tc.h"
#include "translate.h"

#define ANSWERS_PER_SECOND 10000ull /* forged packets must not make it an amplifier (RFC 1812 4.3.2.8) */
#define ANSWERS_AT_ONCE 20000ull
#define ANSWER_TTL 64
#define LONGEST_ERROR 576 /* IP bytes of an ICMP error (RFC 1812 4.3.2.3) */
#define LONGEST_ERROR_6 1280 /* RFC 4443 2.4 c */
#define CHUNK 64

/* A new packet: neither the old one's hash holds, nor the sum that the device may have made of it. */
#define STORE (BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH)

struct bucket {
	__u64 tokens; /* in nanoseconds of time */
	__u64 last;
};

MAP(PERCPU_ARRAY, answers, sizeof(__u32), sizeof(struct bucket), 1, 0);

ALWAYS_INLINE int may_answer(__u64 now)
{
	const __u64 price = 1000000000ull / ANSWERS_PER_SECOND, full = ANSWERS_AT_ONCE * price;
	__u32 zero = 0;
	struct bucket *bucket = bpf_map_lookup_elem(&answers, &zero);

	if (!bucket)
		return 0;
	bucket->tokens = bucket->last ? bucket->tokens + (now - bucket->last) : full;
	if (bucket->tokens > full)
		bucket->tokens = full;
	bucket->last = now;
	if (bucket->tokens < price)
		return 0;
	bucket->tokens -= price;
	return 1;
}

/* Count why, and what became of the packet. */
ALWAYS_INLINE int dropped(__u32 reason)
{
	count_reason(reason);
	count_verdict(DROP);
	return HOOK_DROP;
}

/* Out through the device, which may have to complete a sum. */
ALWAYS_INLINE int answered(context *ctx, struct work *w)
{
	count_verdict(REPLY);
	w->way.hop.flags &= ~HOP_PEER;
	return emit(ctx, &w->way);
}

ALWAYS_INLINE void make_ip4(struct iphdr *ip, const __be32 *from, const __be32 *to, __u8 protocol, __u32 length)
{
	__u64 sum;

	__builtin_memset(ip, 0, sizeof(*ip));
	*(__u8 *)ip = 0x45;
	ip->tot_len = bpf_htons(sizeof(*ip) + length);
	ip->frag_off = bpf_htons(0x4000);
	ip->ttl = ANSWER_TTL;
	ip->protocol = protocol;
	ip->saddr = from[3];
	ip->daddr = to[3];
	sum = bpf_htons(0x4500) + (__u64)ip->tot_len + ip->frag_off + bpf_htons(ANSWER_TTL << 8 | protocol);
	sum += (__u64)ip->saddr + ip->daddr;
	ip->check = ~fold16(sum);
}

ALWAYS_INLINE void make_ip6(struct ipv6hdr *ip, const __be32 *from, const __be32 *to, __u8 protocol,
			    __u32 length)
{
	__builtin_memset(ip, 0, sizeof(*ip));
	*(__u8 *)ip = 0x60;
	ip->payload_len = bpf_htons(length);
	ip->nexthdr = protocol;
	ip->hop_limit = ANSWER_TTL;
	__builtin_memcpy(&ip->saddr, from, sizeof(ip->saddr));
	__builtin_memcpy(&ip->daddr, to, sizeof(ip->daddr));
}

/* The RST for a segment that nobody expects (RFC 9293 3.10.7.1). */
CHECKED_ALONE int answer_reset(context *ctx, struct work *w, const struct settings *settings, __u32 reason)
{
	const __be32 *here, *there;
	const struct packet *p;
	__u32 network, check, sum;
	struct tcphdr tcp = {};

	if (!w || !settings)
		return HOOK_DROP;
	p = &w->packet;
	here = w->to.source.ip;
	there = w->to.destination.ip;
	network = p->version == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);

	count_reason(reason);
	if (p->flags & RST) {
		count_verdict(DROP);
		return HOOK_DROP;
	}
	if (!may_answer(p->now))
		return dropped(RATE_LIMITED);
	w->to.source = p->destination;
	w->to.destination = p->source;
	if (find_way(ctx, &w->way, &w->to, p, settings) == NOT_ROUTED ||
	    bpf_skb_change_tail(ctx, IP_OFFSET + network + sizeof(tcp), 0)) {
		count_verdict(DROP);
		return HOOK_DROP;
	}
	tcp.source = p->destination.port;
	tcp.dest = p->source.port;
	if (p->flags & ACK) {
		tcp.seq = bpf_htonl(p->acknowledgement);
		((__u8 *)&tcp)[13] = RST;
	} else {
		tcp.ack_seq = bpf_htonl(p->sequence + p->payload + !!(p->flags & SYN) + !!(p->flags & FIN));
		((__u8 *)&tcp)[13] = RST | ACK;
	}
	((__u8 *)&tcp)[12] = 0x50;
	sum = bpf_csum_diff(0, 0, (__be32 *)&tcp, sizeof(tcp), 0);
	if (p->version == 4) {
		struct iphdr ip;

		make_ip4(&ip, here, there, IPPROTO_TCP, sizeof(tcp));
		bpf_skb_store_bytes(ctx, IP_OFFSET, &ip, sizeof(ip), STORE);
	} else {
		struct ipv6hdr ip;

		make_ip6(&ip, here, there, IPPROTO_TCP, sizeof(tcp));
		bpf_skb_store_bytes(ctx, IP_OFFSET, &ip, sizeof(ip), STORE);
	}
	bpf_skb_store_bytes(ctx, IP_OFFSET + network, &tcp, sizeof(tcp), STORE);
	/* In two steps: of a sum that is left to the receiver only the first changes it, so both kinds of
	 * packets get theirs right. */
	check = IP_OFFSET + network + __builtin_offsetof(struct tcphdr, check);
	bpf_l4_csum_replace(ctx, check, 0, pseudo_sum(here, there, IPPROTO_TCP, sizeof(tcp)), BPF_F_PSEUDO_HDR);
	bpf_l4_csum_replace(ctx, check, 0, sum, 0);
	note_change(ctx, ~sum);
	return answered(ctx, w);
}

/* The sum of `length` bytes of the frame from `at` on. */
ALWAYS_INLINE __u32 sum_of(context *ctx, __u32 at, __u32 length)
{
	__u32 sum = 0;

	for (int i = 0; i < (LONGEST_ERROR_6 + CHUNK - 1) / CHUNK; i++) {
		__u8 bytes[CHUNK] = {};
		__u32 last = (length < CHUNK ? length : CHUNK) - 1;

		OPAQUE(last); /* before Linux 6.8 the verifier learns no lower bound from `size != 0` */
		if (last >= CHUNK || bpf_skb_load_bytes(ctx, at, bytes, last + 1))
			break;
		sum = bpf_csum_diff(0, 0, (__be32 *)bytes, CHUNK, sum);
		at += last + 1;
		length -= last + 1;
	}
	return sum;
}

/* True if the transport checksum is left to the receiver, which no helper tells: a change of a port's sum
 * does not change such a field. */
ALWAYS_INLINE int is_partial(context *ctx, const struct packet *p)
{
	__u32 at = p->transport + (p->protocol == IPPROTO_TCP ? __builtin_offsetof(struct tcphdr, check)
							      : __builtin_offsetof(struct udphdr, check));
	__be16 before = 0, after = 0;

	if (bpf_skb_load_bytes(ctx, at, &before, sizeof(before)) || bpf_l4_csum_replace(ctx, at, 0, 0x1234, 0) ||
	    bpf_skb_load_bytes(ctx, at, &after, sizeof(after)))
		return 0;
	bpf_skb_store_bytes(ctx, at, &before, sizeof(before), 0);
	return before == after;
}

/* What an ICMP error says, and why it is sent, in one argument. */
#define ERROR(type, code, value, reason)                                                                      \
	((__u64)(type) << 56 | (__u64)(code) << 48 | (__u64)(reason) << 32 | (value))

/* An ICMP error about the packet, from w->to.source, an address of the gateway. */
CHECKED_ALONE int answer_error(context *ctx, struct work *w, const struct settings *settings, __u64 error)
{
	/* Of the same layout in both versions: type, code, checksum, four bytes that depend on the type. */
	struct {
		__u8 type, code;
		__be16 check;
		__be32 value;
	} icmp = {};
	const __be32 *source, *there;
	const struct packet *p;
	__u32 network, longest, quote, sum;

	if (!w || !settings)
		return HOOK_DROP;
	p = &w->packet;
	source = w->to.source.ip;
	there = w->to.destination.ip;
	network = p->version == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	longest = (p->version == 4 ? LONGEST_ERROR : LONGEST_ERROR_6) - network - sizeof(icmp);
	quote = p->end - IP_OFFSET;
	count_reason(error >> 32 & 0xff);
	if (p->icmp_error || p->fragment_offset) { /* RFC 1122 3.2.2 */
		count_verdict(DROP);
		return HOOK_DROP;
	}
	if (!may_answer(p->now))
		return dropped(RATE_LIMITED);
	w->to.destination = p->source;
	if (quote > longest)
		quote = longest;
	if (find_way(ctx, &w->way, &w->to, p, settings) == NOT_ROUTED) {
		count_verdict(DROP);
		return HOOK_DROP;
	}
	icmp.type = error >> 56;
	icmp.code = error >> 48;
	icmp.value = bpf_htonl(error & 0xffff);
	sum = bpf_csum_diff(0, 0, (__be32 *)&icmp, sizeof(icmp), 0);
	if (is_partial(ctx, p)) {
		/* The device will complete the quoted sum: what is summed then adds up to nothing but the
		 * complement of the pseudo-header's sum, which is what the field holds now. */
		__u32 at = p->transport + (p->protocol == IPPROTO_TCP ? 16 : 6);
		__be16 field = 0;

		bpf_skb_load_bytes(ctx, at, &field, sizeof(field));
		sum = fold32((__u64)sum + sum_of(ctx, IP_OFFSET, p->transport - IP_OFFSET) + (__u16)~field);
	} else {
		sum = fold32((__u64)sum + sum_of(ctx, IP_OFFSET, quote));
	}
	if (bpf_skb_change_tail(ctx, IP_OFFSET + quote, 0) ||
	    bpf_skb_adjust_room(ctx, network + sizeof(icmp), BPF_ADJ_ROOM_MAC, 0)) {
		count_verdict(DROP);
		return HOOK_DROP;
	}
	if (p->version == 4) {
		struct iphdr ip;

		make_ip4(&ip, source, there, IPPROTO_ICMP, sizeof(icmp) + quote);
		bpf_skb_store_bytes(ctx, IP_OFFSET, &ip, sizeof(ip), STORE);
	} else {
		struct ipv6hdr ip;

		sum += pseudo_sum(source, there, IPPROTO_ICMPV6, sizeof(icmp) + quote);
		make_ip6(&ip, source, there, IPPROTO_ICMPV6, sizeof(icmp) + quote);
		bpf_skb_store_bytes(ctx, IP_OFFSET, &ip, sizeof(ip), STORE);
	}
	icmp.check = ~fold16(sum);
	bpf_skb_store_bytes(ctx, IP_OFFSET + network, &icmp, sizeof(icmp), STORE);
	return answered(ctx, w);
}

ALWAYS_INLINE int time_exceeded(context *ctx, struct work *w, const struct settings *settings, const __be32 *here)
{
	__builtin_memcpy(w->to.source.ip, here, sizeof(w->to.source.ip));
	if (w->packet.version == 4)
		return answer_error(ctx, w, settings, ERROR(ICMP_TIME_EXCEEDED, 0, 0, TTL_EXCEEDED));
	return answer_error(ctx, w, settings, ERROR(ICMPV6_TIME_EXCEED, 0, 0, TTL_EXCEEDED));
}

ALWAYS_INLINE int too_big(context *ctx, struct work *w, const struct settings *settings, const __be32 *here)
{
	__u16 mtu = w->way.hop.mtu;

	__builtin_memcpy(w->to.source.ip, here, sizeof(w->to.source.ip));
	if (w->packet.version == 4)
		return answer_error(ctx, w, settings, ERROR(ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, mtu, TOO_BIG));
	return answer_error(ctx, w, settings, ERROR(ICMPV6_PKT_TOOBIG, 0, mtu, TOO_BIG));
}

/* Tell the sender that there is nobody. */
ALWAYS_INLINE int refuse(context *ctx, struct work *w, const struct settings *settings, __u32 reason)
{
	if (w->packet.protocol == IPPROTO_TCP)
		return answer_reset(ctx, w, settings, reason);
	w->to.source = w->packet.destination;
	if (w->packet.version == 4)
		return answer_error(ctx, w, settings,
				    ERROR(ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, 0, reason));
	return answer_error(ctx, w, settings,
			    ERROR(ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH, 0, reason));
}
