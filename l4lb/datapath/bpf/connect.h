/* SPDX-License-Identifier: GPL-2.0-only
 *
 * New connections: their entry, and the source that the backend sees.
 */
#pragma once

#include "select.h"
#include "track.h"

#define TRIES 128 /* ports looked at before giving up, as l4lb/director/ports.py */

enum end_state { TAKEN, FREE, GIVES_WAY };

/* Whether the backend can tell this end from those of its other connections, enum end_state. A connection
 * that is over gives way, or one that has been half-open for longer than a handshake takes. */
CHECKED_ALONE int end_state(const struct end *seen, const struct packet *p, const struct settings *settings,
			      const struct backend *backend, const struct connection *c)
{
	struct connection *other;
	struct end *key, own;
	__u8 half_open;
	int state = FREE;

	if (!seen || !p || !settings || !backend || !c)
		return TAKEN;
	own = *seen;
	key = reverse_entry(&own, p->version);
	if (key) {
		other = entry_of(key, p->version, &half_open);
		/* It may be the entry of a connection that was pushed out. */
		if (other && !has_expired(other, settings, p->now) && other->source_port == seen->port) {
			if (!is_reusable(other->state) && !(half_open && has_passed(p->now, other->seen, HANDSHAKE)))
				return TAKEN;
			state = GIVES_WAY;
		}
	}
	if (!(c->flags & OTHER_SOURCE)) {
		if (FIND(direct, p->version, &own))
			return TAKEN;
		if (!(backend->flags & BACKEND_SHARED))
			return state;
	}
	/* A connection from that port of the client itself has no entry in reverse*, if the backend was its
	 * service's alone when it began. */
	own.id = backend->service;
	other = entry_of(&own, p->version, &half_open);
	if (other && !has_expired(other, settings, p->now) && other->path == backend->path &&
	    !(other->flags & (OTHER_SOURCE | REVERSED)))
		return TAKEN;
	return state;
}

/* True if answers to this end would be taken for the packets of a service's clients. */
CHECKED_ALONE int is_service(const struct end *end, const struct packet *p, const struct settings *settings)
{
	struct end vip;

	if (!end || !p || !settings)
		return 1;
	vip = *end;
	vip.id = p->protocol;
	return find_end(&vip, p->version, settings, END_SERVICE) != NO_END;
}

/* The number of a path's backend. By itself: what it needs is off the stack where a choice goes deeper. */
CHECKED_ALONE __u32 backend_of(const struct path *path, int version)
{
	const struct settings *settings = read_settings();
	struct end at = {};

	if (!path || !settings)
		return NO_END;
	__builtin_memcpy(at.ip, path->address, sizeof(at.ip));
	at.port = path->port;
	at.id = path->protocol;
	return find_end(&at, version, settings, END_BACKEND);
}

/* The source that the backend sees, in c and `seen`: under destination NAT the client itself, unless that
 * end is taken (one client, two services, one backend; or a direct connection): then another port of it.
 * Starts at a random port (RFC 6056 3.3.1). Where none is free, a connection gives its own up
 * (nf_nat_used_tuple_harder()). False if none does. */
CHECKED_ALONE int choose_source(struct connection *c, struct end *seen, const struct packet *p,
			       const struct settings *settings, const struct path *path)
{
	struct backend *backend;
	__u16 first = 1024, last = 65535;
	__u32 size, start, number;
	__be16 spare = 0;

	if (!c || !seen || !p || !settings || !path)
		return 0;
	number = backend_of(path, p->version);
	backend = bpf_map_lookup_elem(&backends, &number);
	if (!backend)
		return 0;
	*seen = p->source;
	seen->id = path->backend;
	c->source_port = p->source.port;
	if (path->flags & PATH_FULL_NAT) {
		__builtin_memcpy(seen->ip, path->snat, sizeof(seen->ip));
		first = settings->first_port;
		last = settings->last_port;
	} else if (end_state(seen, p, settings, backend, c) == FREE) {
		if (backend->flags & BACKEND_SHARED)
			c->flags |= REVERSED;
		return 1;
	}
	c->flags |= REVERSED | OTHER_SOURCE;
	if (last < first)
		return 0;
	size = last - first + 1;
	start = bpf_get_prandom_u32() % size;
	for (__u32 i = 0; i < TRIES && i < size; i++) {
		int state;

		seen->port = bpf_htons(first + (start + i) % size);
		if (is_service(seen, p, settings))
			continue;
		state = end_state(seen, p, settings, backend, c);
		if (state == FREE) {
			c->source_port = seen->port;
			return 1;
		}
		if (state == GIVES_WAY && !spare)
			spare = seen->port;
	}
	seen->port = c->source_port = spare;
	return spare != 0;
}

/* Forget the connection that gives way to a new one with the same end, or the backend's next packet would be
 * taken for its. It may have expired: then nobody is pushed out. */
CHECKED_ALONE int give_way(const struct end *seen, int version, __u64 now)
{
	const struct settings *settings = read_settings();
	struct connection *c;
	struct end former, *key;
	__u8 half_open;

	if (!seen)
		return 0;
	former = *seen;
	key = reverse_entry(&former, version);
	if (!key)
		return 0;
	former = *key;
	c = entry_of(&former, version, &half_open);
	/* It may be the entry of a connection that was pushed out. */
	if (!c || !(c->flags & REVERSED) || c->source_port != seen->port)
		return 0;
	if (settings && is_half_open(c->state) && !has_expired(c, settings, now))
		count_reason(HALF_OPEN_EVICTED);
	return forget(&former, c, version, half_open);
}

/* By themselves: their copies are on the stack no longer than they run. */
CHECKED_ALONE int put_half_open(const struct end *end, const struct connection *c, int version)
{
	struct connection copy;
	struct end key;

	if (!end || !c)
		return -EINVAL;
	key = *end;
	copy = *c;
	return PUT(half_open, version, &key, &copy, BPF_NOEXIST);
}

CHECKED_ALONE int put_half_open_reverse(const struct end *end, const struct end *its_key, int version)
{
	struct end seen, key;

	if (!end || !its_key)
		return -EINVAL;
	seen = *end;
	key = *its_key;
	return PUT(half_open_reverse, version, &seen, &key, BPF_ANY);
}

/* Put a new connection among the half-open ones, or one that was found again among the established. Where
 * another CPU was faster, its connection stays. */
CHECKED_ALONE int add(const struct end *key, const struct connection *c, const struct end *seen, int version)
{
	long result;

	if (!key || !c || !seen)
		return 0;
	if (is_half_open(c->state)) {
		if (c->flags & REVERSED) {
			give_way(seen, version, c->seen);
			if (put_half_open_reverse(seen, key, version))
				return 0;
		}
		result = put_half_open(key, c, version);
		if (result)
			return result == -EEXIST;
		count_total(1, 0);
		count_load(c->path, 1, 0);
	} else {
		/* Its backend sees the client itself, so it has no entry in reverse*. */
		result = put_established(key, version, c, c->state);
		if (result)
			return result == -EEXIST;
		count_total(0, 1);
		count_load(c->path, 0, 1);
		count_event(c->path, CONNECTION_CONFIRMED);
	}
	count_event(c->path, CONNECTION_BEGAN);
	return 1;
}
