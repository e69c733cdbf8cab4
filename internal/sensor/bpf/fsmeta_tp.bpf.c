// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Working directories, mounts, extended attributes, times and splice by
 * per-system-call tracepoints. What leaves a trace in the kernel is taken from
 * there as the call ends: the new working directory, the new mount, the file
 * behind a descriptor. Paths of extended attributes, times and umount are the
 * caller's strings, read at entry and exit. Not seen: 32-bit system calls, and
 * io_uring.
 */
#include "fsmeta.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* After success the working directory is what the kernel made of the string. */
static __always_inline int observe_chdir(u64 path, s32 fd, long ret)
{
	struct task_struct *t = current_task();
	struct pending a = {.dirfd = fd, .arg = path};
	struct extra x = {};
	struct path at = {};
	struct rec_meta *r;
	struct plan_data *p;
	struct scratch *s;
	struct file *f;

	fate(REC_CHDIR, FATE_SEEN);
	if (ret >= 0) {
		at.mnt = BPF_CORE_READ(t, fs, pwd.mnt);
		at.dentry = BPF_CORE_READ(t, fs, pwd.dentry);
		return report_meta(REC_CHDIR, &at, &a, &x, ret);
	}
	if (!path) {
		f = fd_file(t, fd);
		if (!f)
			return fate(REC_CHDIR, reported(ret) ? FATE_NO_FILE : FATE_RESULT);
		at = file_path(f);
		return report_meta(REC_CHDIR, &at, &a, &x, ret);
	}
	if (!reported(ret))
		return fate(REC_CHDIR, FATE_RESULT);
	p = the_plan();
	if (!p || p->mode[REC_CHDIR] == PLAN_OFF)
		return fate(REC_CHDIR, FATE_FILTERED);
	if (is_self(PEEK(t, tgid)))
		return fate(REC_CHDIR, FATE_SELF);
	s = take(PEEK(t, pid));
	if (!s)
		return fate(REC_CHDIR, FATE_SCRATCH_BUSY);
	a.opflags = RO_PATH_USER;
	r = meta_begin(s, &a, ret);
	fill_hdr(&r->op.hdr, t);
	if (!put_user_str(s, &r->op.arg, path))
		r->op.opflags |= RO_UNREADABLE;
	put_dir(s, &r->op.dir, &r->op.opflags, &r->op.arg, AT_FDCWD_, RO_OWN_LINK);
	return send(s, &bulk, REC_CHDIR);
}

SEC("tracepoint/syscalls/sys_exit_chdir")
int exit_chdir(struct trace_event_raw_sys_exit *ctx)
{
	return observe_chdir(regs_arg0(task_regs(current_task())), AT_FDCWD_, ctx->ret);
}

SEC("tracepoint/syscalls/sys_exit_fchdir")
int exit_fchdir(struct trace_event_raw_sys_exit *ctx)
{
	return observe_chdir(0, regs_arg0(task_regs(current_task())), ctx->ret);
}

/* The times that a call gave: struct timespec; unit 1: struct utimbuf; 2: struct timeval. */
static __noinline int read_times(u64 from, u32 unit, struct extra *x)
{
	s64 v[4] = {};

	if (!from)
		return 0;
	if (unit == 1) {
		bpf_probe_read_user(v, 16, (void *)from);
		x->atime = v[0] * 1000000000LL;
		x->mtime = v[1] * 1000000000LL;
		return 0;
	}
	bpf_probe_read_user(v, sizeof(v), (void *)from);
	if (unit == 2) {
		x->atime = v[0] * 1000000000LL + v[1] * 1000;
		x->mtime = v[2] * 1000000000LL + v[3] * 1000;
	} else {
		x->atime = time_asked(v[0], v[1]);
		x->mtime = time_asked(v[2], v[3]);
	}
	return 0;
}

/* Ends a call that named its file by a string, or by a descriptor and none. */
static __always_inline int leave_meta(u32 kind, long ret)
{
	u64 id = bpf_get_current_pid_tgid();
	struct task_struct *t = current_task();
	u32 done;
	struct plan_data *p = the_plan();
	struct pending *found, a;
	struct extra x = {};
	struct rec_meta *r;
	struct scratch *s;
	struct path at;
	struct file *f;
	u64 head = 0;

	asm volatile("%0 &= 63" : "+r"(kind)); /* below REC_KINDS, for the verifier */
	fate(kind, FATE_SEEN);
	found = bpf_map_lookup_elem(&pending, &id);
	if (!found || found->kind != kind)
		return fate(kind, FATE_NO_ENTRY);
	a = *found;
	bpf_map_delete_elem(&pending, &id);
	if (!reported(ret))
		return fate(kind, FATE_RESULT);
	if (!p || p->mode[kind] == PLAN_OFF)
		return fate(kind, FATE_FILTERED);
	if (kind == REC_UTIMES) {
		read_times(a.length, a.uid, &x);
		a.length = 0;
	} else {
		x.name = a.length;
		x.name_user = true;
		a.length = 0;
		if (bpf_probe_read_user(&head, sizeof(head), (void *)x.name))
			head = 0;
		a.mode = a.flags;
		a.flags = xattr_ns(head);
	}
	if (!a.arg) {
		f = fd_file(t, a.dirfd);
		if (!f)
			return fate(kind, FATE_NO_FILE);
		a.opflags = RO_BY_FD;
		at = file_path(f);
		return report_meta(kind, &at, &a, &x, ret);
	}
	/* The string may end in a symbolic link: the name cannot tell. */
	if (p->mode[kind] == PLAN_FILTERED && !(a.flags & p->flags_any[kind]) &&
	    !(p->by_name & (1ULL << kind))) {
		done = beyond(p, kind);
		if (done != FATE_SENT)
			return fate(kind, done);
	}
	if (is_self(id >> 32))
		return fate(kind, FATE_SELF);
	s = take(id);
	if (!s)
		return fate(kind, FATE_SCRATCH_BUSY);
	r = meta_begin(s, &a, ret);
	fill_hdr(&r->op.hdr, t);
	put_arg(s, &r->op.arg, &r->op.opflags, a.arg, a.hash);
	if (!r->op.arg.len) {
		f = fd_file(t, a.dirfd);
		if (f) {
			fill_from_file(s, &r->op.file, f);
			r->op.opflags |= RO_BY_FD;
			r->op.opflags &= ~(RO_PATH_USER | RO_UNREADABLE);
		}
	} else {
		put_dir(s, &r->op.dir, &r->op.opflags, &r->op.arg, a.dirfd, RO_OWN_LINK);
	}
	meta_extra(s, r, &x);
	return send(s, &bulk, kind);
}

#define ENTER(name, ...)                                                                           \
	SEC("tracepoint/syscalls/sys_enter_" #name)                                                \
	int enter_##name(struct trace_event_raw_sys_enter *ctx)                                    \
	{                                                                                          \
		struct pending a = {.opflags = RO_PATH_USER,                                       \
				    .dirfd = AT_FDCWD_,                                            \
				    .dirfd2 = AT_FDCWD_,                                           \
				    __VA_ARGS__};                                                  \
		return enter(&a);                                                                  \
	}
#define ARG(n) ctx->args[n]

#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Winitializer-overrides"
/* length is where the attribute's name lies; flags are how the path is looked up. */
ENTER(setxattr, .kind = REC_SETXATTR, .arg = ARG(0), .length = ARG(1))
ENTER(lsetxattr, .kind = REC_SETXATTR, .arg = ARG(0), .length = ARG(1),
      .flags = AT_SYMLINK_NOFOLLOW_)
ENTER(fsetxattr, .kind = REC_SETXATTR, .dirfd = ARG(0), .length = ARG(1))
ENTER(setxattrat, .kind = REC_SETXATTR, .dirfd = ARG(0), .arg = ARG(1), .flags = ARG(2),
      .length = ARG(3))
ENTER(removexattr, .kind = REC_REMOVEXATTR, .arg = ARG(0), .length = ARG(1))
ENTER(lremovexattr, .kind = REC_REMOVEXATTR, .arg = ARG(0), .length = ARG(1),
      .flags = AT_SYMLINK_NOFOLLOW_)
ENTER(fremovexattr, .kind = REC_REMOVEXATTR, .dirfd = ARG(0), .length = ARG(1))
ENTER(removexattrat, .kind = REC_REMOVEXATTR, .dirfd = ARG(0), .arg = ARG(1), .flags = ARG(2),
      .length = ARG(3))
/* length is where the times lie; uid is 1 for seconds, 2 for microseconds. */
ENTER(utimensat, .kind = REC_UTIMES, .dirfd = ARG(0), .arg = ARG(1), .length = ARG(2),
      .flags = ARG(3))
ENTER(futimesat, .kind = REC_UTIMES, .dirfd = ARG(0), .arg = ARG(1), .length = ARG(2), .uid = 2)
ENTER(utimes, .kind = REC_UTIMES, .arg = ARG(0), .length = ARG(1), .uid = 2)
ENTER(utime, .kind = REC_UTIMES, .arg = ARG(0), .length = ARG(1), .uid = 1)
#pragma clang diagnostic pop

#define LEAVE(name, kind)                                                                          \
	SEC("tracepoint/syscalls/sys_exit_" #name)                                                 \
	int exit_##name(struct trace_event_raw_sys_exit *ctx)                                      \
	{                                                                                          \
		return leave_meta(kind, ctx->ret);                                                 \
	}
LEAVE(setxattr, REC_SETXATTR)
LEAVE(removexattr, REC_REMOVEXATTR)
LEAVE(utimes, REC_UTIMES)

/* What the pipe is like before, while both descriptors surely name what is spliced. */
SEC("tracepoint/syscalls/sys_enter_splice")
int enter_splice(struct trace_event_raw_sys_enter *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	struct task_struct *t = current_task();
	struct pending a = {.kind = REC_SPLICE, .dirfd = ARG(0), .dirfd2 = ARG(2)};
	struct file *in, *out;

	in = fd_file(t, a.dirfd);
	out = fd_file(t, a.dirfd2);
	if (is_pipe(in))
		a.mode = pipe_flags(in);
	else if (is_pipe(out))
		a.mode = pipe_flags(out);
	a.arg = (u64)in;
	a.arg2 = (u64)out;
	bpf_map_update_elem(&pending, &id, &a, BPF_ANY);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_splice")
int exit_splice(struct trace_event_raw_sys_exit *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	struct task_struct *t = current_task();
	struct pending *found, a;
	struct file *in, *out;

	fate(REC_SPLICE, FATE_SEEN);
	found = bpf_map_lookup_elem(&pending, &id);
	if (!found || found->kind != REC_SPLICE)
		return fate(REC_SPLICE, FATE_NO_ENTRY);
	a = *found;
	bpf_map_delete_elem(&pending, &id);
	if (!reported(ctx->ret))
		return fate(REC_SPLICE, FATE_RESULT);
	in = fd_file(t, a.dirfd);
	out = fd_file(t, a.dirfd2);
	/* replaced by another thread during the call: what was spliced is not known */
	if (!in || !out || (u64)in != a.arg || (u64)out != a.arg2)
		return fate(REC_SPLICE, FATE_NO_FILE);
	a.arg = 0;
	return observe_splice(in, out, &a, ctx->ret);
}

/* length is the mark of the youngest mount. */
SEC("tracepoint/syscalls/sys_enter_mount")
int enter_mount(struct trace_event_raw_sys_enter *ctx)
{
	struct pending a = {.kind = REC_MOUNT,
			    .opflags = RO_PATH_USER,
			    .arg = ARG(0),
			    .arg2 = ARG(1),
			    .flags = ARG(3),
			    .length = youngest(current_task())};

	return enter(&a);
}

SEC("tracepoint/syscalls/sys_exit_mount")
int exit_mount(struct trace_event_raw_sys_exit *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	struct pt_regs *regs = task_regs(current_task());
	struct mount_call c = {.dirfd = AT_FDCWD_, .dirfd2 = AT_FDCWD_, .opflags = RO_PATH_USER};
	struct pending *a;
	u64 mark;

	a = bpf_map_lookup_elem(&pending, &id);
	if (!a || a->kind != REC_MOUNT) {
		fate(REC_MOUNT, FATE_SEEN);
		return fate(REC_MOUNT, FATE_NO_ENTRY);
	}
	c.source = a->arg;
	c.target = a->arg2;
	c.hash = a->hash;
	c.hash2 = a->hash2;
	c.flags = a->flags;
	c.type = regs_arg2(regs);
	mark = a->length;
	bpf_map_delete_elem(&pending, &id);
	return observe_mount(&c, mark, ctx->ret);
}

/* The mount behind a descriptor whose path is a mount's root. */
static __always_inline u64 fd_mount(struct file *f)
{
	return (u64)BPF_CORE_READ(f, f_path.mnt) - bpf_core_field_offset(struct mount, mnt);
}

/* fsmount and open_tree: a mount that is attached nowhere yet. */
static __always_inline int observe_detached(u32 mflags, u64 source, s32 dirfd, long ret)
{
	struct mount_call c = {.source = source,
			       .dirfd = dirfd,
			       .opflags = RO_PATH_USER,
			       .mflags = RM_DETACHED | mflags};
	struct plan_data *p = the_plan();
	struct file *f;

	fate(REC_MOUNT, FATE_SEEN);
	if (!reported(ret))
		return fate(REC_MOUNT, FATE_RESULT);
	if (!p || p->mode[REC_MOUNT] == PLAN_OFF)
		return fate(REC_MOUNT, FATE_FILTERED);
	if (ret >= 0) {
		f = fd_file(current_task(), ret);
		if (!f)
			return fate(REC_MOUNT, FATE_NO_FILE);
		c.mount = fd_mount(f);
	}
	return report_mount(REC_MOUNT, &c, ret);
}

SEC("tracepoint/syscalls/sys_exit_fsmount")
int exit_fsmount(struct trace_event_raw_sys_exit *ctx)
{
	return observe_detached(0, 0, AT_FDCWD_, ctx->ret);
}

/* Without OPEN_TREE_CLONE it opens a path and mounts nothing. */
SEC("tracepoint/syscalls/sys_exit_open_tree")
int exit_open_tree(struct trace_event_raw_sys_exit *ctx)
{
	struct pt_regs *regs = task_regs(current_task());

	if (!(regs_arg2(regs) & OPEN_TREE_CLONE_))
		return 0;
	return observe_detached(RM_BIND, regs_arg1(regs), regs_arg0(regs), ctx->ret);
}

SEC("tracepoint/syscalls/sys_enter_move_mount")
int enter_move_mount(struct trace_event_raw_sys_enter *ctx)
{
	struct pending a = {.kind = REC_MOUNT,
			    .opflags = RO_PATH_USER,
			    .dirfd = ARG(0),
			    .arg = ARG(1),
			    .dirfd2 = ARG(2),
			    .arg2 = ARG(3),
			    .flags = ARG(4)};

	return enter(&a);
}

SEC("tracepoint/syscalls/sys_exit_move_mount")
int exit_move_mount(struct trace_event_raw_sys_exit *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	struct mount_call c = {.opflags = RO_PATH_USER, .mflags = RM_MOVED};
	struct plan_data *p = the_plan();
	struct pending *a;
	struct file *f;
	u32 flags;

	fate(REC_MOUNT, FATE_SEEN);
	a = bpf_map_lookup_elem(&pending, &id);
	if (!a || a->kind != REC_MOUNT)
		return fate(REC_MOUNT, FATE_NO_ENTRY);
	c.source = a->arg;
	c.target = a->arg2;
	c.hash = a->hash;
	c.hash2 = a->hash2;
	c.dirfd = a->dirfd;
	c.dirfd2 = a->dirfd2;
	flags = a->flags;
	bpf_map_delete_elem(&pending, &id);
	if (!reported(ctx->ret))
		return fate(REC_MOUNT, FATE_RESULT);
	if (!p || p->mode[REC_MOUNT] == PLAN_OFF)
		return fate(REC_MOUNT, FATE_FILTERED);
	if (!ctx->ret && flags & MOVE_MOUNT_F_EMPTY_PATH_) {
		f = fd_file(current_task(), c.dirfd);
		if (f)
			c.mount = fd_mount(f);
	}
	return report_mount(REC_MOUNT, &c, ctx->ret);
}

SEC("tracepoint/syscalls/sys_enter_umount")
int enter_umount(struct trace_event_raw_sys_enter *ctx)
{
	struct pending a = {
		.kind = REC_UMOUNT, .opflags = RO_PATH_USER, .arg = ARG(0), .flags = ARG(1)};

	return enter(&a);
}

SEC("tracepoint/syscalls/sys_exit_umount")
int exit_umount(struct trace_event_raw_sys_exit *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	struct mount_call c = {.dirfd = AT_FDCWD_, .dirfd2 = AT_FDCWD_, .opflags = RO_PATH_USER};
	struct plan_data *p = the_plan();
	struct pending *a;

	fate(REC_UMOUNT, FATE_SEEN);
	a = bpf_map_lookup_elem(&pending, &id);
	if (!a || a->kind != REC_UMOUNT)
		return fate(REC_UMOUNT, FATE_NO_ENTRY);
	c.target = a->arg;
	c.hash2 = a->hash;
	c.flags = a->flags;
	bpf_map_delete_elem(&pending, &id);
	if (!reported(ctx->ret))
		return fate(REC_UMOUNT, FATE_RESULT);
	if (!p || p->mode[REC_UMOUNT] == PLAN_OFF)
		return fate(REC_UMOUNT, FATE_FILTERED);
	return report_mount(REC_UMOUNT, &c, ctx->ret);
}
