/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Fragments: only the first one shows the ports, so it leaves a note for the others.
 */
#pragma once

#include "lookup.h"

#define FRAGMENT_SECONDS 30 /* as net.ipv4.ipfrag_time */

ALWAYS_INLINE void datagram_of(struct datagram *key, const struct packet *p)
{
	__builtin_memset(key, 0, sizeof(*key));
	__builtin_memcpy(key->source, p->source.ip, sizeof(key->source));
	__builtin_memcpy(key->destination, p->destination.ip, sizeof(key->destination));
	key->identification = p->identification;
	key->version = p->version;
	/* IPv6 leaves the protocol out (RFC 8200 4.5): behind extension headers only the first shows it. */
	key->protocol = p->version == 4 ? p->protocol : 0;
}

/* What becomes of the fragments that follow this first one. */
CHECKED_ALONE int note_first(const struct packet *p, const struct end *flow, __u32 path, int verdict,
			     int from_client)
{
	struct fragment note = {.path = path, .verdict = verdict, .from_client = from_client};
	struct datagram key;

	if (!p)
		return 0;
	datagram_of(&key, p);
	note.until = p->now + FRAGMENT_SECONDS * 1000000000ull;
	if (flow)
		note.flow = *flow;
	return bpf_map_update_elem(&fragments, &key, &note, BPF_ANY);
}
