/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * What is shared by the programs about other processes, memory, namespaces,
 * limits, BPF, modules and parameters: kernel types, the first refusals, and
 * who is meant by a number of a process.
 */
#ifndef CLEW_KERN_H
#define CLEW_KERN_H

#include "file.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct hlist_node {
	struct hlist_node *next;
};
struct hlist_head {
	struct hlist_node *first;
};
struct xarray {
	void *xa_head;
};
struct idr {
	struct xarray idr_rt;
	unsigned int idr_base;
};
struct xa_node {
	unsigned char shift;
	void *slots[64];
};
struct pid_namespace___idr {
	struct idr idr;
};
struct pid___tasks {
	struct hlist_head tasks[4];
};
struct task_struct___links {
	struct hlist_node pid_links[4];
};
struct inode___private {
	void *i_private;
};

struct rlimit {
	unsigned long rlim_cur;
	unsigned long rlim_max;
};
struct signal_struct___rlim {
	struct rlimit rlim[16];
};

struct kernel_siginfo {
	int si_signo;
	int si_code;
};

struct vm_area_struct {
	unsigned long vm_flags;
	struct file *vm_file;
};

struct bpf_prog_aux {
	char name[16];
};
struct bpf_prog {
	enum bpf_prog_type type;
	enum bpf_attach_type expected_attach_type;
	u8 tag[8];
	struct bpf_prog_aux *aux;
};
struct bpf_map {
	enum bpf_map_type map_type;
	char name[16];
};
struct bpf_link {
	struct bpf_prog *prog;
};

struct module {
	char name[56];
	char *args;
};

/* Registers that the other struct pt_regs does not need. */
#if defined(__TARGET_ARCH_x86)
struct pt_regs___compat {
	unsigned long bx, cx, bp, cs;
};
#else
struct pt_regs___compat {
	s32 syscallno;
	u64 pstate;
};
#endif

#pragma clang attribute pop

#define ANON_INODE_FS_MAGIC 0x09041934

#define PR_SET_NAME_ 15
#define MAP_ANONYMOUS_ 0x20

#define SIGCODE_USER 0
#define SIGCODE_QUEUE (-1)
#define SIGCODE_TKILL (-6)

/* A system call that ends. */
struct call {
	u64 arg[6];
	long ret;
};

#if defined(__TARGET_ARCH_x86)
#define regs_arg5(r) ((u64)(r)->r9)
#else
#define regs_arg5(r) ((u64)(r)->regs[5])
#endif

static __always_inline void call_of(struct call *c, struct pt_regs *r, long ret)
{
	c->arg[0] = regs_arg0(r);
	c->arg[1] = regs_arg1(r);
	c->arg[2] = regs_arg2(r);
	c->arg[3] = regs_arg3(r);
	c->arg[4] = regs_arg4(r);
	c->arg[5] = regs_arg5(r);
	c->ret = ret;
}

/* The bit of a plan's flags that stands for a number. As valueBit in kfilter. */
static __always_inline u64 value_bit(u64 v)
{
	return 1ULL << (v < 63 ? v : 63);
}

/* Requests of ptrace lie in two ranges. As valueBit in kfilter. */
static __always_inline u64 ptrace_bit(u64 request)
{
	if (request >= 0x4200 && request < 0x421f)
		return 1ULL << (32 + (request & 31));
	return request < 32 ? 1ULL << request : 1ULL << 63;
}

/* The first refusals: result, plan, ourselves. bits are what the plan's flags are asked for. */
static __always_inline bool call_wanted(u32 kind, long ret, u64 bits)
{
	struct plan_data *p;
	u32 done;

	fate(kind, FATE_SEEN);
	if (!reported(ret)) {
		fate(kind, FATE_RESULT);
		return false;
	}
	p = the_plan();
	if (!p || p->mode[kind] == PLAN_OFF) {
		fate(kind, FATE_FILTERED);
		return false;
	}
	if (p->mode[kind] == PLAN_FILTERED && !(bits & p->flags_any[kind])) {
		done = beyond(p, kind);
		if (done != FATE_SENT) {
			fate(kind, done);
			return false;
		}
	}
	if (is_self(current_task()->tgid)) {
		fate(kind, FATE_SELF);
		return false;
	}
	return true;
}

static __always_inline void set_target(struct rec_call *r, u64 task)
{
	struct task_struct *t = (void *)task;

	if (!t)
		return;
	r->target = BPF_CORE_READ(t, tgid);
	r->target_start = BPF_CORE_READ(t, group_leader, start_boottime);
}

/* Begins a record of calls; NULL and counted when there is no room for it. */
static __always_inline struct scratch *begin_call(u32 kind)
{
	struct task_struct *t = current_task();
	struct rec_call *r;
	struct scratch *s = take(t->pid);

	if (!s) {
		fate(kind, FATE_SCRATCH_BUSY);
		return NULL;
	}
	s->off = sizeof(*r);
	r = (void *)s->buf;
	__builtin_memset(r, 0, sizeof(*r));
	fill_hdr(&r->hdr, t);
	return s;
}

/*
 * What the kernel said of a module while a call that loads or removes it runs,
 * by thread. Written by kern.bpf.c, which runs whatever the plan is; deleted
 * when the call ends.
 */
#define MODULE_ARGS 1024
struct module_note {
	u32 kind;
	u32 args_len; /* with its NUL */
	char name[56];
	char given[MODULE_ARGS]; /* parameters in the caller's memory */
	char args[MODULE_ARGS]; /* the kernel's copy, cut into words by now */
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, u64);
	__type(value, struct module_note);
} modules SEC(".maps");

#endif
