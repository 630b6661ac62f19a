/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Step 3, select: which backend takes a new connection, from the table or the costs that Python compiled.
 * Affinity comes first: a client that is remembered is not scheduled.
 */
#pragma once

#include "count.h"
#include "hash.h"

#define NO_PATH 0xffffffff
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

/* The walk over the candidates of one choice. */
struct choice {
	__u64 least;
	__u32 service;
	__u32 size; /* paths */
	__u32 at;
	__u32 step;
	__u32 best; /* path */
	__u16 idle; /* what an idle connection counts */
	__u8 protocol;
};

#define HOT_PRICE (1ull << 63) /* dearer than any other */

/* What a path with this load costs: l4lb.model.Costs. What CPUs count at a time may be below zero for a moment. */
ALWAYS_INLINE __u64 price(__u32 cost, const struct load *load, const struct choice *choice)
{
	int all = load->half_open + load->established, in_flight = load->outstanding;
	__u64 counted;

	if (choice->protocol == IPPROTO_TCP)
		in_flight += load->half_open;
	if (in_flight < 0)
		in_flight = 0;
	counted = WHOLE * (in_flight + 1ull);
	if (all > in_flight)
		counted += (__u64)choice->idle * (__u32)(all - in_flight);
	return (cost & HOT ? HOT_PRICE : 0) | (cost & ~HOT) * counted;
}

/* Compare the next candidate. By itself, so that the verifier need not follow it through every round. */
CHECKED_ALONE int consider(struct choice *choice)
{
	__u32 service, path, *cost;
	struct load *load;
	void *selection;
	__u64 asks;

	if (!choice)
		return 0;
	service = choice->service;
	selection = bpf_map_lookup_elem(&selections, &service);
	if (!selection || !choice->size)
		return 0;
	path = entry(selection, 1 + choice->at);
	choice->at = (choice->at + choice->step) % choice->size;
	load = bpf_map_lookup_elem(&loads, &path);
	cost = bpf_map_lookup_elem(&costs, &path);
	if (!load || !cost)
		return 0;
	asks = price(*cost, load, choice);
	if (choice->best == NO_PATH || asks < choice->least) {
		choice->best = path;
		choice->least = asks;
	}
	return 0;
}

/* The least price; the first met of equals. */
CHECKED_ALONE __u32 least_price(const struct service *service)
{
	struct choice choice = {.step = 1, .best = NO_PATH};
	__u32 looks, number, candidates;
	void *selection;

	if (!service)
		return NO_PATH;
	choice.service = number = service->number;
	choice.protocol = service->end.id;
	choice.idle = service->idle;
	candidates = service->candidates;
	selection = bpf_map_lookup_elem(&selections, &number);
	if (!selection)
		return NO_PATH;
	choice.size = looks = entry(selection, 0);
	if (!looks)
		return NO_PATH;
	if (candidates && candidates < looks) {
		choice.at = bpf_get_prandom_u32() % choice.size;
		choice.step = 1 + bpf_get_prandom_u32() % (choice.size - 1);
		looks = candidates;
	} else {
		choice.at = next_turn(number) % choice.size;
	}
	for (__u32 i = 0; i < MOST_COSTS && i < looks; i++)
		consider(&choice);
	return choice.best;
}

/* The path's number may be another service's by now. */
ALWAYS_INLINE int is_usable(__u32 number, const struct service *service)
{
	struct path *path = bpf_map_lookup_elem(&paths, &number);

	return path && path->flags & PATH_USABLE && path->service == service->number;
}

/* The path that the table gives, NO_PATH if no backend can take a connection. */
ALWAYS_INLINE __u32 scheduled(const struct service *service, const struct end *client, const struct end *vip,
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
	case KIND_FLOW:
		slot = flow_hash(client, vip, version);
		break;
	default:
		return least_price(service);
	}
	return entry(selection, 1 + slot % size);
}

/* `turned`: this took a turn. */
ALWAYS_INLINE __u32 select(const struct service *service, const struct end *client, const struct end *vip,
			   int version, __u64 now, __u8 *turned)
{
	__u32 path;

	*turned = 0;
	if (service->affinity) {
		struct end key = *client;
		struct affinity *last;

		key.port = 0;
		key.id = service->number;
		last = FIND(affinities, version, &key);
		if (last && last->until > now && is_usable(last->path, service))
			return last->path;
		if (last)
			DELETE(affinities, version, &key);
	}
	path = scheduled(service, client, vip, version);
	*turned = path != NO_PATH &&
		  (service->kind == KIND_TURN || (service->kind == KIND_COSTS && !service->candidates));
	return path;
}

/* A connection of this client began on this path. */
CHECKED_ALONE int remember_client(const struct service *service, const struct packet *p, __u32 path)
{
	struct affinity last = {.path = path};
	struct end key;

	if (!service || !p)
		return 0;
	key = p->source;
	key.port = 0;
	key.id = service->number;
	last.until = p->now + service->affinity * 1000000000ull;
	PUT(affinities, p->version, &key, &last, BPF_ANY);
	return 0;
}

/* True if a packet from the middle of a connection shows which backend it is with. */
ALWAYS_INLINE int finds_again(const struct service *service)
{
	return (service->kind == KIND_SOURCE || service->kind == KIND_FLOW) && !service->affinity &&
	       !(service->flags & SERVICE_FULL_NAT);
}
