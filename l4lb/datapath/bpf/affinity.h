/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Client affinity: a client's next connection goes where its last one went. A client is a newcomer until a
 * connection of its has been established: l4lb/director/affinity.py.
 */
#pragma once

#include "maps.h"
#include "packet.h"

ALWAYS_INLINE struct end client_of(const struct packet *p, const struct service *service)
{
	struct end client = p->source;

	client.port = 0;
	client.id = service->number;
	return client;
}

/* True if the path takes new connections. Its number may be another service's by now. */
ALWAYS_INLINE int is_usable(__u32 number, const struct service *service)
{
	struct path *path = bpf_map_lookup_elem(&paths, &number);

	return path && path->flags & PATH_USABLE && path->service == service->number;
}

/* The path of a client that is remembered, if it takes new connections; NO_PATH else, and then it is forgotten. */
CHECKED_ALONE __u32 remembered(const struct packet *p, const struct service *service)
{
	struct affinity *last;
	struct end client;
	__u32 path;

	if (!p || !service)
		return NO_PATH;
	client = client_of(p, service);
	last = FIND(affinities, p->version, &client);
	if (last) {
		path = last->path;
		if (last->until > p->now && is_usable(path, service))
			return path;
		DELETE(affinities, p->version, &client);
	}
	last = FIND(newcomers, p->version, &client);
	if (last) {
		path = last->path;
		if (last->until > p->now && is_usable(path, service))
			return path;
		DELETE(newcomers, p->version, &client);
	}
	return NO_PATH;
}

/* A connection of the packet's client began on this path, or has been established. If another one has begun
 * meanwhile, that one's path counts. */
CHECKED_ALONE int remember(const struct packet *p, const struct service *service, __u32 path, int established)
{
	struct affinity now, *regular, *newcomer;
	struct end client;

	if (!p || !service)
		return 0;
	client = client_of(p, service);
	now.until = p->now + service->affinity * 1000000000ull;
	now.path = path;
	now.reserved = 0;
	regular = FIND(affinities, p->version, &client);
	if (established) {
		newcomer = FIND(newcomers, p->version, &client);
		if (newcomer && newcomer->until > p->now)
			now.path = newcomer->path;
		else if (!newcomer && regular && regular->until > p->now)
			now.path = regular->path;
		if (newcomer)
			DELETE(newcomers, p->version, &client);
	}
	/* In place: to update an entry that is not there, an LRU map first pushes one out. */
	if (regular)
		*regular = now;
	else if (established)
		PUT(affinities, p->version, &client, &now, BPF_ANY);
	else
		PUT(newcomers, p->version, &client, &now, BPF_ANY);
	return 0;
}
