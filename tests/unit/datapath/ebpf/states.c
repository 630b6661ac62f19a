// SPDX-License-Identifier: GPL-2.0-only
/* How the word of a connection's state changes on two CPUs at a time, for test_states.py. */
#include "../../../../l4lb/datapath/bpf/maps.h"
#include "../../../../l4lb/datapath/bpf/states.h"

MAP(ARRAY, awaiting, sizeof(__u32), sizeof(struct connection), 1 << 16, 0);

/* The only value of tallies. */
struct tally {
	__u64 begun;
	__u64 next; /* for twins */
};

MAP(ARRAY, tallies, sizeof(__u32), sizeof(struct tally), 1, 0);

ALWAYS_INLINE struct tally *tally(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&tallies, &zero);
}

ALWAYS_INLINE int begin(__u32 number, int syn)
{
	struct connection *c = bpf_map_lookup_elem(&awaiting, &number);
	struct tally *all = tally();

	if (!c || !all)
		return 0;
	if (syn)
		clear_flag(c, SEEN_BY_CLIENT);
	if (establish_anew(c, 7))
		__sync_fetch_and_add(&all->begun, 1);
	return 0;
}

/* The SYN and the SYN/ACK of the first connection. */
SEC("tc")
int renew(struct __sk_buff *ctx)
{
	(void)ctx;
	return begin(0, 1);
}

/* Other connections come to be displaced, which is counted in the same word. */
SEC("tc")
int displace(struct __sk_buff *ctx)
{
	__u32 zero = 0;
	struct connection *c = bpf_map_lookup_elem(&awaiting, &zero);

	(void)ctx;
	for (int i = 0; i < 4 && c; i++)
		__sync_fetch_and_add((__u32 *)&c->state, ONE_DISPLACED);
	return 0;
}

/* The SYN/ACK of one connection after the other, each twice: by two processors, if there are two at work. */
SEC("tc")
int twins(struct __sk_buff *ctx)
{
	struct tally *all = tally();

	(void)ctx;
	return all ? begin(__sync_fetch_and_add(&all->next, 1) >> 1, 0) : 0;
}

char LICENSE[] SEC("license") = "GPL";
