/* SPDX-License-Identifier: GPL-2.0-only
 *
 * MurmurHash3_x86_32 of whole words, as l4lb/schedulers/hash.py.
 */
#pragma once

#include "packet.h"

#define HASH_SEED 0x6c346c62

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define AS_LITTLE_ENDIAN(word) (word)
#else
#define AS_LITTLE_ENDIAN(word) __builtin_bswap32(word)
#endif

ALWAYS_INLINE __u32 hash_word(__u32 hash, __u32 word)
{
	word = AS_LITTLE_ENDIAN(word) * 0xcc9e2d51;
	word = word << 15 | word >> 17;
	hash ^= word * 0x1b873593;
	hash = hash << 13 | hash >> 19;
	return hash * 5 + 0xe6546b64;
}

ALWAYS_INLINE __u32 hash_end(__u32 hash, __u32 length)
{
	hash ^= length;
	hash = (hash ^ hash >> 16) * 0x85ebca6b;
	hash = (hash ^ hash >> 13) * 0xc2b2ae35;
	return hash ^ hash >> 16;
}

ALWAYS_INLINE __u32 hash_address(__u32 hash, const struct end *end, int version)
{
	if (version == 6) {
		hash = hash_word(hash, end->ip[0]);
		hash = hash_word(hash, end->ip[1]);
		hash = hash_word(hash, end->ip[2]);
	}
	return hash_word(hash, end->ip[3]);
}

ALWAYS_INLINE __u32 source_hash(const struct end *client, int version)
{
	return hash_end(hash_address(HASH_SEED, client, version), version == 4 ? 4 : 16);
}

/* Of the original tuple as it lies on the wire: both addresses, then both ports in one word. */
ALWAYS_INLINE __u32 flow_hash(const struct end *client, const struct end *vip, int version)
{
	__be16 ports[2] = {client->port, vip->port};
	__u32 word, hash;

	__builtin_memcpy(&word, ports, sizeof(word));
	hash = hash_address(HASH_SEED, client, version);
	hash = hash_address(hash, vip, version);
	return hash_end(hash_word(hash, word), version == 4 ? 12 : 36);
}
