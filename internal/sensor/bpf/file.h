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

/* A file's base name; that of a mount's root is its mount point's. */
struct base_name {
	struct dentry *dentry;
	struct qstr q;
	bool none; /* the root of all has no name */
	bool unknown; /* mounts upon mounts */
};

static __always_inline void base_name(struct base_name *b, struct path *at)
{
	struct mount *m = (void *)at->mnt - bpf_core_field_offset(struct mount, mnt), *up;
	struct dentry *d = at->dentry;
	int i;

	b->none = b->unknown = false;
	for (i = 0; i < 4; i++) {
		if (d != BPF_CORE_READ(m, mnt.mnt_root))
			break;
		up = BPF_CORE_READ(m, mnt_parent);
		if (up == m) {
			b->none = true;
			return;
		}
		d = BPF_CORE_READ(m, mnt_mountpoint);
		m = up;
	}
	b->unknown = i == 4;
	b->dentry = d;
	bpf_probe_read_kernel(&b->q, sizeof(b->q),
			      (void *)d + bpf_core_field_offset(struct dentry, d_name));
}

static __always_inline bool base_wanted(struct plan_data *p, u32 kind, struct base_name *b)
{
	return b->unknown || (!b->none && name_wanted(p, kind, b->q.name, b->q.len));
}

/* Whether the base name of a file is watched. */
static __always_inline bool path_wanted(struct plan_data *p, u32 kind, struct path *at)
{
	struct base_name b = {};

	base_name(&b, at);
	return base_wanted(p, kind, &b);
}

/*
 * What becomes of an operation on a file that the kernel has at hand: FATE_SENT
 * if it is reported, with the reason in *why. Flags first, they cost nothing.
 */
static __always_inline u32 judge(struct plan_data *p, u32 kind, u64 flags, struct path *at,
				 u32 *why)
{
	*why = why_wanted(p, kind, flags);
	if (ask_name(p, kind, *why) && path_wanted(p, kind, at))
		*why = WANT_RULE;
	if (*why == WANT_RULE)
		return FATE_SENT;
	if (*why == WANT_SPARE)
		return shaped(kind);
	*why = WANT_SPARE;
	return beyond(p, kind);
}

struct open_args {
	u64 flags;
	u64 mode;
	u64 path; /* in the caller's memory, or a kernel string */
	s32 dirfd;
	u32 opflags;
	u32 why; /* enum want */
};

/*
 * What the plan says of an open: FATE_SENT if it is reported, with the reason in
 * a->why. Of one that failed there is no file, and its name is looked at later;
 * *by_name says so. What is refused goes to the flight recorder.
 */
static __always_inline u32 judge_open(struct plan_data *p, struct task_struct *t, struct file *f,
				      struct open_args *a, bool *by_name)
{
	struct base_name b = {};
	struct path at = {};
	u32 done;

	*by_name = false;
	a->why = why_wanted(p, REC_OPEN, a->flags);
	if (ask_name(p, REC_OPEN, a->why)) {
		if (!f) {
			*by_name = true;
			return FATE_SENT;
		}
		bpf_probe_read_kernel(&at, sizeof(at),
				      (void *)f + bpf_core_field_offset(struct file, f_path));
		base_name(&b, &at);
		if (base_wanted(p, REC_OPEN, &b))
			a->why = WANT_RULE;
	}
	if (a->why == WANT_RULE)
		return FATE_SENT;
	if (a->why == WANT_SPARE)
		return shaped(REC_OPEN);
	a->why = WANT_SPARE;
	done = beyond(p, REC_OPEN);
	if (done == FATE_FILTERED && b.q.name)
		note_open(t, b.dentry, b.q.name, a->flags);
	return done;
}

/* The part of open that is worth paying for: this one is reported. */
static __noinline __attribute__((unused)) int
report_open(struct task_struct *t, struct file *f, struct open_args *a, long ret, bool by_name)
{
	struct rec_fileop *r;
	struct scratch *s;
	struct plan_data *p;
	char first = 0;
	u32 done;

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
	if (by_name && tail_wanted(s, REC_OPEN, r->arg.off, r->arg.len)) {
		a->why = WANT_RULE;
	} else if (by_name) {
		p = the_plan();
		done = FATE_FILTERED;
		if (a->why == WANT_SPARE)
			done = shaped(REC_OPEN);
		else if (p)
			done = beyond(p, REC_OPEN);
		a->why = WANT_SPARE;
		if (done != FATE_SENT) {
			give(s);
			return fate(REC_OPEN, done);
		}
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
	return send_bulk(s, REC_OPEN, a->why);
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
	return send_bulk(s, kind, a->why);
}

/* Same, by descriptor. Filtered by the dentry's name. */
static __always_inline int observe_fd(u32 kind, struct pending *a, u32 fd, long ret)
{
	struct task_struct *t = current_task();
	struct path at = {};
	struct plan_data *p;
	struct file *f;
	u32 done;

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
	done = judge(p, kind, a->flags, &at, &a->why);
	if (done != FATE_SENT)
		return fate(kind, done);
	a->opflags |= RO_BY_FD;
	a->dirfd = fd;
	return report_object(kind, (u64)at.mnt, (u64)at.dentry, a, ret);
}

#endif
