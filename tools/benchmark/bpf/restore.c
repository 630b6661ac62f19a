/* SPDX-License-Identifier: GPL-2.0-only
 *
 * BPF_PROG_TEST_RUN gives each repeat the packet as the one before left it. These programs write it
 * anew, of another flow each time, and go on to the program under test; with none in its place they
 * cost what is to be subtracted.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include "flows.h"

#define UNDER_TEST(map_name)                                                                                   \
	struct {                                                                                               \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY);                                                         \
		__uint(key_size, sizeof(__u32));                                                               \
		__uint(value_size, sizeof(__u32));                                                             \
		__uint(max_entries, 1);                                                                        \
	} map_name SEC(".maps")

/* A place is for programs of one kind only. */
UNDER_TEST(xdp_under_test);
UNDER_TEST(tc_under_test);

SEC("xdp")
int restore_xdp(struct xdp_md *context)
{
	if (!write_next((void *)(long)context->data, (void *)(long)context->data_end))
		return XDP_ABORTED;
	bpf_tail_call(context, &xdp_under_test, 0);
	return XDP_DROP;
}

SEC("tc")
int restore_tc(struct __sk_buff *context)
{
	if (!write_next((void *)(long)context->data, (void *)(long)context->data_end))
		return TC_ACT_STOLEN;
	bpf_tail_call(context, &tc_under_test, 0);
	return TC_ACT_SHOT;
}

char _license[] SEC("license") = "GPL";
