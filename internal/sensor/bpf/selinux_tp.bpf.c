// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * SELinux by the tracepoints of calls that write, at exit: which file it was is
 * the kernel's word, what was written the caller's. Every write of the host
 * pays for a look at its file system, so they are attached only where SELinux
 * is in use and a rule asks. Not seen: 32-bit system calls, io_uring.
 */
#include "selinux.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline u64 word(const void *name)
{
	u64 w = 0;

	/* dentry names are stored in memory that is a multiple of eight long */
	bpf_probe_read_kernel(&w, sizeof(w), name);
	return w;
}

#define WORD(a, b, c, d, e, f, g, h)                                                               \
	((u64)(a) | (u64)(b) << 8 | (u64)(c) << 16 | (u64)(d) << 24 | (u64)(e) << 32 |             \
	 (u64)(f) << 40 | (u64)(g) << 48 | (u64)(h) << 56)

static __always_inline u32 which_file(struct file *f)
{
	struct dentry *d = BPF_CORE_READ(f, f_path.dentry);
	u64 name = word(BPF_CORE_READ(d, d_name.name));

	if (word(BPF_CORE_READ(d, d_parent, d_name.name)) ==
	    WORD('b', 'o', 'o', 'l', 'e', 'a', 'n', 's'))
		return SELINUX_BOOL;
	if (name == WORD('c', 'o', 'm', 'm', 'i', 't', '_', 'p'))
		return SELINUX_COMMIT;
	name &= ~(0xffULL << 56);
	if (name == WORD('e', 'n', 'f', 'o', 'r', 'c', 'e', 0))
		return SELINUX_ENFORCE;
	if (name == WORD('d', 'i', 's', 'a', 'b', 'l', 'e', 0))
		return SELINUX_DISABLE;
	return 0;
}

static __always_inline struct file *selinux_file(u32 fd)
{
	struct file *f = fd_file(current_task(), fd);

	if (!f || BPF_CORE_READ(f, f_inode, i_sb, s_magic) != SELINUX_MAGIC_)
		return NULL;
	return f;
}

SEC("tracepoint/syscalls/sys_exit_write")
int exit_write(struct trace_event_raw_sys_exit *ctx)
{
	struct pt_regs *regs = task_regs(current_task());
	struct file *f = selinux_file(regs_arg0(regs));
	u32 which;

	if (!f)
		return 0;
	which = which_file(f);
	if (!which)
		return 0;
	return report_selinux(which, (u64)f, regs_arg1(regs), regs_arg2(regs), ctx->ret);
}

SEC("tracepoint/syscalls/sys_exit_writev")
int exit_writev(struct trace_event_raw_sys_exit *ctx)
{
	struct pt_regs *regs = task_regs(current_task());
	struct file *f = selinux_file(regs_arg0(regs));
	u64 first[2] = {};
	u32 which;

	if (!f)
		return 0;
	which = which_file(f);
	if (!which)
		return 0;
	bpf_probe_read_user(first, sizeof(first), (void *)regs_arg1(regs));
	return report_selinux(which, (u64)f, first[0], first[1], ctx->ret);
}
