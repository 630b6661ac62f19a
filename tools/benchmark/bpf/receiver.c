/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The end of every TCP packet over IPv4: counts it and drops it, but answers a SYN as a server would.
 * Everything else is the host's.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ISN 1000 /* with which every connection begins, see flows.py */

enum { DROPPED, ANSWERED, KINDS };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u64));
	__uint(max_entries, KINDS);
} received SEC(".maps");

/* The part of a TCP header that an answer does not just turn round. */
struct numbers {
	__be32 sequence, acknowledgement;
	__be16 flags, window;
} __attribute__((packed));

struct frame {
	struct ethhdr ethernet;
	struct iphdr ip;
	__be16 source, destination;
	struct numbers numbers;
	__be16 checksum, urgent;
} __attribute__((packed));

#define SYN bpf_htons(0x02)
#define ACK bpf_htons(0x10)

static __always_inline void count(__u32 kind)
{
	__u64 *counter = bpf_map_lookup_elem(&received, &kind);

	if (counter)
		*counter += 1;
}

static __always_inline void answer(struct frame *frame)
{
	struct numbers before = frame->numbers, now = before;
	struct ethhdr ethernet = frame->ethernet;
	__be32 address = frame->ip.saddr;
	__be16 port = frame->source;
	__u64 sum;

	__builtin_memcpy(frame->ethernet.h_dest, ethernet.h_source, ETH_ALEN);
	__builtin_memcpy(frame->ethernet.h_source, ethernet.h_dest, ETH_ALEN);
	frame->ip.saddr = frame->ip.daddr;
	frame->ip.daddr = address;
	frame->source = frame->destination;
	frame->destination = port;
	now.acknowledgement = bpf_htonl(bpf_ntohl(before.sequence) + 1);
	now.sequence = bpf_htonl(ISN);
	now.flags |= ACK;
	frame->numbers = now;
	sum = bpf_csum_diff((__be32 *)&before, sizeof(before), (__be32 *)&now, sizeof(now),
			    (__u16)~frame->checksum);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	frame->checksum = ~sum;
}

enum { NOT_FOR_US, OURS, TO_ANSWER };

static __always_inline int take(struct frame *frame, void *end)
{
	if ((void *)(frame + 1) > end || frame->ethernet.h_proto != bpf_htons(ETH_P_IP) ||
	    frame->ip.protocol != IPPROTO_TCP)
		return NOT_FOR_US;
	if ((frame->numbers.flags & (SYN | ACK)) == SYN) {
		answer(frame);
		count(ANSWERED);
		return TO_ANSWER;
	}
	count(DROPPED);
	return OURS;
}

SEC("xdp")
int receive_xdp(struct xdp_md *context)
{
	switch (take((void *)(long)context->data, (void *)(long)context->data_end)) {
	case TO_ANSWER:
		/* Not XDP_TX: a veth only wakes its peer up after that if there is an XDP program there. */
		return bpf_redirect(context->ingress_ifindex, 0);
	case OURS:
		return XDP_DROP;
	}
	return XDP_PASS;
}

/* What bpf_redirect_peer sends does not come by XDP. */
SEC("tc")
int receive_tc(struct __sk_buff *context)
{
	switch (take((void *)(long)context->data, (void *)(long)context->data_end)) {
	case TO_ANSWER:
		return bpf_redirect(context->ingress_ifindex, 0);
	case OURS:
		return TC_ACT_SHOT;
	}
	return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "GPL";
