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

/* An end as a number of END_BITS, all of which a search looks at: those on top say where it begins, the others are
 * in the slot. Of IPv4 it is the end itself, by a factor that can be divided by again: who has the same is the same.
 * Of IPv6 it is a hash. */
ALWAYS_INLINE __u64 end_number(const struct end *end, int version)
{
	__u64 word = end->ip[3] | (__u64)(end->port | (__u32)(end->id & END_PROTOCOL) << 16) << 32;

	if (version == 6) {
		__u64 rest = (end->ip[0] | (__u64)end->ip[1] << 32) * END_MULTIPLIER + end->ip[2];

		word = (word + rest * END_MULTIPLIER) * END_MULTIPLIER >> (64 - END_BITS);
	}
	return word * END_FACTOR & ((1ull << END_BITS) - 1);
}

ALWAYS_INLINE int is_end(const struct end *known, const struct end *end)
{
	return known->ip[3] == end->ip[3] && known->port == end->port && known->id == end->id &&
	       same_address(known->ip, end->ip);
}

/* Whether a number that was found for an end of IPv6 is that one's. */
ALWAYS_INLINE int is_of_end(__u32 number, __u32 kind, const struct end *end)
{
	if (kind == END_SERVICE) {
		struct service *service = bpf_map_lookup_elem(&services, &number);

		return service && service->version == 6 && is_end(&service->end, end);
	} else {
		struct backend *backend = bpf_map_lookup_elem(&backends, &number);

		return backend && backend->version == 6 && is_end(&backend->end, end);
	}
}

/* The number of a service or backend, NO_END if the end, whose id is the protocol, is none. */
ALWAYS_INLINE __u32 find_end(const struct end *end, int version, const struct settings *settings, __u32 kind)
{
	__u32 slots = settings->ends;
	__u64 number = end_number(end, version);
	__u32 first = (number >> (END_BITS - 32)) * slots >> 32;
	__u64 wanted = number << END_REST | kind | (version == 6 ? END_IPV6 : 0);

	for (__u32 step = 0; step < END_PROBES; step++) {
		__u32 at = slots | ((first + step) & (slots - 1));
		__u64 *slot = bpf_map_lookup_elem(&ends, &at);

		if (!slot || !*slot)
			return NO_END;
		if ((*slot & ~END_NUMBER_MASK) == wanted) {
			__u32 found = *slot >> END_NUMBER & 0xffff;

			if (version == 4 || is_of_end(found, kind, end))
				return found;
		}
		wanted += END_STEP;
	}
	return NO_END;
}

ALWAYS_INLINE struct service *find_service(const struct end *end, int version, const struct settings *settings)
{
	__u32 number = find_end(end, version, settings, END_SERVICE);

	return bpf_map_lookup_elem(&services, &number);
}

ALWAYS_INLINE struct backend *find_backend(const struct end *end, int version, const struct settings *settings)
{
	__u32 number = find_end(end, version, settings, END_BACKEND);

	return bpf_map_lookup_elem(&backends, &number);
}
