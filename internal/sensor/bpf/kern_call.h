/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * System calls about other processes, memory, namespaces, limits, BPF and
 * modules, shared by both ways to attach. All are judged as they end, from
 * their arguments and from what the kernel holds then.
 */
#ifndef CLEW_KERN_CALL_H
#define CLEW_KERN_CALL_H

#include "kern.h"

/*
 * The task of a number in the caller's PID namespace, 0 if there is none: the
 * kernel's own table, walked as idr_find does. In every kernel since v4.19,
 * 2c4704756cab, where tasks hang on their struct pid by pid_links.
 */
static __noinline u64 find_task(u32 nr)
{
	struct pid *self = current_task()->thread_pid;
	struct pid_namespace___idr *ns = NULL;
	u32 level = BPF_CORE_READ(self, level);
	u64 node, task;
	u32 i, shift = 0;

	if (!nr || level >= 32)
		return 0;
	bpf_probe_read_kernel(&ns, sizeof(ns),
			      (void *)self + bpf_core_field_offset(struct pid, numbers) +
				      level * bpf_core_type_size(struct upid) +
				      bpf_core_field_offset(struct upid, ns));
	if (!ns)
		return 0;
	nr -= BPF_CORE_READ(ns, idr.idr_base);
	node = (u64)BPF_CORE_READ(ns, idr.idr_rt.xa_head);
	if ((node & 3) != 2)
		return 0;
	for (i = 0; i < 6; i++) {
		struct xa_node *n = (void *)(node - 2);

		/* an inner node is marked by its lowest bits */
		if ((node & 3) != 2 || node < 4096)
			break;
		shift = BPF_CORE_READ(n, shift);
		if (shift > 30 || (!i && nr >> shift >= 64))
			return 0;
		bpf_probe_read_kernel(&node, sizeof(node),
				      (void *)n + bpf_core_field_offset(struct xa_node, slots) +
					      ((nr >> shift) & 63) * sizeof(void *));
	}
	if (!node || node & 3 || shift)
		return 0;
	task = (u64)BPF_CORE_READ((struct pid___tasks *)node, tasks[0].first);
	if (!task)
		return 0;
	return task - bpf_core_field_offset(struct task_struct___links, pid_links);
}

/* ptrace: a request, b address; the target is the tracee. */
static __noinline int observe_ptrace(struct call *c)
{
	u64 request = c->arg[0];
	struct rec_call *r;
	struct scratch *s;

	if (!call_wanted(REC_PTRACE, c->ret, ptrace_bit(request)))
		return 0;
	s = begin_call(REC_PTRACE);
	if (!s)
		return 0;
	r = (void *)s->buf;
	r->retval = c->ret;
	r->a = request;
	r->b = c->arg[2];
	/* PTRACE_TRACEME: who calls is traced, by its parent */
	set_target(r, request ? find_task(c->arg[1]) : (u64)current_task());
	return send(s, &bulk, REC_PTRACE);
}

/* Appends a string that lies in a map, where put_kernel_str takes an address only. */
static __always_inline void put_own_str(struct scratch *s, struct rec_str *out, const void *from,
					u32 max)
{
	u32 off = s->off;
	long n;

	out->off = off;
	out->len = 0;
	if (off > SCRATCH_LIMIT)
		return;
	n = bpf_probe_read_kernel_str(AT(s, off), max, from);
	if (n <= 0 || n > max)
		return;
	out->len = n - 1;
	s->off = off + n;
}

/* prctl: a option, b second argument, text the new name. */
static __noinline int observe_prctl(struct call *c)
{
	u64 option = (u32)c->arg[0];
	struct rec_call *r;
	struct scratch *s;
	char given[17];
	long n;

	if (!call_wanted(REC_PRCTL, c->ret, value_bit(option)))
		return 0;
	s = begin_call(REC_PRCTL);
	if (!s)
		return 0;
	r = (void *)s->buf;
	r->retval = c->ret;
	r->a = option;
	r->b = c->arg[1];
	if (option == PR_SET_NAME_) {
		/* what the kernel kept of it; that there was more only the caller knows */
		put_own_str(s, &r->text, r->hdr.comm, sizeof(r->hdr.comm));
		n = bpf_probe_read_user_str(given, sizeof(given), (void *)c->arg[1]);
		if (n == sizeof(given))
			r->flags |= RC_NAME_CUT;
	}
	return send(s, &bulk, REC_PRCTL);
}

/*
 * setrlimit and prlimit64: a resource, b soft limit, c hard limit. Those are
 * the kernel's, unless it refused; then they are what the caller asked for.
 */
static __noinline int observe_rlimit(struct call *c, u32 pid)
{
	u64 limits[2] = {}, task;
	u32 resource = c->arg[0];
	struct task_struct *t;
	struct rec_call *r;
	struct scratch *s;

	if (!call_wanted(REC_SETRLIMIT, c->ret, value_bit(resource)))
		return 0;
	if (!c->arg[1]) /* only asked */
		return fate(REC_SETRLIMIT, FATE_UNCHANGED);
	s = begin_call(REC_SETRLIMIT);
	if (!s)
		return 0;
	r = (void *)s->buf;
	r->retval = c->ret;
	r->a = resource;
	task = pid ? find_task(pid) : (u64)current_task();
	set_target(r, task);
	t = (void *)task;
	if (c->ret || !t || resource >= 16) {
		bpf_probe_read_user(limits, sizeof(limits), (void *)c->arg[1]);
		r->flags |= RC_USER;
	} else {
		bpf_probe_read_kernel(
			limits, sizeof(limits),
			(void *)BPF_CORE_READ(t, signal) +
				bpf_core_field_offset(struct signal_struct___rlim, rlim) +
				resource * sizeof(struct rlimit));
	}
	r->b = limits[0];
	r->c = limits[1];
	return send(s, &bulk, REC_SETRLIMIT);
}

/* unshare: a flags. */
static __noinline int observe_unshare(struct call *c)
{
	struct rec_call *r;
	struct scratch *s;

	if (!call_wanted(REC_UNSHARE, c->ret, c->arg[0]))
		return 0;
	s = begin_call(REC_UNSHARE);
	if (!s)
		return 0;
	r = (void *)s->buf;
	r->retval = c->ret;
	r->a = c->arg[0];
	return send(s, &bulk, REC_UNSHARE);
}

/*
 * kill, tkill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_send_signal
 * where they are refused: a signal, b process given; the target if it was one
 * process. Signals that were sent are seen where the kernel makes them
 * (kern.bpf.c), those that are 0 ask only whether a process exists.
 */
static __noinline int observe_kill(struct call *c, u32 sig, u64 task)
{
	struct rec_call *r;
	struct scratch *s;

	if (!c->ret)
		return 0;
	if (!call_wanted(REC_SIGNAL, c->ret, value_bit(sig)))
		return 0;
	s = begin_call(REC_SIGNAL);
	if (!s)
		return 0;
	r = (void *)s->buf;
	r->retval = c->ret;
	r->a = sig;
	r->b = (s64)(s32)c->arg[0];
	set_target(r, task);
	return send(s, &bulk, REC_SIGNAL);
}

static __always_inline int observe_kill_pid(struct call *c, u32 sig)
{
	s32 pid = c->arg[0];

	return observe_kill(c, sig, c->ret && pid > 0 ? find_task(pid) : 0);
}

static __always_inline void *inode_private(struct inode *i)
{
	struct inode___private *p = (void *)i;

	return BPF_CORE_READ(p, i_private);
}

/* A descriptor of a process holds its struct pid; since v6.9, cb12fd8e0dab, its inode does. */
static __always_inline int observe_kill_fd(struct call *c, u32 sig)
{
	struct file *f;
	u64 pid = 0, task = 0;

	if (c->ret) {
		f = fd_file(current_task(), c->arg[0]);
		if (f) {
			pid = (u64)BPF_CORE_READ(f, private_data);
			if (!pid)
				pid = (u64)inode_private(BPF_CORE_READ(f, f_inode));
		}
		if (pid)
			task = (u64)BPF_CORE_READ((struct pid___tasks *)pid, tasks[0].first);
		if (task)
			task -= bpf_core_field_offset(struct task_struct___links, pid_links);
	}
	c->arg[0] = 0;
	return observe_kill(c, sig, task);
}

/* What is known of the memory at an address. */
struct area {
	u64 flags;
	u64 mnt;
	u64 dentry;
};

static long read_area(struct task_struct *t, struct vm_area_struct *v, void *out)
{
	struct area *a = out;
	struct file *f = v->vm_file;

	a->flags = v->vm_flags;
	if (f) {
		a->mnt = (u64)BPF_CORE_READ(f, f_path.mnt);
		a->dentry = (u64)BPF_CORE_READ(f, f_path.dentry);
	}
	return 0;
}

/* bpf_find_vma since v5.17, 7c7e3d31e785. False also when another thread maps meanwhile. */
static __always_inline bool area_at(u64 addr, struct area *a)
{
	if (!bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_find_vma))
		return false;
	return !bpf_find_vma(current_task(), addr, read_area, a, 0);
}

/*
 * mmap: the file is that of the memory it made. Where that cannot be looked
 * at, it is the descriptor's, which another thread may have replaced.
 */
static __noinline int observe_mmap(struct call *c)
{
	struct task_struct *t = current_task();
	u64 prot = (u32)c->arg[2];
	struct plan_data *p;
	struct rec_mmap *r;
	struct area a = {};
	struct path at = {};
	struct scratch *s;
	struct file *f;

	fate(REC_MMAP, FATE_SEEN);
	if (c->ret < 0 && !reported(c->ret))
		return fate(REC_MMAP, FATE_RESULT);
	p = the_plan();
	if (!p || p->mode[REC_MMAP] == PLAN_OFF)
		return fate(REC_MMAP, FATE_FILTERED);
	if (p->mode[REC_MMAP] == PLAN_FILTERED && !(prot & p->flags_any[REC_MMAP]) &&
	    (!(p->by_name & (1ULL << REC_MMAP)) || c->arg[3] & MAP_ANONYMOUS_))
		return fate(REC_MMAP, FATE_FILTERED);
	if (is_self(t->tgid))
		return fate(REC_MMAP, FATE_SELF);
	if (!(c->arg[3] & MAP_ANONYMOUS_) && (c->ret < 0 || !area_at(c->ret, &a))) {
		f = fd_file(t, c->arg[4]);
		if (f) {
			a.mnt = (u64)BPF_CORE_READ(f, f_path.mnt);
			a.dentry = (u64)BPF_CORE_READ(f, f_path.dentry);
		}
	}
	at.mnt = (void *)a.mnt;
	at.dentry = (void *)a.dentry;
	if (p->mode[REC_MMAP] == PLAN_FILTERED && !(prot & p->flags_any[REC_MMAP]) &&
	    (!a.dentry || !path_wanted(p, REC_MMAP, &at)))
		return fate(REC_MMAP, FATE_FILTERED);
	s = take(t->pid);
	if (!s)
		return fate(REC_MMAP, FATE_SCRATCH_BUSY);
	s->off = sizeof(*r);
	r = (void *)s->buf;
	__builtin_memset(r, 0, sizeof(*r));
	fill_hdr(&r->hdr, t);
	/* an address is no number that fits */
	r->retval = c->ret < 0 ? c->ret : 0;
	r->addr = c->ret < 0 ? c->arg[0] : (u64)c->ret;
	r->len = c->arg[1];
	r->prot = prot;
	r->mmap_flags = c->arg[3];
	r->offset = c->arg[5];
	if (a.dentry)
		fill_file(s, &r->file, a.mnt, a.dentry);
	return send(s, &bulk, REC_MMAP);
}

/* The entry of mprotect and pkey_mprotect: what is allowed now. */
static __always_inline int enter_protect(u64 addr, u64 prot)
{
	u64 id = bpf_get_current_pid_tgid();
	struct plan_data *p = the_plan();
	struct pending a = {.kind = REC_MPROTECT};
	struct area at = {};

	if (!p || p->mode[REC_MPROTECT] == PLAN_OFF ||
	    (p->mode[REC_MPROTECT] == PLAN_FILTERED && !(prot & p->flags_any[REC_MPROTECT])))
		return 0;
	area_at(addr, &at);
	a.arg = at.flags;
	bpf_map_update_elem(&pending, &id, &a, BPF_ANY);
	return 0;
}

/*
 * mprotect, pkey_mprotect: a flags before of the first area (VM_*), b
 * protection asked for, c address, d length.
 */
static __noinline int observe_protect(struct call *c)
{
	u64 id = bpf_get_current_pid_tgid();
	struct pending *a = bpf_map_lookup_elem(&pending, &id);
	u64 before = a ? a->arg : 0;
	struct rec_call *r;
	struct scratch *s;

	if (a)
		bpf_map_delete_elem(&pending, &id);
	if (!call_wanted(REC_MPROTECT, c->ret, c->arg[2]))
		return 0;
	if (!a)
		return fate(REC_MPROTECT, FATE_NO_ENTRY);
	s = begin_call(REC_MPROTECT);
	if (!s)
		return 0;
	r = (void *)s->buf;
	r->retval = c->ret;
	r->a = before;
	r->b = c->arg[2];
	r->c = c->arg[0];
	r->d = c->arg[1];
	return send(s, &bulk, REC_MPROTECT);
}

/* Helper functions that a program being verified calls, by thread. */
struct helper_bits {
	u64 bits[4];
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, u64);
	__type(value, struct helper_bits);
} helpers SEC(".maps");

static __always_inline void put_prog(struct rec_bpf *r, struct bpf_prog *p)
{
	r->prog_type = BPF_CORE_READ(p, type);
	r->attach_type = BPF_CORE_READ(p, expected_attach_type);
	bpf_probe_read_kernel(r->tag, sizeof(r->tag),
			      (void *)p + bpf_core_field_offset(struct bpf_prog, tag));
	bpf_probe_read_kernel_str(r->prog_name, sizeof(r->prog_name),
				  (void *)BPF_CORE_READ(p, aux) +
					  bpf_core_field_offset(struct bpf_prog_aux, name));
}

/* What a descriptor is, by the kernel's own name of it: a map, a program, a link. */
static __noinline int put_bpf_object(struct rec_bpf *r, u32 fd)
{
	struct file *f = fd_file(current_task(), fd);
	u64 name = 0, object;

	if (!r || !f || BPF_CORE_READ(f, f_inode, i_sb, s_magic) != ANON_INODE_FS_MAGIC)
		return 0;
	bpf_probe_read_kernel(&name, sizeof(name), BPF_CORE_READ(f, f_path.dentry, d_name.name));
	object = (u64)BPF_CORE_READ(f, private_data);
	switch (name) {
	case 0x0070616d2d667062: /* bpf-map */
		r->map_type = BPF_CORE_READ((struct bpf_map *)object, map_type);
		bpf_probe_read_kernel_str(r->map_name, sizeof(r->map_name),
					  (void *)object +
						  bpf_core_field_offset(struct bpf_map, name));
		break;
	case 0x676f72702d667062: /* bpf-prog */
		put_prog(r, (void *)object);
		break;
	case 0x6b6e696c5f667062: /* bpf_link */
		put_prog(r, BPF_CORE_READ((struct bpf_link *)object, prog));
		break;
	}
	return 0;
}

/* Commands that return a descriptor of what they made or found. */
#define BPF_MAKES                                                                                  \
	(1ULL << BPF_MAP_CREATE | 1ULL << BPF_PROG_LOAD | 1ULL << BPF_OBJ_GET |                    \
	 1ULL << BPF_PROG_GET_FD_BY_ID | 1ULL << BPF_MAP_GET_FD_BY_ID |                            \
	 1ULL << BPF_RAW_TRACEPOINT_OPEN | 1ULL << BPF_LINK_CREATE |                               \
	 1ULL << BPF_LINK_GET_FD_BY_ID)
/* Commands whose attributes begin with the descriptor that they are about. */
#define BPF_NAMES_FIRST                                                                            \
	(1ULL << BPF_MAP_LOOKUP_ELEM | 1ULL << BPF_MAP_UPDATE_ELEM | 1ULL << BPF_MAP_DELETE_ELEM | \
	 1ULL << BPF_MAP_GET_NEXT_KEY | 1ULL << BPF_MAP_LOOKUP_AND_DELETE_ELEM |                   \
	 1ULL << BPF_MAP_FREEZE | 1ULL << BPF_PROG_TEST_RUN | 1ULL << BPF_OBJ_GET_INFO_BY_FD |     \
	 1ULL << BPF_LINK_UPDATE | 1ULL << BPF_LINK_DETACH | 1ULL << BPF_ITER_CREATE |             \
	 1ULL << BPF_PROG_BIND_MAP)
#define BPF_BATCH                                                                                  \
	(1ULL << BPF_MAP_LOOKUP_BATCH | 1ULL << BPF_MAP_LOOKUP_AND_DELETE_BATCH |                  \
	 1ULL << BPF_MAP_UPDATE_BATCH | 1ULL << BPF_MAP_DELETE_BATCH)

/* Our own calls go on all the time; they are counted. */
static __always_inline bool is_agent(void)
{
	return bpf_get_current_pid_tgid() >> 32 == cfg_agent_tgid;
}

/*
 * bpf: what was made, found or used is described by the kernel's object behind
 * the descriptor. Which descriptor a command uses, and what a refused one asked
 * for, only the caller's memory says.
 */
static __noinline int observe_bpf(struct call *c)
{
	u64 id = bpf_get_current_pid_tgid();
	u64 cmd = (u32)c->arg[0], bit = value_bit(cmd), attr = c->arg[1];
	struct helper_bits *h;
	struct rec_bpf *r;
	struct scratch *s;
	u32 fd = -1;

	if (!call_wanted(REC_BPF, c->ret, bit))
		return 0;
	if (is_agent())
		return fate(REC_BPF, FATE_SELF);
	s = take(id);
	if (!s)
		return fate(REC_BPF, FATE_SCRATCH_BUSY);
	s->off = sizeof(*r);
	r = (void *)s->buf;
	__builtin_memset(r, 0, sizeof(*r));
	fill_hdr(&r->hdr, current_task());
	r->retval = c->ret;
	r->cmd = cmd;
	if (c->ret >= 0 && bit & BPF_MAKES) {
		fd = c->ret;
	} else if (cmd == BPF_PROG_LOAD) {
		bpf_probe_read_user(&r->prog_type, 4, (void *)attr);
		bpf_probe_read_user(r->prog_name, 15, (void *)(attr + 48));
		bpf_probe_read_user(&r->attach_type, 4, (void *)(attr + 68));
		r->flags |= RC_USER;
	} else if (cmd == BPF_MAP_CREATE) {
		bpf_probe_read_user(&r->map_type, 4, (void *)attr);
		bpf_probe_read_user(r->map_name, 15, (void *)(attr + 28));
		r->flags |= RC_USER;
	} else if (bit & BPF_NAMES_FIRST) {
		bpf_probe_read_user(&fd, sizeof(fd), (void *)attr);
		r->flags |= RC_USER;
	} else if (bit & BPF_BATCH) {
		bpf_probe_read_user(&fd, sizeof(fd), (void *)(attr + 36));
		r->flags |= RC_USER;
	} else if (cmd == BPF_OBJ_PIN) {
		bpf_probe_read_user(&fd, sizeof(fd), (void *)(attr + 8));
		r->flags |= RC_USER;
	} else if (cmd == BPF_PROG_ATTACH || cmd == BPF_PROG_DETACH) {
		bpf_probe_read_user(&fd, sizeof(fd), (void *)(attr + 4));
		r->flags |= RC_USER;
	}
	if (fd != (u32)-1)
		put_bpf_object(r, fd);
	if (cmd == BPF_PROG_ATTACH || cmd == BPF_PROG_DETACH) /* where it was asked to go */
		bpf_probe_read_user(&r->attach_type, 4, (void *)(attr + 8));
	h = bpf_map_lookup_elem(&helpers, &id);
	if (h) {
		__builtin_memcpy(r->helpers, h->bits, sizeof(r->helpers));
		r->flags |= RC_HELPERS;
		bpf_map_delete_elem(&helpers, &id);
	}
	return send(s, &bulk, REC_BPF);
}

/*
 * init_module (fd -1), finit_module, delete_module. A module whose start fails
 * has run all the same and is reported with its error.
 */
static __noinline int report_module(u32 kind, u64 text, u32 fd, long ret)
{
	u64 id = bpf_get_current_pid_tgid();
	struct module_note *m = bpf_map_lookup_elem(&modules, &id);
	struct rec_module *r;
	struct plan_data *p;
	struct scratch *s;
	struct file *f;
	u32 n, off;

	asm volatile("%0 &= 63" : "+r"(kind)); /* below REC_KINDS, for the verifier */
	if (m && m->kind != kind)
		m = NULL;
	fate(kind, FATE_SEEN);
	if (!m && !reported(ret))
		return fate(kind, FATE_RESULT);
	p = the_plan();
	if (!p || p->mode[kind] == PLAN_OFF) {
		bpf_map_delete_elem(&modules, &id);
		return fate(kind, FATE_FILTERED);
	}
	s = take(id);
	if (!s) {
		bpf_map_delete_elem(&modules, &id);
		return fate(kind, FATE_SCRATCH_BUSY);
	}
	s->off = sizeof(*r);
	r = (void *)s->buf;
	__builtin_memset(r, 0, sizeof(*r));
	fill_hdr(&r->hdr, current_task());
	r->retval = ret;
	if (m) {
		put_own_str(s, &r->name, m->name, sizeof(m->name));
		n = m->args_len;
		put_own_str(s, &r->args, m->given, sizeof(m->given));
		if (n >= MODULE_ARGS)
			r->flags |= RC_TEXT_CUT;
		off = s->off;
		if (n > 1 && n <= MODULE_ARGS && off <= SCRATCH_LIMIT) {
			bpf_probe_read_kernel(AT(s, off), sizeof(m->args), m->args);
			r->kept.off = off;
			r->kept.len = n - 1;
			s->off = off + n;
		}
		bpf_map_delete_elem(&modules, &id);
	} else {
		r->flags |= RC_USER;
		if (kind == REC_UNLOAD_MODULE) {
			put_user_str(s, &r->name, text);
		} else {
			put_user_str(s, &r->args, text);
			if (r->args.len >= 4095)
				r->flags |= RC_TEXT_CUT;
		}
	}
	if (kind == REC_LOAD_MODULE) {
		f = fd == (u32)-1 ? NULL : fd_file(current_task(), fd);
		if (f)
			fill_from_file(s, &r->file, f);
		else
			r->flags |= RC_MEMORY;
	}
	return send(s, &critical, kind);
}

static __always_inline int observe_init_module(struct call *c)
{
	return report_module(REC_LOAD_MODULE, c->arg[2], -1, c->ret);
}

static __always_inline int observe_finit_module(struct call *c)
{
	return report_module(REC_LOAD_MODULE, c->arg[1], c->arg[0], c->ret);
}

static __always_inline int observe_delete_module(struct call *c)
{
	return report_module(REC_UNLOAD_MODULE, c->arg[0], -1, c->ret);
}

static __always_inline int observe_setrlimit(struct call *c)
{
	return observe_rlimit(c, 0);
}

static __always_inline int observe_prlimit64(struct call *c)
{
	u32 pid = c->arg[0];

	c->arg[0] = c->arg[1];
	c->arg[1] = c->arg[2];
	return observe_rlimit(c, pid);
}

static __always_inline int observe_sig1(struct call *c) /* kill, tkill, rt_sigqueueinfo */
{
	return observe_kill_pid(c, c->arg[1]);
}

static __always_inline int observe_sig2(struct call *c) /* tgkill, rt_tgsigqueueinfo */
{
	return observe_kill_pid(c, c->arg[2]);
}

static __always_inline int observe_sigfd(struct call *c) /* pidfd_send_signal */
{
	return observe_kill_fd(c, c->arg[1]);
}

#endif
