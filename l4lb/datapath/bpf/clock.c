// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel's count of ticks is now, for l4lb/datapath/ebpf/clock.py. Never attached: it is run once, on a
 * packet that it writes the answer into.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

struct reading {
	__u64 ticks;
	__u64 time; /* CLOCK_MONOTONIC, ns */
};

SEC("tc")
int read_clock(struct __sk_buff *ctx)
{
	struct reading *reading = (void *)(long)ctx->data;

	if ((void *)(reading + 1) > (void *)(long)ctx->data_end)
		return 0;
	reading->ticks = bpf_jiffies64();
	reading->time = bpf_ktime_get_ns();
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
