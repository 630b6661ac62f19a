/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Step 4, track: what a packet means for its connection. States, their table and the limits are those of
 * l4lb/director/states.py, track.py and conntrack.py.
 */
#pragma once

#include <linux/errno.h>

#include "affinity.h"
#include "lookup.h"

/* The combinations of FLAGS_THAT_MATTER that a TCP sends, as bits (tcp_valid_flags in
 * nf_conntrack_proto_tcp.c). */
#define VALID_FLAGS 0x3000400170014ull

#define LARGEST_SHIFT 14 /* RFC 7323 2.3 */

/* Window scales of a connection whose handshake was not seen. */
#define UNKNOWN_SHIFTS (LARGEST_SHIFT | LARGEST_SHIFT << 4)

#define WINDOW_SCALE 3
#define NO_SCALE 0xff

ALWAYS_INLINE int flags_are_valid(__u8 flags)
{
	return VALID_FLAGS >> (flags & 63) & 1;
}

/* The walk over a SYN's options. */
struct options {
	__u8 bytes[48];
	__u32 length;
	__u32 at;
	__u32 scale;
};

/* Look at the next option; false behind the last. By itself, so that the verifier need not follow it through
 * every round. */
CHECKED_ALONE int next_option(struct options *options)
{
	__u32 at, size;

	if (!options)
		return 0;
	at = options->at;
	if (at >= 40 || at + 1 >= options->length || options->bytes[at] == 0)
		return 0;
	if (options->bytes[at] == 1) {
		options->at = at + 1;
		return 1;
	}
	size = options->bytes[at + 1];
	if (size < 2 || at + size > options->length)
		return 0;
	if (options->bytes[at] == WINDOW_SCALE && size == 3) {
		options->scale = options->bytes[at + 2] < 14 ? options->bytes[at + 2] : 14;
		return 0;
	}
	options->at = at + size;
	return 1;
}

/* The window scale option of a SYN, NO_SCALE without one. */
CHECKED_ALONE int window_scale(context *ctx, const struct packet *p)
{
	struct options options = {.scale = NO_SCALE};

	if (!p)
		return NO_SCALE;
	options.length = read_options(ctx, p, options.bytes);
	for (int i = 0; i < 40; i++) {
		if (!next_option(&options))
			break;
	}
	return options.scale;
}

/* True if an RST or a FIN with this number can be meant for its receiver: within the largest window that
 * it can have offered since what it last acknowledged (RFC 5961 3). */
ALWAYS_INLINE int in_window(__u32 sequence, int known, __u32 expected, __u8 shift)
{
	return !known || sequence - expected <= 0xffffu << shift;
}

/* An established connection has one more packet. */
CHECKED_ALONE int move_established(const struct end *key, int version, struct connection *c, int event, int from_client)
{
	int moved;

	if (!key || !c)
		return 0;
	moved = move(c, event, from_client, 0);
	if (moved & RESTS) {
		count_load(c->path, 0, -1);
		release(c);
		/* Last: from then on another CPU may forget it. */
		queue_rested(key, version);
	} else if (moved & CHANGED && event == EVENT_FIN && !from_client) {
		release(c); /* what the client has asked since the FIN was looked at */
	}
	return 0;
}

/* Its half-open entry has moved on, by another CPU's packet that has not found this one. In any other state it is
 * another connection's by now. */
CHECKED_ALONE int catch_up(const struct end *its_key, int version, __u32 state)
{
	struct connection *c;
	struct end key;

	if (!its_key)
		return 0;
	key = *its_key;
	c = find_established(&key, version);
	if (!c)
		return 0;
	if (state == CLOSED)
		return move_established(&key, version, c, EVENT_RST, 0);
	if (state == CLIENT_FIN || state == LAST_ACK)
		move_established(&key, version, c, EVENT_FIN, 1);
	if (state == BACKEND_FIN || state == LAST_ACK)
		move_established(&key, version, c, EVENT_FIN, 0);
	return 0;
}

/* Out of the half-open ones, where a flood could push it out. False if that cannot be. Its entry there has the state
 * already: a packet on another CPU that finds it moves it, and then this one if it is there. */
CHECKED_ALONE int promote(const struct end *its_key, struct connection *c, const struct packet *p, __u32 state)
{
	__u32 number, reversed;
	union standing now;
	struct path *path;
	struct end key, seen;
	long result;

	if (!its_key || !c || !p)
		return 0;
	path = path_of(c);
	if (!path)
		return 0;
	key = *its_key;
	/* Of an LRU map an entry may be another one at any time. */
	number = c->path;
	reversed = c->flags & REVERSED;
	if (p->protocol == IPPROTO_TCP)
		c->asked = 0; /* of the handshake */
	if (reversed) {
		seen_by_backend(&seen, &key, c, path);
		if (PUT(reverse, p->version, &seen, &key, BPF_ANY))
			return 0;
	}
	result = put_established(&key, p->version, c, state);
	if (result == -EEXIST) {
		/* It has been begun anew. */
		if (!DELETE(half_open, p->version, &key))
			count_total(-1, 0);
		return 1;
	}
	if (reversed) {
		if (result)
			DELETE(reverse, p->version, &seen);
		else
			DELETE(half_open_reverse, p->version, &seen);
	}
	if (result)
		return 0;
	/* By an atomic operation: a mere read could come before other CPUs see what was put. */
	now.word = __sync_val_compare_and_swap((__u32 *)&c->state, 0, 0);
	count_total(DELETE(half_open, p->version, &key) ? 0 : -1, 1);
	count_load(number, 0, 1);
	if (p->protocol == IPPROTO_TCP)
		count_event(number, CONNECTION_CONFIRMED);
	if (now.state != state)
		catch_up(&key, p->version, now.state);
	return 1;
}

/* Back to the half-open ones: there is no place among the others. */
ALWAYS_INLINE void stay_half_open(struct connection *c, __u8 state, __u8 former)
{
	union standing before = standing_of(c), after = before;

	after.state = former;
	if (before.state == state && swap_standing(c, before, after))
		count_load(c->path, 1, 0);
}

/* A half-open connection has one more packet. False, and nothing changed, if it would become established and there is
 * no room. Who moves it out of the half-open states counts it no more as one, and brings it to the established ones. */
ALWAYS_INLINE int move_half_open(struct flow *flow, struct connection *c, const struct packet *p,
				 const struct settings *settings, int event, __u8 state)
{
	__u32 path = c->path;
	int moved, leaves = state != CLOSED && !is_half_open(state);

	if (leaves && !make_room(settings, p->now))
		return 0;
	moved = move(c, event, flow->from_client, 1);
	if (!(moved & CHANGED))
		return 1;
	if (!is_half_open(moved & WAS)) {
		/* Another CPU is about to bring it to the established ones, or has done so. */
		c = find_established(&flow->key, p->version);
		if (c)
			move_established(&flow->key, p->version, c, event, flow->from_client);
		return 1;
	}
	state = advance(moved & WAS, event, flow->from_client);
	if (state == UDP_ANSWERED)
		count_event(path, CONNECTION_CONFIRMED);
	if (is_half_open(state))
		return 1;
	count_load(path, -1, 0);
	if (state == CLOSED) {
		c->asked = 0;
		return 1;
	}
	/* One after the other they need less of the stack. */
	if (!promote(&flow->key, c, p, state)) {
		stay_half_open(c, state, moved & WAS);
		return 0;
	}
	/* By its client's packet: that one's address is not forged. */
	if (flow->from_client && flow->service && flow->service->affinity)
		remember(p, flow->service, path, 1);
	return 1;
}

/* Move a connection by an event. False, and nothing changed, if it would become established and there is no room. */
ALWAYS_INLINE int follow(struct flow *flow, struct connection *c, const struct packet *p,
			 const struct settings *settings, int event)
{
	__u8 state = advance(c->state, event, flow->from_client);

	if (state == c->state)
		return 1;
	if (flow->half_open)
		return move_half_open(flow, c, p, settings, event, state);
	move_established(&flow->key, p->version, c, event, flow->from_client);
	return 1;
}

/* It may be over: unless another packet comes, it is forgotten as soon as one that is. For an RST in the window
 * whose number is not the very one that its receiver waits for (RFC 5961 3.2): see conntrack.py. */
CHECKED_ALONE int doubt(struct connection *c, const struct settings *settings, __u64 now)
{
	__u32 state;

	if (!c || !settings)
		return 0;
	release(c);
	state = c->state;
	if (state < STATES && settings->timeouts[state] > settings->timeouts[CLOSED])
		c->seen = now - (settings->timeouts[state] - settings->timeouts[CLOSED]);
	return 0;
}

/* An established connection was begun once more by its ends: with this SYN/ACK, as a new one. */
CHECKED_ALONE int begin_anew(struct connection *c, const struct packet *p, int scale)
{
	if (!c || !p)
		return 0;
	if (!establish_anew(c, scale == NO_SCALE ? 0 : LARGEST_SHIFT | scale << 4))
		return 0;
	c->acked_by_client = p->sequence + 1;
	c->acked_by_backend = p->acknowledgement;
	release(c);
	count_event(c->path, CONNECTION_BEGAN);
	count_event(c->path, CONNECTION_CONFIRMED);
	return 0;
}

/* Follow a connection with one of its packets, not yet translated. */
ALWAYS_INLINE int track(context *ctx, struct flow *flow, struct connection *c, const struct packet *p,
			const struct settings *settings)
{
	int event, from_client = flow->from_client;

	c->seen = p->now;
	if (p->protocol != IPPROTO_TCP)
		return follow(flow, c, p, settings, EVENT_DATAGRAM);
	event = event_of(p->flags);
	if (event == EVENT_RST || event == EVENT_FIN) {
		/* A FIN comes behind its segment's data, of which some may have been acknowledged already. */
		__u32 sequence = event == EVENT_RST ? p->sequence : p->sequence + p->payload;
		int known = c->flags & (from_client ? SEEN_BY_BACKEND : SEEN_BY_CLIENT);

		if (!in_window(sequence, known, from_client ? c->acked_by_backend : c->acked_by_client,
			       from_client ? c->shifts >> 4 : c->shifts & 15))
			return 1; /* its receiver will not believe it either */
		if (event == EVENT_RST && !flow->half_open && known &&
		    sequence != (from_client ? c->acked_by_backend : c->acked_by_client)) {
			doubt(c, settings, p->now);
			return 1;
		}
		/* After both have closed a healthy backend resets too, if what the client sent last was not read. */
		if (event == EVENT_RST && !from_client && !is_reusable(c->state))
			count_event(c->path, BACKEND_RESET);
	} else if (event != EVENT_ACK && is_half_open(c->state)) {
		int scale = window_scale(ctx, p);

		if (from_client)
			c->shifts = (c->shifts & 0xf0) | (scale == NO_SCALE ? 0 : scale);
		else if (scale == NO_SCALE)
			c->shifts = 0; /* what one end offers alone does not hold (RFC 7323 1.3) */
		else
			c->shifts = (c->shifts & 15) | scale << 4;
		if (event == EVENT_SYN_ACK && !from_client) {
			c->acked_by_client = p->sequence + 1;
			set_flag(c, SEEN_BY_CLIENT);
		}
	} else if (event == EVENT_SYN && from_client && !is_reusable(c->state) &&
		   p->sequence + 1 && !(c->flags & SEEN_BY_BACKEND && c->acked_by_backend == p->sequence + 1)) {
		/* Not the first one once more. A live backend refuses it, and the client's next segment says what it
		 * waits for. */
		clear_flag(c, SEEN_BY_CLIENT);
		c->acked_by_client = p->sequence + 1;
	} else if (event == EVENT_SYN_ACK && !from_client && !is_reusable(c->state) && !(c->flags & SEEN_BY_CLIENT) &&
		   c->acked_by_client && p->acknowledgement == c->acked_by_client) {
		/* The backend had lost the connection. Any other SYN/ACK is late (nf_conntrack_proto_tcp.c, where
		 * it acknowledges a SYN that was ignored). */
		begin_anew(c, p, window_scale(ctx, p));
		return 1;
	}
	if (c->state == SYN_RECEIVED && from_client && (event == EVENT_ACK || event == EVENT_FIN)) {
		/* Who forged the SYN has not seen the number of the SYN/ACK; the backend will reset it. */
		if (c->flags & SEEN_BY_CLIENT && p->acknowledgement - c->acked_by_client > 0xffff)
			return 1;
	}
	if (p->flags & ACK && event != EVENT_RST) {
		if (from_client) {
			c->acked_by_client = p->acknowledgement;
			set_flag(c, SEEN_BY_CLIENT);
		} else {
			c->acked_by_backend = p->acknowledgement;
			set_flag(c, SEEN_BY_BACKEND);
		}
	}
	return follow(flow, c, p, settings, event);
}
