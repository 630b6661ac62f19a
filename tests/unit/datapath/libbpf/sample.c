/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What the tests of libbpf load: one map of each kind, constants of each size, programs for each hook.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

char gpl[] SEC("license") = "GPL";

const volatile __u8 small = 1;
const volatile __u32 middle = 2;
const volatile __u64 large = 3;
const volatile __s32 negative = -1;

#define MAP(name, kind, key, value, entries, how)                                                              \
	struct {                                                                                               \
		__uint(type, BPF_MAP_TYPE_##kind);                                                             \
		__uint(key_size, key);                                                                         \
		__uint(value_size, value);                                                                     \
		__uint(max_entries, entries);                                                                  \
		__uint(map_flags, how);                                                                        \
	} name SEC(".maps")

MAP(hash, HASH, 6, 12, 1000, BPF_F_NO_PREALLOC);
MAP(recent, LRU_HASH, 4, 8, 1000, 0);
MAP(array, ARRAY, 4, 12, 100, 0);
MAP(counters, PERCPU_ARRAY, 4, 12, 50, 0);
MAP(counters_by_key, PERCPU_HASH, 4, 8, 1000, 0);
MAP(prefixes, LPM_TRIE, 8, 4, 1000, BPF_F_NO_PREALLOC);

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_INNER_MAP);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(key_size, 4);
	__uint(value_size, 4);
	__uint(max_entries, 8);
	__array(values, struct inner);
} of_maps SEC(".maps");

/* Writes the constants over the packet, counts in `counters`. */
SEC("tc")
int constants(struct __sk_buff *skb)
{
	__u32 word = middle;
	__u64 words = large;
	__s32 below = negative;
	__u8 *data = (void *)(long)skb->data;
	__u8 *end = (void *)(long)skb->data_end;
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&counters, &zero);

	if (count)
		*count += 1;
	if (data + 17 > end)
		return -1;
	data[0] = small;
	__builtin_memcpy(data + 1, &word, 4);
	__builtin_memcpy(data + 5, &words, 8);
	__builtin_memcpy(data + 13, &below, 4);
	skb->mark += 1;
	return 7;
}

/* Makes the packet longer by what its first two bytes say. */
SEC("tc")
int longer(struct __sk_buff *skb)
{
	__u16 by;

	if (bpf_skb_load_bytes(skb, 0, &by, sizeof(by)))
		return 1;
	return bpf_skb_change_tail(skb, skb->len + by, 0) ? 2 : 0;
}

SEC("xdp")
int drop(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_DROP;
}

SEC("xdp")
int pass(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_PASS;
}

/* Of kernel/bpf/map_iter.c and bpf_iter.c. */
struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
};

/* The keys of `hash`. */
SEC("iter/bpf_map_elem")
int keys(struct bpf_iter__bpf_map_elem *ctx)
{
	__u8 key[6];

	if (!ctx->key)
		return 0;
	bpf_probe_read_kernel(key, sizeof(key), ctx->key);
	bpf_seq_write(ctx->meta->seq, key, sizeof(key));
	return 0;
}
