// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the daemon runs every now and then: forgets the connections that have expired, and counts anew.
 *
 * Correctness does not need it. The programs take no notice of what has expired, and count all that they
 * do; but memory must come back, and the kernel does not say which half-open connections it pushes out.
 *
 * Iterators (Linux 5.8) over the entries of a map, in this order:
 *
 *     begin            over an array of the paths that are in use, PATHS for the totals last
 *     look_half_open4  over half_open4, and so on for 6
 *     settle_half_open over the same
 *     look4            over blocks, which are of connections4; and over connections6
 *     settle           over the same
 *
 * There is room for far more paths than most gateways have: to go through all would take longer than the rest.
 *
 * They run in the context of who reads them, beside the packets, where bpf_for_each_map_elem() in a test
 * run would keep a CPU from its packets until the last of a million entries. Half-open connections come
 * first: one that becomes established meanwhile is met in one of the maps, perhaps in both. So a path
 * whose count is 0 at the end, and that no connection began with meanwhile, has none.
 */
#include "each.h"
#include "measure.h"

struct count {
	__u32 half_open;
	__u32 established;
	__u32 entries; /* those that are over and only remembered too */
	__u32 outstanding;
	__u32 half_open_before; /* what the programs had counted when this began */
	__u32 established_before;
	__u32 outstanding_before;
	__u32 connections_before; /* that had ever begun */
	__u32 requests_before;
	__u32 moved; /* of the totals: connections that began since then, while the paths are gone through */
	__u64 asked; /* the sum of those that are outstanding */
};

/* By path; behind them the totals, which `entries` is 0 of. */
MAP(ARRAY, counts, sizeof(__u32), sizeof(struct count), PATHS + 1, 0);

#define LONGEST_AGO (1ull << 32) /* TIME_UNITs: who waits for longer is met as one who has waited for that much less */

/* Where the sum of when they were asked is wrong, those that are outstanding now are taken to have waited for as
 * long, together, as those that were met: since when those had that were pushed out is not known. It is wrong beyond
 * doubt also where they have waited for longer by hours, which is what those take away who waited for so long, or for
 * less than nothing. */
ALWAYS_INLINE void settle_asked(struct load *load, const struct count *count, int is_wrong)
{
	struct settings *settings = read_settings();
	__s64 now, waited, met;

	if (!settings)
		return;
	now = time_units(settings);
	waited = (__s32)load->outstanding * now - load->asked;
	met = (__s32)count->outstanding * now - count->asked;
	if (is_wrong || waited < 0 || waited - met > (__s64)LONGEST_AGO / 2)
		__sync_fetch_and_add(&load->asked, waited - met);
}

/* Both counters of a path, or of the totals. */
ALWAYS_INLINE int find_counters(__u32 number, __u32 **half_open, __u32 **established)
{
	__u32 zero = 0;

	if (number == PATHS) {
		struct totals *all = bpf_map_lookup_elem(&totals, &zero);

		if (!all)
			return 0;
		*half_open = &all->half_open;
		*established = &all->established;
	} else {
		struct load *load = bpf_map_lookup_elem(&loads, &number);

		if (!load)
			return 0;
		*half_open = &load->half_open;
		*established = &load->established;
	}
	return 1;
}

#define NO_COUNT (PATHS + 1) /* behind all there are: nothing is done with it */

/* What is in the array at this step. */
ALWAYS_INLINE __u32 number_in(struct bpf_iter__bpf_map_elem *ctx)
{
	__u32 *number = ctx->value;

	return number ? *number : NO_COUNT;
}

/* Those in front of the queue that are gone are taken out. */
CHECKED_ALONE int tidy_queue(void)
{
	return is_any_over();
}

#define TIDY_ROUNDS 64 /* as much as the queue has room for, at most: once, after the daemon was away for long */

SEC("iter/bpf_map_elem")
int begin(struct bpf_iter__bpf_map_elem *ctx)
{
	__u32 number = number_in(ctx), *half_open, *established;
	struct count *count = bpf_map_lookup_elem(&counts, &number);
	struct load *load;

	if (!count || !find_counters(number, &half_open, &established))
		return 0;
	if (number == PATHS)
		for (int i = 0; i < TIDY_ROUNDS; i++)
			tidy_queue();
	count->half_open = 0;
	count->established = 0;
	count->entries = 0;
	count->outstanding = 0;
	count->asked = 0;
	count->moved = 0;
	count->half_open_before = *half_open;
	count->established_before = *established;
	load = bpf_map_lookup_elem(&loads, &number);
	count->outstanding_before = load ? load->outstanding : 0;
	count->connections_before = load ? load->connections : 0;
	count->requests_before = load ? load->requests : 0;
	return 0;
}

ALWAYS_INLINE void count_one(__u32 number, int half_open, int established, int entries)
{
	struct count *count = bpf_map_lookup_elem(&counts, &number);

	if (!count)
		return;
	count->half_open += half_open;
	count->established += established;
	count->entries += entries;
}

ALWAYS_INLINE void count_request(__u32 number, __u64 asked)
{
	struct count *count = bpf_map_lookup_elem(&counts, &number);

	if (!count)
		return;
	count->outstanding += 1;
	count->asked += asked;
}

ALWAYS_INLINE int look_at(struct bpf_iter__bpf_map_elem *ctx, const struct end *end, struct connection *copy,
			  int version, int half_open)
{
	struct settings *known = read_settings();
	__u8 looked = 1;

	if (!known)
		return 0;
	/* A byte for each entry: a read() ends after as many as it asks for, and others may run. */
	bpf_seq_write(ctx->meta->seq, &looked, sizeof(looked));
	if (has_expired(copy, known, time_now(known))) {
		forget_met(end, copy, version, half_open, 1);
		return 0;
	}
	if (half_open)
		count_one(copy->path, is_half_open(copy->state), 0, 1);
	else
		count_one(copy->path, 0, !(copy->flags & RESTED), 1);
	count_one(PATHS, half_open, !half_open, 0);
	if (copy->asked && !is_handshake(copy->state))
		count_request(copy->path, time_asked(time_units(known), copy->asked));
	return 0;
}

SEC("iter/bpf_map_elem")
int look_half_open4(struct bpf_iter__bpf_map_elem *ctx)
{
	return each_entry(ctx, 4, 1, look_at);
}

SEC("iter/bpf_map_elem")
int look_half_open6(struct bpf_iter__bpf_map_elem *ctx)
{
	return each_entry(ctx, 6, 1, look_at);
}

SEC("iter/bpf_map_elem")
int look4(struct bpf_iter__bpf_map_elem *ctx)
{
	return each_in_block(ctx, look_at);
}

SEC("iter/bpf_map_elem")
int look6(struct bpf_iter__bpf_map_elem *ctx)
{
	return each_entry(ctx, 6, 0, look_at);
}

/* How many connections began since then. The totals come last, and take what the paths before have added up. */
ALWAYS_INLINE __u32 began(struct count *count, const struct load *load)
{
	__u32 moved, total = PATHS;
	struct count *all = bpf_map_lookup_elem(&counts, &total);

	if (!load) {
		moved = count->moved;
		count->moved = 0;
		return moved;
	}
	moved = (__u32)load->connections - count->connections_before;
	if (all)
		all->moved += moved;
	return moved;
}

/* By how much a counter of the programs is wrong. What was counted is of different moments: of what went up and
 * down meanwhile, by up to `moved`, nothing is known. A counter that stood still is set right, another one as
 * far as it is wrong beyond doubt: or a busy backend would be said to have now one more and now one less. */
ALWAYS_INLINE int error_of(int now, int before, int counted, int moved)
{
	int least = now < before ? now : before, most = now < before ? before : now;

	if (now == before && !moved)
		return counted - now;
	if (counted + moved < least)
		return counted + moved - least;
	if (counted > most + moved)
		return counted - most - moved;
	return 0;
}

/* The programs cannot know which half-open connections are pushed out. */
SEC("iter/bpf_map_elem")
int settle_half_open(struct bpf_iter__bpf_map_elem *ctx)
{
	__u32 number = number_in(ctx), *half_open, *established, reason = HALF_OPEN_EVICTED;
	struct count *count = bpf_map_lookup_elem(&counts, &number);
	struct load *load;
	__u64 *evicted;
	int error;

	if (!count || !find_counters(number, &half_open, &established))
		return 0;
	load = bpf_map_lookup_elem(&loads, &number);
	error = error_of(*half_open, count->half_open_before, count->half_open, began(count, load));
	if (error)
		__sync_fetch_and_add(half_open, error);
	if (!load && error < 0) {
		evicted = bpf_map_lookup_elem(&drops, &reason);
		if (evicted)
			*evicted += -error;
	}
	return 0;
}

/* Of established connections the programs' count is exact, and of requests as far as they are not pushed out with
 * half-open connections, which are of UDP. Every half-open connection may have become established meanwhile. */
SEC("iter/bpf_map_elem")
int settle(struct bpf_iter__bpf_map_elem *ctx)
{
	__u32 number = number_in(ctx), *half_open, *established, moved;
	struct count *count = bpf_map_lookup_elem(&counts, &number);
	struct load *load;
	int error, still, before;

	if (!count || !find_counters(number, &half_open, &established))
		return 0;
	load = bpf_map_lookup_elem(&loads, &number);
	before = count->half_open_before; /* which may be less than 0 */
	moved = began(count, load) + (before > 0 ? before : 0);
	error = error_of(*established, count->established_before, count->established, moved);
	if (error)
		__sync_fetch_and_add(established, error);
	if (!load)
		return 0;
	moved = load->requests - count->requests_before;
	still = !moved && load->outstanding == count->outstanding_before;
	error = error_of(load->outstanding, count->outstanding_before, count->outstanding, moved);
	if (error)
		__sync_fetch_and_add(&load->outstanding, error);
	settle_asked(load, count, still || error);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
