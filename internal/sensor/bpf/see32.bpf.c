// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * 32-bit system calls on amd64, which the per-system-call tracepoints of the
 * other objects do not see, whoever makes them: a 32-bit program, or a 64-bit
 * one by int 0x80. tp_btf/sys_enter and sys_exit, since v2.6.32 and for all
 * calls of the host: attached only when asked for (--see-32bit). Cost: 13 to 35
 * percent on the cheapest calls, most of it the kernel's own; a 64-bit call is
 * refused after one read.
 *
 * Seen: files (names, modes, owners, opening), sockets, credentials, ptrace,
 * prctl, unshare, mprotect, bpf and modules. Not seen: mounts, extended
 * attributes, times, splice, chdir, mmap, limits, refused signals.
 *
 * What is done with files is in file_tp.bpf.c, which is part of this object; of
 * its programs none is loaded from here.
 */
#include "file_tp.bpf.c"
/* some of its observations are of calls that are left out here */
#pragma clang diagnostic ignored "-Wunused-function"
#include "kern_call.h"
#include "net.h"
#include "cred.h"
#include <bpf/bpf_tracing.h>

struct thread_info___status {
	u32 status;
} __attribute__((preserve_access_index));
struct task_struct___status {
	struct thread_info___status thread_info;
} __attribute__((preserve_access_index));
struct pt_regs___ia32 {
	unsigned long bx, cx, dx, si, di, bp, orig_ax;
} __attribute__((preserve_access_index));

#define TS_COMPAT 2 /* arch/x86/include/asm/thread_info.h */

static __always_inline bool compat_call(struct task_struct *t)
{
	return BPF_CORE_READ((struct task_struct___status *)t, thread_info.status) & TS_COMPAT;
}

static __always_inline void call32(struct call *c, struct pt_regs *regs, long ret)
{
	struct pt_regs___ia32 *r = (void *)regs;

	c->arg[0] = (u32)BPF_CORE_READ(r, bx);
	c->arg[1] = (u32)BPF_CORE_READ(r, cx);
	c->arg[2] = (u32)BPF_CORE_READ(r, dx);
	c->arg[3] = (u32)BPF_CORE_READ(r, si);
	c->arg[4] = (u32)BPF_CORE_READ(r, di);
	c->arg[5] = (u32)BPF_CORE_READ(r, bp);
	c->ret = ret;
}

/* Numbers of arch/x86/entry/syscalls/syscall_32.tbl, which never change. */
enum ia32 {
	IA32_open = 5,
	IA32_creat = 8,
	IA32_link = 9,
	IA32_unlink = 10,
	IA32_chmod = 15,
	IA32_lchown = 16,
	IA32_setuid = 23,
	IA32_ptrace = 26,
	IA32_rename = 38,
	IA32_mkdir = 39,
	IA32_rmdir = 40,
	IA32_setgid = 46,
	IA32_setreuid = 70,
	IA32_setregid = 71,
	IA32_symlink = 83,
	IA32_truncate = 92,
	IA32_ftruncate = 93,
	IA32_fchmod = 94,
	IA32_fchown = 95,
	IA32_socketcall = 102,
	IA32_mprotect = 125,
	IA32_init_module = 128,
	IA32_delete_module = 129,
	IA32_setfsuid = 138,
	IA32_setfsgid = 139,
	IA32_setresuid = 164,
	IA32_setresgid = 170,
	IA32_prctl = 172,
	IA32_chown = 182,
	IA32_capset = 185,
	IA32_truncate64 = 193,
	IA32_ftruncate64 = 194,
	IA32_lchown32 = 198,
	IA32_setreuid32 = 203,
	IA32_setregid32 = 204,
	IA32_fchown32 = 207,
	IA32_setresuid32 = 208,
	IA32_setresgid32 = 210,
	IA32_chown32 = 212,
	IA32_setuid32 = 213,
	IA32_setgid32 = 214,
	IA32_setfsuid32 = 215,
	IA32_setfsgid32 = 216,
	IA32_openat = 295,
	IA32_mkdirat = 296,
	IA32_fchownat = 298,
	IA32_unlinkat = 301,
	IA32_renameat = 302,
	IA32_linkat = 303,
	IA32_symlinkat = 304,
	IA32_fchmodat = 306,
	IA32_unshare = 310,
	IA32_open_by_handle_at = 342,
	IA32_finit_module = 350,
	IA32_renameat2 = 353,
	IA32_bpf = 357,
	IA32_bind = 361,
	IA32_connect = 362,
	IA32_accept4 = 364,
	IA32_pkey_mprotect = 380,
	IA32_openat2 = 437,
	IA32_fchmodat2 = 452,
};

/* The file kind whose strings a call names; REC_NONE for all others. */
static __always_inline u32 named32(u64 nr, struct call *c, struct pending *a)
{
	a->opflags = RO_PATH_USER;
	a->dirfd = AT_FDCWD_;
	a->dirfd2 = AT_FDCWD_;
	a->arg = c->arg[0];
	switch (nr) {
	case IA32_unlink:
		return REC_UNLINK;
	case IA32_rmdir:
		return REC_RMDIR;
	case IA32_mkdir:
		a->mode = c->arg[1];
		return REC_MKDIR;
	case IA32_rename:
		a->arg2 = c->arg[1];
		return REC_RENAME;
	case IA32_link:
		a->arg2 = c->arg[1];
		return REC_LINK;
	case IA32_symlink: /* its target is text: what is made comes first */
		a->arg = c->arg[1];
		a->arg2 = c->arg[0];
		return REC_SYMLINK;
	case IA32_chmod:
		a->mode = c->arg[1];
		return REC_CHMOD;
	case IA32_lchown: /* ids of 16 bits */
	case IA32_chown:
		a->uid = (s32)(short)c->arg[1];
		a->gid = (s32)(short)c->arg[2];
		a->flags = nr == IA32_lchown ? AT_SYMLINK_NOFOLLOW_ : 0;
		return REC_CHOWN;
	case IA32_lchown32:
	case IA32_chown32:
		a->uid = c->arg[1];
		a->gid = c->arg[2];
		a->flags = nr == IA32_lchown32 ? AT_SYMLINK_NOFOLLOW_ : 0;
		return REC_CHOWN;
	case IA32_truncate:
		a->length = c->arg[1];
		a->flags = O_WRONLY_ | O_TRUNC_;
		return REC_TRUNCATE;
	case IA32_truncate64:
		a->length = c->arg[1] | c->arg[2] << 32;
		a->flags = O_WRONLY_ | O_TRUNC_;
		return REC_TRUNCATE;
	}
	a->dirfd = c->arg[0];
	a->arg = c->arg[1];
	switch (nr) {
	case IA32_unlinkat:
		a->flags = c->arg[2];
		return c->arg[2] & AT_REMOVEDIR_ ? REC_RMDIR : REC_UNLINK;
	case IA32_mkdirat:
		a->mode = c->arg[2];
		return REC_MKDIR;
	case IA32_renameat2:
		a->flags = c->arg[4];
	case IA32_renameat: /* fallthrough */
		a->dirfd2 = c->arg[2];
		a->arg2 = c->arg[3];
		return REC_RENAME;
	case IA32_linkat:
		a->flags = c->arg[4];
		a->dirfd2 = c->arg[2];
		a->arg2 = c->arg[3];
		return REC_LINK;
	case IA32_symlinkat:
		a->dirfd = c->arg[1];
		a->arg = c->arg[2];
		a->arg2 = c->arg[0];
		return REC_SYMLINK;
	case IA32_fchmodat2:
		a->flags = c->arg[3];
	case IA32_fchmodat: /* fallthrough */
		a->mode = c->arg[2];
		return REC_CHMOD;
	case IA32_fchownat:
		a->uid = c->arg[2];
		a->gid = c->arg[3];
		a->flags = c->arg[4];
		return REC_CHOWN;
	}
	return REC_NONE;
}

static __always_inline bool cred32(u64 nr)
{
	switch (nr) {
	case IA32_setuid:
	case IA32_setgid:
	case IA32_setreuid:
	case IA32_setregid:
	case IA32_setresuid:
	case IA32_setresgid:
	case IA32_setfsuid:
	case IA32_setfsgid:
	case IA32_capset:
	case IA32_setuid32:
	case IA32_setgid32:
	case IA32_setreuid32:
	case IA32_setregid32:
	case IA32_setresuid32:
	case IA32_setresgid32:
	case IA32_setfsuid32:
	case IA32_setfsgid32:
		return true;
	}
	return false;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(enter32, struct pt_regs *regs, long id)
{
	struct task_struct *t = current_task();
	u64 thread = bpf_get_current_pid_tgid();
	struct pending a = {};
	struct rec_ids now;
	struct call c;
	u64 nr = (u32)id;

	if (!compat_call(t))
		return 0;
	call32(&c, regs, 0);
	if (cred32(nr)) {
		fill_ids(&now, BPF_CORE_READ(t, cred));
		bpf_map_update_elem(&pending_ids, &thread, &now, BPF_ANY);
		return 0;
	}
	if (nr == IA32_mprotect || nr == IA32_pkey_mprotect)
		return enter_protect(c.arg[0], c.arg[2]);
	a.kind = named32(nr, &c, &a);
	return a.kind ? enter(&a) : 0;
}

static __noinline int open32(u64 nr, struct call *c)
{
	struct task_struct *t = current_task();
	u64 how[2] = {};

	fate(REC_OPEN, FATE_SEEN);
	if (!reported(c->ret) || (nr == IA32_open_by_handle_at && c->ret < 0))
		return fate(REC_OPEN, FATE_RESULT);
	switch (nr) {
	case IA32_open:
		return observe_open(c->ret, c->arg[1], c->arg[2] & 07777, AT_FDCWD_, c->arg[0],
				    RO_PATH_USER, t);
	case IA32_creat:
		return observe_open(c->ret, O_CREAT_ | O_WRONLY_ | O_TRUNC_, c->arg[1] & 07777,
				    AT_FDCWD_, c->arg[0], RO_PATH_USER, t);
	case IA32_openat:
		return observe_open(c->ret, c->arg[2], c->arg[3] & 07777, c->arg[0], c->arg[1],
				    RO_PATH_USER, t);
	case IA32_openat2:
		bpf_probe_read_user(how, sizeof(how), (void *)c->arg[2]);
		return observe_open(c->ret, how[0], how[1] & 07777, c->arg[0], c->arg[1],
				    RO_PATH_USER | RO_FLAGS_USER, t);
	}
	return observe_open(c->ret, c->arg[2], 0, AT_FDCWD_, 0, 0, t);
}

/* As in net_tp.bpf.c. */
static __noinline int sock32(u32 kind, u64 fd, u64 addr, long ret)
{
	struct file *f;

	fate(kind, FATE_SEEN);
	if (kind == REC_ACCEPT ? ret < 0
			       : ret && !(kind == REC_CONNECT && ret == -EINPROGRESS_) &&
					 ret != -EPERM_ && ret != -EACCES_)
		return fate(kind, FATE_RESULT);
	if (!net_wanted(kind))
		return fate(kind, FATE_FILTERED);
	f = fd_file(current_task(), kind == REC_ACCEPT ? ret : fd);
	if (!f)
		return fate(kind, FATE_NO_FILE);
	return report_sock(kind, (u64)f, addr, false, ret);
}

static __noinline int net32(u64 nr, struct call *c)
{
	u32 args[2] = {};

	switch (nr) {
	case IA32_connect:
		return sock32(REC_CONNECT, c->arg[0], c->arg[1], c->ret);
	case IA32_bind:
		return sock32(REC_BIND, c->arg[0], c->arg[1], c->ret);
	case IA32_accept4:
		return sock32(REC_ACCEPT, c->arg[0], 0, c->ret);
	}
	/* socketcall: the call, and where its arguments are */
	bpf_probe_read_user(args, sizeof(args), (void *)c->arg[1]);
	switch (c->arg[0]) {
	case 2:
		return sock32(REC_BIND, args[0], args[1], c->ret);
	case 3:
		return sock32(REC_CONNECT, args[0], args[1], c->ret);
	case 5:
	case 18:
		return sock32(REC_ACCEPT, args[0], 0, c->ret);
	}
	return 0;
}

static __noinline int fd32(u64 nr, struct call *c)
{
	struct pending a = {};

	switch (nr) {
	case IA32_fchmod:
		a.mode = c->arg[1];
		return observe_fd(REC_CHMOD, &a, c->arg[0], c->ret);
	case IA32_fchown:
		a.uid = (s32)(short)c->arg[1];
		a.gid = (s32)(short)c->arg[2];
		return observe_fd(REC_CHOWN, &a, c->arg[0], c->ret);
	case IA32_fchown32:
		a.uid = c->arg[1];
		a.gid = c->arg[2];
		return observe_fd(REC_CHOWN, &a, c->arg[0], c->ret);
	}
	a.flags = O_WRONLY_ | O_TRUNC_;
	a.length = c->arg[1];
	if (nr == IA32_ftruncate64)
		a.length |= c->arg[2] << 32;
	return observe_fd(REC_TRUNCATE, &a, c->arg[0], c->ret);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(exit32, struct pt_regs *regs, long ret)
{
	struct task_struct *t = current_task();
	struct pending a = {};
	struct call c;
	u64 nr;

	if (!compat_call(t))
		return 0;
	nr = (u32)BPF_CORE_READ((struct pt_regs___ia32 *)regs, orig_ax);
	call32(&c, regs, ret);
	if (cred32(nr)) {
		u64 thread = bpf_get_current_pid_tgid();
		struct rec_ids *found, before, after;

		found = bpf_map_lookup_elem(&pending_ids, &thread);
		if (!found) {
			fate(REC_CRED, FATE_SEEN);
			return fate(REC_CRED, FATE_NO_ENTRY);
		}
		before = *found;
		bpf_map_delete_elem(&pending_ids, &thread);
		fill_ids(&after, BPF_CORE_READ(t, cred));
		return report_cred(&before, &after);
	}
	switch (nr) {
	case IA32_open:
	case IA32_creat:
	case IA32_openat:
	case IA32_openat2:
	case IA32_open_by_handle_at:
		return open32(nr, &c);
	case IA32_socketcall:
	case IA32_bind:
	case IA32_connect:
	case IA32_accept4:
		return net32(nr, &c);
	case IA32_fchmod:
	case IA32_fchown:
	case IA32_fchown32:
	case IA32_ftruncate:
	case IA32_ftruncate64:
		return fd32(nr, &c);
	case IA32_ptrace:
		return observe_ptrace(&c);
	case IA32_prctl:
		return observe_prctl(&c);
	case IA32_unshare:
		return observe_unshare(&c);
	case IA32_mprotect:
	case IA32_pkey_mprotect:
		return observe_protect(&c);
	case IA32_bpf:
		return observe_bpf(&c);
	case IA32_init_module:
		return observe_init_module(&c);
	case IA32_finit_module:
		return observe_finit_module(&c);
	case IA32_delete_module:
		return observe_delete_module(&c);
	}
	a.kind = named32(nr, &c, &a);
	return a.kind ? leave(a.kind, ret) : 0;
}
