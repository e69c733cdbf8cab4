/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Paths and file facts from the kernel's own objects. */
#ifndef CLEW_PATH_H
#define CLEW_PATH_H

#include "emit.h"

#define PATH_STEPS 64
#define PATH_MAX_BYTES 4096

/* As include/uapi/linux/nsfs.h has it. */
#define MNT_NS_ANON_INO 0xeffffff7

/*
 * Whether a mount belongs to an anonymous namespace: it was made by fsmount or
 * open_tree and attached nowhere. Such a namespace has no inode number, or
 * since v6.18 (nstree: assign fixed ids) always the same one.
 */
static __always_inline bool anonymous(struct mount *m)
{
	u32 inum = BPF_CORE_READ(m, mnt_ns, ns.inum);

	return !inum || inum == MNT_NS_ANON_INO;
}

/*
 * Appends the names from a dentry up to the root of its mount namespace, leaf
 * first. Crosses mounts by their mount points. Deeper than PATH_STEPS, or
 * longer than PATH_MAX_BYTES, and the path is cut at the root's end and said
 * so in *flags.
 */
SUBPROG int put_path(struct scratch *s, struct rec_str *out, u16 *flags, u64 vfsmnt, u64 dent)
{
	struct vfsmount *vm = (void *)vfsmnt;
	struct dentry *d = (void *)dent;
	struct mount *m = (void *)vm - bpf_core_field_offset(struct mount, mnt);
	struct dentry *root = BPF_CORE_READ(vm, mnt_root);
	/* kept in memory, so that the verifier does not follow its value */
	volatile u32 *poff;
	u32 begin;
	int i;

	if (!s || !out || !flags)
		return 0;
	poff = &s->off;
	begin = *poff;
	out->off = begin;
	out->len = 0;
	for (i = 0; i < PATH_STEPS; i++) {
		struct dentry *parent;
		const unsigned char *name;
		u32 off = *poff;
		long n;

		if (off > SCRATCH_LIMIT)
			break;
		if (d == root) {
			struct mount *up = BPF_CORE_READ(m, mnt_parent);

			if (up == m || !up) {
				/* an internal mount (memfd, pipe) is its own root, too */
				u64 ns = (u64)BPF_CORE_READ(m, mnt_ns);

				if (!ns || ns >= (u64)-4096 || anonymous(m)) {
					*flags |= RF_DETACHED;
					if (off == begin) {
						name = BPF_CORE_READ(d, d_name.name);
						n = bpf_probe_read_kernel_str(AT(s, off), 256,
									      name);
						if (n > 0 && n <= 256)
							*poff = off + n;
					}
				}
				goto done;
			}
			d = BPF_CORE_READ(m, mnt_mountpoint);
			m = up;
			root = BPF_CORE_READ(m, mnt.mnt_root);
			continue;
		}
		parent = BPF_CORE_READ(d, d_parent);
		name = BPF_CORE_READ(d, d_name.name);
		n = bpf_probe_read_kernel_str(AT(s, off), 256, name);
		if (n <= 0 || n > 256)
			break;
		if (off - begin + n > PATH_MAX_BYTES)
			break;
		*poff = off + n;
		if (parent == d) {
			/* the top of a tree that is not below its mount's root */
			*flags |= RF_DETACHED;
			goto done;
		}
		d = parent;
	}
	*flags |= RF_TRUNCATED;
done:
	out->len = *poff - begin;
	return 0;
}

/* All of a file but its path. */
SUBPROG int fill_facts(struct rec_file *f, u64 vfsmnt, u64 dent)
{
	struct vfsmount *vm = (void *)vfsmnt;
	struct dentry *d = (void *)dent;
	struct mount *m = (void *)vm - bpf_core_field_offset(struct mount, mnt);
	struct inode *i = BPF_CORE_READ(d, d_inode);
	struct super_block *sb = BPF_CORE_READ(d, d_sb);
	u16 flags = RF_PRESENT;

	if (!f)
		return 0;
	f->mnt_id = BPF_CORE_READ(m, mnt_id);
	f->dev = BPF_CORE_READ(sb, s_dev);
	bpf_probe_read_kernel_str(f->fs, sizeof(f->fs), BPF_CORE_READ(sb, s_type, name));
	if (i) {
		f->inode = BPF_CORE_READ(i, i_ino);
		f->mode = BPF_CORE_READ(i, i_mode);
		f->uid = BPF_CORE_READ(i, i_uid.val);
		f->gid = BPF_CORE_READ(i, i_gid.val);
		f->ctime = inode_ctime(i);
		f->mtime = inode_mtime(i);
		f->links = BPF_CORE_READ(i, i_nlink);
		if (!f->links)
			flags |= RF_DELETED;
		if (BPF_CORE_READ(sb, s_magic) == OVERLAYFS_MAGIC) {
			flags |= RF_OVERLAY;
			if (overlay_upper(i))
				flags |= RF_UPPER;
		}
	}
	f->flags = flags;
	return 0;
}

SUBPROG int fill_file(struct scratch *s, struct rec_file *f, u64 vfsmnt, u64 dent)
{
	if (!s || !f)
		return 0;
	fill_facts(f, vfsmnt, dent);
	return put_path(s, &f->path, &f->flags, vfsmnt, dent);
}

/* The file behind a descriptor of the current task, or NULL. */
static __always_inline struct file *fd_file(struct task_struct *t, u32 fd)
{
	struct fdtable *fdt = PEEK(t, files, fdt);
	struct file **fds;
	struct file *f = NULL;

	if (fd >= PEEK(fdt, max_fds))
		return NULL;
	fds = PEEK(fdt, fd);
	bpf_probe_read_kernel(&f, sizeof(f), fds + fd);
	return f;
}

static __always_inline int fill_from_file(struct scratch *s, struct rec_file *out, struct file *f)
{
	return fill_file(s, out, (u64)BPF_CORE_READ(f, f_path.mnt),
			 (u64)BPF_CORE_READ(f, f_path.dentry));
}

/* Where a relative path begins: the root, the working directory, or a descriptor. */
static __always_inline void put_base(struct scratch *s, struct rec_str *out, u32 *opflags,
				     struct task_struct *t, s32 dirfd, bool absolute)
{
	u64 mnt = 0, dent = 0;
	u16 flags = 0;

	if (absolute) {
		mnt = (u64)BPF_CORE_READ(t, fs, root.mnt);
		dent = (u64)BPF_CORE_READ(t, fs, root.dentry);
	} else if (dirfd == AT_FDCWD_) {
		mnt = (u64)BPF_CORE_READ(t, fs, pwd.mnt);
		dent = (u64)BPF_CORE_READ(t, fs, pwd.dentry);
	} else {
		struct file *f = fd_file(t, dirfd);

		if (f) {
			mnt = (u64)BPF_CORE_READ(f, f_path.mnt);
			dent = (u64)BPF_CORE_READ(f, f_path.dentry);
		}
	}
	if (!mnt || !dent)
		return;
	put_path(s, out, &flags, mnt, dent);
	if (flags & RF_TRUNCATED)
		*opflags |= RO_TRUNCATED;
}

#endif
