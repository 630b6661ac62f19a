/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What the steps hand on to each other. It lies in a map because the stack of a program is 512 bytes; a
 * packet is worked on without another one coming between on the same CPU.
 */
#pragma once

#include "maps.h"
#include "packet.h"

/* What the addresses and ports of a packet become. */
struct translation {
	struct end source;
	struct end destination;
};

enum route { ROUTED, TO_RESOLVE, NOT_ROUTED };

/* A next hop, and the neighbour's address. Without a generation the kernel finds the neighbour first. */
struct way {
	struct hop hop;
	__be32 neighbour[4];
	__u8 version;
};

/* What is known of one choice. Of one by a table, the path alone. */
struct choice {
	struct offer best, next; /* paths are NO_PATH where there is none */
	__u32 service;
	__u32 size; /* paths */
	__u32 at;
	__u16 stride; /* drawn candidates are at most so far apart; 0: all are looked at */
	__u16 equals; /* of the least price; then of these those before the one whose turn it is */
	__u16 compared;
	__u16 idle; /* what an idle connection counts */
	__u8 protocol;
	__u8 rule;
	__u8 turned; /* it took a turn */
	__u8 version;
};

struct work {
	struct packet packet;
	struct translation to;
	struct way way;
	struct connection new;
	struct end seen; /* of `new`, by the backend */
	struct choice choice; /* of its backend */
	__u32 confirmed[2]; /* in TICKs, by HOOK_IS_XDP: when a packet last went to a neighbour by its address */
};

MAP(PERCPU_ARRAY, work_space, sizeof(__u32), sizeof(struct work), 1, 0);
