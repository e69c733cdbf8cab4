// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Files by per-system-call tracepoints: the way where trampolines are refused.
 *
 * An opened file is taken at exit from the descriptor, so what is reported is
 * what the kernel opened; no entry program is needed, the arguments still lie
 * in the saved registers. Calls that name a file by a string, and leave
 * nothing behind that leads to it, are read at entry and again at exit, and a
 * difference is flagged. Not seen by any of these: 32-bit system calls, and
 * io_uring. Cost: an attached pair makes its own system call 7 to 10 percent
 * dearer, and every other call takes the kernel's slow entry path.
 */
#include "call.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline int observe_open(long ret, u64 flags, u64 mode, s32 dirfd, u64 path,
					u32 opflags, struct task_struct *t)
{
	struct open_args a = {
		.flags = flags, .mode = mode, .path = path, .dirfd = dirfd, .opflags = opflags};
	struct file *f = NULL;
	struct plan_data *p;
	bool by_name;
	u32 done;

	p = the_plan();
	if (!p || p->mode[REC_OPEN] == PLAN_OFF)
		return fate(REC_OPEN, FATE_FILTERED);
	if (ret >= 0) {
		f = fd_file(t, ret);
		if (!f)
			return fate(REC_OPEN, FATE_NO_FILE);
	}
	done = judge_open(p, t, f, &a, &by_name);
	if (done != FATE_SENT)
		return fate(REC_OPEN, done);
	return report_open(t, f, &a, ret, by_name);
}

#define OPEN_BEGIN                                                                                 \
	long ret = ctx->ret;                                                                       \
	struct task_struct *t;                                                                     \
	struct pt_regs *regs;                                                                      \
                                                                                                   \
	fate(REC_OPEN, FATE_SEEN);                                                                 \
	if (!reported(ret))                                                                        \
		return fate(REC_OPEN, FATE_RESULT);                                                \
	t = current_task();                                                                        \
	regs = task_regs(t)

SEC("tracepoint/syscalls/sys_exit_openat")
int exit_openat(struct trace_event_raw_sys_exit *ctx)
{
	OPEN_BEGIN;
	return observe_open(ret, (u32)regs_arg2(regs), regs_arg3(regs) & 07777, regs_arg0(regs),
			    regs_arg1(regs), RO_PATH_USER, t);
}

SEC("tracepoint/syscalls/sys_exit_open")
int exit_open(struct trace_event_raw_sys_exit *ctx)
{
	OPEN_BEGIN;
	return observe_open(ret, (u32)regs_arg1(regs), regs_arg2(regs) & 07777, AT_FDCWD_,
			    regs_arg0(regs), RO_PATH_USER, t);
}

SEC("tracepoint/syscalls/sys_exit_creat")
int exit_creat(struct trace_event_raw_sys_exit *ctx)
{
	OPEN_BEGIN;
	return observe_open(ret, O_CREAT_ | O_WRONLY_ | O_TRUNC_, regs_arg1(regs) & 07777,
			    AT_FDCWD_, regs_arg0(regs), RO_PATH_USER, t);
}

/*
 * openat2 takes its flags from the caller's memory, which may have changed
 * since; the access mode is then corrected by that of the file.
 */
SEC("tracepoint/syscalls/sys_exit_openat2")
int exit_openat2(struct trace_event_raw_sys_exit *ctx)
{
	struct {
		u64 flags, mode;
	} how = {};
	struct file *f;

	OPEN_BEGIN;
	bpf_probe_read_user(&how, sizeof(how), (void *)regs_arg2(regs));
	if (ret >= 0) {
		f = fd_file(t, ret);
		if (f)
			how.flags = (how.flags & ~(u64)O_ACCMODE_) |
				    (BPF_CORE_READ(f, f_flags) & O_ACCMODE_);
		if (f && BPF_CORE_READ(f, f_mode) & FMODE_CREATED)
			how.flags |= O_CREAT_;
	}
	return observe_open(ret, how.flags, how.mode & 07777, regs_arg0(regs), regs_arg1(regs),
			    RO_PATH_USER | RO_FLAGS_USER, t);
}

/* A handle names no path: a failure tells nothing and is not reported. */
SEC("tracepoint/syscalls/sys_exit_open_by_handle_at")
int exit_open_by_handle(struct trace_event_raw_sys_exit *ctx)
{
	OPEN_BEGIN;
	if (ret < 0)
		return fate(REC_OPEN, FATE_RESULT);
	return observe_open(ret, (u32)regs_arg2(regs), 0, AT_FDCWD_, 0, 0, t);
}

/*
 * The last name of these calls' strings is the name of what they change; the
 * others follow a symbolic link there, and cannot be told by it.
 */
static __always_inline bool names_itself(u32 kind)
{
	switch (kind) {
	case REC_UNLINK:
	case REC_RMDIR:
	case REC_RENAME:
	case REC_MKDIR:
	case REC_SYMLINK:
		return true;
	}
	return false;
}

static __noinline __attribute__((unused)) int leave(u32 kind, long ret)
{
	u64 id = bpf_get_current_pid_tgid();
	struct task_struct *t;
	struct rec_fileop *r;
	struct pending *a;
	struct scratch *s;
	struct plan_data *p;
	struct file *f;
	u32 why, done;

	a = bpf_map_lookup_elem(&pending, &id);
	if (a)
		kind = a->kind;
	asm volatile("%0 &= 63" : "+r"(kind)); /* below REC_KINDS, for the verifier */
	fate(kind, FATE_SEEN);
	if (!a)
		return fate(kind, FATE_NO_ENTRY);
	if (!reported(ret)) {
		bpf_map_delete_elem(&pending, &id);
		return fate(kind, FATE_RESULT);
	}
	p = the_plan();
	if (!p || p->mode[kind] == PLAN_OFF) {
		bpf_map_delete_elem(&pending, &id);
		return fate(kind, FATE_FILTERED);
	}
	if (is_self(id >> 32)) {
		bpf_map_delete_elem(&pending, &id);
		return fate(kind, FATE_SELF);
	}
	s = take(id);
	if (!s) {
		bpf_map_delete_elem(&pending, &id);
		return fate(kind, FATE_SCRATCH_BUSY);
	}
	s->off = sizeof(*r);
	r = (void *)s->buf;
	__builtin_memset(r, 0, sizeof(*r));
	r->opflags = a->opflags;
	r->flags = a->flags;
	r->mode = a->mode;
	r->uid = a->uid;
	r->gid = a->gid;
	r->dirfd = a->dirfd;
	r->dirfd2 = a->dirfd2;
	r->length = a->length;
	put_arg(s, &r->arg, &r->opflags, a->arg, a->hash);
	if (a->arg2)
		put_arg(s, &r->arg2, &r->opflags, a->arg2, a->hash2);
	bpf_map_delete_elem(&pending, &id);
	why = why_wanted(p, kind, r->flags);
	/* what the memory says now is no reason to leave out what it may have said */
	if (ask_name(p, kind, why) &&
	    (!names_itself(kind) || r->opflags & (RO_CHANGED | RO_UNREADABLE) ||
	     tail_wanted(s, kind, r->arg.off, r->arg.len) ||
	     (r->arg2.len && tail_wanted(s, kind, r->arg2.off, r->arg2.len))))
		why = WANT_RULE;
	if (why != WANT_RULE) {
		done = why == WANT_SPARE ? shaped(kind) : beyond(p, kind);
		why = WANT_SPARE;
		if (done != FATE_SENT) {
			give(s);
			return fate(kind, done);
		}
	}
	t = current_task();
	fill_hdr(&r->hdr, t);
	r->retval = ret;
	if (!r->arg.len && r->flags & AT_EMPTY_PATH_) {
		f = fd_file(t, r->dirfd);
		if (f) {
			fill_from_file(s, &r->file, f);
			r->opflags |= RO_BY_FD;
			r->opflags &= ~(RO_PATH_USER | RO_UNREADABLE);
		}
	} else {
		put_dir(s, &r->dir, &r->opflags, &r->arg, r->dirfd, RO_OWN_LINK);
	}
	if (r->arg2.len)
		put_dir(s, &r->dir2, &r->opflags, &r->arg2, r->dirfd2, RO_OWN_LINK2);
	return send_bulk(s, kind, why);
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
ENTER(unlink, .kind = REC_UNLINK, .arg = ARG(0))
ENTER(unlinkat, .kind = ARG(2) & AT_REMOVEDIR_ ? REC_RMDIR : REC_UNLINK, .dirfd = ARG(0),
      .arg = ARG(1), .flags = ARG(2))
ENTER(rmdir, .kind = REC_RMDIR, .arg = ARG(0))
ENTER(mkdir, .kind = REC_MKDIR, .arg = ARG(0), .mode = ARG(1))
ENTER(mkdirat, .kind = REC_MKDIR, .dirfd = ARG(0), .arg = ARG(1), .mode = ARG(2))
ENTER(rename, .kind = REC_RENAME, .arg = ARG(0), .arg2 = ARG(1))
ENTER(renameat, .kind = REC_RENAME, .dirfd = ARG(0), .arg = ARG(1), .dirfd2 = ARG(2),
      .arg2 = ARG(3))
ENTER(renameat2, .kind = REC_RENAME, .dirfd = ARG(0), .arg = ARG(1), .dirfd2 = ARG(2),
      .arg2 = ARG(3), .flags = ARG(4))
ENTER(chmod, .kind = REC_CHMOD, .arg = ARG(0), .mode = ARG(1))
ENTER(fchmodat, .kind = REC_CHMOD, .dirfd = ARG(0), .arg = ARG(1), .mode = ARG(2))
ENTER(fchmodat2, .kind = REC_CHMOD, .dirfd = ARG(0), .arg = ARG(1), .mode = ARG(2), .flags = ARG(3))
ENTER(chown, .kind = REC_CHOWN, .arg = ARG(0), .uid = ARG(1), .gid = ARG(2))
ENTER(lchown, .kind = REC_CHOWN, .arg = ARG(0), .uid = ARG(1), .gid = ARG(2),
      .flags = AT_SYMLINK_NOFOLLOW_)
ENTER(fchownat, .kind = REC_CHOWN, .dirfd = ARG(0), .arg = ARG(1), .uid = ARG(2), .gid = ARG(3),
      .flags = ARG(4))
ENTER(link, .kind = REC_LINK, .arg = ARG(0), .arg2 = ARG(1))
ENTER(linkat, .kind = REC_LINK, .dirfd = ARG(0), .arg = ARG(1), .dirfd2 = ARG(2), .arg2 = ARG(3),
      .flags = ARG(4))
/* The target of a symbolic link is text: arg2, so that arg is what is made. */
ENTER(symlink, .kind = REC_SYMLINK, .arg = ARG(1), .arg2 = ARG(0))
ENTER(symlinkat, .kind = REC_SYMLINK, .dirfd = ARG(1), .arg = ARG(2), .arg2 = ARG(0))
ENTER(truncate, .kind = REC_TRUNCATE, .arg = ARG(0), .length = ARG(1),
      .flags = O_WRONLY_ | O_TRUNC_)
#pragma clang diagnostic pop

#define LEAVE(name, kind)                                                                          \
	SEC("tracepoint/syscalls/sys_exit_" #name)                                                 \
	int exit_##name(struct trace_event_raw_sys_exit *ctx)                                      \
	{                                                                                          \
		return leave(kind, ctx->ret);                                                      \
	}
LEAVE(unlink, REC_UNLINK)
LEAVE(rmdir, REC_RMDIR)
LEAVE(mkdir, REC_MKDIR)
LEAVE(rename, REC_RENAME)
LEAVE(chmod, REC_CHMOD)
LEAVE(chown, REC_CHOWN)
LEAVE(link, REC_LINK)
LEAVE(symlink, REC_SYMLINK)
LEAVE(truncate, REC_TRUNCATE)

SEC("tracepoint/syscalls/sys_exit_fchmod")
int exit_fchmod(struct trace_event_raw_sys_exit *ctx)
{
	struct pt_regs *regs = task_regs(current_task());
	struct pending a = {.mode = regs_arg1(regs)};

	return observe_fd(REC_CHMOD, &a, regs_arg0(regs), ctx->ret);
}

SEC("tracepoint/syscalls/sys_exit_fchown")
int exit_fchown(struct trace_event_raw_sys_exit *ctx)
{
	struct pt_regs *regs = task_regs(current_task());
	struct pending a = {.uid = regs_arg1(regs), .gid = regs_arg2(regs)};

	return observe_fd(REC_CHOWN, &a, regs_arg0(regs), ctx->ret);
}

/*
 * Also the way of canaries: the agent truncates descriptor -1 to a nonce. The
 * call fails in the kernel, changes nothing, and passes this hook.
 */
SEC("tracepoint/syscalls/sys_exit_ftruncate")
int exit_ftruncate(struct trace_event_raw_sys_exit *ctx)
{
	struct pt_regs *regs = task_regs(current_task());
	struct pending a = {.length = regs_arg1(regs), .flags = O_WRONLY_ | O_TRUNC_};
	u32 fd = regs_arg0(regs);
	long ret = ctx->ret;

	if (fd == (u32)-1 && ret == -EBADF_ && bpf_get_current_pid_tgid() >> 32 == cfg_agent_tgid)
		return send_canary(a.length);
	return observe_fd(REC_TRUNCATE, &a, fd, ret);
}
