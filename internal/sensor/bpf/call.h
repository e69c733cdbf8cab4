/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Calls that name a file by a string, seen at entry and exit by their tracepoints. */
#ifndef CLEW_CALL_H
#define CLEW_CALL_H

#include "file.h"

/* Remembers a call's arguments, and what its strings say now. */
static __always_inline int enter(struct pending *a)
{
	u64 id = bpf_get_current_pid_tgid();
	struct rec_str str;
	struct scratch *s;
	struct plan_data *p = the_plan();

	if (!p || a->kind >= REC_KINDS)
		return 0;
	/*
	 * unlinkat serves two kinds, and its exit cannot tell which: a call of
	 * the one that is off is remembered all the same, without its strings,
	 * so that it does not count as missed.
	 */
	s = p->mode[a->kind] == PLAN_OFF ? NULL : take(id);
	if (s) {
		s->off = 0;
		if (put_user_str(s, &str, a->arg))
			a->hash = hash_tail(s, str.off, str.len);
		s->off = 0;
		if (a->arg2 && put_user_str(s, &str, a->arg2))
			a->hash2 = hash_tail(s, str.off, str.len);
		give(s);
	}
	bpf_map_update_elem(&pending, &id, a, BPF_ANY);
	return 0;
}

/* One string of a call that ends: its text now, compared with its text at entry. */
static __noinline __attribute__((unused)) bool put_arg(struct scratch *s, struct rec_str *out,
						       u32 *opflags, u64 from, u64 hash)
{
	if (!put_user_str(s, out, from)) {
		*opflags |= RO_UNREADABLE;
		return false;
	}
	if (!hash)
		*opflags |= RO_UNREADABLE;
	else if (hash_tail(s, out->off, out->len) != hash)
		*opflags |= RO_CHANGED;
	return true;
}

static __always_inline bool absolute(struct scratch *s, struct rec_str *str)
{
	return str->len && *AT(s, str->off) == '/';
}

#endif
