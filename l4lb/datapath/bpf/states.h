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

/* What each event leads to, of the backend and of the client; SYN_SENT, to which nothing does: to no other state. Read,
 * where branches were shorter, as the loop in move() would have the verifier follow each of them anew every time. */
static const __u8 transitions[16][8][2] = { /* of state, event, and whether it is of the client */
	[SYN_SENT] = {
		[EVENT_SYN_ACK] = {SYN_RECEIVED},
		[EVENT_ACK] = {ESTABLISHED},
		[EVENT_FIN] = {BACKEND_FIN},
	},
	[SYN_RECEIVED] = {
		[EVENT_ACK] = {[1] = ESTABLISHED},
		[EVENT_FIN] = {BACKEND_FIN, CLIENT_FIN},
	},
	[ESTABLISHED] = {[EVENT_FIN] = {BACKEND_FIN, CLIENT_FIN}},
	[CLIENT_FIN] = {[EVENT_FIN] = {LAST_ACK}},
	[BACKEND_FIN] = {[EVENT_FIN] = {[1] = LAST_ACK}},
	[LAST_ACK] = {[EVENT_ACK] = {TIME_WAIT, TIME_WAIT}},
	[UDP_NEW] = {[EVENT_DATAGRAM] = {UDP_ANSWERED}},
	[UDP_ANSWERED] = {[EVENT_DATAGRAM] = {[1] = UDP_STREAM}},
};

ALWAYS_INLINE __u8 advance(__u8 state, int event, int from_client)
{
	__u64 at = (state * 8 + event) * 2 + !!from_client;
	__u8 next;

	if (event == EVENT_RST)
		return CLOSED;
	OPAQUE(at);
	next = ((const __u8 *)transitions)[at % sizeof(transitions)];
	return next ? next : state;
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

/* Tries to change the word of a connection's standing, which other CPUs change too: far more of them than packets can
 * come meanwhile, also where two CPUs share one core and take turns in its cycles. */
#define TRIES_TO_CHANGE 64

/* Move a connection by an event, from the state that it has at that moment. */
CHECKED_ALONE int move(struct connection *c, int event, int from_client, int half_open)
{
	if (!c)
		return 0;
	for (int i = 0; i < TRIES_TO_CHANGE; i++) {
		union standing before = standing_of(c), after = before;

		after.state = advance(before.state, event, from_client);
		if (after.state == before.state)
			return before.state;
		if (!half_open && is_reusable(after.state))
			after.flags |= RESTED;
		if (swap_standing(c, before, after))
			return CHANGED | (after.flags & ~before.flags & RESTED ? RESTS : 0) | before.state;
	}
	return 0;
}

/* A connection that is not over, of which the client awaits a SYN/ACK, is a new one. False if a packet on another CPU
 * has ended it, or made it a new one. */
CHECKED_ALONE int establish_anew(struct connection *c, __u32 shifts)
{
	if (!c)
		return 0;
	for (int i = 0; i < TRIES_TO_CHANGE; i++) {
		union standing before = standing_of(c), after = before;

		if (is_reusable(before.state) || before.flags & SEEN_BY_CLIENT)
			return 0;
		after.state = ESTABLISHED;
		after.shifts = shifts;
		after.flags |= SEEN_BY_CLIENT | SEEN_BY_BACKEND;
		if (swap_standing(c, before, after))
			return 1;
	}
	return 0;
}
