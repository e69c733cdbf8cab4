// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Working directories, mounts, extended attributes, times and splice by
 * trampolines. 32-bit callers and io_uring pass here, too. Not seen: calls
 * refused while a path was still being walked. The calls of the new mount
 * interface have no function of their own on every kernel: their tracepoints
 * are used in this mode, too (fsmeta_tp).
 */
#include "fsmeta.h"
#include "script.h"
#include "tramp.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/*
 * set_fs_pwd (v2.6 to now): chdir, fchdir, and entering a mount namespace,
 * once nothing can fail any more. Runs before the change.
 */
SEC("fentry/set_fs_pwd")
int BPF_PROG(tr_chdir, struct fs_struct *fs, struct path *path)
{
	struct path at = {(void *)BPF_CORE_READ(path, mnt), (void *)BPF_CORE_READ(path, dentry)};
	struct pending a = {.dirfd = AT_FDCWD_};
	struct extra x = {};

	if (BPF_CORE_READ(current_task(), flags) & PF_KTHREAD)
		return 0;
	fate(REC_CHDIR, FATE_SEEN);
	return report_meta(REC_CHDIR, &at, &a, &x, 0);
}

/* vfs_utimes (v5.8 to now): every way to set times, by path or descriptor. */
SEC("fexit/vfs_utimes")
int BPF_PROG(tr_utimes, struct path *path, struct timespec64 *times, int ret)
{
	struct path at = {(void *)BPF_CORE_READ(path, mnt), (void *)BPF_CORE_READ(path, dentry)};
	struct pending a = {.dirfd = AT_FDCWD_};
	u64 from = number(1);
	struct extra x = {};

	if (from) {
		struct timespec64 ts[2] = {};

		bpf_probe_read_kernel(ts, sizeof(ts), (void *)from);
		x.atime = time_asked(ts[0].tv_sec, ts[0].tv_nsec);
		x.mtime = time_asked(ts[1].tv_sec, ts[1].tv_nsec);
	}
	fate(REC_UTIMES, FATE_SEEN);
	return report_meta(REC_UTIMES, &at, &a, &x, result(number(2)));
}

/*
 * The functions that change attributes are told a dentry and no mount. Just
 * before, the kernel asks for write access to the mount: what it asked last,
 * by thread. Filled here, emptied when the change begins; threads that write
 * otherwise overwrite their own entry.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, u64);
} writing SEC(".maps");

static __always_inline int note_mount(u64 mnt)
{
	u64 id = bpf_get_current_pid_tgid();

	bpf_map_update_elem(&writing, &id, &mnt, BPF_ANY);
	return 0;
}

/* mnt_want_write and mnt_want_write_file (v2.6 to now). About 70 ns for each file opened for
 * writing. */
SEC("fentry/mnt_want_write")
int BPF_PROG(note_write, struct vfsmount *m)
{
	return note_mount(number(0));
}

SEC("fentry/mnt_want_write_file")
int BPF_PROG(note_write_file, struct file *f)
{
	return note_mount((u64)BPF_CORE_READ(f, f_path.mnt));
}

/*
 * A change of an attribute begins: its mount is kept with it. One that begins
 * within another is that of a layer below an overlay, and is not looked at.
 */
static __always_inline int begin_xattr(u32 kind, u64 dentry)
{
	u64 id = bpf_get_current_pid_tgid();
	struct pending a = {.kind = kind, .arg = dentry}, *before;
	u64 *mnt;

	before = bpf_map_lookup_elem(&pending, &id);
	if (before && (before->kind == REC_SETXATTR || before->kind == REC_REMOVEXATTR))
		return 0;
	mnt = bpf_map_lookup_elem(&writing, &id);
	if (mnt)
		a.arg2 = *mnt;
	bpf_map_update_elem(&pending, &id, &a, BPF_ANY);
	return 0;
}

static __always_inline int end_xattr(u32 kind, u64 dentry, u64 name, u64 size, u64 flags, long ret)
{
	u64 id = bpf_get_current_pid_tgid();
	struct extra x = {.name = name};
	struct pending a, *found;
	struct path at = {};
	u64 head = 0;

	found = bpf_map_lookup_elem(&pending, &id);
	if (!found || found->kind != kind || found->arg != dentry)
		return 0;
	a = *found;
	bpf_map_delete_elem(&pending, &id);
	fate(kind, FATE_SEEN);
	at.mnt = (void *)a.arg2;
	at.dentry = (void *)dentry;
	/* Without its mount, or with another file system's, there is no path to tell. */
	if (!at.mnt || BPF_CORE_READ(at.mnt, mnt_sb) != BPF_CORE_READ(at.dentry, d_sb))
		return fate(kind, FATE_NO_ENTRY);
	a.arg = 0;
	a.arg2 = 0;
	a.dirfd = AT_FDCWD_;
	if (bpf_probe_read_kernel(&head, sizeof(head), (void *)name))
		head = 0;
	a.flags = xattr_ns(head);
	a.mode = flags;
	a.length = size;
	return report_meta(kind, &at, &a, &x, ret);
}

/* vfs_setxattr: (idmap, dentry, name, value, size, flags) since v5.12. */
SEC("fentry/vfs_setxattr")
int BPF_PROG(begin_setxattr)
{
	return begin_xattr(REC_SETXATTR, number(1));
}

SEC("fexit/vfs_setxattr")
int BPF_PROG(tr_setxattr)
{
	return end_xattr(REC_SETXATTR, number(1), number(2), number(4), (u32)number(5),
			 result(number(6)));
}

/* vfs_removexattr: (idmap, dentry, name) since v5.12. */
SEC("fentry/vfs_removexattr")
int BPF_PROG(begin_removexattr)
{
	return begin_xattr(REC_REMOVEXATTR, number(1));
}

SEC("fexit/vfs_removexattr")
int BPF_PROG(tr_removexattr)
{
	return end_xattr(REC_REMOVEXATTR, number(1), number(2), 0, 0, result(number(3)));
}

/*
 * vfs_set_acl: (idmap, dentry, name, acl), vfs_remove_acl: (idmap, dentry,
 * name): attributes that hold access lists, since v6.2 (e4cc9163032f); before,
 * they are set as any other.
 */
SEC("fentry/vfs_set_acl")
int BPF_PROG(begin_set_acl)
{
	return begin_xattr(REC_SETXATTR, number(1));
}

SEC("fexit/vfs_set_acl")
int BPF_PROG(tr_set_acl)
{
	return end_xattr(REC_SETXATTR, number(1), number(2), 0, 0, result(number(4)));
}

SEC("fentry/vfs_remove_acl")
int BPF_PROG(begin_remove_acl)
{
	return begin_xattr(REC_REMOVEXATTR, number(1));
}

SEC("fexit/vfs_remove_acl")
int BPF_PROG(tr_remove_acl)
{
	return end_xattr(REC_REMOVEXATTR, number(1), number(2), 0, 0, result(number(3)));
}

/* do_splice (v2.6 to now): splice, and io_uring's. Runs with both files held. */
SEC("fentry/do_splice")
int BPF_PROG(begin_splice)
{
	u64 id = bpf_get_current_pid_tgid();
	struct file *in = (void *)number(0), *out = (void *)number(2);
	struct pending a = {.kind = REC_SPLICE};

	if (is_pipe(in))
		a.mode = pipe_flags(in);
	else if (is_pipe(out))
		a.mode = pipe_flags(out);
	bpf_map_update_elem(&pending, &id, &a, BPF_ANY);
	return 0;
}

SEC("fexit/do_splice")
int BPF_PROG(tr_splice)
{
	u64 id = bpf_get_current_pid_tgid();
	long n = number(6);
	struct pending *found, a;

	fate(REC_SPLICE, FATE_SEEN);
	found = bpf_map_lookup_elem(&pending, &id);
	if (!found || found->kind != REC_SPLICE)
		return fate(REC_SPLICE, FATE_NO_ENTRY);
	a = *found;
	bpf_map_delete_elem(&pending, &id);
	a.dirfd = AT_FDCWD_;
	return observe_splice((void *)number(0), (void *)number(2), &a, n);
}

/* path_mount (v5.9, c60166f04283, to now): mount(2), its directory resolved. */
SEC("fentry/path_mount")
int BPF_PROG(begin_mount)
{
	u64 id = bpf_get_current_pid_tgid();
	struct pending a = {.kind = REC_MOUNT, .length = youngest(current_task())};

	bpf_map_update_elem(&pending, &id, &a, BPF_ANY);
	return 0;
}

/*
 * Where nothing new was made, because the call was refused or moved what was
 * there, the directory is the one that the kernel resolved.
 */
SEC("fexit/path_mount")
int BPF_PROG(tr_mount)
{
	u64 id = bpf_get_current_pid_tgid();
	struct mount_call c = {.dirfd = AT_FDCWD_,
			       .dirfd2 = AT_FDCWD_,
			       .source = number(0),
			       .type = number(2),
			       .flags = number(3),
			       .kernel = true};
	struct pending *found;
	u64 mark;

	found = bpf_map_lookup_elem(&pending, &id);
	if (!found || found->kind != REC_MOUNT) {
		fate(REC_MOUNT, FATE_SEEN);
		return fate(REC_MOUNT, FATE_NO_ENTRY);
	}
	mark = found->length;
	bpf_map_delete_elem(&pending, &id);
	c.point = number(1);
	return observe_mount(&c, mark, result(number(5)));
}

/* What is about to be unmounted, by thread: its place is gone when it is done. As `pending`. */
struct leaving {
	u32 len;
	u32 flags;
	struct rec_file file;
	u8 path[1024];
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, u64);
	__type(value, struct leaving);
} leaving SEC(".maps");

/* path_umount (v5.9, 41525f56e256, to now): umount(2), its path resolved. */
SEC("fentry/path_umount")
int BPF_PROG(begin_umount, struct path *path, int flags)
{
	u64 id = bpf_get_current_pid_tgid();
	static const struct leaving empty;
	struct leaving *l;
	struct rec_mount *r;
	struct scratch *s;
	u64 mnt, dent;
	u32 n;

	s = take(id);
	if (!s)
		return 0;
	bpf_map_update_elem(&leaving, &id, &empty, BPF_ANY);
	l = bpf_map_lookup_elem(&leaving, &id);
	if (!l) {
		give(s);
		return 0;
	}
	s->off = sizeof(*r);
	r = (void *)s->buf;
	__builtin_memset(r, 0, sizeof(*r));
	mnt = (u64)BPF_CORE_READ(path, mnt);
	dent = (u64)BPF_CORE_READ(path, dentry);
	fill_file(s, &r->file, mnt, dent);
	l->file = r->file;
	l->flags = flags;
	n = r->file.path.len;
	if (n > sizeof(l->path)) {
		n = sizeof(l->path);
		l->file.flags |= RF_TRUNCATED;
	}
	l->len = n;
	bpf_probe_read_kernel(l->path, sizeof(l->path), s->buf + sizeof(*r));
	give(s);
	return 0;
}

SEC("fexit/path_umount")
int BPF_PROG(tr_umount, struct path *path, int flags, int ret)
{
	u64 id = bpf_get_current_pid_tgid();
	long err = result(number(2));
	struct leaving *l;
	struct plan_data *p;
	struct rec_mount *r;
	struct scratch *s;

	fate(REC_UMOUNT, FATE_SEEN);
	l = bpf_map_lookup_elem(&leaving, &id);
	if (!l)
		return fate(REC_UMOUNT, FATE_NO_ENTRY);
	if (!reported(err)) {
		bpf_map_delete_elem(&leaving, &id);
		return fate(REC_UMOUNT, FATE_RESULT);
	}
	p = the_plan();
	if (!p || p->mode[REC_UMOUNT] == PLAN_OFF) {
		bpf_map_delete_elem(&leaving, &id);
		return fate(REC_UMOUNT, FATE_FILTERED);
	}
	if (is_self(id >> 32)) {
		bpf_map_delete_elem(&leaving, &id);
		return fate(REC_UMOUNT, FATE_SELF);
	}
	s = take(id);
	if (!s) {
		bpf_map_delete_elem(&leaving, &id);
		return fate(REC_UMOUNT, FATE_SCRATCH_BUSY);
	}
	r = (void *)s->buf;
	__builtin_memset(r, 0, sizeof(*r));
	fill_hdr(&r->hdr, current_task());
	r->retval = err;
	r->flags = (u32)flags;
	r->file = l->file;
	r->file.path.off = sizeof(*r);
	r->file.path.len = l->len;
	bpf_probe_read_kernel(s->buf + sizeof(*r), sizeof(l->path), l->path);
	s->off = sizeof(*r) + sizeof(l->path);
	bpf_map_delete_elem(&leaving, &id);
	return send(s, &critical, REC_UMOUNT);
}

struct linux_binprm___buf {
	char buf[2];
} __attribute__((preserve_access_index));

/*
 * security_bprm_check (v2.6 to now): once for each file on the way to a
 * program, a script first, its beginning already read. Costs an exec of what
 * is no script some 100 ns.
 */
SEC("fentry/security_bprm_check")
int BPF_PROG(hold_script, struct linux_binprm *bprm)
{
	u64 id = bpf_get_current_pid_tgid();
	static const struct script empty;
	struct rec_file facts = {};
	struct linux_binprm___buf *b = (void *)bprm;
	char head[2] = {};
	struct script *k;
	struct scratch *s;
	struct file *f;

	if (bprm->interp != bprm->filename)
		return 0; /* an interpreter */
	bpf_probe_read_kernel(head, sizeof(head), (void *)bprm + bpf_core_field_offset(b->buf));
	if (head[0] != '#' || head[1] != '!') {
		bpf_map_delete_elem(&scripts, &id);
		return 0;
	}
	if (bpf_map_update_elem(&scripts, &id, &empty, BPF_ANY))
		return 0;
	k = bpf_map_lookup_elem(&scripts, &id);
	s = take(id);
	if (!k || !s) {
		if (s)
			give(s);
		bpf_map_delete_elem(&scripts, &id);
		return 0;
	}
	s->off = 0;
	f = bprm->file;
	fill_from_file(s, &facts, f);
	if (facts.path.len > SCRIPT_PATH) {
		facts.path.len = SCRIPT_PATH;
		facts.flags |= RF_TRUNCATED;
	}
	k->file = facts;
	bpf_probe_read_kernel(k->path, SCRIPT_PATH, s->buf);
	give(s);
	return 0;
}
