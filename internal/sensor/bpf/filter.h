/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The kernel half of a filter plan. A kind that is off, or a call that neither
 * flags nor name make interesting, is refused before anything is read for it.
 */
#ifndef CLEW_FILTER_H
#define CLEW_FILTER_H

#include "emit.h"
#include "depth.h"

static __always_inline struct plan_data *the_plan(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&plan, &zero);
}

/* Why an observation is wanted, as far as its kind and flags tell. See kfilter.Wanted. */
static __always_inline u32 why_wanted(struct plan_data *p, u32 kind, u64 flags)
{
	if (p->rule_mode[kind] == PLAN_ALL || flags & p->rule_flags[kind])
		return WANT_RULE;
	if (p->mode[kind] == PLAN_ALL || flags & p->flags_any[kind])
		return WANT_SPARE;
	return WANT_NO;
}

/* Whether a name could make more of it: names are rules'. */
static __always_inline bool ask_name(struct plan_data *p, u32 kind, u32 why)
{
	return why != WANT_RULE && p->by_name & (1ULL << kind);
}

/* Must give what bloomBit in plan.go gives. */
static __always_inline bool bloom_has(struct plan_data *p, u64 head, u32 len)
{
	u64 h = (head ^ ((u64)len << 56)) * 0x9e3779b97f4a7c15ULL;
	u32 bit = h >> 54;

	return p->bloom[(bit >> 6) & 15] & (1ULL << (bit & 63));
}

/* The first eight bytes of a name as a number, zero beyond its end. */
static __always_inline u64 name_head(u64 w, u32 len)
{
	if (len >= 8)
		return w;
	return w & ((1ULL << (len * 8)) - 1);
}

/* Whether a kernel string of known length is a watched base name of a kind. */
static __always_inline bool name_wanted(struct plan_data *p, u32 kind, const void *name, u32 len)
{
	struct name_key k = {};
	u64 w = 0, *kinds;

	/* dentry names are stored in memory that is a multiple of eight long */
	if (bpf_probe_read_kernel(&w, sizeof(w), name))
		return true;
	if (!bloom_has(p, name_head(w, len), len))
		return false;
	bpf_probe_read_kernel_str(k.name, sizeof(k.name), name);
	kinds = bpf_map_lookup_elem(&names, &k);
	return kinds && (*kinds & (1ULL << kind));
}

/*
 * Whether the last name of a path that lies in the scratch buffer is watched.
 * A path that ends in a slash or in dots names something else than it shows,
 * and is let through.
 */
SUBPROG int tail_wanted(struct scratch *s, u32 kind, u32 off, u32 len)
{
	struct name_key k = {};
	u64 from = 0;
	u64 *kinds;
	u32 n;

	if (!s || !len || len > 4095)
		return true;
	for (n = 0; n < 256; n++) {
		u64 at = off + len - 1 - n;

		if (n >= len)
			break;
		if (*AT(s, at) == '/')
			break;
		from = at;
	}
	if (!n || n == 256)
		return true;
	if (*AT(s, from) == '.' && n <= 2)
		return true;
	bpf_probe_read_kernel_str(k.name, sizeof(k.name), AT(s, from));
	kinds = bpf_map_lookup_elem(&names, &k);
	return kinds && (*kinds & (1ULL << kind));
}

#endif
