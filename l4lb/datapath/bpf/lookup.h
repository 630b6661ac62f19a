/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Step 2, lookup: which connection a packet belongs to, which service it is for, or which backend it is
 * from. What is none of these is the kernel's.
 */
#pragma once

#include "clock.h"
#include "count.h"
#include "ends.h"
#include "established.h"
#include "states.h"

struct flow {
	struct end key; /* of the connection: the client's end, the service's number */
	struct connection *connection;
	struct service *service; /* of a packet to a VIP */
	struct backend *backend; /* of a packet from a backend to no VIP */
	__u8 from_client;
	__u8 half_open; /* where the connection is */
};

ALWAYS_INLINE struct path *path_of(const struct connection *c)
{
	__u32 number = c->path;

	return bpf_map_lookup_elem(&paths, &number);
}

/* The end that the backend sees, with its number: the key of reverse* and direct*. */
ALWAYS_INLINE void seen_by_backend(struct end *seen, const struct end *client, const struct connection *c,
				   const struct path *path)
{
	int full = path->flags & PATH_FULL_NAT;

	seen->ip[0] = full ? path->snat[0] : client->ip[0];
	seen->ip[1] = full ? path->snat[1] : client->ip[1];
	seen->ip[2] = full ? path->snat[2] : client->ip[2];
	seen->ip[3] = full ? path->snat[3] : client->ip[3];
	seen->port = c->source_port;
	seen->id = path->backend;
}

/* By itself: what it needs of the stack is not there for what its callers call next. */
CHECKED_ALONE int count_released(__u32 path, __u32 asked)
{
	const struct settings *settings = read_settings();

	if (settings)
		count_waiting(path, -1, time_asked(time_units(settings), asked));
	return 0;
}

/* A request of the connection, if one waits, waits no more. Not of one in its handshake. */
ALWAYS_INLINE void release(struct connection *c)
{
	__u32 asked = c->asked ? __sync_lock_test_and_set(&c->asked, 0) : 0;

	if (asked)
		count_released(c->path, asked);
}

/* Forget a connection. It is closed first: of this and a packet on another CPU one has done so, and counts it. */
CHECKED_ALONE int forget(const struct end *key, struct connection *c, int version, int half_open)
{
	struct path *path;
	struct end end;
	__u32 number;
	int moved;
	__u8 state;

	if (!c || !key)
		return 0;
	/* Of an LRU map an entry that is deleted may be another one at once. */
	number = c->path;
	moved = move(c, EVENT_RST, 0, half_open);
	state = moved & WAS;
	if (!half_open && moved & RESTS)
		count_load(number, 0, -1);
	else if (half_open && moved & CHANGED && is_half_open(state))
		count_load(number, -1, 0);
	if (!is_handshake(state))
		release(c);
	path = bpf_map_lookup_elem(&paths, &number);
	if (path && c->flags & REVERSED) {
		seen_by_backend(&end, key, c, path);
		if (half_open)
			DELETE(half_open_reverse, version, &end);
		else
			DELETE(reverse, version, &end);
	}
	end = *key;
	if (half_open) {
		if (DELETE(half_open, version, &end))
			return 0; /* pushed out meanwhile */
		if (state == SYN_SENT || state == UDP_NEW)
			count_event(number, NOBODY_ANSWERED);
		count_total(-1, 0);
	} else {
		if (delete_established(&end, version))
			return 0;
		count_total(0, -1);
	}
	return 0;
}

ALWAYS_INLINE int has_expired(const struct connection *c, const struct settings *settings, __u64 now)
{
	__u8 state = c->state;

	return state >= STATES || has_passed(now, c->seen, settings->timeouts[state]);
}

#define RECLAIM_STEPS 16 /* pairs in a row, 2 KB */

/* Forget an expired connection of connections4, one near this pair. Only the daemon forgets all of them. */
CHECKED_ALONE int reclaim(__u32 pair, const struct settings *settings, __u64 now)
{
	struct end end = {};

	if (!settings)
		return 0;
	for (__u32 number = 0; number < 2 * RECLAIM_STEPS; number++) {
		struct slot *slot = slot_at(pair * 2 + number);
		__u64 key;

		if (!slot)
			return 0;
		key = key_in(slot);
		if (!(key & SLOT_TAKEN) || !has_expired(&slot->connection, settings, now))
			continue;
		key &= ~SLOT_TAKEN;
		__builtin_memcpy((void *)&end + END4_OFFSET, &key, KEY4);
		forget(&end, &slot->connection, 4, 0);
		return 1;
	}
	return 0;
}

#define HANDSHAKE 1000000000ull /* ns: one initial RTO (RFC 6298 2.1), as l4lb/director/conntrack.py */

/* An established connection is over: the last to give its place. */
CHECKED_ALONE int queue_rested(const struct end *key, int version)
{
	struct rested entry = {};

	if (!key)
		return 0;
	entry.key = *key;
	entry.version = version;
	bpf_map_push_elem(&rested, &entry, BPF_EXIST);
	return 0;
}

#define RESTED_LOOKS 1024 /* in a row at connections that are gone or have begun anew; the daemon takes them out, too */
#define YOUNG_LOOKS 8	  /* at such that have not been over for long, as l4lb/director/conntrack.py */

enum first { NOBODY, GONE, YOUNG, OVER };

/* What is first in the queue. One that is gone is taken out: where another CPU was faster, one that is over
 * perhaps, which then expires. */
CHECKED_ALONE int look_at_first(void)
{
	struct rested first;
	struct connection *c;

	if (bpf_map_peek_elem(&rested, &first))
		return NOBODY;
	c = find_established(&first.key, first.version);
	if (c && c->flags & RESTED)
		return OVER;
	bpf_map_pop_elem(&rested, &first);
	return GONE;
}

/* Take the first out of the queue, and forget it if it is over. A young one goes to the end of the queue. */
CHECKED_ALONE int take_first(__u64 now)
{
	struct rested first;
	struct connection *c;

	if (bpf_map_pop_elem(&rested, &first))
		return NOBODY;
	c = find_established(&first.key, first.version);
	if (!c || !(c->flags & RESTED))
		return GONE;
	if (!has_passed(now, c->seen, HANDSHAKE)) {
		bpf_map_push_elem(&rested, &first, BPF_EXIST);
		return YOUNG;
	}
	forget(&first.key, c, first.version, 0);
	return OVER;
}

/* True if a connection is over, whose place another one may have, or one may be behind so many that are gone. */
ALWAYS_INLINE int is_any_over(void)
{
	for (int i = 0; i < RESTED_LOOKS; i++) {
		int first = look_at_first();

		if (first != GONE)
			return first == OVER;
	}
	return 1;
}

/* The same of the first one that is not gone; GONE if there are so many of those. */
CHECKED_ALONE int take_next(__u64 now)
{
	for (int i = 0; i < RESTED_LOOKS; i++) {
		int first = take_first(now);

		if (first != GONE)
			return first;
	}
	return GONE;
}

/* True if there is room for one more established connection, be it the place of one that is over. */
ALWAYS_INLINE int make_room(const struct settings *settings, __u64 now)
{
	__u32 zero = 0;
	struct totals *all = bpf_map_lookup_elem(&totals, &zero);

	if (!all)
		return 0;
	if (all->established < settings->established)
		return 1;
	for (int i = 0; i < YOUNG_LOOKS; i++) {
		int next = take_next(now);

		if (next == OVER || next == NOBODY)
			return next == OVER;
	}
	return 0;
}

/* True if one more may become established. Every half-open connection may: where there is no room for all of them,
 * and none that is over has any, as it comes to be while the daemon is away, each new one makes some. */
ALWAYS_INLINE int has_room(const struct settings *settings, __u64 now)
{
	__u32 zero = 0;
	struct totals *all = bpf_map_lookup_elem(&totals, &zero);

	if (!all)
		return 0;
	if (all->established + all->half_open < settings->established || is_any_over())
		return 1;
	reclaim(bpf_get_prandom_u32() % settings->pairs, settings, now);
	return all->established < settings->established;
}

/* The connection of this key, which may have expired, and whether it is among the half-open ones. */
ALWAYS_INLINE struct connection *entry_of(const struct end *key, int version, __u8 *half_open)
{
	struct connection *c = find_established(key, version);

	*half_open = 0;
	if (c)
		return c;
	c = FIND(half_open, version, key);
	if (c) {
		*half_open = 1;
		return c;
	}
	/* Another CPU may have moved it from there to here meanwhile. */
	return find_established(key, version);
}

/* The connection of flow->key, if it has not expired. */
ALWAYS_INLINE struct connection *find(struct flow *flow, const struct settings *settings, const struct packet *p)
{
	struct connection *c = entry_of(&flow->key, p->version, &flow->half_open);

	if (c && has_expired(c, settings, p->now)) {
		forget(&flow->key, c, p->version, flow->half_open);
		c = 0;
	}
	flow->connection = c;
	return c;
}

/* The key of the connection that an end which a backend sees belongs to, by its entry in reverse*. It may be
 * the entry of one that was pushed out. */
ALWAYS_INLINE struct end *reverse_entry(const struct end *seen, int version)
{
	struct end *key = FIND(reverse, version, seen);

	return key ? key : FIND(half_open_reverse, version, seen);
}

/* The connection whose backend is `number` and sees this end, by its entry in reverse*. */
ALWAYS_INLINE struct connection *find_reverse(struct flow *flow, const struct end *end, __u16 number,
					      const struct settings *settings, const struct packet *p)
{
	struct end seen = *end, *key;
	struct connection *c;
	struct path *path;

	seen.id = number;
	key = reverse_entry(&seen, p->version);
	if (!key)
		return 0;
	flow->key = *key;
	c = find(flow, settings, p);
	if (!c)
		return 0;
	/* The entry may be of a connection that was pushed out, whose key another one has now. */
	path = path_of(c);
	if (!path || path->backend != number || !(c->flags & REVERSED) || c->source_port != end->port)
		return 0;
	return c;
}

/* The connection with a backend's own service, of which no entry in reverse* has to tell. */
ALWAYS_INLINE struct connection *find_own(struct flow *flow, const struct end *end, const struct backend *backend,
					  const struct settings *settings, const struct packet *p)
{
	struct connection *c;

	flow->key = *end;
	flow->key.id = backend->service;
	c = find(flow, settings, p);
	return c && c->path == backend->path && !(c->flags & OTHER_SOURCE) ? c : 0;
}

/* The connection of packets that come from a backend to this end. Of a shared backend it may have begun
 * before the backend was. */
ALWAYS_INLINE struct connection *find_reply(struct flow *flow, const struct end *end,
					    const struct backend *backend, const struct settings *settings,
					    const struct packet *p)
{
	int shared = backend->flags & BACKEND_SHARED;
	struct connection *c = shared ? 0 : find_own(flow, end, backend, settings, p);

	if (!c)
		c = find_reverse(flow, end, backend->number, settings, p);
	if (!c && shared)
		c = find_own(flow, end, backend, settings, p);
	return c;
}

/* True if the packet is ours in some way. */
ALWAYS_INLINE int lookup(struct flow *flow, const struct settings *settings, const struct packet *p)
{
	__u32 number = find_end(&p->destination, p->version, settings, END_SERVICE);

	flow->service = bpf_map_lookup_elem(&services, &number);
	if (flow->service) {
		flow->from_client = 1;
		flow->key = p->source;
		flow->key.id = number;
		find(flow, settings, p);
		return 1;
	}
	flow->backend = find_backend(&p->source, p->version, settings);
	if (flow->backend) {
		flow->from_client = 0;
		flow->connection = find_reply(flow, &p->destination, flow->backend, settings, p);
		return 1;
	}
	return 0;
}

/* True if an address of the packet is a VIP's or a backend's: others' odd packets are not our business. */
ALWAYS_INLINE int is_ours(const struct packet *p)
{
	struct end end = p->destination;

	end.port = 0;
	end.id = 0;
	if (FIND(addresses, p->version, &end))
		return 1;
	end = p->source;
	end.port = 0;
	end.id = 0;
	return FIND(addresses, p->version, &end) != 0;
}
