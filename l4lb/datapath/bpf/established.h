/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The established connections. Those of IPv4 are in a hash table of our own: connections4 is an array of pairs of
 * slots, as many pairs as connections are allowed, and a slot is one line of the processor's cache. Among a
 * million connections a packet waits for memory, here once, where the kernel's hash map has it wait for the
 * bucket, for its neighbours in that and for two lines of the entry.
 *
 * A connection is in the pair of its hash, its home, or where that is full in one of the next pairs; its home
 * counts those that are elsewhere. So it is known where a search ends, without marks of what was removed. Where no
 * slot is free within TABLE_STEPS there is no room, as in a full table. In a table of a million as full as is
 * allowed 88 of 100 are at home and 8 in the next pair; of 200 such tables, filled in a simulation, one had one
 * connection for which TABLE_STEPS were not enough.
 *
 * Who adds claims a free slot, fills it in and then shows its key; who removes takes the key away. Both are one
 * atomic operation on the key, so of several CPUs one has done it. As in the kernel's own maps, who has found a
 * connection may meanwhile see its slot become another's.
 *
 * IPv6 does not fit into a line with its key, and twice the memory at rest is not worth it: it is in a hash map.
 */
#pragma once

#include <linux/errno.h>

#include "maps.h"
#include "packet.h"

#define SLOT_FREE 0
#define SLOT_BUSY 1 /* somebody writes to it */

#define NOWHERE (-1)

/* Where the search for a connection begins. */
struct place {
	__u64 key;
	__u32 home;
	__u32 pairs;
};

ALWAYS_INLINE int place_of(struct place *place, const struct end *end)
{
	const struct settings *settings = read_settings();
	__u64 hash;

	if (!settings)
		return 0;
	place->key = SLOT_TAKEN | end->ip[3] | (__u64)(end->port | (__u32)end->id << 16) << 32;
	/* By a secret factor: who sends packets cannot know which of them meet. */
	hash = place->key * settings->seed;
	hash = (hash ^ hash >> 32) * END_MULTIPLIER;
	place->pairs = settings->pairs;
	place->home = (hash >> 32) * place->pairs >> 32;
	return 1;
}

/* Slots have numbers: twice that of their pair, and one more for the second one. */
ALWAYS_INLINE struct slot *slot_at(__u32 number)
{
	__u32 at = number >> 1;
	struct slots *pair = bpf_map_lookup_elem(&connections4, &at);

	if (!pair)
		return 0;
	OPAQUE(pair); /* or newer compilers add before they have looked whether it is there */
	return (void *)pair + (number & 1) * sizeof(struct slot);
}

/* The pair of a step of the search. */
ALWAYS_INLINE __u32 pair_of(__u32 home, __u32 pairs, __u32 step)
{
	__u32 at = home + step;

	return at < pairs ? at : at % pairs;
}

ALWAYS_INLINE __u64 key_in(const struct slot *slot)
{
	return *(const volatile __u64 *)&slot->key;
}

/* The slot that has a key, but for one; NOWHERE if none has. */
ALWAYS_INLINE int scan(__u64 key, __u32 home, __u32 pairs, int but)
{
	for (__u32 step = 0; step < TABLE_STEPS; step++) {
		__u32 at = pair_of(home, pairs, step);
		struct slots *pair = bpf_map_lookup_elem(&connections4, &at);
		int first = at * 2;

		if (!pair)
			break;
		if (key_in(&pair->slot[0]) == key && first != but)
			return first;
		if (key_in(&pair->slot[1]) == key && first + 1 != but)
			return first + 1;
		if (!step && !pair->slot[0].connection.displaced)
			break;
	}
	return NOWHERE;
}

CHECKED_ALONE int search(__u64 key, __u32 home, __u32 pairs, int but)
{
	return scan(key, home, pairs, but);
}

/* The slot of a connection, NOWHERE if it has none. */
CHECKED_ALONE int number_of(const struct end *end)
{
	struct place place;

	if (!end || !place_of(&place, end))
		return NOWHERE;
	return scan(place.key, place.home, place.pairs, NOWHERE);
}

/* A slot that was free and is ours now; NOWHERE if none is. */
CHECKED_ALONE int claim(__u32 home, __u32 pairs)
{
	for (__u32 step = 0; step < TABLE_STEPS; step++) {
		int first = pair_of(home, pairs, step) * 2;

		for (int second = 0; second < 2; second++) {
			struct slot *slot = slot_at(first + second);

			if (!slot)
				return NOWHERE;
			if (key_in(slot) == SLOT_FREE &&
			    __sync_val_compare_and_swap(&slot->key, SLOT_FREE, SLOT_BUSY) == SLOT_FREE)
				return first + second;
		}
	}
	return NOWHERE;
}

/* A home has one more connection elsewhere, or one less. The byte has no atomic operations of its own. */
ALWAYS_INLINE void count_displaced(const struct place *place, int change)
{
	struct slot *first = slot_at(place->home * 2);

	if (first)
		__sync_fetch_and_add((__u32 *)&first->connection.state, change * ONE_DISPLACED);
}

/* Take away what is in a slot; true for the only one who has. */
ALWAYS_INLINE int clear(const struct place *place, __u32 number)
{
	struct slot *slot = slot_at(number);

	if (!slot || __sync_val_compare_and_swap(&slot->key, place->key, SLOT_BUSY) != place->key)
		return 0;
	if (number >> 1 != place->home)
		count_displaced(place, -1);
	__sync_lock_test_and_set(&slot->key, SLOT_FREE);
	return 1;
}

/* How far a slot is in the order of the search. */
ALWAYS_INLINE __u32 distance(const struct place *place, __u32 number)
{
	__u32 at = number >> 1;

	return (at < place->home ? at + place->pairs - place->home : at - place->home) * 2 + (number & 1);
}

ALWAYS_INLINE struct connection *find4(const struct end *end)
{
	struct slots *pair;
	struct place place;
	struct slot *slot;
	__u64 differs;
	int number;

	if (!place_of(&place, end))
		return 0;
	pair = bpf_map_lookup_elem(&connections4, &place.home);
	if (!pair)
		return 0;
	/* Both slots are read before either is looked at, so both come from memory at once, and no branch
	 * has to guess which one it is. */
	differs = key_in(&pair->slot[0]) ^ place.key;
	key_in(&pair->slot[1]);
	slot = (void *)pair + ((differs | -differs) >> 63) * sizeof(struct slot);
	if (key_in(slot) == place.key)
		return &slot->connection;
	if (!pair->slot[0].connection.displaced)
		return 0;
	number = number_of(end);
	if (number == NOWHERE)
		return 0;
	slot = slot_at(number);
	return slot ? &slot->connection : 0;
}

CHECKED_ALONE int put4(const struct end *end, const struct connection *c, __u32 state)
{
	struct place place;
	struct slot *slot;
	int number, other;

	if (!end || !c || !place_of(&place, end))
		return -EINVAL;
	if (search(place.key, place.home, place.pairs, NOWHERE) != NOWHERE)
		return -EEXIST;
	number = claim(place.home, place.pairs);
	if (number == NOWHERE)
		return -E2BIG;
	slot = slot_at(number);
	if (!slot)
		return -E2BIG;
	/* All but `displaced`, which is the pair's. */
	__builtin_memcpy(&slot->connection, c, __builtin_offsetof(struct connection, displaced));
	slot->connection.state = state;
	slot->connection.hop = c->hop;
	if (number >> 1 != (int)place.home)
		count_displaced(&place, 1);
	__sync_lock_test_and_set(&slot->key, place.key);

	/* Another CPU may have added it at the same time: of two, the one that a search meets first stays. Either
	 * CPU may be the one to see both; who has not removed one counts it, and so it is counted once. */
	other = search(place.key, place.home, place.pairs, number);
	if (other == NOWHERE)
		return 0;
	if (distance(&place, other) < distance(&place, number))
		other = number;
	return clear(&place, other) ? -EEXIST : 0;
}

CHECKED_ALONE int delete4(const struct end *end)
{
	struct place place;
	int number;

	if (!end || !place_of(&place, end))
		return -EINVAL;
	number = scan(place.key, place.home, place.pairs, NOWHERE);
	return number != NOWHERE && clear(&place, number) ? 0 : -ENOENT;
}

/* The same for both versions of IP: of the connection with this key, as those of the kernel's maps. */
ALWAYS_INLINE struct connection *find_established(const struct end *key, int version)
{
	return version == 4 ? find4(key) : bpf_map_lookup_elem(&connections6, key);
}

CHECKED_ALONE int put6(const struct end *end, const struct connection *c, __u32 state)
{
	struct connection copy;
	struct end key;

	if (!end || !c)
		return -EINVAL;
	key = *end;
	copy = *c;
	copy.state = state;
	return bpf_map_update_elem(&connections6, &key, &copy, BPF_NOEXIST);
}

/* What is in `c`, but in this state: 0, -EEXIST, or another error where there is no room. */
ALWAYS_INLINE int put_established(const struct end *key, int version, const struct connection *c, __u32 state)
{
	return version == 4 ? put4(key, c, state) : put6(key, c, state);
}

/* 0 for the only one who has deleted it. */
ALWAYS_INLINE int delete_established(const struct end *key, int version)
{
	return version == 4 ? delete4(key) : (int)bpf_map_delete_elem(&connections6, key);
}
