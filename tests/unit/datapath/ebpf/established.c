// SPDX-License-Identifier: GPL-2.0-only
/* The table of established connections by itself, for test_established.py. */
#include "../../../../l4lb/datapath/bpf/established.h"

/* The only value of requests. */
struct request {
	struct end end;
	__u32 keys; /* for churn */
	struct connection connection;
};

MAP(ARRAY, requests, sizeof(__u32), sizeof(struct request), 1, 0);

/* How many put and deleted what they say that they have, and how many had no room. */
struct tally {
	__u64 put;
	__u64 deleted;
	__u64 full;
	__u64 next; /* for twins */
};

MAP(ARRAY, tallies, sizeof(__u32), sizeof(struct tally), 1, 0);

ALWAYS_INLINE struct request *request(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&requests, &zero);
}

SEC("tc")
int put(struct __sk_buff *ctx)
{
	struct request *asked = request();

	(void)ctx;
	return asked ? -put4(&asked->end, &asked->connection, asked->connection.state) : 0;
}

SEC("tc")
int delete(struct __sk_buff *ctx)
{
	struct request *asked = request();

	(void)ctx;
	return asked ? -delete4(&asked->end) : 0;
}

/* The sequence number by which the test tells connections; 0 if it is not found. */
SEC("tc")
int find(struct __sk_buff *ctx)
{
	struct request *asked = request();
	struct connection *c = asked ? find4(&asked->end) : 0;

	(void)ctx;
	return c ? c->acked_by_client : 0;
}

/* Put or delete any of the keys. */
SEC("tc")
int churn(struct __sk_buff *ctx)
{
	struct request *asked = request();
	__u32 zero = 0, random = bpf_get_prandom_u32();
	struct tally *tally = bpf_map_lookup_elem(&tallies, &zero);
	struct end end = {};
	int result;

	(void)ctx;
	if (!asked || !tally || !asked->keys)
		return 0;
	end.ip[3] = random % asked->keys;
	if (random >> 31) {
		result = put4(&end, &asked->connection, ESTABLISHED);
		if (!result)
			__sync_fetch_and_add(&tally->put, 1);
		else if (result != -EEXIST)
			__sync_fetch_and_add(&tally->full, 1);
	} else if (!delete4(&end)) {
		__sync_fetch_and_add(&tally->deleted, 1);
	}
	return 0;
}

/* Put one key after the other, each twice: by two processors, if there are two at work. */
SEC("tc")
int twins(struct __sk_buff *ctx)
{
	struct request *asked = request();
	__u32 zero = 0;
	struct tally *tally = bpf_map_lookup_elem(&tallies, &zero);
	struct end end = {};

	(void)ctx;
	if (!asked || !tally)
		return 0;
	end.ip[3] = __sync_fetch_and_add(&tally->next, 1) >> 1;
	if (!put4(&end, &asked->connection, ESTABLISHED))
		__sync_fetch_and_add(&tally->put, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
