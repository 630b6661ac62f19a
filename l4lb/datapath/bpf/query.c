// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the daemon asks of the connections: those of some client or some paths, to show or to forget them.
 *
 * Iterators (Linux 5.8), as in sweep.c: one over each of the maps. They write for each entry
 *
 *     SKIPPED                      not asked for; for each pair of a block of connections4
 *     COUNTED                      asked for, but enough were written
 *     FOUND struct end, connection asked for
 *
 * so a read() ends, and others may run, after a few thousand entries whatever is found.
 */
#include "each.h"

/* The only value of queries. */
struct query {
	__be32 client[4];
	__u32 states;  /* a bit for each */
	__u32 records; /* how many more are written whole */
	__u8 version;  /* of `client`; 0: any client */
	__u8 by_path;  /* only paths that are `asked` for */
	__u8 take;     /* forget what is found */
	__u8 reserved;
};

MAP(ARRAY, queries, sizeof(__u32), sizeof(struct query), 1, 0);

/* By path: 1 if it is asked for. */
MAP(ARRAY, asked, sizeof(__u32), sizeof(__u32), PATHS, 0);

enum answer { SKIPPED, COUNTED, FOUND };

ALWAYS_INLINE int is_asked_for(const struct query *query, const struct end *client, const struct connection *c,
			       int version, const struct settings *known)
{
	if (has_expired(c, known, time_now(known)) || !(query->states >> (c->state & 31) & 1))
		return 0;
	if (query->version && (query->version != version || !same_address(query->client, client->ip)))
		return 0;
	if (query->by_path) {
		__u32 number = c->path, *path = bpf_map_lookup_elem(&asked, &number);

		return path && *path;
	}
	return 1;
}

ALWAYS_INLINE int ask_about(struct bpf_iter__bpf_map_elem *ctx, const struct end *client, struct connection *c,
			    int version, int half_open)
{
	__u32 zero = 0;
	__u8 answer = SKIPPED;
	struct settings *known = read_settings();
	struct query *query = bpf_map_lookup_elem(&queries, &zero);

	if (!known || !query)
		return 0;
	if (is_asked_for(query, client, c, version, known)) {
		answer = query->records ? FOUND : COUNTED;
		if (query->records)
			query->records -= 1;
	}
	bpf_seq_write(ctx->meta->seq, &answer, sizeof(answer));
	if (answer == FOUND) {
		bpf_seq_write(ctx->meta->seq, client, sizeof(*client));
		bpf_seq_write(ctx->meta->seq, c, sizeof(*c));
		if (query->take)
			forget_met(client, c, version, half_open, 0);
	}
	return 0;
}

SEC("iter/bpf_map_elem")
int ask_half_open4(struct bpf_iter__bpf_map_elem *ctx)
{
	return each_entry(ctx, 4, 1, ask_about);
}

SEC("iter/bpf_map_elem")
int ask_half_open6(struct bpf_iter__bpf_map_elem *ctx)
{
	return each_entry(ctx, 6, 1, ask_about);
}

SEC("iter/bpf_map_elem")
int ask4(struct bpf_iter__bpf_map_elem *ctx)
{
	return each_in_block(ctx, ask_about);
}

SEC("iter/bpf_map_elem")
int ask6(struct bpf_iter__bpf_map_elem *ctx)
{
	return each_entry(ctx, 6, 0, ask_about);
}

char LICENSE[] SEC("license") = "GPL";
