// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Files and sockets by io_uring, for tracepoint mode: what a ring does makes no system call
 * of its own. Two tracepoints of the kernel see a request as it is submitted,
 * when the kernel has made its copy of the names, and as it is completed, when
 * the result is known. The programs run for every request of every ring; those
 * that are about no file name leave after a look at the opcode.
 *
 * Seen: open, unlink, rmdir, rename, mkdir, symlink, link. An opened file is
 * the kernel's object, unless it was given no descriptor; the others are named
 * by the kernel's copy of the name. Of sockets: connect, bind, accept and
 * socket, as they are completed. Not seen: connections accepted beyond the
 * first by one request (multishot), whose completions name no request, and
 * those that get no descriptor.
 */
#include "file.h"
#include "net.h"
#include "sockopt.h"
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* include/uapi/linux/io_uring.h: never renumbered. */
enum uring_op {
	URING_ACCEPT = 13,
	URING_CONNECT = 16,
	URING_OPENAT = 18,
	URING_OPENAT2 = 28,
	URING_RENAMEAT = 35,
	URING_UNLINKAT = 36,
	URING_MKDIRAT = 37,
	URING_SYMLINKAT = 38,
	URING_LINKAT = 39,
	URING_SOCKET = 45,
	URING_BIND = 56,
};
#define URING_SOCKETS                                                                              \
	(1ULL << URING_ACCEPT | 1ULL << URING_CONNECT | 1ULL << URING_SOCKET | 1ULL << URING_BIND)
#define URING_FILES                                                                                \
	(1ULL << URING_OPENAT | 1ULL << URING_OPENAT2 | 1ULL << URING_RENAMEAT |                   \
	 1ULL << URING_UNLINKAT | 1ULL << URING_MKDIRAT | 1ULL << URING_SYMLINKAT |                \
	 1ULL << URING_LINKAT)

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct open_how {
	u64 flags, mode;
};
struct io_kiocb {
	u8 opcode;
	struct file *file;
};
struct io_uring_cqe {
	s32 res;
};
/* A request begins with the arguments of its operation. */
struct io_open {
	int dfd;
	u32 file_slot;
	struct filename *filename;
	struct open_how how;
};
struct io_unlink {
	int dfd;
	int flags;
	struct filename *filename;
};
struct io_mkdir {
	int dfd;
	umode_t mode;
	struct filename *filename;
};
struct io_rename {
	int old_dfd, new_dfd;
	struct filename *oldpath, *newpath;
	int flags;
};
struct io_link {
	int old_dfd, new_dfd;
	struct filename *oldpath, *newpath;
	int flags;
};
struct io_connect {
	void *addr; /* the caller's */
};
struct io_accept {
	u32 file_slot;
};
struct io_socket {
	int domain, type, protocol;
};
/* v7.0: the name that the kernel copied is wrapped until it is used. */
struct delayed_filename {
	struct filename *__incomplete_filename;
};
struct io_open___delayed {
	struct delayed_filename filename;
};
struct io_unlink___delayed {
	struct delayed_filename filename;
};
struct io_mkdir___delayed {
	struct delayed_filename filename;
};
struct io_rename___delayed {
	struct delayed_filename oldpath, newpath;
};
struct io_link___delayed {
	struct delayed_filename oldpath, newpath;
};
#pragma clang attribute pop

#define given_name(type, req, field)                                                               \
	({                                                                                         \
		struct filename *n_ = NULL;                                                        \
		struct type *p_ = (void *)(req);                                                   \
		struct type##___delayed *d_ = (void *)(req);                                       \
		if (bpf_core_field_exists(p_->field))                                              \
			n_ = BPF_CORE_READ(p_, field);                                             \
		else if (bpf_core_field_exists(d_->field.__incomplete_filename))                   \
			n_ = BPF_CORE_READ(d_, field.__incomplete_filename);                       \
		(u64) BPF_CORE_READ(n_, name);                                                     \
	})

#define KEPT 512

struct kept {
	u32 len;
	u8 text[KEPT];
};

/*
 * Requests between submission and completion, by their address, and what they
 * are about: the kernel forgets the names as it carries them out. Filled and
 * emptied by the two programs; one that finds it full is FATE_NO_ENTRY.
 */
struct request {
	u32 kind;
	u32 opflags;
	u32 flags;
	u32 mode;
	s32 dfd, dfd2;
	u32 slot;
	bool by_name;
	struct kept dir, name, dir2, name2;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, u64);
	__type(value, struct request);
} requests SEC(".maps");

/* Keeps a string that lies in the scratch buffer; a longer one is cut, and said to be. */
static __noinline int keep(struct kept *k, struct scratch *s, struct rec_str *from, u32 *opflags)
{
	u32 n = from->len;

	if (n > KEPT - 1) {
		n = KEPT - 1;
		*opflags |= RO_TRUNCATED;
	}
	k->len = n;
	bpf_probe_read_kernel(k->text, KEPT, AT(s, from->off));
	return 0;
}

static __noinline int put_kept(struct scratch *s, struct rec_str *out, struct kept *k)
{
	u32 off = s->off, n = k->len;

	out->off = off;
	out->len = 0;
	if (off > SCRATCH_LIMIT || !n || n >= KEPT)
		return 0;
	bpf_probe_read_kernel(AT(s, off), KEPT, k->text);
	out->len = n;
	s->off = off + n;
	return 0;
}

static __always_inline bool begins_with_slash(struct scratch *s, struct rec_str *str)
{
	return str->len && *AT(s, str->off) == '/';
}

static __noinline int submit(void *req)
{
	u8 opcode = BPF_CORE_READ((struct io_kiocb *)req, opcode);
	static const struct request empty;
	struct task_struct *t = current_task();
	u64 key = (u64)req, name = 0, name2 = 0;
	struct rec_str at = {}, base = {};
	struct request *r;
	struct plan_data *p;
	struct scratch *s;
	u32 kind, opflags = RO_PATH_USER, flags = 0, mode = 0, slot = 0;
	s32 dfd = AT_FDCWD_, dfd2 = AT_FDCWD_;
	bool wanted, by_flags;

	if (opcode > 63 || !(URING_FILES & (1ULL << opcode)))
		return 0;
	switch (opcode) {
	case URING_OPENAT:
	case URING_OPENAT2: {
		struct io_open *o = req;

		kind = REC_OPEN;
		dfd = BPF_CORE_READ(o, dfd);
		slot = BPF_CORE_READ(o, file_slot);
		flags = BPF_CORE_READ(o, how.flags);
		mode = BPF_CORE_READ(o, how.mode) & 07777;
		name = given_name(io_open, req, filename);
		break;
	}
	case URING_UNLINKAT: {
		struct io_unlink *o = req;

		dfd = BPF_CORE_READ(o, dfd);
		flags = BPF_CORE_READ(o, flags);
		kind = flags & AT_REMOVEDIR_ ? REC_RMDIR : REC_UNLINK;
		name = given_name(io_unlink, req, filename);
		break;
	}
	case URING_MKDIRAT: {
		struct io_mkdir *o = req;

		kind = REC_MKDIR;
		dfd = BPF_CORE_READ(o, dfd);
		mode = BPF_CORE_READ(o, mode);
		name = given_name(io_mkdir, req, filename);
		break;
	}
	case URING_RENAMEAT: {
		struct io_rename *o = req;

		kind = REC_RENAME;
		dfd = BPF_CORE_READ(o, old_dfd);
		dfd2 = BPF_CORE_READ(o, new_dfd);
		flags = BPF_CORE_READ(o, flags);
		name = given_name(io_rename, req, oldpath);
		name2 = given_name(io_rename, req, newpath);
		break;
	}
	case URING_SYMLINKAT: {
		struct io_link *o = req;

		/* the target is text, and what is made comes first */
		kind = REC_SYMLINK;
		dfd = BPF_CORE_READ(o, new_dfd);
		name = given_name(io_link, req, newpath);
		name2 = given_name(io_link, req, oldpath);
		break;
	}
	default: {
		struct io_link *o = req;

		kind = REC_LINK;
		dfd = BPF_CORE_READ(o, old_dfd);
		dfd2 = BPF_CORE_READ(o, new_dfd);
		flags = BPF_CORE_READ(o, flags);
		name = given_name(io_link, req, oldpath);
		name2 = given_name(io_link, req, newpath);
		break;
	}
	}
	p = the_plan();
	if (!p || p->mode[kind] == PLAN_OFF)
		return 0;
	if (is_self(t->tgid)) {
		fate(kind, FATE_SEEN);
		return fate(kind, FATE_SELF);
	}
	s = take(t->pid);
	if (!s) {
		fate(kind, FATE_SEEN);
		return fate(kind, FATE_SCRATCH_BUSY);
	}
	s->off = 0;
	wanted = p->mode[kind] == PLAN_ALL || flags & p->flags_any[kind];
	by_flags = wanted;
	put_kernel_str(s, &at, name);
	/* The name of an opened file is looked at when it is open; others' name what they change.
	 */
	if (!wanted)
		wanted = kind == REC_LINK || (kind == REC_OPEN && p->by_name & (1ULL << kind)) ||
			 (kind != REC_OPEN && tail_wanted(s, kind, at.off, at.len)) ||
			 deep(p, kind);
	if (!wanted && kind == REC_RENAME) {
		struct rec_str to = {};

		put_kernel_str(s, &to, name2);
		wanted = tail_wanted(s, kind, to.off, to.len);
	}
	if (!wanted) {
		give(s);
		fate(kind, FATE_SEEN);
		return fate(kind, FATE_FILTERED);
	}
	if (bpf_map_update_elem(&requests, &key, &empty, BPF_ANY) ||
	    !(r = bpf_map_lookup_elem(&requests, &key))) {
		give(s);
		fate(kind, FATE_SEEN);
		return fate(kind, FATE_NO_ENTRY);
	}
	r->kind = kind;
	r->flags = flags;
	r->mode = mode;
	r->slot = slot;
	r->dfd = dfd;
	r->dfd2 = dfd2;
	r->by_name = !by_flags;
	keep(&r->name, s, &at, &opflags);
	put_base(s, &base, &opflags, t, dfd, begins_with_slash(s, &at));
	keep(&r->dir, s, &base, &opflags);
	if (name2) {
		s->off = 0;
		put_kernel_str(s, &at, name2);
		keep(&r->name2, s, &at, &opflags);
		put_base(s, &base, &opflags, t, dfd2, begins_with_slash(s, &at));
		keep(&r->dir2, s, &base, &opflags);
	}
	r->opflags = opflags;
	give(s);
	return 0;
}

/* A request about a socket. An address that was bound in vain is not known. */
static __noinline int complete_socket(void *req, u32 opcode, long ret)
{
	struct task_struct *t = current_task();
	u32 kind = REC_ACCEPT;
	struct file *f;
	u64 addr = 0;

	if (opcode == URING_SOCKET) {
		struct io_socket *q = req;

		return report_socket(BPF_CORE_READ(q, domain), BPF_CORE_READ(q, type),
				     BPF_CORE_READ(q, protocol), ret, true);
	}
	if (opcode == URING_CONNECT)
		kind = REC_CONNECT;
	else if (opcode == URING_BIND)
		kind = REC_BIND;
	fate(kind, FATE_SEEN);
	if (kind == REC_ACCEPT ? ret < 0 : ret && ret != -EPERM_ && ret != -EACCES_)
		return fate(kind, FATE_RESULT);
	if (!net_wanted(kind))
		return fate(kind, FATE_FILTERED);
	f = BPF_CORE_READ((struct io_kiocb *)req, file);
	if (kind == REC_CONNECT)
		addr = (u64)BPF_CORE_READ((struct io_connect *)req, addr);
	if (kind == REC_ACCEPT)
		f = BPF_CORE_READ((struct io_accept *)req, file_slot) ? NULL : fd_file(t, ret);
	if (!f)
		return fate(kind, FATE_NO_FILE);
	return report_sock(kind, (u64)f, addr, SOCK_BY_RING, ret);
}

/* The request's own thread, one that works for it, or the ring's: all of one thread group. */
static __noinline int complete(void *req, long ret)
{
	u8 opcode = BPF_CORE_READ((struct io_kiocb *)req, opcode);
	struct task_struct *t = current_task();
	struct rec_fileop *r;
	struct file *f = NULL;
	struct plan_data *p;
	struct request *q;
	struct scratch *s;
	u64 key = (u64)req;
	u32 kind;

	if (opcode < 64 && URING_SOCKETS & (1ULL << opcode))
		return complete_socket(req, opcode, ret);
	if (opcode > 63 || !(URING_FILES & (1ULL << opcode)))
		return 0;
	q = bpf_map_lookup_elem(&requests, &key);
	if (!q)
		return 0;
	kind = q->kind;
	asm volatile("%0 &= 63" : "+r"(kind)); /* below REC_KINDS, for the verifier */
	fate(kind, FATE_SEEN);
	if (!reported(ret)) {
		bpf_map_delete_elem(&requests, &key);
		return fate(kind, FATE_RESULT);
	}
	if (kind == REC_OPEN && ret >= 0 && !q->slot) {
		f = fd_file(t, ret);
		if (!f) {
			bpf_map_delete_elem(&requests, &key);
			return fate(kind, FATE_NO_FILE);
		}
		p = the_plan();
		if (q->by_name && p) {
			struct path at = {};

			bpf_probe_read_kernel(&at, sizeof(at),
					      (void *)f +
						      bpf_core_field_offset(struct file, f_path));
			if (!path_wanted(p, kind, &at) && !deep(p, kind)) {
				bpf_map_delete_elem(&requests, &key);
				return fate(kind, FATE_FILTERED);
			}
		}
	}
	s = take(t->pid);
	if (!s) {
		bpf_map_delete_elem(&requests, &key);
		return fate(kind, FATE_SCRATCH_BUSY);
	}
	s->off = sizeof(*r);
	r = (void *)s->buf;
	__builtin_memset(r, 0, sizeof(*r));
	fill_hdr(&r->hdr, t);
	r->hdr.flags |= RH_ASYNC;
	r->retval = ret;
	r->opflags = q->opflags;
	r->flags = q->flags;
	r->mode = q->mode;
	r->dirfd = q->dfd;
	r->dirfd2 = q->dfd2;
	put_kept(s, &r->arg, &q->name);
	if (f) {
		r->flags = (q->flags & (O_CREAT_ | O_EXCL_ | O_NOCTTY_ | O_TRUNC_)) |
			   BPF_CORE_READ(f, f_flags);
		r->opflags = 0;
		if (BPF_CORE_READ(f, f_mode) & FMODE_CREATED)
			r->opflags |= RO_CREATED;
		fill_from_file(s, &r->file, f);
	} else {
		put_kept(s, &r->dir, &q->dir);
	}
	if (q->name2.len) {
		put_kept(s, &r->arg2, &q->name2);
		put_kept(s, &r->dir2, &q->dir2);
	}
	bpf_map_delete_elem(&requests, &key);
	return send(s, &bulk, kind);
}

/* tp_btf/io_uring_submit_sqe (v5.2), io_uring_submit_req since v6.5: (request). */
SEC("tp_btf/io_uring_submit_req")
int BPF_PROG(on_submit_req, void *req)
{
	return submit((void *)ctx[0]);
}

SEC("tp_btf/io_uring_submit_sqe")
int BPF_PROG(on_submit_sqe, void *req)
{
	return submit((void *)ctx[0]);
}

/* tp_btf/io_uring_complete: (ring, request, completion) since v6.15, with more arguments before. */
SEC("tp_btf/io_uring_complete")
int BPF_PROG(on_complete)
{
	struct io_uring_cqe *cqe = (void *)ctx[2];

	return complete((void *)ctx[1], BPF_CORE_READ(cqe, res));
}

/* (ring, request, user data, result, …) since v5.19. */
SEC("tp_btf/io_uring_complete")
int BPF_PROG(on_complete_args)
{
	return complete((void *)ctx[1], (s32)ctx[3]);
}
