/* SPDX-License-Identifier: GPL-2.0-only
 *
 * One connection after another, for the daemon: what its programs have in common. They are iterators over
 * the entries of a map (Linux 5.8) and run when somebody reads them, beside the packets.
 */
#pragma once

#include "clock.h"
#include "lookup.h"

#define PATHS 65536

/* Of kernel/bpf/map_iter.c and bpf_iter.c. In the last call there is no entry. */
struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
};

ALWAYS_INLINE void read_entry(const void *key, const struct connection *entry, int version, struct end *client,
			      struct connection *c)
{
	if (version == 4)
		__builtin_memcpy((void *)client + END4_OFFSET, key, KEY4);
	else
		__builtin_memcpy(client, key, KEY6);
	*c = *entry;
	/* A packet writes the time before the state: read behind it, it is not older than the state. */
	c->seen = *(const volatile __u64 *)&entry->seen;
}

/* Forget what an iterator has a copy of, if it is there still; `expired`: and has expired still. It takes the entry
 * itself: a packet on another CPU may be about to take away what waits for an answer, and one of the two must. */
CHECKED_ALONE int forget_met(const struct end *key, const struct connection *copy, int version, int half_open,
			     int expired)
{
	struct settings *known = read_settings();
	struct connection *c;
	struct end end;

	if (!key || !copy || !known)
		return 0;
	end = *key;
	c = half_open ? FIND(half_open, version, &end) : find_established(&end, version);
	if (!c || c->path != copy->path || (expired && !has_expired(c, known, time_now(known))))
		return 0;
	return forget(&end, c, version, half_open);
}

/* A pair of a block of connections4; null behind the last one. */
ALWAYS_INLINE struct slots *pair_in(__u32 block, __u32 number)
{
	__u32 at = block * BLOCK_PAIRS + number;

	return bpf_map_lookup_elem(&connections4, &at);
}

/* A byte for each pair of a block, so that a read() ends, and others may run, after as many pairs as it asks for
 * bytes, also where nothing is found. */
ALWAYS_INLINE void write_block(struct bpf_iter__bpf_map_elem *ctx)
{
	__u8 nothing[BLOCK_PAIRS] = {};

	bpf_seq_write(ctx->meta->seq, nothing, sizeof(nothing));
}

ALWAYS_INLINE int is_empty(const struct slots *pair)
{
	return key_in(&pair->slot[0]) == SLOT_FREE && key_in(&pair->slot[1]) == SLOT_FREE;
}

/* What is done with a connection that an iterator has met. Always one function by its name, which the compiler puts
 * in the place of the call. */
typedef int (*about)(struct bpf_iter__bpf_map_elem *ctx, const struct end *client, struct connection *c, int version,
		     int half_open);

/* The connection in a slot of connections4; false if there is none. */
ALWAYS_INLINE int read_slot(const struct slot *slot, struct end *client, struct connection *c)
{
	__u64 key = key_in(slot);

	if (!(key & SLOT_TAKEN))
		return 0;
	key &= ~SLOT_TAKEN;
	read_entry(&key, &slot->connection, 4, client, c);
	return key_in(slot) == (key | SLOT_TAKEN);
}

/* An entry of one of the kernel's hash maps. */
ALWAYS_INLINE int each_entry(struct bpf_iter__bpf_map_elem *ctx, int version, int half_open, about what)
{
	const struct connection *entry = ctx->value;
	const void *key = ctx->key;
	struct end client = {};
	struct connection c;

	if (!key || !entry)
		return 0;
	read_entry(key, entry, version, &client, &c);
	return what(ctx, &client, &c, version, half_open);
}

/* Both slots of all pairs of a block of connections4. */
ALWAYS_INLINE int each_in_block(struct bpf_iter__bpf_map_elem *ctx, about what)
{
	struct end client = {};
	struct connection c;
	__u32 *block = ctx->key;

	if (!block)
		return 0;
	write_block(ctx);
	for (int i = 0; i < BLOCK_PAIRS; i++) {
		struct slots *pair = pair_in(*block, i);

		if (!pair)
			break;
		if (is_empty(pair))
			continue;
		if (read_slot(&pair->slot[0], &client, &c))
			what(ctx, &client, &c, 4, 0);
		if (read_slot(&pair->slot[1], &client, &c))
			what(ctx, &client, &c, 4, 0);
	}
	return 0;
}
