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

enum event { EVENT_SYN, EVENT_SYN_ACK, EVENT_ACK, EVENT_FIN, EVENT_RST };

ALWAYS_INLINE int event_of(__u8 flags)
{
	if (flags & RST)
		return EVENT_RST;
	if (flags & SYN)
		return flags & ACK ? EVENT_SYN_ACK : EVENT_SYN;
	return flags & FIN ? EVENT_FIN : EVENT_ACK;
}

ALWAYS_INLINE __u8 advance(__u8 state, int event, int from_client)
{
	if (event == EVENT_RST)
		return CLOSED;
	switch (state) {
	case SYN_SENT:
		if (from_client)
			return state;
		if (event == EVENT_SYN_ACK)
			return SYN_RECEIVED;
		if (event == EVENT_ACK)
			return ESTABLISHED;
		return event == EVENT_FIN ? BACKEND_FIN : state;
	case SYN_RECEIVED:
		if (event == EVENT_FIN)
			return from_client ? CLIENT_FIN : BACKEND_FIN;
		return event == EVENT_ACK && from_client ? ESTABLISHED : state;
	case ESTABLISHED:
		if (event == EVENT_FIN)
			return from_client ? CLIENT_FIN : BACKEND_FIN;
		return state;
	case CLIENT_FIN:
		return event == EVENT_FIN && !from_client ? LAST_ACK : state;
	case BACKEND_FIN:
		return event == EVENT_FIN && from_client ? LAST_ACK : state;
	case LAST_ACK:
		return event == EVENT_ACK ? TIME_WAIT : state;
	}
	return state;
}

ALWAYS_INLINE __u8 advance_udp(__u8 state, int from_client)
{
	if (state == UDP_NEW && !from_client)
		return UDP_ANSWERED;
	if (state == UDP_ANSWERED && from_client)
		return UDP_STREAM;
	return state;
}

/* Out of the half-open ones, where a flood could push it out. False if that cannot be. Two of its packets may come to
 * this on two CPUs. */
CHECKED_ALONE int promote(const struct end *its_key, struct connection *c, const struct packet *p, __u32 state)
{
	__u32 number, reversed;
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
	if (result == -EEXIST)
		return 1;
	if (reversed) {
		if (result)
			DELETE(reverse, p->version, &seen);
		else
			DELETE(half_open_reverse, p->version, &seen);
	}
	if (result)
		return 0;
	DELETE(half_open, p->version, &key);
	count_total(-1, 1);
	count_load(number, -1, 1);
	if (p->protocol == IPPROTO_TCP)
		count_event(number, CONNECTION_CONFIRMED);
	return 1;
}

/* Only where it is not set yet: a flag that another CPU sets between reading and writing would be lost. */
ALWAYS_INLINE void set_flag(struct connection *c, __u8 flag)
{
	if (!(c->flags & flag))
		c->flags |= flag;
}

/* At once, as nobody but who sends packets says when. */
ALWAYS_INLINE void clear_flag(struct connection *c, __u8 flag)
{
	__sync_fetch_and_and((__u32 *)&c->state, ~(flag * ONE_FLAG));
}

/* Move to a state. False, and nothing changed, if it would become established and there is no room. */
ALWAYS_INLINE int set_state(struct flow *flow, struct connection *c, const struct packet *p,
			    const struct settings *settings, __u8 state)
{
	if (state == c->state)
		return 1;
	if (!flow->half_open) {
		if (is_reusable(state) && !(c->flags & RESTED)) {
			c->flags |= RESTED;
			c->state = state;
			count_load(c->path, 0, -1);
			release(c);
			/* Last: from then on another CPU may forget it. */
			queue_rested(&flow->key, p->version);
			return 1;
		}
	} else if (state == CLOSED) {
		c->asked = 0;
		if (is_half_open(c->state))
			count_load(c->path, -1, 0);
	} else if (!is_half_open(state)) {
		__u32 path = c->path;

		/* One after the other they need less of the stack. */
		if (!make_room(settings, p->now) || !promote(&flow->key, c, p, state))
			return 0;
		/* By its client's packet: that one's address is not forged. */
		if (flow->from_client && flow->service && flow->service->affinity)
			remember(p, flow->service, path, 1);
		return 1;
	} else if (state == UDP_ANSWERED) {
		count_event(c->path, CONNECTION_CONFIRMED);
	}
	c->state = state;
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
	release(c);
	count_event(c->path, CONNECTION_BEGAN);
	count_event(c->path, CONNECTION_CONFIRMED);
	c->shifts = scale == NO_SCALE ? 0 : LARGEST_SHIFT | scale << 4;
	c->acked_by_client = p->sequence + 1;
	set_flag(c, SEEN_BY_CLIENT);
	c->acked_by_backend = p->acknowledgement;
	set_flag(c, SEEN_BY_BACKEND);
	c->state = ESTABLISHED;
	return 0;
}

/* Follow a connection with one of its packets, not yet translated. */
ALWAYS_INLINE int track(context *ctx, struct flow *flow, struct connection *c, const struct packet *p,
			const struct settings *settings)
{
	int event, from_client = flow->from_client;

	c->seen = p->now;
	if (p->protocol != IPPROTO_TCP)
		return set_state(flow, c, p, settings, advance_udp(c->state, from_client));
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
	return set_state(flow, c, p, settings, advance(c->state, event, from_client));
}
