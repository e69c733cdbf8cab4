// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/* Process life: fork, exec, exit, cgroup moves, and the snapshot at start. */
#include "task.h"
#include "script.h"
#include "filter.h"
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline void *begin(struct scratch *s, u32 size)
{
	s->off = size;
	return s->buf;
}

/*
 * A child is watched as its parent is, before it runs. The agent hints at the
 * parent first and looks for its children after, so that there is no moment at
 * which a fork could come between.
 */
static __always_inline void inherit(struct task_struct *parent, struct task_struct *child)
{
	struct hint_state *d = depth_now();
	struct proc_key k;
	u32 *level, have;

	if (!d || !d->hints)
		return;
	k = proc_key(parent);
	level = bpf_map_lookup_elem(&depths, &k);
	if (!level)
		return;
	have = *level;
	k = proc_key(child);
	if (bpf_map_update_elem(&depths, &k, &have, BPF_ANY))
		count_beside(BESIDE_DEPTH_FULL);
}

/*
 * tp_btf/sched_process_fork: since v2.6; after copy_process, in the parent,
 * before the child runs, so its record is on the ring before any of the
 * child's. Not seen: threads (left out on purpose), kernel threads' children
 * look like any other. Costs about a microsecond per process made.
 */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	struct task_struct *up;
	struct rec_proc *r;
	struct scratch *s;

	if (child->pid != child->tgid)
		return 0;
	inherit(parent, child);
	fate(REC_FORK, FATE_SEEN);
	s = take(parent->pid);
	if (!s)
		return fate(REC_FORK, FATE_SCRATCH_BUSY);
	r = begin(s, sizeof(*r));
	__builtin_memset(r, 0, sizeof(*r));
	fill_hdr(&r->hdr, child);
	fill_proc(s, r, child);
	up = parent->group_leader;
	r->creator = up->tgid;
	r->creator_start = up->start_boottime;
	r->old_tid = parent->pid;
	return send(s, &critical, REC_FORK);
}

/*
 * tp_btf/sched_process_exec: since v3.4; after the new image is in place and
 * its arguments lie on the new stack, before it runs its first instruction, so
 * nothing can have rewritten them. Not seen: an exec that fails. A script's own
 * file has been released by then (script.h); its name is the kernel's copy.
 */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *p, int old_pid, struct linux_binprm *bprm)
{
	u64 from, to, n, name, interp;
	struct mm_struct *mm;
	struct rec_proc *r;
	struct scratch *s;
	struct file *f;

	fate(REC_EXEC, FATE_SEEN);
	s = take(p->pid);
	if (!s)
		return fate(REC_EXEC, FATE_SCRATCH_BUSY);
	r = begin(s, sizeof(*r));
	__builtin_memset(r, 0, sizeof(*r));
	fill_hdr(&r->hdr, p);
	fill_proc(s, r, p);
	r->old_tid = old_pid;
	r->argc = bprm->argc;
	r->envc = bprm->envc;
	f = bprm->file;
	if (f)
		fill_from_file(s, &r->exe, f);
	name = (u64)BPF_CORE_READ(bprm, filename);
	interp = (u64)BPF_CORE_READ(bprm, interp);
	put_kernel_str(s, &r->filename, name);
	if (interp != name) {
		put_kernel_str(s, &r->interp, interp);
		put_script(s, &r->script, (u64)p->tgid << 32 | (u32)old_pid);
	}
	mm = p->mm;
	from = BPF_CORE_READ(mm, arg_start);
	to = BPF_CORE_READ(mm, arg_end);
	n = to - from;
	if (n > 16384) {
		n = 16384;
		r->flags |= RP_ARGS_TRUNCATED;
	}
	if (!put_user(s, &r->args, from, n))
		r->flags |= RP_ARGS_UNREADABLE;
	from = BPF_CORE_READ(mm, env_start);
	to = BPF_CORE_READ(mm, env_end);
	n = to - from;
	if (n > 16384) {
		n = 16384;
		r->flags |= RP_ENVS_TRUNCATED;
	}
	if (!put_user(s, &r->envs, from, n))
		r->flags |= RP_ENVS_UNREADABLE;
	return send(s, &critical, REC_EXEC);
}

static __always_inline void forget(struct task_struct *t)
{
	struct hint_state *d = depth_now();
	struct proc_key k;

	if (!d || !d->hints)
		return;
	k = proc_key(t);
	bpf_map_delete_elem(&depths, &k);
}

/*
 * tp_btf/sched_process_exit: for each thread; the last one's is the process's.
 * The exit code is that of exit_group or the signal, where there was one.
 */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *p)
{
	u64 id = bpf_get_current_pid_tgid();
	struct signal_struct *sig = p->signal;
	struct rec_exit *r;
	struct scratch *s;

	bpf_map_delete_elem(&pending, &id);
	bpf_map_delete_elem(&pending_ids, &id);
	bpf_map_delete_elem(&held, &id);
	if (sig->live.counter)
		return 0;
	forget(p);
	fate(REC_EXIT, FATE_SEEN);
	s = take(p->pid);
	if (!s)
		return fate(REC_EXIT, FATE_SCRATCH_BUSY);
	r = begin(s, sizeof(*r));
	fill_hdr(&r->hdr, p);
	r->code = sig->flags & SIGNAL_GROUP_EXIT ? sig->group_exit_code : p->exit_code;
	r->pad = 0;
	return send(s, &critical, REC_EXIT);
}

/*
 * tp_btf/cgroup_attach_task: since v4.19; once per moved task and hierarchy,
 * in the task that wrote cgroup.procs. Not seen: a child born into another
 * cgroup (CLONE_INTO_CGROUP), which its fork record shows.
 */
SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(on_cgroup, struct cgroup *dst, const char *path, struct task_struct *task,
	     bool threadgroup)
{
	struct task_struct *t = current_task();
	struct rec_cgroup *r;
	struct scratch *s;
	struct plan_data *p;

	if (task->pid != task->tgid)
		return 0;
	fate(REC_CGROUP, FATE_SEEN);
	p = the_plan();
	if (!p || p->mode[REC_CGROUP] == PLAN_OFF)
		return fate(REC_CGROUP, FATE_FILTERED);
	/* of several hierarchies only the one that names the process's cgroup */
	if (dst->root->hierarchy_id != BPF_CORE_READ(task_cgroup(task), root, hierarchy_id))
		return fate(REC_CGROUP, FATE_FILTERED);
	s = take(PEEK(t, pid));
	if (!s)
		return fate(REC_CGROUP, FATE_SCRATCH_BUSY);
	r = begin(s, sizeof(*r));
	__builtin_memset(r, 0, sizeof(*r));
	fill_hdr(&r->hdr, t);
	r->tgid = task->tgid;
	r->tid = task->pid;
	r->start = task->group_leader->start_boottime;
	r->hier = dst->root->hierarchy_id;
	if (r->hier > 1)
		r->flags |= RP_CGROUP_V1;
	r->node = dst->kn->id;
	r->threadgroup = threadgroup;
	if (put_cgroup(s, &r->path, (u64)BPF_CORE_READ(dst, kn)))
		r->flags |= RP_CGROUP_TRUNCATED;
	return send(s, &critical, REC_CGROUP);
}

/* iter/task: every living process; the agent reads the records from the iterator. */
SEC("iter/task")
int on_task(struct bpf_iter__task *ctx)
{
	struct task_struct *t = ctx->task;
	struct seq_file *seq = ctx->meta->seq;
	struct mm_struct *mm;
	struct rec_proc *r;
	struct scratch *s;
	struct file *f;
	u64 n;

	if (!t)
		return 0;
	if (t->pid != t->tgid)
		return 0;
	fate(REC_SNAPSHOT, FATE_SEEN);
	s = take(bpf_get_current_pid_tgid());
	if (!s)
		return fate(REC_SNAPSHOT, FATE_SCRATCH_BUSY);
	r = begin(s, sizeof(*r));
	__builtin_memset(r, 0, sizeof(*r));
	fill_hdr(&r->hdr, t);
	fill_proc(s, r, t);
	mm = BPF_CORE_READ(t, mm);
	if (mm) {
		f = BPF_CORE_READ(mm, exe_file);
		if (f)
			fill_from_file(s, &r->exe, f);
	}
	n = (s->off + 7) & ~7ULL;
	asm volatile("" : "+r"(n));
	r->hdr.kind = REC_SNAPSHOT;
	r->hdr.size = n;
	if (n > 24576) {
		give(s);
		return fate(REC_SNAPSHOT, FATE_TOO_BIG);
	}
	if (bpf_seq_write(seq, s->buf, n)) {
		/* the reader's buffer is full: the kernel asks again for this task */
		give(s);
		return fate(REC_SNAPSHOT, FATE_RESULT);
	}
	give(s);
	return fate(REC_SNAPSHOT, FATE_SENT);
}

/*
 * iter/task: hints at the living children of those that have a hint, if they were
 * born so lately that the agent may not know them, and tells it which they are. One pass sees a
 * child after its parent or before it; the agent runs passes until one finds nobody.
 */
SEC("iter/task")
int on_deepen(struct bpf_iter__task *ctx)
{
	struct task_struct *t = ctx->task, *up;
	struct seq_file *seq = ctx->meta->seq;
	struct proc_key k, parent;
	struct hint_state *d = depth_now();
	u32 *level, have;

	if (!t || !d)
		return 0;
	if (t->pid != t->tgid || t->start_boottime < d->since)
		return 0;
	k.start = t->start_boottime;
	k.tgid = t->tgid;
	k.pad = 0;
	if (bpf_map_lookup_elem(&depths, &k))
		return 0;
	up = BPF_CORE_READ(t, real_parent, group_leader);
	parent.start = BPF_CORE_READ(up, start_boottime);
	parent.tgid = BPF_CORE_READ(up, tgid);
	parent.pad = 0;
	level = bpf_map_lookup_elem(&depths, &parent);
	if (!level)
		return 0;
	have = *level;
	if (bpf_map_update_elem(&depths, &k, &have, BPF_ANY)) {
		count_beside(BESIDE_DEPTH_FULL);
		return 0;
	}
	bpf_seq_write(seq, &k, sizeof(k));
	return 0;
}
