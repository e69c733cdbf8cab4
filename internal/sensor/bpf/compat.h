/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* One function per difference between kernels, answered at load by CO-RE. */
#ifndef CLEW_COMPAT_H
#define CLEW_COMPAT_H

#include "kernel.h"
#include <bpf/bpf_core_read.h>

/*
 * The current task, and fields of a task. A typed pointer lets the verifier
 * allow a direct read, without a helper (bpf_get_current_task_btf: v5.11,
 * 3ca1032ab7ab); objects for older kernels are built with CLEW_V5_10.
 */
#ifdef CLEW_V5_10
#define PEEK(p, ...) BPF_CORE_READ(p, __VA_ARGS__)
#else
#define PEEK(p, ...) ___arrow(p, __VA_ARGS__)
#endif

static __always_inline struct task_struct *current_task(void)
{
#ifdef CLEW_V5_10
	return (struct task_struct *)bpf_get_current_task();
#else
	return (struct task_struct *)bpf_get_current_task_btf();
#endif
}

/*
 * v6.6, 13bc24457850 "fs: rename i_ctime": i_ctime became __i_ctime; v6.11,
 * 3aa63a569c64 "fs: switch timespec64 fields in inode to discrete integers".
 */
struct inode___sec {
	s64 i_ctime_sec, i_mtime_sec;
	u32 i_ctime_nsec, i_mtime_nsec;
} __attribute__((preserve_access_index));
struct inode___dunder {
	struct timespec64 __i_ctime, __i_mtime;
} __attribute__((preserve_access_index));
struct inode___plain {
	struct timespec64 i_ctime, i_mtime;
} __attribute__((preserve_access_index));

static __always_inline u64 in_ns(s64 sec, u64 nsec)
{
	return (u64)sec * 1000000000ULL + nsec;
}

static __always_inline u64 inode_ctime(struct inode *i)
{
	struct inode___sec *s = (void *)i;
	struct inode___dunder *d = (void *)i;
	struct inode___plain *p = (void *)i;

	if (bpf_core_field_exists(s->i_ctime_sec))
		return in_ns(BPF_CORE_READ(s, i_ctime_sec), BPF_CORE_READ(s, i_ctime_nsec));
	if (bpf_core_field_exists(d->__i_ctime))
		return in_ns(BPF_CORE_READ(d, __i_ctime.tv_sec),
			     BPF_CORE_READ(d, __i_ctime.tv_nsec));
	return in_ns(BPF_CORE_READ(p, i_ctime.tv_sec), BPF_CORE_READ(p, i_ctime.tv_nsec));
}

static __always_inline u64 inode_mtime(struct inode *i)
{
	struct inode___sec *s = (void *)i;
	struct inode___dunder *d = (void *)i;
	struct inode___plain *p = (void *)i;

	if (bpf_core_field_exists(s->i_mtime_sec))
		return in_ns(BPF_CORE_READ(s, i_mtime_sec), BPF_CORE_READ(s, i_mtime_nsec));
	if (bpf_core_field_exists(d->__i_mtime))
		return in_ns(BPF_CORE_READ(d, __i_mtime.tv_sec),
			     BPF_CORE_READ(d, __i_mtime.tv_nsec));
	return in_ns(BPF_CORE_READ(p, i_mtime.tv_sec), BPF_CORE_READ(p, i_mtime.tv_nsec));
}

/* v6.15, 741c10b096bc "kernfs: Use RCU to access kernfs_node::parent" renamed it. */
struct kernfs_node___dunder {
	struct kernfs_node___dunder *__parent;
} __attribute__((preserve_access_index));
struct kernfs_node___plain {
	struct kernfs_node___plain *parent;
} __attribute__((preserve_access_index));

static __always_inline struct kernfs_node *kernfs_parent(struct kernfs_node *k)
{
	struct kernfs_node___dunder *d = (void *)k;
	struct kernfs_node___plain *p = (void *)k;

	if (bpf_core_field_exists(d->__parent))
		return (void *)BPF_CORE_READ(d, __parent);
	return (void *)BPF_CORE_READ(p, parent);
}

/*
 * overlayfs keeps the upper dentry right behind the inode it embeds, in every
 * kernel since v4.19 (09d8b586731b). Its BTF is a module's on most systems, so
 * the place is computed from the size of struct inode.
 */
static __always_inline bool overlay_upper(struct inode *i)
{
	void *upper = NULL;

	bpf_probe_read_kernel(&upper, sizeof(upper), (void *)i + bpf_core_type_size(struct inode));
	if (!upper)
		return false;
	return BPF_CORE_READ((struct dentry *)upper, d_inode) != NULL;
}

/* v6.3, f122a08b197d "capability: just use a 'u64' instead of a 'u32[2]' array". */
#define read_caps(c, field)                                                                        \
	({                                                                                         \
		u64 v_ = 0;                                                                        \
		bpf_probe_read_kernel(&v_, sizeof(v_),                                             \
				      (void *)(c) + bpf_core_field_offset(struct cred, field));    \
		v_;                                                                                \
	})

/*
 * The registers of user mode lie at the end of the kernel's stack
 * (bpf_task_pt_regs: v5.15, dd6e10fbd9fb). Older kernels of the distributions
 * have stacks of 16 KiB on both architectures.
 */
static __always_inline struct pt_regs *task_regs(struct task_struct *t)
{
#ifdef CLEW_V5_10
	return BPF_CORE_READ(t, stack) + 16384 - bpf_core_type_size(struct pt_regs);
#else
	return (struct pt_regs *)bpf_task_pt_regs(t);
#endif
}

/* System call arguments as they still lie in the saved registers at exit. */
#if defined(__TARGET_ARCH_x86)
#define regs_arg0(r) ((u64)PEEK(r, di))
#define regs_arg1(r) ((u64)PEEK(r, si))
#define regs_arg2(r) ((u64)PEEK(r, dx))
#define regs_arg3(r) ((u64)PEEK(r, r10))
#define regs_arg4(r) ((u64)PEEK(r, r8))
#else
#define regs_arg0(r) ((u64)PEEK(r, orig_x0))
#define regs_arg1(r) ((u64)PEEK(r, regs[1]))
#define regs_arg2(r) ((u64)PEEK(r, regs[2]))
#define regs_arg3(r) ((u64)PEEK(r, regs[3]))
#define regs_arg4(r) ((u64)PEEK(r, regs[4]))
#endif

/* sk_protocol: u16 of its own since v5.6, bf9765145b85; a bit field before. */
struct sock___proto {
	u16 sk_protocol;
} __attribute__((preserve_access_index));

static __always_inline u16 sock_protocol(struct sock *sk)
{
	return BPF_CORE_READ((struct sock___proto *)sk, sk_protocol);
}

#endif
