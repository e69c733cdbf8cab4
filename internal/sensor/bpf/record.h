/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * What goes on the rings. A record is a struct below followed by its strings;
 * a string is named by offset and length from the record's start. Paths are
 * lists of NUL-terminated names, leaf first, up to the root of the mount
 * namespace. Everything is little endian, padding is explicit.
 */
#ifndef CLEW_RECORD_H
#define CLEW_RECORD_H

#include "kernel.h"
#include "drop.h"

enum rec_kind {
	REC_NONE = 0,
	REC_FORK = 1,
	REC_EXEC = 2,
	REC_EXIT = 3,
	REC_CRED = 4,
	REC_CGROUP = 5,
	REC_CANARY = 6,
	REC_OPEN = 7,
	REC_TRUNCATE = 8,
	REC_UNLINK = 9,
	REC_RMDIR = 10,
	REC_RENAME = 11,
	REC_MKDIR = 12,
	REC_CHMOD = 13,
	REC_CHOWN = 14,
	REC_LINK = 15,
	REC_SYMLINK = 16,
	REC_CONNECT = 17,
	REC_ACCEPT = 18,
	REC_BIND = 19,
	REC_SNAPSHOT = 20,
	REC_CHDIR = 21,
	REC_MOUNT = 22,
	REC_UMOUNT = 23,
	REC_SETXATTR = 24,
	REC_REMOVEXATTR = 25,
	REC_SPLICE = 26,
	REC_UTIMES = 27,
	REC_SIGNAL = 28,
	REC_SETRLIMIT = 29,
	REC_CAPABILITIES = 30,
	REC_PRCTL = 31,
	REC_BPF = 32,
	REC_LOAD_MODULE = 33,
	REC_UNLOAD_MODULE = 34,
	REC_MMAP = 35,
	REC_MPROTECT = 36,
	REC_PTRACE = 37,
	REC_SELINUX = 38,
	REC_SYSCTL = 39,
	REC_UNSHARE = 40,
	REC_SOCKET = 41,
	REC_SETSOCKOPT = 42,
	REC_DNS = 43,
	REC_IMDS = 44,
	REC_PACKET = 45,
	REC_FLOWS = 46,
	REC_ONDEMAND = 47,
	REC_KINDS = 64, /* a power of two, and no more than bits in a u64 */
};

/* rec_hdr.flags */
enum rec_hdr_flag {
	RH_ASYNC = 1, /* done by a worker on behalf of the process: io_uring */
};

struct rec_str {
	u16 off;
	u16 len;
};

struct rec_hdr {
	u16 kind;
	u16 flags;
	u32 size;
	u64 ts; /* boot time, ns */
	u64 start; /* start of the thread group's leader, boot time, ns */
	u32 tgid;
	u32 tid;
	u32 ppid;
	u32 sid;
	u32 uid;
	u32 gid;
	u32 euid;
	u32 egid;
	u32 fsuid;
	u32 fsgid;
	u32 auid;
	u32 ses;
	u64 cgroup_id; /* kernfs id; see task_cgroup */
	u32 mntns;
	u32 netns;
	u32 cpu;
	u32 pad;
	char comm[16];
};
_Static_assert(sizeof(struct rec_hdr) == 112, "rec_hdr");

/* rec_file.flags */
enum rec_file_flag {
	RF_PRESENT = 1,
	RF_UPPER = 2, /* overlayfs: lives in the writable layer */
	RF_TRUNCATED = 4, /* the path has more steps or bytes than are kept */
	RF_DETACHED = 8, /* its mount is in no mount namespace, or the path ends in none */
	RF_DELETED = 16, /* no name is left in any directory */
	RF_OVERLAY = 32,
};

struct rec_file {
	u64 inode;
	u64 ctime;
	u64 mtime;
	u32 mnt_id;
	u32 dev;
	u32 uid;
	u32 gid;
	u16 mode;
	u16 flags;
	struct rec_str path;
	u32 links;
	u32 pad;
	char fs[16];
};
_Static_assert(sizeof(struct rec_file) == 72, "rec_file");

/* rec_proc.flags */
enum rec_proc_flag {
	RP_KTHREAD = 1,
	RP_CGROUP_V1 = 2, /* the cgroup path is that of a version 1 hierarchy */
	RP_ARGS_TRUNCATED = 4,
	RP_ENVS_TRUNCATED = 8,
	RP_ARGS_UNREADABLE = 16,
	RP_ENVS_UNREADABLE = 32,
	RP_CGROUP_TRUNCATED = 64,
	RP_CHROOTED = 128, /* its root is not that of its mount namespace */
};

/* fork (the header describes the child), exec, and an entry of the snapshot. */
struct rec_proc {
	struct rec_hdr hdr;
	u64 creator_start; /* fork: who called it; else the parent */
	u32 creator;
	u32 flags;
	u64 cap_effective;
	u64 cap_permitted;
	u32 pidns;
	u32 nspid; /* pid in its own namespace */
	u32 old_tid; /* the thread that called fork or exec */
	u32 argc;
	u32 envc;
	u32 cgroup_hier;
	u64 cgroup_node; /* kernfs id of the directory that the path names */
	struct rec_file exe;
	struct rec_file
		script; /* exec: what the interpreter in exe runs, where the kernel showed it */
	struct rec_str cgroup;
	struct rec_str filename; /* exec: the kernel's copy of what was asked for */
	struct rec_str interp; /* exec: what runs it; differs for scripts */
	struct rec_str cwd;
	struct rec_str args;
	struct rec_str envs;
	char tty[24];
};
_Static_assert(sizeof(struct rec_proc) == 368, "rec_proc");

struct rec_exit {
	struct rec_hdr hdr;
	u32 code; /* as wait(2) reports it */
	u32 pad;
};
_Static_assert(sizeof(struct rec_exit) == 120, "rec_exit");

struct rec_ids {
	u32 uid, gid, suid, sgid, euid, egid, fsuid, fsgid;
	u64 cap_effective, cap_permitted;
};
struct rec_cred {
	struct rec_hdr hdr; /* with the new credentials */
	struct rec_ids before;
	struct rec_ids after;
};
_Static_assert(sizeof(struct rec_cred) == 208, "rec_cred");

struct rec_cgroup {
	struct rec_hdr hdr; /* who moved it */
	u64 start; /* of the moved process */
	u64 node;
	u32 tgid;
	u32 tid;
	u32 hier; /* hierarchy id, 0 or 1 is unified */
	u32 flags;
	struct rec_str path;
	u32 threadgroup;
};
_Static_assert(sizeof(struct rec_cgroup) == 152, "rec_cgroup");

struct rec_canary {
	struct rec_hdr hdr;
	u64 nonce;
	u32 ring; /* 0 critical, 1 bulk */
	u32 pad;
};
_Static_assert(sizeof(struct rec_canary) == 128, "rec_canary");

/* rec_fileop.opflags */
enum rec_op_flag {
	RO_PATH_USER = 1, /* the path is what the caller's memory said */
	RO_CHANGED = 2, /* it said something else at exit than at entry */
	RO_UNREADABLE = 4, /* it could not be read at entry or exit */
	RO_TRUNCATED = 8,
	RO_CREATED = 16, /* open made the file */
	RO_FLAGS_USER = 32, /* flags were read from the caller's memory (openat2) */
	RO_BY_FD = 64,
	RO_OWN_LINK = 128, /* `arg` begins with a link of procfs to what `dir` is */
	RO_OWN_LINK2 = 256, /* the same of `arg2` and `dir2` */
};

/*
 * Everything that names a file. `file` is set when the kernel's object is at
 * hand; else the file is `arg` below the directory `dir`.
 */
struct rec_fileop {
	struct rec_hdr hdr;
	s32 retval;
	u32 opflags;
	u32 flags; /* of the call */
	u32 mode; /* asked for */
	u32 uid; /* asked for */
	u32 gid;
	s32 dirfd;
	s32 dirfd2;
	s64 length;
	struct rec_file file;
	struct rec_file file2;
	struct rec_str dir;
	struct rec_str arg;
	struct rec_str dir2;
	struct rec_str arg2;
};
_Static_assert(sizeof(struct rec_fileop) == 312, "rec_fileop");

struct rec_net {
	struct rec_hdr hdr;
	s32 retval;
	u16 family;
	u16 protocol;
	u16 type;
	u16 lport;
	u16 rport;
	u16 pad;
	u8 laddr[16];
	u8 raddr[16];
	struct rec_str path; /* AF_UNIX */
	u32 pad2;
};
_Static_assert(sizeof(struct rec_net) == 168, "rec_net");

/* rec_meta.op.flags of extended attributes: the name's namespace, so that the plan can ask for one.
 */
enum rec_xattr_ns {
	RX_SECURITY = 1,
	RX_SYSTEM = 2,
	RX_TRUSTED = 4,
	RX_USER = 8,
};

#define TIME_NOW 0
#define TIME_OMITTED (-1)

/* What is done to a file beside its content and name: chdir, extended attributes, times, splice. */
struct rec_meta {
	struct rec_fileop op;
	s64 atime; /* asked for, ns since the epoch, or TIME_* */
	s64 mtime;
	u32 pipe_before; /* flags of the pipe's last buffer */
	u32 pipe_after;
	struct rec_str name; /* of the attribute */
	u32 pad;
};
_Static_assert(sizeof(struct rec_meta) == 344, "rec_meta");

/* rec_mount.mflags */
enum rec_mount_flag {
	RM_DETACHED = 1, /* made, and attached to no directory */
	RM_BIND = 2,
	RM_MOVED = 4, /* was attached elsewhere, or nowhere, before */
	RM_FOUND = 8, /* `file` is the mount that was made, and `root` its root */
};

/*
 * mount and umount. `file` is the root of the mount as it is seen from the
 * namespace, so its path is the mount point. What was asked for is `source`
 * below `dir` on `target` below `dir2`.
 */
struct rec_mount {
	struct rec_hdr hdr;
	s32 retval;
	u32 opflags;
	u64 flags; /* of the call */
	struct rec_file file;
	struct rec_str root; /* the mount's root inside its file system, names leaf first */
	struct rec_str dir;
	struct rec_str source;
	struct rec_str dir2;
	struct rec_str target;
	struct rec_str type; /* given */
	struct rec_str pad;
	u32 mflags;
};
_Static_assert(sizeof(struct rec_mount) == 232, "rec_mount");

/* rec_call.flags, and those of the records below */
enum rec_call_flag {
	RC_USER = 1, /* something of it is what the caller's memory said as the call ended */
	RC_NAME_CUT = 2,
	RC_TEXT_CUT = 4, /* of the arguments, or the new value */
	RC_OLD_CUT = 8, /* of the value before */
	RC_MEMORY = 16, /* the module came from memory */
	RC_HELPERS = 32, /* the helper functions are known */
};

/*
 * Calls that are about numbers and perhaps another process. What the numbers
 * are is said where they are filled in (kern.h).
 */
struct rec_call {
	struct rec_hdr hdr;
	s32 retval;
	u32 flags;
	u64 a;
	u64 b;
	u64 c;
	u64 d;
	u64 target_start;
	u32 target; /* thread group, 0 when it is not known */
	struct rec_str text;
};
_Static_assert(sizeof(struct rec_call) == 168, "rec_call");

struct rec_mmap {
	struct rec_hdr hdr;
	s32 retval;
	u32 flags;
	u64 addr;
	u64 len;
	u64 offset;
	u32 prot;
	u32 mmap_flags;
	struct rec_file file;
};
_Static_assert(sizeof(struct rec_mmap) == 224, "rec_mmap");

struct rec_bpf {
	struct rec_hdr hdr;
	s32 retval;
	u32 flags;
	u32 cmd;
	u32 map_type;
	u32 prog_type;
	u32 attach_type;
	u64 helpers[4]; /* a bit for each */
	u8 tag[8];
	char map_name[16];
	char prog_name[16];
};
_Static_assert(sizeof(struct rec_bpf) == 208, "rec_bpf");

struct rec_module {
	struct rec_hdr hdr;
	s32 retval;
	u32 flags;
	struct rec_file file;
	struct rec_str name;
	struct rec_str args; /* as the caller's memory says */
	struct rec_str kept; /* the kernel's copy of them, with a NUL wherever a word ends */
	u32 pad;
};
_Static_assert(sizeof(struct rec_module) == 208, "rec_module");

struct rec_sysctl {
	struct rec_hdr hdr;
	u32 write;
	u32 flags;
	u32 position;
	struct rec_str name;
	struct rec_str value;
	struct rec_str old;
};
_Static_assert(sizeof(struct rec_sysctl) == 136, "rec_sysctl");

/* Names every record in BTF, so that the decoder's test can compare layouts. */
union rec_any {
	struct rec_hdr hdr;
	struct rec_proc proc;
	struct rec_exit exit;
	struct rec_cred cred;
	struct rec_cgroup cgroup;
	struct rec_canary canary;
	struct rec_fileop fileop;
	struct rec_net net;
	struct rec_call call;
	struct rec_mmap mmap;
	struct rec_bpf bpf;
	struct rec_module module;
	struct rec_sysctl sysctl;
	struct rec_ids ids;
	struct rec_meta meta;
	struct rec_mount mount;
	enum rec_xattr_ns xattr_ns;
	enum rec_mount_flag mount_flag;
	enum rec_kind kind;
	enum rec_hdr_flag hdr_flag;
	enum rec_file_flag file_flag;
	enum rec_proc_flag proc_flag;
	enum rec_op_flag op_flag;
	enum rec_call_flag call_flag;
	enum fate fate;
	enum beside beside;
};

#endif
