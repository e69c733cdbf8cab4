/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The kernel types and fields that the programs read, and nothing else. Field
 * offsets are relocated against the running kernel's BTF at load time, so only
 * names and types matter here, not order or size.
 */
#ifndef CLEW_KERNEL_H
#define CLEW_KERNEL_H

#include <linux/types.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;
typedef unsigned short umode_t;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;
typedef struct {
	u32 val;
} kuid_t;
typedef struct {
	u32 val;
} kgid_t;

/* Registers of the interrupted user mode, as saved on the kernel stack. */
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long di, si, dx, r10, r8, r9, ax, orig_ax;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	u64 regs[31];
};
struct pt_regs {
	union {
		struct user_pt_regs user_regs;
		struct {
			u64 regs[31];
		};
	};
	u64 orig_x0;
};
#else
#error "unknown target architecture"
#endif

struct ns_common {
	unsigned int inum;
};
struct mnt_namespace {
	struct ns_common ns;
};
struct pid_namespace {
	struct ns_common ns;
};
struct net {
	struct ns_common ns;
};
struct nsproxy {
	struct mnt_namespace *mnt_ns;
	struct net *net_ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};
struct pid {
	unsigned int level;
	struct upid numbers[1];
};

struct super_block;
struct inode;
struct dentry;

struct qstr {
	union {
		struct {
			u32 hash;
			u32 len;
		};
		u64 hash_len;
	};
	const unsigned char *name;
};
struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	struct super_block *d_sb;
};
struct file_system_type {
	const char *name;
};
struct super_block {
	u32 s_dev;
	unsigned long s_magic;
	struct file_system_type *s_type;
};
struct timespec64 {
	s64 tv_sec;
	long tv_nsec;
};
struct inode {
	umode_t i_mode;
	kuid_t i_uid;
	kgid_t i_gid;
	struct super_block *i_sb;
	unsigned long i_ino;
	unsigned int i_nlink;
};
struct vfsmount {
	struct dentry *mnt_root;
	struct super_block *mnt_sb;
};
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	struct mnt_namespace *mnt_ns;
	int mnt_id;
};
struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};
struct file {
	unsigned int f_mode;
	unsigned int f_flags;
	struct path f_path;
	struct inode *f_inode;
	void *private_data;
};
struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};
struct files_struct {
	struct fdtable *fdt;
};
struct fs_struct {
	struct path root;
	struct path pwd;
};
struct filename {
	const char *name;
};
struct open_flags {
	int open_flag;
	umode_t mode;
};

struct cred {
	kuid_t uid, suid, euid, fsuid;
	kgid_t gid, sgid, egid, fsgid;
	/* Eight bytes on every kernel; read as such (compat.h). */
	struct {
		u64 val;
	} cap_permitted, cap_effective;
};

struct tty_struct {
	char name[64];
};
struct signal_struct {
	atomic_t live;
	int group_exit_code;
	unsigned int flags;
	struct pid *pids[4];
	struct tty_struct *tty;
};
struct mm_struct {
	unsigned long arg_start, arg_end, env_start, env_end;
	struct file *exe_file;
};

struct kernfs_node {
	const char *name;
	u64 id;
};
struct cgroup_root {
	int hierarchy_id;
};
struct cgroup {
	int level;
	struct kernfs_node *kn;
	struct cgroup_root *root;
};
struct cgroup_subsys_state {
	struct cgroup *cgroup;
};
struct css_set {
	struct cgroup_subsys_state *subsys[4];
	struct cgroup *dfl_cgrp;
};
enum cgroup_subsys_id { memory_cgrp_id = 4, pids_cgrp_id = 11 };

struct task_struct {
	unsigned int flags;
	void *stack;
	int pid;
	int tgid;
	int exit_code;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	u64 start_boottime;
	const struct cred *cred;
	char comm[16];
	struct fs_struct *fs;
	struct files_struct *files;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	struct mm_struct *mm;
	struct css_set *cgroups;
	kuid_t loginuid;
	unsigned int sessionid;
};

struct linux_binprm {
	struct file *file;
	const char *filename;
	const char *interp;
	int argc;
	int envc;
};

struct in6_addr {
	u8 bytes[16];
};
struct sock_common {
	u32 skc_daddr;
	u32 skc_rcv_saddr;
	u16 skc_dport;
	u16 skc_num;
	u16 skc_family;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};
struct sock {
	struct sock_common __sk_common;
	u16 sk_type;
};
struct socket {
	short type;
	struct sock *sk;
};
struct sockaddr_storage {
	u16 ss_family;
};

/* Contexts of the per-system-call tracepoints. */
struct trace_entry {
	int pid;
};
struct trace_event_raw_sys_enter {
	struct trace_entry ent;
	long id;
	unsigned long args[6];
};
struct trace_event_raw_sys_exit {
	struct trace_entry ent;
	long id;
	long ret;
};

struct renamedata {
	struct dentry *old_dentry;
	struct dentry *new_dentry;
};

struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
	u64 session_id;
	u64 seq_num;
};
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute pop

#define PF_KTHREAD 0x00200000
#define PF_IO_WORKER 0x00000010
#define SIGNAL_GROUP_EXIT 0x00000004
#define FMODE_CREATED 0x100000
#define FMODE_EXEC_FLAG 0x20 /* __FMODE_EXEC, in open_flags.open_flag */

#define O_ACCMODE_ 00000003
#define O_CREAT_ 00000100
#define O_EXCL_ 00000200
#define O_NOCTTY_ 00000400
#define O_TRUNC_ 00001000
#define O_WRONLY_ 00000001
#define O_RDWR_ 00000002
#define O_LARGEFILE_ 00100000
#define O_PATH_ 010000000

#define AT_FDCWD_ (-100)
#define AT_SYMLINK_NOFOLLOW_ 0x100
#define AT_REMOVEDIR_ 0x200
#define AT_EMPTY_PATH_ 0x1000

#define AF_UNIX_ 1
#define AF_INET_ 2
#define AF_INET6_ 10

#define EPERM_ 1
#define EBADF_ 9
#define EACCES_ 13
#define EINPROGRESS_ 115

#define S_IFMT_ 00170000
#define S_IFSOCK_ 0140000
#define S_IFDIR_ 0040000

#define OVERLAYFS_MAGIC 0x794c7630

#define unlikely(x) __builtin_expect(!!(x), 0)
#define likely(x) __builtin_expect(!!(x), 1)

#endif
