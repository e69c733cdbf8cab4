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

#ifndef CLEW_V5_10
/* A decimal number at a place in the scratch buffer, and how long it is. */
static __always_inline u32 number_at(struct scratch *s, u64 at, u32 *digits)
{
	u32 n = 0, i;
	u8 c;

	for (i = 0; i < 7; i++) {
		c = *AT(s, at + i);
		if (c < '0' || c > '9')
			break;
		n = n * 10 + c - '0';
	}
	*digits = i;
	return n;
}

#define EIGHT(a, b, c, d, e, f, g, h)                                                              \
	((u64)a | (u64)b << 8 | (u64)c << 16 | (u64)d << 24 | (u64)e << 32 | (u64)f << 40 |        \
	 (u64)g << 48 | (u64)h << 56)
#define LOW(n) ((1ULL << ((n) * 8)) - 1)

/*
 * A path that begins at the caller's own working directory or at one of its
 * descriptors, as procfs shows them: "/proc/self/fd/7/x" is "x" in descriptor 7.
 * Nobody can look that up when the caller is gone. True if it is one; *dirfd is
 * then where it begins, and the reader of the record leaves out the beginning
 * (ownLink in userpath.go, which must agree).
 */
SUBPROG int own_link(struct scratch *s, struct rec_str *str, s32 *dirfd)
{
	u32 digits, n;
	u64 at;

	if (!s || !str || !dirfd)
		return 0;
	at = str->off;
	if (str->len < 12 ||
	    (*(u64 *)AT(s, at) & LOW(6)) != EIGHT('/', 'p', 'r', 'o', 'c', '/', 0, 0))
		return 0;
	at += 6;
	if ((*(u64 *)AT(s, at) & LOW(5)) == EIGHT('s', 'e', 'l', 'f', '/', 0, 0, 0)) {
		at += 5;
	} else if (*(u64 *)AT(s, at) == EIGHT('t', 'h', 'r', 'e', 'a', 'd', '-', 's') &&
		   (*(u64 *)AT(s, at + 8) & LOW(4)) == EIGHT('e', 'l', 'f', '/', 0, 0, 0, 0)) {
		at += 12;
	} else {
		n = number_at(s, at, &digits);
		if (!digits || n != bpf_get_current_pid_tgid() >> 32 || *AT(s, at + digits) != '/')
			return 0;
		at += digits + 1;
	}
	if ((*(u64 *)AT(s, at) & LOW(3)) == EIGHT('c', 'w', 'd', 0, 0, 0, 0, 0)) {
		n = AT_FDCWD_;
		at += 3;
	} else if ((*(u64 *)AT(s, at) & LOW(3)) == EIGHT('f', 'd', '/', 0, 0, 0, 0, 0)) {
		n = number_at(s, at + 3, &digits);
		if (!digits)
			return 0;
		at += 3 + digits;
	} else {
		return 0;
	}
	if (*AT(s, at) && *AT(s, at) != '/')
		return 0;
	*dirfd = n;
	return 1;
}
#endif

/* The directory that a string of the caller begins at. own is the flag that says it was own_link's.
 */
static __always_inline void put_dir(struct scratch *s, struct rec_str *out, u32 *opflags,
				    struct rec_str *str, s32 dirfd, u32 own)
{
	s32 from = dirfd;
	bool abs = absolute(s, str);

#ifndef CLEW_V5_10 /* there functions are verified at each call: it would take too long */
	if (abs && own_link(s, str, &from)) {
		*opflags |= own;
		abs = false;
	}
#endif
	put_base(s, out, opflags, current_task(), from, abs);
}

#endif
