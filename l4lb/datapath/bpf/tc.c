/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The TC program: complete by itself.
 */
#include <linux/pkt_cls.h>

#include "hook_tc.h"

#include "answer_tc.h"
#include "director.h"
#include "parse_any.h"
#include "related.h"

#define VLAN_VID 0x0fff /* VLAN_VID_MASK, linux/if_vlan.h */

/* A fragment that is not the first goes where the first one went. */
CHECKED_ALONE int process_later_fragment(context *ctx, struct work *w, const struct settings *settings)
{
	struct packet *p;
	struct flow flow = {};
	struct connection *c;
	struct fragment *note;
	struct datagram key;
	struct path *path;
	int route;

	if (!w || !settings)
		return HOOK_PASS;
	p = &w->packet;
	if (!is_ours(p))
		return HOOK_PASS;
	datagram_of(&key, p);
	note = bpf_map_lookup_elem(&fragments, &key);
	if (!note || note->until <= p->now)
		return dropped(FRAGMENT_UNKNOWN);
	if (note->verdict == PASS)
		return HOOK_PASS;
	flow.key = note->flow;
	flow.from_client = note->from_client;
	c = find(&flow, settings, p);
	path = c ? path_of(c) : 0;
	if (!c || c->path != note->path || !path || path->flags & PATH_GONE)
		return dropped(NO_CONNECTION);
	translation_of(&w->to, p, &flow, c, path);
	route = next_hop(ctx, w, flow.from_client ? &path->hop : &c->hop, settings);
	if (route == NOT_ROUTED)
		return dropped(NO_ROUTE);
	if (p->ttl <= 1)
		return dropped(TTL_EXCEEDED);
	if (p->end - IP_OFFSET > w->way.hop.mtu)
		return dropped(TOO_BIG);
	c->seen = p->now;
	count_packet(c->path, p, flow.from_client);
	/* Its header may not lie together yet; of other packets it does, as something behind it was written. */
	if (trim(ctx, p) || bpf_skb_pull_data(ctx, p->transport) || translate(ctx, p, &w->to))
		return dropped(INTERNAL);
	return emit(ctx, &w->way);
}

/* A frame of a VLAN is its own interface's. One with a priority alone has the tag of VLAN 0, which is none: the
 * host would take it off next (__netif_receive_skb_core), and with it the packet would be sent on. */
ALWAYS_INLINE int untagged(context *ctx)
{
	return !(ctx->vlan_tci & VLAN_VID) && !bpf_skb_vlan_pop(ctx) && !ctx->vlan_present;
}

SEC("tc")
int l4lb_tc(context *ctx)
{
	__u32 zero = 0;
	struct settings *settings = read_settings();
	struct work *w = bpf_map_lookup_elem(&work_space, &zero);
	struct packet *p;
	int result;

	if (!settings || !w || ctx->pkt_type)
		return HOOK_PASS;
	if (ctx->vlan_present && !untagged(ctx))
		return HOOK_PASS;
	p = &w->packet;
	__builtin_memset(p, 0, sizeof(*p));
	p->length = ctx->len;
	p->now = time_now(settings);
	if (parse_plain(p, DATA(ctx), DATA_END(ctx)) != PARSED) {
		__builtin_memset(p, 0, sizeof(*p));
		p->length = ctx->len;
		p->now = time_now(settings);
		if (!parse_any(ctx, p))
			return HOOK_PASS;
		if (p->error)
			return is_ours(p) ? dropped(p->error) : HOOK_PASS;
		if (p->icmp_error) {
			if (!read_quoted(ctx, p))
				return is_ours(p) ? dropped(BAD_ICMP_HEADER) : HOOK_PASS;
			return process_icmp_error(ctx, w, settings);
		}
		if (p->fragment_offset)
			return process_later_fragment(ctx, w, settings);
	}
	result = HOOK_PASS;
	if (p->protocol == IPPROTO_TCP || p->protocol == IPPROTO_UDP)
		result = process_flow(ctx, w, settings);
	if (result == HOOK_PASS && p->more_fragments && is_ours(p))
		note_first(p, &p->source, 0, PASS, 0); /* all the datagram's fragments are the host's */
	return result;
}

char LICENSE[] SEC("license") = "GPL";
