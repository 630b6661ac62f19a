/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Run with live frames (BPF_PROG_TEST_RUN), each run sends the packet of another flow out of the
 * interface it is run for.
 */
#include <linux/bpf.h>

#include "flows.h"

SEC("xdp")
int generate(struct xdp_md *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;

	return write_next(data, end) ? XDP_TX : XDP_ABORTED;
}

char _license[] SEC("license") = "GPL";
