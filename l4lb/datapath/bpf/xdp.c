/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The XDP program: plain packets only, of new and established connections, to neighbours that are known.
 * What it does not finish it leaves as it came; the TC program behind it does.
 */
#include "hook_xdp.h"

#include "answer_xdp.h"
#include "emit_xdp.h"

#include "director.h"
#include "parse.h"

SEC("xdp")
int l4lb_xdp(context *ctx)
{
	struct settings *settings = read_settings();
	__u32 zero = 0;
	struct work *w = bpf_map_lookup_elem(&work_space, &zero);
	struct packet *p;

	if (!settings || !w)
		return HOOK_PASS;
	p = &w->packet;
	__builtin_memset(p, 0, sizeof(*p));
	p->length = DATA_END(ctx) - DATA(ctx);
	p->now = time_now(settings);
	if (parse_plain(p, DATA(ctx), DATA_END(ctx)) != PARSED)
		return HOOK_PASS;
	return process_flow(ctx, w, settings);
}

char LICENSE[] SEC("license") = "GPL";
