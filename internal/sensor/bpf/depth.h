/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * What leaves the kernel beyond the filters, and what of it is held back: depth
 * hints, the shaping of floods, and the flight recorder.
 */
#ifndef CLEW_DEPTH_H
#define CLEW_DEPTH_H

#include "emit.h"

static __always_inline bool is_self(u32 tgid)
{
	return bpf_map_lookup_elem(&self, &tgid) != NULL;
}

static __always_inline struct hint_state *depth_now(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&depth_state, &zero);
}

static __always_inline struct proc_key proc_key(struct task_struct *t)
{
	struct proc_key k = {.start = PEEK(t, group_leader, start_boottime), .tgid = PEEK(t, tgid)};

	return k;
}

/* The session of a task: its process tree, as shells, services and containers begin one. */
static __always_inline u32 session(struct task_struct *t)
{
	return PEEK(t, signal, pids[3], numbers[0].nr);
}

/* Whether a process of a hot context did this, and its kind is kept whole there. */
static __always_inline bool deep(struct plan_data *p, u32 kind)
{
	struct hint_state *d;
	struct proc_key k;

	if (!(p->deep & (1ULL << kind)))
		return false;
	d = depth_now();
	if (!d || !d->hints)
		return false;
	k = proc_key(current_task());
	return bpf_map_lookup_elem(&depths, &k) != NULL;
}

/* Whether a producer may send once more; then it has earned that later. */
static __always_inline bool may_send(struct shape_limit *l, struct producer *who, u64 now)
{
	u64 *owes = bpf_map_lookup_elem(&producers, who);
	u64 at = now;

	if (!l->gap)
		return true;
	if (owes && *owes > now)
		at = *owes;
	at += l->gap;
	if (at - now > l->room)
		return false;
	if (owes)
		*owes = at;
	else
		bpf_map_update_elem(&producers, who, &at, BPF_ANY);
	return true;
}

/*
 * What becomes of an event that no rule wants, before it is put together:
 * FATE_SENT, or why it is held back. A control group has a limit as well, so
 * that new sessions do not make room for ever.
 */
static __noinline __attribute__((unused)) u32 shaped(u32 kind)
{
	struct task_struct *t = current_task();
	struct producer who = {.what = SHAPE_SESSION};
	struct shape_data *l;
	u64 now = bpf_ktime_get_boot_ns();
	u32 zero = 0;

	l = bpf_map_lookup_elem(&shape, &zero);
	if (!l || kind >= REC_KINDS)
		return FATE_SENT;
	if (is_self(PEEK(t, tgid)))
		return FATE_SELF;
	who.id = session(t);
	if (!who.id) /* of the kernel, or of another pid namespace's outside */
		who.id = PEEK(t, tgid);
	if (!may_send(&l->limit[SHAPE_SESSION], &who, now))
		return FATE_SHAPED;
	who.what = SHAPE_CGROUP;
	who.id = BPF_CORE_READ(task_cgroup(t), kn, id);
	if (!may_send(&l->limit[SHAPE_CGROUP], &who, now))
		return FATE_SHAPED_CGROUP;
	return FATE_SENT;
}

/* What becomes of an event that no filter lets through: as `shaped`, or FATE_FILTERED. */
static __always_inline u32 beyond(struct plan_data *p, u32 kind)
{
	if (!deep(p, kind))
		return FATE_FILTERED;
	return shaped(kind);
}

/*
 * Notes an open that the plan refused by its name. The same again is counted
 * where it stands, so that one file that is opened all the time leaves the
 * others their places.
 */
static __always_inline int note_open(struct task_struct *t, struct dentry *d, const void *name,
				     u64 flags)
{
	struct hint_state *now = depth_now();
	struct moments *log;
	struct moment *m;
	u32 sid, at;
	u64 ts;

	if (!now || !now->recording)
		return 0;
	sid = session(t);
	at = sid & (RECORDER_LOGS - 1);
	log = bpf_map_lookup_elem(&recorder, &at);
	if (!log)
		return 0;
	m = &log->m[(log->n - 1) & (MOMENTS - 1)];
	if (m->dentry == (u64)d && m->tgid == PEEK(t, tgid) &&
	    m->start == PEEK(t, group_leader, start_boottime)) {
		m->count++;
		return 0;
	}
	ts = bpf_ktime_get_boot_ns();
	m = &log->m[log->n & (MOMENTS - 1)];
	log->n++;
	m->sum = 0;
	m->ts = ts;
	m->start = PEEK(t, group_leader, start_boottime);
	m->dentry = (u64)d;
	m->tgid = PEEK(t, tgid);
	m->sid = sid;
	m->flags = flags;
	m->count = 1;
	bpf_probe_read_kernel(m->name, sizeof(m->name), name);
	m->sum = m->ts ^ m->start ^ m->dentry ^ ((u64)m->tgid << 32 | sid) ^ m->flags;
	return 0;
}

#endif
