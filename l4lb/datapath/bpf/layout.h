/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What is in the maps: the contract between the programs and l4lb/datapath/ebpf/layout.py, which a test
 * compares field by field. LAYOUT_VERSION goes up with every change: pinned maps of another version are
 * not adopted.
 *
 * Numbers are in host byte order except where a name says __be. An IPv4 address is in the last word of
 * its four, the others are 0.
 */
#pragma once

#include <linux/types.h>

#define LAYOUT_VERSION 10

/* One end of something, and what it is one end of: the key of every hash. Of IPv4 only the last 8 bytes
 * are the key, so one struct serves the maps of both versions. */
struct end {
	__be32 ip[4];
	__be16 port;
	__u16 id; /* a protocol, a service or a backend: see each map */
};

#define END4_OFFSET 12 /* of what is the key under IPv4 */

/* Where frames to some address go. Valid while `generation` is that of the settings and `until` is to
 * come: a daemon that watches routes and neighbours raises the first, without one the second does. */
struct hop {
	__u32 generation; /* 0: nothing here */
	__u32 until;	  /* in TICKs */
	__u32 ifindex;
	__u16 mtu; /* largest IP packet */
	__u8 flags;
	__u8 reserved;
	__u32 addresses[3]; /* Ethernet: destination, source */
};

/* Values of interfaces, by index: those with Ethernet addresses. */
struct interface {
	__u32 flags; /* HOP_* of frames that leave by it */
	__u8 mac[6];
	__u8 reserved[2];
};

#define TICK 30 /* 2^30 ns, a second or so: what is compared for every packet takes no division */

#define HOP_PEER 1 /* the other end is in this host, in another network namespace */
#define HOP_XDP 2  /* frames of the XDP program can leave here */

/* In the order of l4lb.model.State. */
enum state {
	SYN_SENT,
	SYN_RECEIVED,
	ESTABLISHED,
	CLIENT_FIN,
	BACKEND_FIN,
	LAST_ACK,
	TIME_WAIT,
	CLOSED,
	UDP_NEW,
	UDP_STREAM,
	UDP_ANSWERED,
	STATES,
};

/* Values of connections* and half_open*, whose keys are the client's end and the service's number. */
struct connection {
	__u64 seen;  /* ns: the last packet, see clock.h */
	__u32 asked; /* TIME_UNITs modulo 2^32: when what waits for the backend began to, 0: nothing does; see measure.h */
	__u32 acked_by_client; /* what the client expects next from the backend */
	__u32 acked_by_backend;
	__u16 path;
	__be16 source_port; /* that the backend sees */
	__u8 state;
	__u8 shifts; /* window scales: the client's in bits 0-3, the backend's in bits 4-7 */
	__u8 flags;
	__u8 displaced; /* of the first slot of a pair, whatever is in it: see struct slots */
	struct hop hop; /* towards the client */
};

/* acked_by_client is known. Else it is the number behind a SYN that the client has sent on it, or 0. */
#define SEEN_BY_CLIENT 1
#define SEEN_BY_BACKEND 2 /* acked_by_backend is known */
#define REVERSED 4	  /* it has an entry in reverse* or half_open_reverse* */
#define OTHER_SOURCE 8	  /* the backend sees another address or port than the client's */
#define RESTED 16	  /* both ends have closed: no longer a load for its backend */

/* What packets change of a connection, and what is displaced: a word, as the packets of its two ends usually come on
 * two CPUs. Who has changed it by one atomic operation was the only one. */
union standing {
	__u32 word;
	struct {
		__u8 state;
		__u8 shifts;
		__u8 flags;
		__u8 displaced;
	};
};

/* A connection of IPv4 in its slot, which is one line of the cache. */
struct slot {
	__u64 key; /* SLOT_TAKEN, then the last 8 bytes of struct end: the address, the port, the service's number */
	struct connection connection;
};

/* Values of rested, a queue: the key of a connection when it became RESTED. It may be forgotten by now, or another
 * one. */
struct rested {
	struct end key;
	__u8 version; /* of IP */
	__u8 reserved[3];
};

#define SLOT_TAKEN (1ull << 63) /* a service's number does not come so far */

/* Values of connections4, a hash table. A connection is in the pair of its hash, its home, or in one of the next
 * ones; its home says how many are `displaced`. See established.h. */
struct slots {
	struct slot slot[2];
};

#define TABLE_STEPS 32 /* pairs that are looked at */
#define BLOCK_PAIRS 64 /* for a key of blocks */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ONE_DISPLACED (1u << 24) /* in the word of `state`, `shifts`, `flags` and `displaced` */
#define ONE_FLAG (1u << 16)	 /* the first of `flags` there */
#else
#define ONE_DISPLACED 1u
#define ONE_FLAG (1u << 8)
#endif

/* Keys of route_mtus6; of route_mtus4 only the first word of the address. */
struct prefix {
	__u32 length; /* bits */
	__be32 ip[4];
};

/* Values of ends, a hash table of all VIPs and backends: which of `services` or `backends` an end is. It
 * is in the slot of the end's hash or one of the next ones; see ends.h. A table of 2^n slots is slots 2^n to
 * 2^(n+1) of the map, so one that is larger can be filled beside the one in which packets are looked up. */
#define FEWEST_ENDS (1 << 10) /* slots of the smallest table, */
#define MOST_ENDS (1 << 19)   /* and of the largest one */
#define END_PROBES 16
#define END_MULTIPLIER 0x9e3779b97f4a7c15ull /* 2^64 by the golden ratio (Knuth, TAOCP 3, 6.4) */

/* A slot, from its lowest bit on: kind, version, number, how many steps it is from where its search begins, and as
 * much of the end's number as fits. What does not is where that is: in the smallest table 10 bits of the 49. */
#define END_BITS 49 /* of an end of IPv4: address, port, and the one bit in which protocols differ */
#define END_PROTOCOL 1
#define END_FACTOR 0x13c6ef372fe95ull /* 2^49 by the golden ratio */
#define END_KIND 3
#define END_SERVICE 1
#define END_BACKEND 2
#define END_REMOVED 3 /* all there is in the slot: go on looking */
#define END_IPV6 4
#define END_NUMBER 3 /* where it begins */
#define END_NUMBER_MASK (0xffffull << END_NUMBER)
#define END_STEP (1ull << 19)
#define END_REST 23
#define NO_END 0xffffffff

/* Values of services, by number. */
struct service {
	struct end end; /* the VIP, its id the protocol */
	__u8 version;	/* 4 or 6; 0: nothing here */
	__u8 kind;	/* enum selection_kind */
	__u8 flags;
	__u8 reserved;
	__u32 number;	  /* which `selections`, `turns`, and the id of its connections' ends */
	__u32 affinity;	  /* seconds; 0: none */
	__u16 candidates; /* KIND_COSTS: drawn at random and compared; 0: all */
	__u16 idle;	  /* KIND_COSTS: what an idle connection counts, of WHOLE */
};

enum selection_kind {
	KIND_TURN,
	KIND_RANDOM,
	KIND_SOURCE,
	KIND_FLOW,
	KIND_COSTS,
};

#define SERVICE_FULL_NAT 1

/* Values of backends, by number. */
struct backend {
	struct end end; /* its id is the protocol */
	__u8 version;	/* 4 or 6; 0: nothing here */
	__u8 flags;
	__u16 number;  /* the id of the ends in reverse*, half_open_reverse* and direct* */
	__u16 service; /* of the only service that it belongs to */
	__u16 reserved;
	__u32 path; /* of it with that service */
};

#define BACKEND_SHARED 1 /* by several services, or full NAT: only reverse* tells the connection */

/* Values of paths, by number: a service's way to one of its backends. */
struct path {
	struct hop hop; /* towards the backend */
	__be32 address[4];
	__be32 vip[4];
	__be32 snat[4]; /* full NAT: what the backend sees */
	__be16 port;
	__be16 vip_port;
	__u16 backend; /* its number */
	__u16 service; /* its number */
	__u8 protocol;
	__u8 version; /* 4 or 6; 0: nothing here */
	__u8 flags;
	__u8 reserved[5];
};

#define PATH_ALIVE 1
#define PATH_GONE 2   /* its connections are to be reset */
#define PATH_USABLE 4 /* takes new connections */
#define PATH_FULL_NAT 8
#define PATH_RETIRED 16 /* for the daemon: no longer in the plan */

/* Values of loads, by path: what it has now, and what happens once a connection or request. */
struct load {
	__u32 half_open;
	__u32 established; /* without those that are RESTED */
	__u32 outstanding; /* that wait for an answer */
	__u32 requests;	   /* that ever did, modulo 2^32 */
	__u64 asked; /* TIME_UNITs: the sum of when they began to */
	__u64 answers;
	__u64 answered; /* TIME_UNITs: the sum of what these took */
	__u64 connections; /* all there were */
	__u64 confirmed;	   /* of these: those that were established, or of UDP answered */
	__u64 resets;	       /* by the backend */
	__u64 retransmissions; /* of SYNs without an answer */
	__u64 unanswered;      /* connections that ended before the backend said anything */
};

/* Values of costs, by path: what a connection is multiplied with, l4lb.model.Costs. */
#define WHOLE 256	    /* what a connection in flight counts */
#define HOT 0x80000000u /* chosen only where all are */

/* Values of traffic, by path and CPU. */
struct traffic {
	__u64 packets_in; /* client -> backend */
	__u64 packets_out;
	__u64 bytes_in; /* of IP */
	__u64 bytes_out;
};

#define TIME_SHIFT 12 /* a TIME_UNIT is 2^12 ns */
#define TIME_BUCKETS 88
#define LONGEST_AVERAGED 0x1fffffff /* TIME_UNITs, 37 minutes: eight times that fit into average8 */

/* Times in TIME_UNITs; l4lb/times.py has the buckets. */
struct times {
	__u64 count;
	__u64 total;
	__u32 average8; /* eight times the moving average (RFC 6298 2.3) */
	__u32 reserved;
	__u32 buckets[TIME_BUCKETS];
};

/* Values of measured, by path. */
struct measured {
	struct times handshakes; /* SYN to SYN/ACK */
	struct times responses;	 /* a request's first packet to its answer's */
};

/* What a path would have cost a connection, l4lb.model.Offer. */
struct offer {
	__u64 price; /* with HOT_PRICE if it was hot */
	__u32 path;
	__u32 cost;
	__u32 in_flight;
	__u32 idle;
};

#define NO_PATH 0xffffffff
#define HOT_PRICE (1ull << 63) /* dearer than any other */

#define DECISIONS_KEPT 512
#define DECISIONS_APART 100000000 /* ns: of each service at most one in that time */

/* Values of decisions, a ring of choices that were made; l4lb.model.Decision. */
struct decision {
	__u64 number; /* of all, from 1; 0: not whole, or none yet */
	__u64 when;   /* ns */
	struct end client; /* its id the service's number */
	__u16 compared;
	__u8 rule; /* enum rule */
	__u8 version;
	struct offer best; /* of the chosen path; by a table its path alone is known */
	struct offer next; /* of the second best, its path NO_PATH without one */
};

/* l4lb.model.Rule: those before are of enum selection_kind. */
enum rule { RULE_AFFINITY = KIND_COSTS + 1 };

/* Values of affinities* and newcomers*: the end is the client without a port, its id the service's number. */
struct affinity {
	__u64 until; /* ns */
	__u32 path;
	__u32 reserved;
};

/* Keys of fragments. */
struct datagram {
	__be32 source[4];
	__be32 destination[4];
	__be32 identification;
	__u8 protocol;
	__u8 version;
	__u8 reserved[2];
};

/* Values of fragments: what becomes of a datagram's later fragments. */
struct fragment {
	__u64 until;	 /* ns */
	struct end flow; /* the connection's key, */
	__u32 path;	 /* and its path: another connection may come to have the key */
	__u8 verdict;	 /* enum verdict: FORWARD or PASS */
	__u8 from_client;
	__u8 reserved[6];
};

/* The only value of settings. */
struct settings {
	__u64 timeouts[STATES]; /* ns */
	__u64 clock;		/* ns: the time for programs that were loaded with a clock of their own */
	__u64 seed;		/* of connections4: odd, secret, and the same as long as that map is there */
	__u32 generation;	/* of routes and neighbours; never 0 */
	__u32 established;	/* limit */
	__u32 pairs;		/* values of connections4 */
	__u16 first_port; /* of full NAT, host byte order, both inclusive */
	__u16 last_port;
	__u32 ends; /* slots of the table in `ends` that is in force */
	__u8 reserved[4];
};

/* The only value of totals. */
struct totals {
	__u32 established; /* entries of connections*, the RESTED too */
	__u32 half_open;   /* entries of half_open*; those pushed out are found by the daemon's count */
	__u32 decisions;   /* that were kept, modulo 2^32 */
};

/* In the order of l4lb.model.Verdict. */
enum verdict {
	PASS,
	FORWARD,
	REPLY,
	DROP,
	HOLD,
	VERDICTS,
};

/* l4lb.model.DropReason. */
enum reason {
	NOT_DROPPED,
	TRUNCATED,
	BAD_IP_HEADER,
	BAD_TCP_HEADER,
	BAD_UDP_HEADER,
	BAD_ICMP_HEADER,
	BAD_EXTENSION_HEADERS,
	TTL_EXCEEDED,
	TOO_BIG,
	NO_CONNECTION,
	BAD_TCP_FLAGS,
	NO_BACKEND,
	BACKEND_DOWN,
	HALF_OPEN_FULL,
	ESTABLISHED_FULL,
	NO_FREE_PORT,
	NO_ROUTE,
	NEIGHBOUR_UNREACHABLE,
	NEIGHBOUR_QUEUE_FULL,
	FRAGMENT_UNKNOWN,
	FRAGMENTS_FULL,
	ICMP_UNMATCHED,
	HALF_OPEN_EVICTED,
	SEND_FAILED,
	RATE_LIMITED,
	RECEIVE_OVERRUN,
	INTERNAL,
	UNREADABLE,
	REASONS,
};
