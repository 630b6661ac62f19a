/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The states of a connection, as l4lb/director/states.py, and how they change where the packets of its two ends come on
 * two CPUs at a time.
 */
#pragma once

#include "packet.h"

ALWAYS_INLINE int is_half_open(__u8 state)
{
	return state == SYN_SENT || state == SYN_RECEIVED || state == UDP_NEW || state == UDP_ANSWERED;
}

/* What a connection in this state waits for, if it does, is the backend's side of its handshake, not an answer. */
ALWAYS_INLINE int is_handshake(__u8 state)
{
	return state == SYN_SENT || state == SYN_RECEIVED;
}

ALWAYS_INLINE int is_reusable(__u8 state)
{
	return state == LAST_ACK || state == TIME_WAIT || state == CLOSED;
}

enum event { EVENT_SYN, EVENT_SYN_ACK, EVENT_ACK, EVENT_FIN, EVENT_RST, EVENT_DATAGRAM };

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
	case UDP_NEW:
		return from_client ? state : UDP_ANSWERED;
	case UDP_ANSWERED:
		return from_client ? UDP_STREAM : state;
	}
	return state;
}

/* Only where it is not set yet, and at once: one that another CPU sets meanwhile would be lost. */
ALWAYS_INLINE void set_flag(struct connection *c, __u8 flag)
{
	if (!(c->flags & flag))
		__sync_fetch_and_or((__u32 *)&c->state, flag * ONE_FLAG);
}

/* At once, as nobody but who sends packets says when. */
ALWAYS_INLINE void clear_flag(struct connection *c, __u8 flag)
{
	__sync_fetch_and_and((__u32 *)&c->state, ~(flag * ONE_FLAG));
}

ALWAYS_INLINE union standing standing_of(const struct connection *c)
{
	return (union standing){.word = *(const volatile __u32 *)&c->state};
}

/* From what it was `before`; false if another CPU has changed it since then. */
ALWAYS_INLINE int swap_standing(struct connection *c, union standing before, union standing after)
{
	return __sync_val_compare_and_swap((__u32 *)&c->state, before.word, after.word) == before.word;
}

#define WAS 0xff       /* the state before */
#define CHANGED 0x100  /* it is another one now, */
#define RESTS 0x200    /* and with that an established connection is RESTED */
#define OVERTAKEN (-1) /* by another CPU */

CHECKED_ALONE int try_to_move(struct connection *c, int event, int from_client, int half_open)
{
	union standing before, after;

	if (!c)
		return 0;
	before = after = standing_of(c);
	after.state = advance(before.state, event, from_client);
	if (after.state == before.state)
		return before.state;
	if (!half_open && is_reusable(after.state))
		after.flags |= RESTED;
	if (!swap_standing(c, before, after))
		return OVERTAKEN;
	return CHANGED | (after.flags & ~before.flags & RESTED ? RESTS : 0) | before.state;
}

#define CHANGES 8 /* of other CPUs while one moves a connection: there are but a few states and flags */

/* Move a connection by an event, from the state that it has at that moment. */
ALWAYS_INLINE int move(struct connection *c, int event, int from_client, int half_open)
{
	for (int i = 0; i < CHANGES; i++) {
		int moved = try_to_move(c, event, from_client, half_open);

		if (moved != OVERTAKEN)
			return moved;
	}
	return 0;
}

CHECKED_ALONE int try_to_establish_anew(struct connection *c, __u32 shifts)
{
	union standing before, after;

	if (!c)
		return 0;
	before = after = standing_of(c);
	if (is_reusable(before.state) || before.flags & SEEN_BY_CLIENT)
		return 0;
	after.state = ESTABLISHED;
	after.shifts = shifts;
	after.flags |= SEEN_BY_CLIENT | SEEN_BY_BACKEND;
	return swap_standing(c, before, after) ? 1 : OVERTAKEN;
}

/* A connection that is not over, of which the client awaits a SYN/ACK, is a new one. False if a packet on another CPU
 * has ended it, or made it a new one. */
ALWAYS_INLINE int establish_anew(struct connection *c, __u8 shifts)
{
	for (int i = 0; i < CHANGES; i++) {
		int done = try_to_establish_anew(c, shifts);

		if (done != OVERTAKEN)
			return done;
	}
	return 0;
}
