/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Keeps some of the choices that were made, and what was known when they were, for people: l4lb.model.Decision.
 * A ring of our own in an array and not a BPF ring buffer: nobody has to read it, and the last ones are there
 * also when no daemon was.
 */
#pragma once

#include "count.h"
#include "work.h"

/* Once in a while, of each service. */
CHECKED_ALONE int keep(const struct choice *choice, const struct end *client, __u64 now)
{
	__u32 number, zero = 0, at;
	struct decision *kept;
	struct totals *all;
	__u64 *next;

	if (!choice || !client)
		return 0;
	number = choice->service;
	next = bpf_map_lookup_elem(&keep_at, &number);
	all = bpf_map_lookup_elem(&totals, &zero);
	if (!next || !all || now < *next)
		return 0;
	*next = now + DECISIONS_APART;
	at = __sync_fetch_and_add(&all->decisions, 1);
	number = at % DECISIONS_KEPT;
	kept = bpf_map_lookup_elem(&decisions, &number);
	if (!kept)
		return 0;
	__sync_lock_test_and_set(&kept->number, 0); /* whoever reads it now sees that it is not whole */
	kept->when = now;
	kept->client = *client;
	kept->client.id = choice->service;
	kept->best = choice->best;
	kept->next = choice->next;
	kept->compared = choice->compared;
	kept->rule = choice->rule;
	kept->version = choice->version;
	__sync_lock_test_and_set(&kept->number, at + 1ull);
	return 0;
}
