/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Putting a record together: take a scratch buffer, fill the header, append
 * strings, output to a ring. Every way out counts a fate.
 */
#ifndef CLEW_EMIT_H
#define CLEW_EMIT_H

#include "compat.h"
#include "maps.h"

/*
 * A function that the verifier checks once, for any arguments, instead of at
 * every call (global functions with memory arguments: v5.13, e5069b9c23b3).
 * Its pointers may therefore be NULL as far as the verifier knows.
 */
#ifdef CLEW_V5_10
#define SUBPROG static __noinline __attribute__((unused))
#else
#define SUBPROG __noinline __attribute__((weak))
#endif

/*
 * A place in the scratch buffer. Masked in the instruction before its use:
 * older verifiers forget a checked bound when the value goes through memory.
 */
#define AT(s, off)                                                                                 \
	({                                                                                         \
		u64 o_ = (off);                                                                    \
		asm volatile("%0 &= 0xffff" : "+r"(o_));                                           \
		(s)->buf + o_;                                                                     \
	})

/* Adds one to a fate. Kinds and fates are constants at every call. */
static __always_inline int fate(u32 kind, enum fate f)
{
	u32 zero = 0;
	struct fate_counts *c = bpf_map_lookup_elem(&counters, &zero);

	if (c && kind < REC_KINDS)
		c->n[kind][f]++;
	return 0;
}

static __always_inline void count_beside(enum beside b)
{
	u32 zero = 0;
	struct fate_counts *c = bpf_map_lookup_elem(&counters, &zero);

	if (c)
		c->beside[b]++;
}

static __always_inline struct scratch *take(u32 tid)
{
	u32 slot = bpf_get_smp_processor_id() * SCRATCH_SLOTS;
	struct scratch *s;
	int i;

	for (i = 0; i < SCRATCH_SLOTS; i++) {
		u32 k = slot + i;

		s = bpf_map_lookup_elem(&scratch, &k);
		if (!s)
			return NULL;
		if (*(volatile u32 *)&s->owner)
			continue;
		*(volatile u32 *)&s->owner = tid + 1;
		if (*(volatile u32 *)&s->owner != tid + 1)
			continue;
		return s;
	}
	return NULL;
}

static __always_inline void give(struct scratch *s)
{
	*(volatile u32 *)&s->owner = 0;
}

/* The cgroup of one controller's hierarchy; NULL where the kernel lacks it. */
#define subsys_cgroup(t, id)                                                                       \
	({                                                                                         \
		struct cgroup *g_ = NULL;                                                          \
		if (bpf_core_enum_value_exists(enum cgroup_subsys_id, id)) {                       \
			struct css_set *cs_ = BPF_CORE_READ(t, cgroups);                           \
			struct cgroup_subsys_state *css_ = NULL;                                   \
			u32 at_ = bpf_core_enum_value(enum cgroup_subsys_id, id) * sizeof(void *); \
			bpf_probe_read_kernel(                                                     \
				&css_, sizeof(css_),                                               \
				(void *)cs_ + bpf_core_field_offset(struct css_set, subsys) +      \
					at_);                                                      \
			if (css_)                                                                  \
				g_ = BPF_CORE_READ(css_, cgroup);                                  \
		}                                                                                  \
		g_;                                                                                \
	})

/*
 * The cgroup that says most about a process: that of the unified hierarchy, or,
 * when it is the root there, as on hosts with mixed hierarchies, that of a
 * version 1 controller which container runtimes always use.
 */
static __always_inline struct cgroup *task_cgroup(struct task_struct *t)
{
	struct cgroup *g = BPF_CORE_READ(t, cgroups, dfl_cgrp), *v1;

	if (BPF_CORE_READ(g, level))
		return g;
	v1 = subsys_cgroup(t, pids_cgrp_id);
	if (v1 && BPF_CORE_READ(v1, level))
		return v1;
	v1 = subsys_cgroup(t, memory_cgrp_id);
	if (v1 && BPF_CORE_READ(v1, level))
		return v1;
	return g;
}

/* Fills all of a header but kind and size, from a task. */
static __always_inline void fill_hdr(struct rec_hdr *h, struct task_struct *t)
{
	const struct cred *c = PEEK(t, cred);

	h->ts = bpf_ktime_get_boot_ns();
	h->start = PEEK(t, group_leader, start_boottime);
	h->tgid = PEEK(t, tgid);
	h->tid = PEEK(t, pid);
	h->ppid = PEEK(t, real_parent, tgid);
	h->sid = BPF_CORE_READ(t, signal, pids[3], numbers[0].nr);
	h->uid = PEEK(c, uid.val);
	h->gid = PEEK(c, gid.val);
	h->euid = PEEK(c, euid.val);
	h->egid = PEEK(c, egid.val);
	h->fsuid = PEEK(c, fsuid.val);
	h->fsgid = PEEK(c, fsgid.val);
	h->auid = -1;
	h->ses = -1;
	if (bpf_core_field_exists(t->loginuid)) {
		h->auid = PEEK(t, loginuid.val);
		h->ses = PEEK(t, sessionid);
	}
	h->cgroup_id = BPF_CORE_READ(task_cgroup(t), kn, id);
	h->mntns = BPF_CORE_READ(t, nsproxy, mnt_ns, ns.inum);
	h->netns = BPF_CORE_READ(t, nsproxy, net_ns, ns.inum);
	h->cpu = bpf_get_smp_processor_id();
	h->pad = 0;
	h->flags = PEEK(t, flags) & PF_IO_WORKER ? RH_ASYNC : 0;
	bpf_probe_read_kernel(h->comm, sizeof(h->comm), t->comm);
}

/*
 * The reader looks at the rings every few milliseconds; it is woken before that
 * only when a ring fills up.
 */
static __always_inline u64 wakeup(void *ring)
{
	if (ring == &bulk && bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) > cfg_wake_bytes)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

/* Sends what lies in the scratch buffer and gives the buffer back. */
static __always_inline int send(struct scratch *s, void *ring, u32 kind)
{
	struct rec_hdr *h = (void *)s->buf;
	u64 n = (s->off + 7) & ~7ULL;
	enum fate f = FATE_SENT;

	asm volatile("" : "+r"(n)); /* one value for the check and the call */
	h->kind = kind;
	h->size = n;
	if (n > SCRATCH_BUF)
		f = FATE_TOO_BIG;
	else if (bpf_ringbuf_output(ring, s->buf, n, wakeup(ring)))
		f = FATE_RING_FULL;
	give(s);
	return fate(kind, f);
}

/*
 * Sends what belongs on the bulk ring. What a rule wants goes on the critical one
 * when the bulk ring is nearly full, as long as half of that is free: so a flood
 * of what nobody asked for pushes it out no more than it does an exec, and a flood
 * of what rules want pushes out no exec either.
 */
static __noinline __attribute__((unused)) int send_bulk(struct scratch *s, u32 kind, u32 why)
{
	if (why == WANT_RULE && bpf_ringbuf_query(&bulk, BPF_RB_AVAIL_DATA) > cfg_bulk_spare &&
	    bpf_ringbuf_query(&critical, BPF_RB_AVAIL_DATA) < cfg_critical_half)
		return send(s, &critical, kind);
	return send(s, &bulk, kind);
}

/* Appends size bytes of the caller's memory; false when they cannot be read. */
SUBPROG int put_user(struct scratch *s, struct rec_str *out, u64 from, u32 size)
{
	u32 off;
	u64 n;

	if (!s || !out)
		return 0;
	off = s->off;
	out->off = off;
	out->len = 0;
	n = size;
	asm volatile("" : "+r"(n)); /* one value for the check and the call */
	if (off > SCRATCH_LIMIT || n > 16384)
		return 0;
	if (!n)
		return 1;
	if (bpf_probe_read_user(AT(s, off), n, (void *)from))
		return 0;
	out->len = n;
	s->off = off + n;
	return 1;
}

/* Appends a string of the caller's memory, without its NUL, at most 4095 bytes. */
SUBPROG int put_user_str(struct scratch *s, struct rec_str *out, u64 from)
{
	u32 off;
	long n;

	if (!s || !out)
		return 0;
	off = s->off;
	out->off = off;
	out->len = 0;
	if (off > SCRATCH_LIMIT)
		return 0;
	n = bpf_probe_read_user_str(AT(s, off), 4096, (void *)from);
	if (n <= 0 || n > 4096)
		return 0;
	out->len = n - 1;
	s->off = off + n;
	return 1;
}

SUBPROG int put_kernel_str(struct scratch *s, struct rec_str *out, u64 from)
{
	u32 off;
	long n;

	if (!s || !out)
		return 0;
	off = s->off;
	out->off = off;
	out->len = 0;
	if (off > SCRATCH_LIMIT)
		return 0;
	n = bpf_probe_read_kernel_str(AT(s, off), 4096, (void *)from);
	if (n <= 0 || n > 4096)
		return 0;
	out->len = n - 1;
	s->off = off + n;
	return 1;
}

/* A 64-bit hash of the length and the first KiB of a string that was just appended. */
SUBPROG u64 hash_tail(struct scratch *s, u32 off, u32 len)
{
	u64 h = 0xcbf29ce484222325ULL ^ len;
	u32 words = len / 8;
	u64 at, w;
	u32 i;

	if (!s)
		return 1;
	for (i = 0; i < 128; i++) {
		if (i >= words)
			break;
		at = off + i * 8;
		h = (h ^ *(u64 *)AT(s, at)) * 0x9e3779b97f4a7c15ULL;
		h ^= h >> 29;
	}
	if (i < 128 && len & 7) {
		at = off + i * 8;
		w = *(u64 *)AT(s, at) & ((1ULL << ((len & 7) * 8)) - 1);
		h = (h ^ w) * 0x9e3779b97f4a7c15ULL;
		h ^= h >> 29;
	}
	return h | 1;
}

#endif
