/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What a packet tells of how its backend is doing: as l4lb/director/measure.py, which has the rules. The clock of
 * track is too coarse for this; the other one is read only where a request or an answer begins.
 *
 * `asked` changes by atomic operations alone: who sets it counts one more request that waits, and who takes it
 * away one less, whichever CPUs the packets of both ends are on.
 */
#pragma once

#include "clock.h"
#include "lookup.h"

/* As bucket_of() in l4lb/times.py. */
ALWAYS_INLINE __u32 bucket_of(__u32 units)
{
	__u32 octave = 0, rest = units, bucket;

	if (units < 4)
		return units;
	for (int step = 16; step; step /= 2) {
		if (rest >> step) {
			rest >>= step;
			octave += step;
		}
	}
	bucket = 4 * (octave - 1) + (units >> (octave - 2) & 3);
	return bucket < TIME_BUCKETS ? bucket : TIME_BUCKETS - 1;
}

enum what_took { HANDSHAKE_TOOK, RESPONSE_TOOK };

CHECKED_ALONE int took(__u32 path, __u32 units, int what)
{
	struct measured *known = bpf_map_lookup_elem(&measured, &path);
	__u32 bucket = bucket_of(units), averaged = units < LONGEST_AVERAGED ? units : LONGEST_AVERAGED;
	struct times *times;

	OPAQUE(bucket);
	if (!known || bucket >= TIME_BUCKETS)
		return 0;
	times = what == HANDSHAKE_TOOK ? &known->handshakes : &known->responses;
	/* Two CPUs at a time may lose one of them, of an average that forgets. */
	times->average8 = times->count ? times->average8 - times->average8 / 8 + averaged : averaged * 8;
	__sync_fetch_and_add(&times->count, 1);
	__sync_fetch_and_add(&times->total, units);
	__sync_fetch_and_add(&times->buckets[bucket], 1);
	return 0;
}

/* What the backend has closed it does not answer on. */
ALWAYS_INLINE int is_silent(__u8 state)
{
	return is_reusable(state) || state == BACKEND_FIN;
}

ALWAYS_INLINE int has_new_data(const struct packet *p, int known, __u32 acknowledged)
{
	__u32 beyond = p->sequence + p->payload - acknowledged;

	if (p->protocol != IPPROTO_TCP)
		return 1;
	if (!p->payload)
		return 0;
	return !known || (beyond && beyond < 0x80000000);
}

/* A packet of the backend, before it is tracked. */
ALWAYS_INLINE void learn_from_backend(struct connection *c, const struct packet *p, const struct settings *settings)
{
	__u32 asked, units;
	int handshake;
	__u64 now;

	if (!c->asked)
		return;
	handshake = is_handshake(c->state);
	if (handshake ? p->flags & SYN : !(p->flags & SYN) && has_new_data(p, c->flags & SEEN_BY_CLIENT, c->acked_by_client)) {
		asked = __sync_lock_test_and_set(&c->asked, 0);
		if (!asked)
			return;
		now = time_units(settings);
		units = (__u32)now - asked;
		took(c->path, units, handshake ? HANDSHAKE_TOOK : RESPONSE_TOOK);
		if (!handshake) {
			count_waiting(c->path, -1, time_asked(now, asked));
			count_answer(c->path, units);
		}
	} else if (!handshake && p->flags & FIN) {
		release(c);
	}
}

/* A packet of the client that has been tracked. With it the connection may have moved to the established ones. */
ALWAYS_INLINE void learn_from_client(const struct flow *flow, struct connection *c, const struct packet *p,
				     const struct settings *settings, int begins)
{
	struct connection *moved;
	__u64 asked;

	if (flow->half_open) {
		if (p->flags & SYN) {
			if (!begins) {
				c->asked = 0; /* whichever is answered */
				if (c->state == SYN_SENT)
					count_event(c->path, SYN_SENT_AGAIN);
			}
			return;
		}
		if (p->protocol == IPPROTO_TCP && !p->payload)
			return;
		moved = find_established(&flow->key, p->version);
		if (moved)
			c = moved;
		else if (!is_half_open(c->state))
			return; /* on its way there, on another CPU */
	}
	if (c->asked || is_handshake(c->state) || is_silent(c->state) ||
	    !has_new_data(p, c->flags & SEEN_BY_BACKEND, c->acked_by_backend))
		return;
	asked = time_units(settings);
	if (__sync_val_compare_and_swap(&c->asked, 0, (__u32)asked))
		return;
	count_waiting(c->path, 1, asked);
	/* The backend may have closed it meanwhile, on another CPU, where this was not found. */
	if (is_silent(standing_of(c).state))
		release(c);
}
