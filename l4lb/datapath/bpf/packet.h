/* SPDX-License-Identifier: GPL-2.0-only
 *
 * A packet as `parse` found it. Offsets count from the start of the frame; after parse without an error
 * all of them lie inside it.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "layout.h"

#define ALWAYS_INLINE static __attribute__((always_inline)) inline
/* A function that the verifier checks once, by itself, and not again on every way to it. Its pointers may
 * be null for all it knows, and before Linux 6.2 it lets none of them go on to a map as a key or value: those are
 * copied first. */
#define CHECKED_ALONE __attribute__((noinline))

/* Nothing is known to the compiler of this value from here on: so that a check of it remains, and is one of the
 * register that is used, of which the verifier knows it then. */
#define OPAQUE(value) asm volatile("" : "+r"(value))

#define IP_OFFSET sizeof(struct ethhdr)

/* linux/icmp.h and linux/icmpv6.h, which include the C library. */
#define ICMP_SIZE 8
#define ICMP_CHECKSUM 2 /* offset; the same in both versions */
#define ICMP_DEST_UNREACH 3
#define ICMP_PORT_UNREACH 3
#define ICMP_FRAG_NEEDED 4
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12
#define ICMPV6_DEST_UNREACH 1
#define ICMPV6_PORT_UNREACH 4
#define ICMPV6_PKT_TOOBIG 2
#define ICMPV6_TIME_EXCEED 3
#define ICMPV6_PARAMPROB 4

#define FIN 0x01
#define SYN 0x02
#define RST 0x04
#define ACK 0x10
#define URG 0x20
#define FLAGS_THAT_MATTER (FIN | SYN | RST | ACK | URG)

struct packet {
	struct end source; /* their id is the protocol */
	struct end destination;
	__u64 now;	/* ns */
	__u32 length;	/* of the frame */
	__u32 end;	/* of the packet: behind it is an Ethernet trailer */
	__u32 sequence; /* TCP */
	__u32 acknowledgement;
	__be32 identification;
	__u16 transport;
	__u16 payload;	       /* TCP: bytes behind the header */
	__u16 header;	       /* TCP: bytes of it */
	__u16 fragment_offset; /* bytes */
	__u8 version;
	__u8 protocol;
	__u8 ttl;
	__u8 flags; /* TCP: those that matter */
	__u8 is_fragment;
	__u8 more_fragments;
	__u8 icmp_error;
	__u8 error; /* enum reason */
};

ALWAYS_INLINE int same_address(const __be32 *a, const __be32 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

/* A lookup in the map of the packet's version of IP. OPAQUE keeps the compiler from making one call of the
 * two: which map is looked up would then be known only at run time, and the kernel could not put its lookup in
 * the place of the helper's. */
#define FIND(map, version, key)                                                                               \
	({                                                                                                     \
		void *found_;                                                                                  \
		if ((version) == 4) {                                                                          \
			found_ = bpf_map_lookup_elem(&map##4, (void *)(key) + END4_OFFSET);                    \
			OPAQUE(found_);                                                                        \
		} else {                                                                                       \
			found_ = bpf_map_lookup_elem(&map##6, key);                                            \
		}                                                                                              \
		found_;                                                                                        \
	})
#define PUT(map, version, key, value, how)                                                                    \
	((version) == 4 ? bpf_map_update_elem(&map##4, (void *)(key) + END4_OFFSET, value, how)                \
			: bpf_map_update_elem(&map##6, key, value, how))
#define DELETE(map, version, key)                                                                             \
	((version) == 4 ? bpf_map_delete_elem(&map##4, (void *)(key) + END4_OFFSET)                            \
			: bpf_map_delete_elem(&map##6, key))
