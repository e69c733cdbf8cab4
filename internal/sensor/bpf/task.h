/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Facts about a process: credentials, cgroup, terminal, executable. */
#ifndef CLEW_TASK_H
#define CLEW_TASK_H

#include "path.h"

#define CGROUP_STEPS 32

/* Appends the names of a cgroup directory, leaf first, below its hierarchy's root. */
SUBPROG int put_cgroup(struct scratch *s, struct rec_str *out, u64 kn)
{
	struct kernfs_node *k = (void *)kn;
	volatile u32 *poff;
	u32 begin;
	int i;

	if (!s || !out)
		return 0;
	poff = &s->off;
	begin = *poff;
	out->off = begin;
	out->len = 0;
	for (i = 0; i < CGROUP_STEPS; i++) {
		struct kernfs_node *up = k ? kernfs_parent(k) : NULL;
		u32 off = *poff;
		long n;

		if (!up)
			break;
		if (off > SCRATCH_LIMIT)
			break;
		n = bpf_probe_read_kernel_str(AT(s, off), 256, BPF_CORE_READ(k, name));
		if (n <= 0 || n > 256)
			break;
		*poff = off + n;
		k = up;
	}
	out->len = *poff - begin;
	return i == CGROUP_STEPS;
}

static __always_inline void fill_cgroup(struct scratch *s, struct rec_proc *r,
					struct task_struct *t)
{
	struct cgroup *g = task_cgroup(t);

	r->cgroup_hier = BPF_CORE_READ(g, root, hierarchy_id);
	if (r->cgroup_hier > 1)
		r->flags |= RP_CGROUP_V1;
	r->cgroup_node = BPF_CORE_READ(g, kn, id);
	if (put_cgroup(s, &r->cgroup, (u64)BPF_CORE_READ(g, kn)))
		r->flags |= RP_CGROUP_TRUNCATED;
}

static __always_inline void fill_ids(struct rec_ids *i, const struct cred *c)
{
	i->uid = BPF_CORE_READ(c, uid.val);
	i->gid = BPF_CORE_READ(c, gid.val);
	i->suid = BPF_CORE_READ(c, suid.val);
	i->sgid = BPF_CORE_READ(c, sgid.val);
	i->euid = BPF_CORE_READ(c, euid.val);
	i->egid = BPF_CORE_READ(c, egid.val);
	i->fsuid = BPF_CORE_READ(c, fsuid.val);
	i->fsgid = BPF_CORE_READ(c, fsgid.val);
	i->cap_effective = read_caps(c, cap_effective);
	i->cap_permitted = read_caps(c, cap_permitted);
}

#define ROOT_MOUNTS 8

/* Whether absolute paths of a task begin elsewhere than at its mount namespace's root. */
static __always_inline bool chrooted(struct task_struct *t)
{
	struct vfsmount *vm = BPF_CORE_READ(t, fs, root.mnt);
	struct dentry *d = BPF_CORE_READ(t, fs, root.dentry);
	struct mount *m = (void *)vm - bpf_core_field_offset(struct mount, mnt), *up;
	int i;

	if (!vm)
		return false;
	for (i = 0; i < ROOT_MOUNTS; i++) {
		if (d != BPF_CORE_READ(m, mnt.mnt_root))
			return true;
		up = BPF_CORE_READ(m, mnt_parent);
		if (!up || up == m)
			return false;
		d = BPF_CORE_READ(m, mnt_mountpoint);
		m = up;
	}
	return true;
}

/* Namespaces, capabilities, terminal, cgroup, working directory. */
static __always_inline void fill_proc(struct scratch *s, struct rec_proc *r, struct task_struct *t)
{
	const struct cred *c = PEEK(t, cred);
	struct task_struct *up = BPF_CORE_READ(t, real_parent, group_leader);
	struct pid *pid = BPF_CORE_READ(t, thread_pid);
	struct tty_struct *tty;
	u32 level;
	u64 mnt, dent;
	u16 flags = 0;

	r->creator = BPF_CORE_READ(up, tgid);
	r->creator_start = BPF_CORE_READ(up, start_boottime);
	if (PEEK(t, flags) & PF_KTHREAD)
		r->flags |= RP_KTHREAD;
	if (chrooted(t))
		r->flags |= RP_CHROOTED;
	r->cap_effective = read_caps(c, cap_effective);
	r->cap_permitted = read_caps(c, cap_permitted);
	if (pid) {
		level = BPF_CORE_READ(pid, level);
		if (level < 32) {
			void *at = (void *)pid + bpf_core_field_offset(struct pid, numbers) +
				   level * bpf_core_type_size(struct upid);
			struct pid_namespace *ns = NULL;

			bpf_probe_read_kernel(&r->nspid, sizeof(r->nspid),
					      at + bpf_core_field_offset(struct upid, nr));
			bpf_probe_read_kernel(&ns, sizeof(ns),
					      at + bpf_core_field_offset(struct upid, ns));
			r->pidns = BPF_CORE_READ(ns, ns.inum);
		}
	}
	tty = BPF_CORE_READ(t, signal, tty);
	if (tty)
		bpf_probe_read_kernel_str(r->tty, sizeof(r->tty),
					  (void *)tty +
						  bpf_core_field_offset(struct tty_struct, name));
	fill_cgroup(s, r, t);
	mnt = (u64)BPF_CORE_READ(t, fs, pwd.mnt);
	dent = (u64)BPF_CORE_READ(t, fs, pwd.dentry);
	if (mnt && dent)
		put_path(s, &r->cwd, &flags, mnt, dent);
}

#endif
