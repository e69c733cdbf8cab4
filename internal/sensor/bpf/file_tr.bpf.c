// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Files by trampolines (fexit): the kernel's own functions, after they have
 * resolved what the caller named. 32-bit callers and io_uring pass here, too.
 * Functions are chosen that every way in goes through and that other files of
 * the kernel call, so that the compiler cannot have put them into a caller.
 * Not seen: calls refused while a path was still being walked, except opens.
 */
#include "file.h"
#include "tramp.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* A file that was opened, or an error. The name is the kernel's copy. */
static __always_inline int observe_filp(s32 dfd, u64 name, struct open_flags *op, u64 ret)
{
	struct open_args a = {};
	struct task_struct *t;
	struct file *f = NULL;
	struct plan_data *p;
	bool by_name;
	long err = 0;
	u32 done;
	u64 flags = (u32)op->open_flag;

	if (flags & FMODE_EXEC_FLAG)
		return 0;
	fate(REC_OPEN, FATE_SEEN);
	f = (struct file *)ret;
	if ((u64)f >= (u64)-4095) {
		err = (long)f;
		f = NULL;
		if (!reported(err))
			return fate(REC_OPEN, FATE_RESULT);
	}
	p = the_plan();
	if (!p || p->mode[REC_OPEN] == PLAN_OFF)
		return fate(REC_OPEN, FATE_FILTERED);
	t = current_task();
	a.flags = flags;
	a.mode = op->mode & 07777;
	a.dirfd = dfd;
	a.path = name;
	done = judge_open(p, t, f, &a, &by_name);
	if (done != FATE_SENT)
		return fate(REC_OPEN, done);
	return report_open(t, f, &a, err, by_name);
}

/*
 * do_filp_open (v3.x to v7.0), do_file_open (since): open, openat, openat2,
 * creat, io_uring's, and exec's, which are left out. Costs about 60 ns per open.
 */
SEC("fexit/do_filp_open")
int BPF_PROG(tr_open, int dfd, struct filename *name, struct open_flags *op)
{
	return observe_filp(dfd, (u64)BPF_CORE_READ(name, name), op, number(3));
}

SEC("fexit/do_file_open")
int BPF_PROG(tr_file_open, int dfd, struct filename *name, struct open_flags *op)
{
	return observe_filp(dfd, (u64)BPF_CORE_READ(name, name), op, number(3));
}

/*
 * do_file_open_root: (path, name, flags) since v5.14 (ffb37ca3bd16):
 * open_by_handle_at, and the kernel's own. A handle names no path, so that a
 * failure would tell nothing.
 */
SEC("fexit/do_file_open_root")
int BPF_PROG(tr_open_root, struct path *root, const char *name, struct open_flags *op)
{
	u64 ret = number(3);

	if (ret >= (u64)-4095) {
		fate(REC_OPEN, FATE_SEEN);
		return fate(REC_OPEN, FATE_RESULT);
	}
	return observe_filp(AT_FDCWD_, 0, op, ret);
}

/* One object that the kernel has at hand; filtered by its name. */
static __always_inline int observe_path(u32 kind, u64 mnt, u64 dentry, struct pending *a, long ret)
{
	struct path at = {(void *)mnt, (void *)dentry};
	struct plan_data *p;
	u32 done;

	fate(kind, FATE_SEEN);
	if (!reported(ret))
		return fate(kind, FATE_RESULT);
	p = the_plan();
	if (!p || p->mode[kind] == PLAN_OFF)
		return fate(kind, FATE_FILTERED);
	done = judge(p, kind, a->flags, &at, &a->why);
	if (done != FATE_SENT)
		return fate(kind, done);
	return report_object(kind, mnt, dentry, a, ret);
}

/* chmod_common (v3.x to now): every chmod, by path or descriptor. */
SEC("fexit/chmod_common")
int BPF_PROG(tr_chmod, struct path *path, umode_t mode, int ret)
{
	struct pending a = {.mode = (u16)mode};

	return observe_path(REC_CHMOD, (u64)BPF_CORE_READ(path, mnt),
			    (u64)BPF_CORE_READ(path, dentry), &a, ret);
}

/* chown_common (v3.x to now): every chown, by path or descriptor. */
SEC("fexit/chown_common")
int BPF_PROG(tr_chown, struct path *path, u32 user, u32 group, int ret)
{
	struct pending a = {.uid = user, .gid = group};

	return observe_path(REC_CHOWN, (u64)BPF_CORE_READ(path, mnt),
			    (u64)BPF_CORE_READ(path, dentry), &a, ret);
}

/* vfs_truncate (v3.x to now): truncate by path. */
SEC("fexit/vfs_truncate")
int BPF_PROG(tr_truncate, struct path *path, s64 length, long ret)
{
	struct pending a = {.length = length, .flags = O_WRONLY_ | O_TRUNC_};

	return observe_path(REC_TRUNCATE, (u64)BPF_CORE_READ(path, mnt),
			    (u64)BPF_CORE_READ(path, dentry), &a, result(ret));
}

/*
 * Truncate by descriptor. Also the way of canaries: the agent truncates
 * descriptor -1 to a nonce, which fails.
 */
static __always_inline int observe_ftruncate(u32 fd, s64 length, long err)
{
	struct pending a = {.length = length, .flags = O_WRONLY_ | O_TRUNC_};

	if (fd == (u32)-1 && err == -EBADF_ && bpf_get_current_pid_tgid() >> 32 == cfg_agent_tgid)
		return send_canary(length);
	return observe_fd(REC_TRUNCATE, &a, fd, err);
}

/* do_sys_ftruncate (v4.17 to v7.0), ksys_ftruncate (since). */
SEC("fexit/do_sys_ftruncate")
int BPF_PROG(tr_ftruncate, u32 fd, s64 length)
{
	return observe_ftruncate(fd, length, result(number(3)));
}

SEC("fexit/ksys_ftruncate")
int BPF_PROG(tr_ksys_ftruncate, u32 fd, s64 length)
{
	return observe_ftruncate(fd, length, result(number(3)));
}

/*
 * security_path_* (CONFIG_SECURITY_PATH): a directory is about to be changed,
 * and the mount is known, which the vfs_ functions are not told. What is to go
 * is noted before it goes; the vfs_ function that follows says how it ended.
 */
static __noinline int hold(u64 mnt, u64 parent, u64 dentry)
{
	u64 id = bpf_get_current_pid_tgid();
	static const struct held empty;
	struct rec_file facts = {};
	struct held *h;
	long n;

	if (bpf_map_update_elem(&held, &id, &empty, BPF_ANY))
		return 0;
	h = bpf_map_lookup_elem(&held, &id);
	if (!h)
		return 0;
	h->mnt = mnt;
	h->parent = parent;
	h->dentry = dentry;
	fill_facts(&facts, mnt, dentry);
	h->file = facts;
	n = bpf_probe_read_kernel_str(h->name, sizeof(h->name),
				      BPF_CORE_READ((struct dentry *)dentry, d_name.name));
	h->name_len = n > 0 ? n : 0;
	return 0;
}

#define HOLD(name, args...)                                                                        \
	SEC("fexit/security_path_" #name)                                                          \
	int BPF_PROG(hold_##name, args)

HOLD(unlink, struct path *dir, struct dentry *dentry)
{
	return hold((u64)BPF_CORE_READ(dir, mnt), (u64)BPF_CORE_READ(dir, dentry), number(1));
}

HOLD(rmdir, struct path *dir, struct dentry *dentry)
{
	return hold((u64)BPF_CORE_READ(dir, mnt), (u64)BPF_CORE_READ(dir, dentry), number(1));
}

HOLD(mkdir, struct path *dir, struct dentry *dentry)
{
	return hold((u64)BPF_CORE_READ(dir, mnt), (u64)BPF_CORE_READ(dir, dentry), number(1));
}

HOLD(symlink, struct path *dir, struct dentry *dentry)
{
	return hold((u64)BPF_CORE_READ(dir, mnt), (u64)BPF_CORE_READ(dir, dentry), number(1));
}

HOLD(link, struct dentry *old, struct path *dir, struct dentry *dentry)
{
	return hold((u64)BPF_CORE_READ(dir, mnt), (u64)BPF_CORE_READ(dir, dentry), number(2));
}

HOLD(rename, struct path *dir, struct dentry *dentry, struct path *to, struct dentry *target)
{
	return hold((u64)BPF_CORE_READ(dir, mnt), (u64)BPF_CORE_READ(dir, dentry), number(1));
}

struct done {
	u64 dentry; /* what the note was made of */
	u64 first; /* is described as `file`; 0: by the note */
	u64 second; /* is described as `file2`; 0: nothing */
	u64 name2; /* another name that the filter may want */
	u64 target; /* text of a symbolic link */
	u32 flags;
	u32 mode;
};

static __always_inline bool dentry_wanted(struct plan_data *p, u32 kind, u64 dentry)
{
	struct qstr q = {};

	bpf_probe_read_kernel(&q, sizeof(q),
			      (void *)dentry + bpf_core_field_offset(struct dentry, d_name));
	return name_wanted(p, kind, q.name, q.len);
}

/* Ends a change of a directory. */
static __noinline int finish(u32 kind, struct done *d, u64 ret)
{
	u64 id = bpf_get_current_pid_tgid();
	struct task_struct *t = current_task();
	long err = result(ret);
	struct rec_fileop *r;
	struct plan_data *p;
	struct scratch *s;
	struct held *h;
	u32 n, off, why, verdict;
	u16 flags = 0;

	h = bpf_map_lookup_elem(&held, &id);
	/* Another one: a layer below an overlay, or a change from within. */
	if (!h || h->dentry != d->dentry)
		return 0;
	asm volatile("%0 &= 63" : "+r"(kind)); /* below REC_KINDS, for the verifier */
	fate(kind, FATE_SEEN);
	if (!reported(err)) {
		bpf_map_delete_elem(&held, &id);
		return fate(kind, FATE_RESULT);
	}
	p = the_plan();
	if (!p || p->mode[kind] == PLAN_OFF) {
		bpf_map_delete_elem(&held, &id);
		return fate(kind, FATE_FILTERED);
	}
	if (is_self(id >> 32)) {
		bpf_map_delete_elem(&held, &id);
		return fate(kind, FATE_SELF);
	}
	why = why_wanted(p, kind, d->flags);
	if (ask_name(p, kind, why) &&
	    (name_wanted(p, kind, h->name, h->name_len ? h->name_len - 1 : 0) ||
	     (d->name2 && dentry_wanted(p, kind, d->name2))))
		why = WANT_RULE;
	if (why != WANT_RULE) {
		verdict = why == WANT_SPARE ? shaped(kind) : beyond(p, kind);
		why = WANT_SPARE;
		if (verdict != FATE_SENT) {
			bpf_map_delete_elem(&held, &id);
			return fate(kind, verdict);
		}
	}
	s = take(id);
	if (!s) {
		bpf_map_delete_elem(&held, &id);
		return fate(kind, FATE_SCRATCH_BUSY);
	}
	s->off = sizeof(*r);
	r = (void *)s->buf;
	__builtin_memset(r, 0, sizeof(*r));
	fill_hdr(&r->hdr, t);
	r->retval = err;
	r->flags = d->flags;
	r->mode = d->mode;
	if (d->first) {
		fill_file(s, &r->file, h->mnt, d->first);
	} else {
		r->file = h->file;
		/* the name as it was, then the directory */
		off = s->off;
		n = h->name_len;
		if (off <= SCRATCH_LIMIT && n && n <= 256) {
			bpf_probe_read_kernel(AT(s, off), 256, h->name);
			s->off = off + n;
		}
		put_path(s, &r->file.path, &flags, h->mnt, h->parent);
		r->file.path.off = off;
		r->file.path.len += n;
		r->file.flags |= flags;
	}
	if (d->second)
		fill_file(s, &r->file2, h->mnt, d->second);
	if (d->target)
		put_kernel_str(s, &r->arg2, d->target);
	bpf_map_delete_elem(&held, &id);
	return send_bulk(s, kind, why);
}

/* vfs_unlink: (idmap, dir, dentry, delegated) since v5.12. */
SEC("fexit/vfs_unlink")
int BPF_PROG(tr_unlink)
{
	struct done d = {.dentry = number(2)};

	return finish(REC_UNLINK, &d, number(4));
}

/* vfs_rmdir: (idmap, dir, dentry) since v5.12. */
SEC("fexit/vfs_rmdir")
int BPF_PROG(tr_rmdir)
{
	struct done d = {.dentry = number(2), .flags = AT_REMOVEDIR_};

	return finish(REC_RMDIR, &d, number(3));
}

/* vfs_mkdir: (idmap, dir, dentry, mode) since v5.12; a pointer since v6.15. */
SEC("fexit/vfs_mkdir")
int BPF_PROG(tr_mkdir)
{
	struct done d = {.dentry = number(2), .first = number(2), .mode = (u16)number(3)};

	d.mode &= 07777;
	return finish(REC_MKDIR, &d, number(4));
}

/* vfs_symlink: (idmap, dir, dentry, text) since v5.12. */
SEC("fexit/vfs_symlink")
int BPF_PROG(tr_symlink)
{
	struct done d = {.dentry = number(2), .first = number(2), .target = number(3)};

	return finish(REC_SYMLINK, &d, number(4));
}

/* vfs_link: (old, idmap, dir, new, delegated) since v5.12; never across mounts. */
SEC("fexit/vfs_link")
int BPF_PROG(tr_link)
{
	struct done d = {
		.dentry = number(3), .first = number(0), .second = number(3), .name2 = number(0)};

	return finish(REC_LINK, &d, number(5));
}

/*
 * vfs_rename: (renamedata) since v5.12. Afterwards the old dentry stands in
 * the new place; if it failed, the new one does.
 */
SEC("fexit/vfs_rename")
int BPF_PROG(tr_rename)
{
	struct renamedata *rd = (void *)number(0);
	struct done d = {};

	d.dentry = (u64)BPF_CORE_READ(rd, old_dentry);
	d.second = result(number(1)) ? (u64)BPF_CORE_READ(rd, new_dentry) : d.dentry;
	d.name2 = d.second;
	return finish(REC_RENAME, &d, number(1));
}
