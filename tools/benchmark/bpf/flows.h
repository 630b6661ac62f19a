/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Small TCP packets of many flows over IPv4, written into frames by the generator and by the program
 * that restores a packet. A frame may have been anything before: every byte is written.
 */
#pragma once

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#define FRAME 66 /* bytes: Ethernet, IPv4, TCP with a timestamp, as Linux says nothing but "I have it" */
#define PORTS 50000 /* that a client's address uses */
#define FIRST_PORT 10000

/* What to write: the only value of `orders`, in the order of flows.py. */
struct order {
	__u64 frame[9]; /* of source 0.0.0.0 port 0 and the first destination port, with its checksums */
	__u32 clients; /* host byte order: the first client's address */
	__u32 flows;
	__u32 services; /* destination ports in a row, which the flows share */
	__u32 next; /* flow in turn */
	__u32 shuffled; /* flows come in random order */
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct order));
	__uint(max_entries, 1);
} orders SEC(".maps");

/* RFC 1624: a checksum after words were added to what it covers. */
static __always_inline __u16 with_words(__u16 checksum, __u32 words)
{
	__u32 sum = (__u16)~checksum + words;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* The frame of the next flow; false if there is no room for it. */
static __always_inline int write_next(void *data, void *end)
{
	struct order *order;
	__u32 number, zero = 0, client, sum;
	__u16 *halves = data, source_port, port_more;

	order = bpf_map_lookup_elem(&orders, &zero);
	if (!order || !order->flows || !order->services || data + FRAME > end)
		return 0;
	if (order->shuffled)
		number = bpf_get_prandom_u32() % order->flows;
	else
		number = order->next++ % order->flows;
	client = __builtin_bswap32(order->clients + number / PORTS);
	source_port = __builtin_bswap16(FIRST_PORT + number % PORTS);
	port_more = number % order->services;

	/* Word by word: of what the compiler cannot see to be aligned it would copy each byte. */
#pragma unroll
	for (int word = 0; word < FRAME / 8; word++)
		*((__u64 *)data + word) = order->frame[word];
	halves[FRAME / 2 - 1] = order->frame[FRAME / 8];

	sum = (client & 0xffff) + (client >> 16);
	halves[12] = with_words(halves[12], sum);
	halves[13] = client & 0xffff;
	halves[14] = client >> 16;
	halves[17] = source_port;
	/* The port itself does not carry, so its words add up like a number. */
	halves[18] = __builtin_bswap16(__builtin_bswap16(halves[18]) + port_more);
	halves[25] = with_words(halves[25], sum + source_port + __builtin_bswap16(port_more));
	return 1;
}
