/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Step 3, select: which backend takes a new connection, from the table or the costs that Python compiled.
 * Affinity comes first: a client that is remembered is not scheduled.
 */
#pragma once

#include "affinity.h"
#include "decisions.h"
#include "hash.h"

#define MOST_COSTS 1024 /* backends that are compared for one connection; loops must end for the verifier */

ALWAYS_INLINE __u32 entry(void *selection, __u32 at)
{
	__u32 *value = bpf_map_lookup_elem(selection, &at);

	return value ? *value : NO_PATH;
}

ALWAYS_INLINE __u32 next_turn(__u32 service)
{
	__u32 *turn = bpf_map_lookup_elem(&turns, &service);

	return turn ? __sync_fetch_and_add(turn, 1) : 0;
}

/* Of a selection that was not used. */
ALWAYS_INLINE void give_turn_back(const struct service *service)
{
	__u32 number = service->number;
	__u32 *turn = bpf_map_lookup_elem(&turns, &number);

	if (turn)
		__sync_fetch_and_add(turn, -1);
}

/* What a path with this load costs: l4lb.model.Costs. What CPUs count at a time may be below zero for a moment. */
ALWAYS_INLINE void ask(struct offer *offer, __u32 cost, const struct load *load, const struct choice *choice)
{
	int all = load->half_open + load->established, in_flight = load->outstanding;

	if (choice->protocol == IPPROTO_TCP)
		in_flight += load->half_open;
	if (in_flight < 0)
		in_flight = 0;
	offer->cost = cost & ~HOT;
	offer->in_flight = in_flight;
	offer->idle = all > in_flight ? all - in_flight : 0;
	offer->price = offer->cost * (WHOLE * (in_flight + 1ull) + (__u64)choice->idle * offer->idle);
	if (cost & HOT)
		offer->price |= HOT_PRICE;
}

/* The next candidate; false if there is none. */
ALWAYS_INLINE int meet(struct choice *choice, struct offer *offer)
{
	__u32 service = choice->service, *cost;
	struct load *load;
	void *selection = bpf_map_lookup_elem(&selections, &service);

	if (!selection || !choice->size)
		return 0;
	offer->path = entry(selection, 1 + choice->at);
	choice->at += choice->stride ? 1 + bpf_get_prandom_u32() % choice->stride : 1;
	choice->at %= choice->size;
	load = bpf_map_lookup_elem(&loads, &offer->path);
	cost = bpf_map_lookup_elem(&costs, &offer->path);
	if (!load || !cost)
		return 0;
	ask(offer, *cost, load, choice);
	return 1;
}

/* Compare the next candidate. By itself, so that the verifier need not follow it through every round. */
CHECKED_ALONE int consider(struct choice *choice)
{
	struct offer offer = {};

	if (!choice || !meet(choice, &offer))
		return 0;
	choice->compared++;
	if (choice->best.path == NO_PATH || offer.price < choice->best.price) {
		choice->next = choice->best;
		choice->best = offer;
		choice->equals = 1;
		return 0;
	}
	if (offer.price == choice->best.price)
		choice->equals++;
	if (choice->next.path == NO_PATH || offer.price < choice->next.price)
		choice->next = offer;
	return 0;
}

/* Look at the next candidate again; true if it is the one of the equals whose turn it is. */
CHECKED_ALONE int has_turn(struct choice *choice)
{
	struct offer offer = {};

	if (!choice || !meet(choice, &offer) || offer.price != choice->best.price || choice->equals--)
		return 0;
	if (offer.path != choice->best.path) {
		choice->next = choice->best;
		choice->best = offer;
	}
	return 1;
}

/* Choose that one, from where the comparison began. By itself: the verifier follows either loop for each number of
 * rounds that the other one may have had. */
CHECKED_ALONE int take_turns(struct choice *choice, __u32 looks)
{
	if (!choice)
		return 0;
	for (__u32 i = 0; i < MOST_COSTS && i < looks; i++) {
		if (has_turn(choice))
			break;
	}
	return 0;
}

/* The least price. Candidates that are drawn are drawn once around the circle of all, so none comes twice, and of
 * equals the first one wins. Where all are compared the equals take turns among themselves: would the first one
 * from a place that moves on win, the turns of one that is dear would go to its neighbour. */
CHECKED_ALONE int find_least(struct choice *choice, const struct service *service)
{
	__u32 looks, number, candidates, turn, first = 0;
	void *selection;

	if (!choice || !service)
		return 0;
	number = service->number;
	choice->protocol = service->end.id;
	choice->idle = service->idle;
	candidates = service->candidates;
	selection = bpf_map_lookup_elem(&selections, &number);
	if (!selection)
		return 0;
	choice->size = looks = entry(selection, 0);
	if (!looks)
		return 0;
	if (candidates && candidates < looks) {
		choice->at = bpf_get_prandom_u32() % choice->size;
		choice->stride = choice->size / candidates;
		looks = candidates;
		turn = 0;
	} else {
		turn = next_turn(number);
		/* Of more than can be compared it is at least not always the same ones. */
		if (looks > MOST_COSTS)
			choice->at = first = bpf_get_prandom_u32() % choice->size;
	}
	for (__u32 i = 0; i < MOST_COSTS && i < looks; i++)
		consider(choice);
	if (choice->stride || choice->equals < 2)
		return 0;
	choice->at = first;
	choice->equals = turn % choice->equals;
	take_turns(choice, looks);
	return 0;
}

/* The path that the table gives, NO_PATH if no backend can take a connection. */
ALWAYS_INLINE __u32 from_table(const struct service *service, const struct end *client, const struct end *vip,
			       int version)
{
	__u32 number = service->number, size, slot;
	void *selection = bpf_map_lookup_elem(&selections, &number);

	if (!selection)
		return NO_PATH;
	size = entry(selection, 0);
	if (!size || size == NO_PATH)
		return NO_PATH;
	switch (service->kind) {
	case KIND_TURN:
		slot = next_turn(number);
		break;
	case KIND_RANDOM:
		slot = bpf_get_prandom_u32();
		break;
	case KIND_SOURCE:
		slot = source_hash(client, version);
		break;
	default:
		slot = flow_hash(client, vip, version);
	}
	return entry(selection, 1 + slot % size);
}

/* The path for a new connection that begins with the packet, NO_PATH if no backend can take it. */
CHECKED_ALONE __u32 select(struct work *w, const struct service *service)
{
	const struct end *client;
	struct choice *choice;
	int version;

	if (!w || !service)
		return NO_PATH;
	client = &w->packet.source;
	version = w->packet.version;
	choice = &w->choice;
	__builtin_memset(choice, 0, sizeof(*choice));
	choice->best.path = choice->next.path = NO_PATH;
	choice->service = service->number;
	choice->version = version;
	if (service->affinity) {
		choice->best.path = remembered(&w->packet, service);
		if (choice->best.path != NO_PATH) {
			choice->rule = RULE_AFFINITY;
			return choice->best.path;
		}
	}
	choice->rule = service->kind;
	if (choice->rule == KIND_COSTS)
		find_least(choice, service);
	else
		choice->best.path = from_table(service, client, &w->packet.destination, version);
	choice->turned = choice->best.path != NO_PATH &&
			 (service->kind == KIND_TURN || (service->kind == KIND_COSTS && !service->candidates));
	return choice->best.path;
}

/* True if a packet from the middle of a connection shows which backend it is with. */
ALWAYS_INLINE int finds_again(const struct service *service)
{
	return (service->kind == KIND_SOURCE || service->kind == KIND_FLOW) && !service->affinity &&
	       !(service->flags & SERVICE_FULL_NAT);
}
