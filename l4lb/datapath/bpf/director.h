/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The path of a packet: parse, lookup, select, track, translate, emit. The same body for both hooks; what
 * the XDP hook does not finish, it leaves as it came, for the TC hook behind it.
 */
#pragma once

#include "clock.h"
#include "connect.h"
#include "fragments.h"
#include "measure.h"
#include "parse.h"
#include "translate.h"

/* The connection cannot go on: RST to who sent this. The other end learns it when it sends, or from the
 * daemon. */
ALWAYS_INLINE int end_connection(context *ctx, struct work *w, struct flow *flow, struct connection *c,
				 const struct settings *settings, __u32 reason)
{
	forget(&flow->key, c, w->packet.version, flow->half_open);
	return refuse(ctx, w, settings, reason);
}

/* Check that the packet can go on, track it, translate it and put it out. `begins`: w->new is a connection
 * that begins with it. */
ALWAYS_INLINE int forward(context *ctx, struct work *w, struct flow *flow, struct connection *c, struct path *path,
			  const struct settings *settings, int begins)
{
	struct packet *p = &w->packet;
	__u32 number = c->path;
	int route;

	if (!is_for_us(ctx, flow->from_client ? &c->hop : &path->hop))
		return HOOK_PASS;
	translation_of(&w->to, p, flow, c, path);
	route = next_hop(ctx, w, flow->from_client ? &path->hop : &c->hop, settings);
	if (HOOK_IS_XDP && (route != ROUTED || !(w->way.hop.flags & HOP_XDP)))
		return HOOK_PASS;
	if (route == NOT_ROUTED)
		return dropped(NO_ROUTE);
	if (p->ttl <= 1)
		return time_exceeded(ctx, w, settings, path->vip);
	if (segment_length(ctx, p) > w->way.hop.mtu)
		return too_big(ctx, w, settings, path->vip);
	if (begins) {
		if (!is_half_open(w->new.state) && !make_room(settings, p->now))
			return dropped(ESTABLISHED_FULL);
		if (!add(&flow->key, &w->new, &w->seen, p->version))
			return dropped(is_half_open(w->new.state) ? HALF_OPEN_FULL : ESTABLISHED_FULL);
		c = find(flow, settings, p);
		if (!c || c->path != number || c->source_port != w->new.source_port)
			return dropped(HALF_OPEN_FULL); /* pushed out, or another CPU was faster, by another way */
		if (flow->service) {
			keep(&w->choice, &p->source, p->now);
			if (flow->service->affinity)
				remember(p, flow->service, number, 0);
		}
	}
	if (!flow->from_client)
		learn_from_backend(c, p, settings);
	if (!track(ctx, flow, c, p, settings)) {
		if (HOOK_IS_XDP) /* the TC hook says so, if it finds no room either */
			return HOOK_PASS;
		return end_connection(ctx, w, flow, c, settings, ESTABLISHED_FULL);
	}
	if (flow->from_client)
		learn_from_client(flow, c, p, settings, begins);
	count_packet(number, p, flow->from_client);
	if (p->more_fragments)
		note_first(p, &flow->key, number, FORWARD, flow->from_client);
	if (trim(ctx, p) || translate(ctx, p, &w->to))
		return dropped(INTERNAL);
	return emit(ctx, &w->way);
}

/* Beside what a hook returns: */
#define BEGUN 100  /* w->new begins with this packet */
#define REFUSE 200 /* its sender is to be told, and here is added why; by the caller, whose stack is less deep */

/* First packet of a connection, or one from the middle of a connection that nobody knows. */
CHECKED_ALONE int begin(struct work *w, const struct service *service, const struct settings *settings)
{
	struct connection *c;
	struct packet *p;
	struct path *path;
	__u32 number;

	if (!w || !service || !settings)
		return HOOK_PASS;
	p = &w->packet;
	c = &w->new;
	__builtin_memset(c, 0, sizeof(*c));
	c->state = UDP_NEW;
	c->seen = p->now;
	w->choice.turned = 0;
	if (is_link_local(&p->source, p->version))
		return dropped(NO_ROUTE);
	if (p->protocol == IPPROTO_TCP) {
		if (!flags_are_valid(p->flags))
			return dropped(BAD_TCP_FLAGS);
		if (p->flags & RST)
			return dropped(NO_CONNECTION);
		if (!(p->flags & SYN)) {
			if (!finds_again(service))
				return REFUSE + NO_CONNECTION;
			/* Only the backend's answer tells the segment of a client from a forged one. */
			c->shifts = UNKNOWN_SHIFTS;
		} else if (p->flags & ACK) {
			return dropped(BAD_TCP_FLAGS);
		}
		c->state = SYN_SENT;
	}
	number = select(w, service);
	path = bpf_map_lookup_elem(&paths, &number);
	if (!path)
		return REFUSE + NO_BACKEND;
	c->path = number;
	if (c->state == SYN_SENT && p->flags & SYN)
		c->asked = time_units(settings);
	if (!has_room(settings, p->now))
		return dropped(ESTABLISHED_FULL);
	/* A backend that calls itself through the VIP: its host takes no packet from its own address. No connection
	 * begins, so where turns or chance decide, its next SYN may go elsewhere. */
	if (!choose_source(c, &w->seen, p, settings, path) || same_address(w->seen.ip, path->address))
		return dropped(NO_FREE_PORT);
	return BEGUN;
}

/* This backend's segments to this end are of a direct connection. */
CHECKED_ALONE int note_direct(const struct end *end, int version, __u32 backend)
{
	struct end seen;
	__u8 yes = 1;

	if (!end)
		return 0;
	seen = *end;
	seen.id = backend;
	PUT(direct, version, &seen, &yes, BPF_ANY);
	return 0;
}

enum next { GO_ON, BEGIN_AGAIN, END, LEAVE, DENIED, FORGET };

/* What a packet of a known connection leads to. */
ALWAYS_INLINE int next_for(const struct packet *p, const struct flow *flow, const struct connection *c,
			   const struct path *path)
{
	int gone = path->flags & PATH_GONE;

	if (p->protocol != IPPROTO_TCP) {
		if (gone)
			return flow->from_client ? BEGIN_AGAIN : FORGET;
		return GO_ON;
	}
	if (flow->from_client) {
		if (p->flags == SYN) {
			if (gone || is_reusable(c->state) ||
			    (is_handshake(c->state) && !(path->flags & PATH_ALIVE)))
				return BEGIN_AGAIN;
		} else if (p->flags & RST) {
			/* Picked up from the middle of what was the backend's own connection: the client says
			 * that it has none to the VIP. */
			if (c->state == ESTABLISHED && c->shifts == UNKNOWN_SHIFTS &&
			    !(c->flags & SEEN_BY_CLIENT) && !c->acked_by_client)
				return DENIED;
		}
	} else if (p->flags & SYN && is_reusable(c->state) && !(path->flags & PATH_FULL_NAT)) {
		/* The answer to a SYN that did not come to the VIP: the client has gone on, from the same
		 * port, to the backend's own address. One that repeats itself, or is its first word, has only
		 * crossed an RST. */
		if (c->flags & SEEN_BY_BACKEND && c->acked_by_backend != p->acknowledgement)
			return LEAVE;
	}
	return gone ? END : GO_ON;
}

/* From a backend, of no connection: a direct connection's, or one that was lost, which a consistent
 * selection finds again. */
CHECKED_ALONE int unknown_reply(struct work *w, const struct backend *backend, const struct settings *settings)
{
	struct flow flow = {};
	struct connection *c;
	struct service *service;
	struct totals *all;
	struct packet *p;
	struct path *path;
	struct end seen;
	__u32 number, zero = 0;

	if (!w || !backend || !settings || HOOK_IS_XDP)
		return HOOK_PASS;
	p = &w->packet;
	c = &w->new;
	if (p->protocol != IPPROTO_TCP || p->flags & RST || !can_be_source(&p->destination, p->version) ||
	    is_link_local(&p->destination, p->version))
		return HOOK_PASS; /* a client has no multicast address, nor one of its link */
	w->seen = p->destination;
	w->seen.id = backend->number;
	seen = w->seen;
	if (!(p->flags & SYN) && (!flags_are_valid(p->flags) || FIND(direct, p->version, &seen)))
		return HOOK_PASS;
	number = backend->path;
	path = bpf_map_lookup_elem(&paths, &number);
	all = bpf_map_lookup_elem(&totals, &zero);
	if (!path || !all || backend->flags & BACKEND_SHARED || p->flags & SYN ||
	    (all->established >= settings->established && !is_any_over()))
		goto direct;
	w->to.source = p->source; /* of what we would send: from the VIP */
	__builtin_memcpy(w->to.source.ip, path->vip, sizeof(path->vip));
	w->to.source.port = path->vip_port;
	service = find_service(&w->to.source, p->version, settings);
	if (!service || !finds_again(service) ||
	    from_table(service, &p->destination, &w->to.source, p->version) != number)
		goto direct;
	flow.key = p->destination;
	flow.key.id = service->number;
	if (find(&flow, settings, p)) /* with another backend */
		goto direct;
	__builtin_memset(c, 0, sizeof(*c));
	c->state = ESTABLISHED;
	c->seen = p->now;
	c->shifts = UNKNOWN_SHIFTS;
	c->path = number;
	c->source_port = p->destination.port;
	return BEGUN;

direct:
	note_direct(&p->destination, p->version, backend->number);
	return HOOK_PASS;
}

/* A packet of one of our flows, with its ports. */
ALWAYS_INLINE int process_flow(context *ctx, struct work *w, const struct settings *settings)
{
	struct connection *c;
	struct path *path;
	struct packet *p;
	struct flow flow = {};
	int next = GO_ON, begins = 0, selects = 0, result;

	p = &w->packet;
	if (!lookup(&flow, settings, p))
		return HOOK_PASS;
	if (HOOK_IS_XDP && sum_is_left_out(ctx, p))
		return HOOK_PASS;
	c = flow.connection;
	if (c) {
		path = path_of(c);
		if (!path)
			return dropped(INTERNAL);
		if (p->protocol == IPPROTO_TCP && !flags_are_valid(p->flags))
			return dropped(BAD_TCP_FLAGS);
		next = next_for(p, &flow, c, path);
		if (next != GO_ON) {
			__u32 backend = path->backend;

			if (HOOK_IS_XDP)
				return HOOK_PASS;
			forget(&flow.key, c, p->version, flow.half_open);
			if (next == END)
				return refuse(ctx, w, settings, BACKEND_DOWN);
			if (next == FORGET)
				return dropped(BACKEND_DOWN);
			if (next == LEAVE) {
				note_direct(&p->destination, p->version, backend);
				return HOOK_PASS;
			}
			if (next == DENIED) {
				note_direct(&p->source, p->version, backend);
				return dropped(NO_CONNECTION);
			}
			c = 0;
		}
	}
	if (!c) {
		if (flow.service) {
			selects = 1;
			result = begin(w, flow.service, settings);
			if (result >= REFUSE)
				result = refuse(ctx, w, settings, result - REFUSE);
		} else if (flow.backend) {
			result = unknown_reply(w, flow.backend, settings);
			flow.key = p->destination;
		} else {
			return HOOK_PASS;
		}
		if (result != BEGUN)
			goto end;
		begins = 1;
		c = &w->new;
		path = path_of(c);
		if (!path)
			return dropped(INTERNAL);
		flow.key.id = path->service;
	}
	result = forward(ctx, w, &flow, c, path, settings, begins);
end:
	/* The TC hook selects anew. */
	if (HOOK_IS_XDP && result == HOOK_PASS && selects && w->choice.turned)
		give_turn_back(flow.service);
	return result;
}
