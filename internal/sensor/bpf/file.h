/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Observations of files, shared by both ways to attach. */
#ifndef CLEW_FILE_H
#define CLEW_FILE_H

#include "filter.h"
#include "path.h"

/* Only successes and refusals for want of permission are reported. */
static __always_inline bool reported(long ret)
{
	return ret >= 0 || ret == -EPERM_ || ret == -EACCES_;
}

/* Whether the base name of a file is watched; that of a mount's root is its mount point's. */
static __always_inline bool path_wanted(struct plan_data *p, u32 kind, struct path *at)
{
	struct mount *m = (void *)at->mnt - bpf_core_field_offset(struct mount, mnt), *up;
	struct dentry *d = at->dentry;
	struct qstr q = {};
	int i;

	for (i = 0; i < 4; i++) {
		if (d != BPF_CORE_READ(m, mnt.mnt_root))
			break;
		up = BPF_CORE_READ(m, mnt_parent);
		if (up == m)
			return false; /* the root of all has no name */
		d = BPF_CORE_READ(m, mnt_mountpoint);
		m = up;
	}
	if (i == 4)
		return true;
	bpf_probe_read_kernel(&q, sizeof(q),
			      (void *)d + bpf_core_field_offset(struct dentry, d_name));
	return name_wanted(p, kind, q.name, q.len);
}

struct open_args {
	u64 flags;
	u64 mode;
	u64 path; /* in the caller's memory, or a kernel string */
	s32 dirfd;
	u32 opflags;
};

/* The part of open that is worth paying for: this one is reported. */
static __noinline __attribute__((unused)) int
report_open(struct task_struct *t, struct file *f, struct open_args *a, long ret, bool by_name)
{
	struct rec_fileop *r;
	struct scratch *s;
	char first = 0;

	if (is_self(PEEK(t, tgid)))
		return fate(REC_OPEN, FATE_SELF);
	s = take(PEEK(t, pid));
	if (!s)
		return fate(REC_OPEN, FATE_SCRATCH_BUSY);
	s->off = sizeof(*r);
	r = (void *)s->buf;
	__builtin_memset(r, 0, sizeof(*r));
	r->opflags = a->opflags;
	if (a->opflags & RO_PATH_USER) {
		if (!put_user_str(s, &r->arg, a->path))
			r->opflags |= RO_UNREADABLE;
	} else if (a->path) {
		put_kernel_str(s, &r->arg, a->path);
	}
	if (by_name && !f && !tail_wanted(s, REC_OPEN, r->arg.off, r->arg.len)) {
		give(s);
		return fate(REC_OPEN, FATE_FILTERED);
	}
	fill_hdr(&r->hdr, t);
	r->retval = ret;
	r->flags = a->flags;
	r->mode = a->mode;
	r->dirfd = a->dirfd;
	if (f) {
		u32 ff = BPF_CORE_READ(f, f_flags);

		/* access mode and status flags as the kernel holds them */
		r->flags = (a->flags & (O_CREAT_ | O_EXCL_ | O_NOCTTY_ | O_TRUNC_)) | ff;
		r->opflags &= ~(RO_PATH_USER | RO_UNREADABLE);
		if (BPF_CORE_READ(f, f_mode) & FMODE_CREATED)
			r->opflags |= RO_CREATED;
		fill_from_file(s, &r->file, f);
	} else {
		first = s->buf[sizeof(*r)];
		put_base(s, &r->dir, &r->opflags, t, a->dirfd, r->arg.len && first == '/');
	}
	return send(s, &bulk, REC_OPEN);
}

/* One canary on each ring. */
static __noinline __attribute__((unused)) int send_canary(u64 nonce)
{
	struct task_struct *t = current_task();
	struct rec_canary *r;
	struct scratch *s;
	u32 ring;

	for (ring = 0; ring < 2; ring++) {
		fate(REC_CANARY, FATE_SEEN);
		s = take(PEEK(t, pid));
		if (!s) {
			fate(REC_CANARY, FATE_SCRATCH_BUSY);
			continue;
		}
		s->off = sizeof(*r);
		r = (void *)s->buf;
		fill_hdr(&r->hdr, t);
		r->nonce = nonce;
		r->ring = ring;
		r->pad = 0;
		if (ring)
			send(s, &bulk, REC_CANARY);
		else
			send(s, &critical, REC_CANARY);
	}
	return 0;
}

/* A file operation on an object that the kernel has at hand. */
static __noinline __attribute__((unused)) int report_object(u32 kind, u64 mnt, u64 dentry,
							    struct pending *a, long ret)
{
	struct task_struct *t = current_task();
	struct rec_fileop *r;
	struct scratch *s;

	if (is_self(PEEK(t, tgid)))
		return fate(kind, FATE_SELF);
	s = take(PEEK(t, pid));
	if (!s)
		return fate(kind, FATE_SCRATCH_BUSY);
	s->off = sizeof(*r);
	r = (void *)s->buf;
	__builtin_memset(r, 0, sizeof(*r));
	fill_hdr(&r->hdr, t);
	r->retval = ret;
	r->opflags = a->opflags;
	r->flags = a->flags;
	r->mode = a->mode;
	r->uid = a->uid;
	r->gid = a->gid;
	r->dirfd = a->dirfd;
	r->length = a->length;
	fill_file(s, &r->file, mnt, dentry);
	return send(s, &bulk, kind);
}

/* Same, by descriptor. Filtered by the dentry's name. */
static __always_inline int observe_fd(u32 kind, struct pending *a, u32 fd, long ret)
{
	struct task_struct *t = current_task();
	struct path at = {};
	struct plan_data *p;
	struct file *f;

	fate(kind, FATE_SEEN);
	if (!reported(ret))
		return fate(kind, FATE_RESULT);
	p = the_plan();
	if (!p || p->mode[kind] == PLAN_OFF)
		return fate(kind, FATE_FILTERED);
	f = fd_file(t, fd);
	if (!f)
		return fate(kind, FATE_NO_FILE);
	bpf_probe_read_kernel(&at, sizeof(at),
			      (void *)f + bpf_core_field_offset(struct file, f_path));
	if (p->mode[kind] == PLAN_FILTERED && !(a->flags & p->flags_any[kind]) &&
	    !path_wanted(p, kind, &at))
		return fate(kind, FATE_FILTERED);
	a->opflags |= RO_BY_FD;
	a->dirfd = fd;
	return report_object(kind, (u64)at.mnt, (u64)at.dentry, a, ret);
}

#endif
