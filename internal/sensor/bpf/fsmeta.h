/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * What is done to files beside their content and names: working directories,
 * mounts, extended attributes, times, splice. Shared by both ways to attach.
 */
#ifndef CLEW_FSMETA_H
#define CLEW_FSMETA_H

#include "call.h"

#define MS_REMOUNT_ 0x20
#define MS_BIND_ 0x1000
#define MS_MOVE_ 0x2000
#define MS_PROPAGATION_ (0x20000 | 0x40000 | 0x80000 | 0x100000)
#define MS_MGC_MSK_ 0xffff0000
#define MS_MGC_VAL_ 0xc0ed0000
#define MOVE_MOUNT_F_EMPTY_PATH_ 0x4
#define OPEN_TREE_CLONE_ 1
#define UTIME_NOW_ 0x3fffffff
#define UTIME_OMIT_ 0x3ffffffe
#define S_IFIFO_ 0010000

#define WORD(a, b, c, d, e, f, g, h)                                                               \
	((u64)(a) | (u64)(b) << 8 | (u64)(c) << 16 | (u64)(d) << 24 | (u64)(e) << 32 |             \
	 (u64)(f) << 40 | (u64)(g) << 48 | (u64)(h) << 56)

/* The namespace of an attribute, by the first eight bytes of its name. */
static __always_inline u32 xattr_ns(u64 head)
{
	if (head == WORD('s', 'e', 'c', 'u', 'r', 'i', 't', 'y'))
		return RX_SECURITY;
	if (head == WORD('t', 'r', 'u', 's', 't', 'e', 'd', '.'))
		return RX_TRUSTED;
	if ((head & 0xffffffffffffff) == WORD('s', 'y', 's', 't', 'e', 'm', '.', 0))
		return RX_SYSTEM;
	if ((head & 0xffffffffff) == WORD('u', 's', 'e', 'r', '.', 0, 0, 0))
		return RX_USER;
	return 0;
}

static __always_inline s64 time_asked(s64 sec, s64 nsec)
{
	if (nsec == UTIME_NOW_)
		return TIME_NOW;
	if (nsec == UTIME_OMIT_)
		return TIME_OMITTED;
	return sec * 1000000000LL + nsec;
}

/* What a record of these kinds says beside the file. */
struct extra {
	u64 name; /* of an attribute; 0: none */
	bool name_user; /* in the caller's memory */
	s64 atime, mtime;
	u32 pipe_before, pipe_after;
};

/* Begins a record; NULL when there is no room. */
static __always_inline struct rec_meta *meta_begin(struct scratch *s, struct pending *a, long ret)
{
	struct rec_meta *r = (void *)s->buf;

	s->off = sizeof(*r);
	__builtin_memset(r, 0, sizeof(*r));
	r->op.retval = ret;
	r->op.opflags = a->opflags;
	r->op.flags = a->flags;
	r->op.mode = a->mode;
	r->op.dirfd = a->dirfd;
	r->op.length = a->length;
	return r;
}

static __always_inline void meta_extra(struct scratch *s, struct rec_meta *r, struct extra *x)
{
	r->atime = x->atime;
	r->mtime = x->mtime;
	r->pipe_before = x->pipe_before;
	r->pipe_after = x->pipe_after;
	if (!x->name)
		return;
	if (x->name_user) {
		if (!put_user_str(s, &r->name, x->name))
			r->op.opflags |= RO_UNREADABLE;
	} else {
		put_kernel_str(s, &r->name, x->name);
	}
}

/* A function of its own for its stack, which verifiers add up. */
static __noinline __attribute__((unused)) bool at_wanted(struct plan_data *p, u32 kind,
							 struct path *at)
{
	return path_wanted(p, kind, at);
}

/* An operation on an object that the kernel has at hand. */
static __noinline __attribute__((unused)) int
report_meta(u32 kind, struct path *at, struct pending *a, struct extra *x, long ret)
{
	struct task_struct *t = current_task();
	struct plan_data *p = the_plan();
	struct rec_meta *r;
	struct scratch *s;
	u32 done;

	if (kind >= REC_KINDS)
		return 0;
	if (!reported(ret))
		return fate(kind, FATE_RESULT);
	if (!p || p->mode[kind] == PLAN_OFF)
		return fate(kind, FATE_FILTERED);
	if (p->mode[kind] == PLAN_FILTERED && !(a->flags & p->flags_any[kind]) &&
	    (!(p->by_name & (1ULL << kind)) || !at_wanted(p, kind, at))) {
		done = beyond(p, kind);
		if (done != FATE_SENT)
			return fate(kind, done);
	}
	if (is_self(PEEK(t, tgid)))
		return fate(kind, FATE_SELF);
	s = take(PEEK(t, pid));
	if (!s)
		return fate(kind, FATE_SCRATCH_BUSY);
	r = meta_begin(s, a, ret);
	fill_hdr(&r->op.hdr, t);
	fill_file(s, &r->op.file, (u64)at->mnt, (u64)at->dentry);
	if (a->arg)
		put_user_str(s, &r->op.arg, a->arg);
	meta_extra(s, r, x);
	return send(s, &bulk, kind);
}

static __always_inline struct path file_path(struct file *f)
{
	struct path at = {};

	bpf_probe_read_kernel(&at, sizeof(at),
			      (void *)f + bpf_core_field_offset(struct file, f_path));
	return at;
}

/* Pipes, as far as splice is about them. */
struct pipe_buffer___k {
	unsigned int flags;
} __attribute__((preserve_access_index));
/* head was an unsigned int until v6.14, when it shrank to 16 bits on some architectures. */
struct pipe_inode_info___k {
	unsigned int head;
	unsigned int ring_size;
	void *bufs;
} __attribute__((preserve_access_index));

static __always_inline bool is_pipe(struct file *f)
{
	return f && (BPF_CORE_READ(f, f_inode, i_mode) & S_IFMT_) == S_IFIFO_;
}

/* The flags of the buffer that was written last. */
static __always_inline u32 pipe_flags(struct file *f)
{
	struct pipe_inode_info___k *p = BPF_CORE_READ(f, private_data);
	u32 head = 0, size, flags = 0;
	void *bufs;

	if (!p)
		return 0;
	bpf_probe_read_kernel(&head, bpf_core_field_size(p->head),
			      (void *)p + bpf_core_field_offset(p->head));
	size = BPF_CORE_READ(p, ring_size);
	bufs = BPF_CORE_READ(p, bufs);
	if (!size || !bufs)
		return 0;
	head = (head - 1) & (size - 1);
	bpf_probe_read_kernel(&flags, sizeof(flags),
			      bufs + (u64)head * bpf_core_type_size(struct pipe_buffer___k) +
				      bpf_core_field_offset(struct pipe_buffer___k, flags));
	return flags;
}

/* Both ends are at hand, and what the pipe was like before. */
static __always_inline int observe_splice(struct file *in, struct file *out, struct pending *a,
					  long ret)
{
	struct extra x = {.pipe_before = a->mode};
	struct path at;

	if (is_pipe(in)) {
		x.pipe_after = pipe_flags(in);
		at = file_path(out);
	} else {
		x.pipe_after = pipe_flags(out);
		at = file_path(in);
	}
	a->mode = 0;
	a->flags = 0;
	return report_meta(REC_SPLICE, &at, a, &x, ret);
}

/* Mounts. */
struct list_head___k {
	struct list_head___k *next, *prev;
} __attribute__((preserve_access_index));
struct rb_node___k {
	struct rb_node___k *rb_right, *rb_left;
} __attribute__((preserve_access_index));
struct rb_root___k {
	struct rb_node___k *rb_node;
} __attribute__((preserve_access_index));
/* v6.8, 2eea9ce4310d "mounts: keep list of mounts in an rbtree": by an id that only grows. */
struct mnt_namespace___list {
	struct list_head___k list;
} __attribute__((preserve_access_index));
struct mnt_namespace___tree {
	struct rb_root___k mounts;
} __attribute__((preserve_access_index));
struct mount___list {
	struct list_head___k mnt_list;
} __attribute__((preserve_access_index));
struct mount___tree {
	struct rb_node___k mnt_node;
	u64 mnt_id_unique;
} __attribute__((preserve_access_index));

#define MOUNT_TREE_STEPS 32

static __always_inline u64 unique_id(struct rb_node___k *n)
{
	return BPF_CORE_READ(
		(struct mount___tree *)((void *)n -
					bpf_core_field_offset(struct mount___tree, mnt_node)),
		mnt_id_unique);
}

/*
 * A mark of the youngest mount in the task's namespace: what is made after has
 * a place behind it. The kernel appends new mounts to the namespace's list,
 * and gives them growing ids where it keeps a tree.
 */
static __always_inline u64 youngest(struct task_struct *t)
{
	struct mnt_namespace *ns = BPF_CORE_READ(t, nsproxy, mnt_ns);
	struct mnt_namespace___tree *tree = (void *)ns;
	struct mnt_namespace___list *list = (void *)ns;
	struct rb_node___k *n, *right;
	int i;

	if (bpf_core_field_exists(list->list))
		return (u64)BPF_CORE_READ(list, list.prev);
	n = BPF_CORE_READ(tree, mounts.rb_node);
	for (i = 0; n && i < MOUNT_TREE_STEPS; i++) {
		right = BPF_CORE_READ(n, rb_right);
		if (!right)
			return unique_id(n);
		n = right;
	}
	return 0;
}

/* The first mount in the task's namespace that is younger than the mark. */
static __always_inline struct mount *first_after(struct task_struct *t, u64 mark)
{
	struct mnt_namespace *ns = BPF_CORE_READ(t, nsproxy, mnt_ns);
	struct mnt_namespace___tree *tree = (void *)ns;
	struct mnt_namespace___list *list = (void *)ns;
	struct rb_node___k *n, *found = NULL;
	struct list_head___k *next;
	int i;

	if (!mark)
		return NULL;
	if (bpf_core_field_exists(list->list)) {
		next = BPF_CORE_READ((struct list_head___k *)mark, next);
		if (!next ||
		    next == (void *)ns + bpf_core_field_offset(struct mnt_namespace___list, list))
			return NULL;
		return (void *)next - bpf_core_field_offset(struct mount___list, mnt_list);
	}
	n = BPF_CORE_READ(tree, mounts.rb_node);
	for (i = 0; n && i < MOUNT_TREE_STEPS; i++) {
		if (unique_id(n) > mark) {
			found = n;
			n = BPF_CORE_READ(n, rb_left);
		} else {
			n = BPF_CORE_READ(n, rb_right);
		}
	}
	if (!found)
		return NULL;
	return (void *)found - bpf_core_field_offset(struct mount___tree, mnt_node);
}

#define ROOT_STEPS 32

/* Appends the names from a dentry up to the root of its file system, leaf first. */
SUBPROG int put_inside(struct scratch *s, struct rec_str *out, u64 dent)
{
	struct dentry *d = (void *)dent;
	volatile u32 *poff;
	u32 begin;
	int i;

	if (!s || !out)
		return 0;
	poff = &s->off;
	begin = *poff;
	out->off = begin;
	out->len = 0;
	for (i = 0; i < ROOT_STEPS; i++) {
		struct dentry *parent = BPF_CORE_READ(d, d_parent);
		u32 off = *poff;
		long n;

		if (!parent || parent == d || off > SCRATCH_LIMIT)
			break;
		n = bpf_probe_read_kernel_str(AT(s, off), 256, BPF_CORE_READ(d, d_name.name));
		if (n <= 0 || n > 256)
			break;
		*poff = off + n;
		d = parent;
	}
	out->len = *poff - begin;
	return i == ROOT_STEPS;
}

/* What a mount or umount call asked for; the strings are the caller's unless kernel. */
struct mount_call {
	u64 source, target, type;
	u64 flags;
	u64 mount; /* struct mount; 0: not known */
	u64 point; /* struct path of the directory, when the kernel has resolved it */
	u64 hash, hash2; /* of source and target at entry; 0: not compared */
	s32 dirfd, dirfd2;
	u32 opflags;
	u32 mflags;
	bool kernel;
};

static __noinline __attribute__((unused)) int report_mount(u32 kind, struct mount_call *c, long ret)
{
	struct task_struct *t = current_task();
	struct mount *m = (void *)c->mount;
	struct rec_mount *r;
	struct scratch *s;

	if (kind >= REC_KINDS)
		return 0;
	if (is_self(PEEK(t, tgid)))
		return fate(kind, FATE_SELF);
	s = take(PEEK(t, pid));
	if (!s)
		return fate(kind, FATE_SCRATCH_BUSY);
	r = (void *)s->buf;
	s->off = sizeof(*r);
	__builtin_memset(r, 0, sizeof(*r));
	fill_hdr(&r->hdr, t);
	r->retval = ret;
	r->flags = c->flags;
	r->opflags = c->opflags;
	r->mflags = c->mflags;
	if (c->kernel) {
		if (c->source)
			put_kernel_str(s, &r->source, c->source);
		if (c->type)
			put_kernel_str(s, &r->type, c->type);
	} else {
		if (c->source && put_user_str(s, &r->source, c->source) && c->hash &&
		    hash_tail(s, r->source.off, r->source.len) != c->hash)
			r->opflags |= RO_CHANGED;
		if (c->target && !put_user_str(s, &r->target, c->target))
			r->opflags |= RO_UNREADABLE;
		else if (c->hash2 && hash_tail(s, r->target.off, r->target.len) != c->hash2)
			r->opflags |= RO_CHANGED;
		if (c->type)
			put_user_str(s, &r->type, c->type);
	}
	if (r->source.len)
		put_dir(s, &r->dir, &r->opflags, &r->source, c->dirfd, RO_OWN_LINK);
	if (r->target.len)
		put_dir(s, &r->dir2, &r->opflags, &r->target, c->dirfd2, RO_OWN_LINK2);
	if (m) {
		struct dentry *root = BPF_CORE_READ(m, mnt.mnt_root);

		r->opflags &= ~(RO_PATH_USER | RO_UNREADABLE);
		r->mflags |= RM_FOUND;
		fill_file(s, &r->file, (u64)m + bpf_core_field_offset(struct mount, mnt),
			  (u64)root);
		put_inside(s, &r->root, (u64)root);
	} else if (c->point) {
		struct path *at = (void *)c->point;

		fill_file(s, &r->file, (u64)BPF_CORE_READ(at, mnt), (u64)BPF_CORE_READ(at, dentry));
	}
	return send(s, &critical, kind);
}

/* Whether a mount call with these flags makes something visible at a directory. */
static __always_inline bool mounts_something(u64 flags)
{
	return (flags & MS_BIND_ && !(flags & MS_REMOUNT_)) ||
	       !(flags & (MS_REMOUNT_ | MS_PROPAGATION_));
}

static __always_inline u64 mount_flags(u64 flags)
{
	if ((flags & MS_MGC_MSK_) == MS_MGC_VAL_)
		flags &= ~(u64)MS_MGC_MSK_;
	return flags;
}

/* Common to both ways: mount(2) has ended. */
static __always_inline int observe_mount(struct mount_call *c, u64 mark, long ret)
{
	struct plan_data *p = the_plan();

	fate(REC_MOUNT, FATE_SEEN);
	if (!reported(ret))
		return fate(REC_MOUNT, FATE_RESULT);
	if (!p || p->mode[REC_MOUNT] == PLAN_OFF)
		return fate(REC_MOUNT, FATE_FILTERED);
	c->flags = mount_flags(c->flags);
	if (!mounts_something(c->flags))
		return fate(REC_MOUNT, FATE_UNCHANGED);
	if (c->flags & MS_BIND_)
		c->mflags |= RM_BIND;
	if (c->flags & MS_MOVE_)
		c->mflags |= RM_MOVED;
	else if (!ret)
		c->mount = (u64)first_after(current_task(), mark);
	return report_mount(REC_MOUNT, c, ret);
}

#endif
