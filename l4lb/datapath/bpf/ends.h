/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Which service or backend an end is. Every packet asks this twice, so the table is laid out for it: the daemon
 * writes slots in place (l4lb/datapath/ebpf/ends.py), each in one store, and what is read here are arrays, whose
 * lookups the kernel compiles into the program. A lookup in one of its hash maps is two calls, some 25 ns.
 * The table is as large as what is in it: each page that is not looked at leaves the TLB to connections.
 */
#pragma once

#include "maps.h"
#include "packet.h"

/* Where the search for an end begins in a table of so many slots: as ends.py. */
ALWAYS_INLINE __u32 first_slot(const struct end *end, int version, __u32 slots)
{
	__u64 word = end->ip[3] | (__u64)(end->port | (__u32)end->id << 16) << 32;

	if (version == 6) {
		__u64 rest = (end->ip[0] | (__u64)end->ip[1] << 32) * END_MULTIPLIER + end->ip[2];

		word += rest * END_MULTIPLIER;
	}
	return (word * END_MULTIPLIER >> 32) * slots >> 32;
}

/* The slot of a search's next step; 0: it ends here. */
ALWAYS_INLINE __u32 probe(__u32 first, __u32 step, __u32 slots)
{
	__u32 at = slots | ((first + step) & (slots - 1));
	__u64 *slot = bpf_map_lookup_elem(&ends, &at);

	return slot ? *slot : 0;
}

ALWAYS_INLINE int is_end(const struct end *known, __u8 known_version, const struct end *end, int version)
{
	if (known->ip[3] != end->ip[3] || known->port != end->port || known->id != end->id ||
	    known_version != version)
		return 0;
	return version == 4 ||
	       (known->ip[0] == end->ip[0] && known->ip[1] == end->ip[1] && known->ip[2] == end->ip[2]);
}

/* The service of a VIP, whose id is the protocol. */
ALWAYS_INLINE struct service *find_service(const struct end *end, int version, const struct settings *settings)
{
	__u32 slots = settings->ends, first = first_slot(end, version, slots);

	for (__u32 step = 0; step < END_PROBES; step++) {
		__u32 slot = probe(first, step, slots), number = slot >> 2;
		struct service *service;

		if (!slot)
			return 0;
		if ((slot & END_KIND) != END_SERVICE)
			continue;
		service = bpf_map_lookup_elem(&services, &number);
		if (service && is_end(&service->end, service->version, end, version))
			return service;
	}
	return 0;
}

/* The same of a backend. */
ALWAYS_INLINE struct backend *find_backend(const struct end *end, int version, const struct settings *settings)
{
	__u32 slots = settings->ends, first = first_slot(end, version, slots);

	for (__u32 step = 0; step < END_PROBES; step++) {
		__u32 slot = probe(first, step, slots), number = slot >> 2;
		struct backend *backend;

		if (!slot)
			return 0;
		if ((slot & END_KIND) != END_BACKEND)
			continue;
		backend = bpf_map_lookup_elem(&backends, &number);
		if (backend && is_end(&backend->end, backend->version, end, version))
			return backend;
	}
	return 0;
}
