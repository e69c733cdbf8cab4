// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * What both modes see the same way: signals and modules by the kernel's own
 * tracepoints, parameters by a cgroup program.
 */
#include "kern.h"
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* An argument as a number: some pointers may be small numbers instead. */
#define number(n)                                                                                  \
	({                                                                                         \
		u64 v_ = 0;                                                                        \
		bpf_probe_read_kernel(&v_, sizeof(v_), &ctx[n]);                                   \
		v_;                                                                                \
	})

/* Whether the caller came by the 32-bit entry, and the number of its call. */
static __always_inline bool native_call(struct pt_regs *r, u32 *nr)
{
	struct pt_regs___compat *x = (void *)r;

#if defined(__TARGET_ARCH_x86)
	*nr = r->orig_ax;
	return BPF_CORE_READ(x, cs) != 0x23; /* __USER32_CS */
#else
	*nr = BPF_CORE_READ(x, syscallno);
	return !(BPF_CORE_READ(x, pstate) & 0x10); /* PSR_MODE32_BIT */
#endif
}

/* The first argument of the system call that is under way. */
static __always_inline u64 first_arg(struct pt_regs *r, bool native)
{
#if defined(__TARGET_ARCH_x86)
	if (!native)
		return BPF_CORE_READ((struct pt_regs___compat *)r, bx);
#endif
	return regs_arg0(r);
}

#define NR_PIDFD_SEND_SIGNAL 424 /* the same everywhere */

/* rt_sigqueueinfo, rt_tgsigqueueinfo and pidfd_send_signal let the caller choose the code. */
static __always_inline bool may_choose_code(u32 nr, bool native)
{
	if (nr == NR_PIDFD_SEND_SIGNAL)
		return true;
#if defined(__TARGET_ARCH_x86)
	if (native)
		return nr == 129 || nr == 297;
	return nr == 178 || nr == 335;
#else
	if (native)
		return nr == 138 || nr == 240;
	return nr == 178 || nr == 363;
#endif
}

/*
 * tp_btf/signal_generate: since v2.6.38; where the kernel hands a signal to its
 * receiver, in the sender. One for each receiver of a group's. What no system
 * call for sending signals made (timers, faults, the terminal, children) is
 * told by its code and is not an observation at all. Costs nothing elsewhere.
 */
SEC("tp_btf/signal_generate")
int BPF_PROG(on_signal)
{
	struct task_struct *t;
	struct rec_call *r;
	struct scratch *s;
	struct pt_regs *regs;
	u64 info = number(1);
	u32 sig = number(0), nr = 0;
	int code = 0;
	bool native;

	if (info < 4096) /* the kernel's own: SEND_SIG_NOINFO, SEND_SIG_PRIV */
		return 0;
	bpf_probe_read_kernel(&code, sizeof(code),
			      (void *)info + bpf_core_field_offset(struct kernel_siginfo, si_code));
	if (code > 0)
		return 0;
	t = current_task();
	if (t->flags & PF_KTHREAD)
		return 0;
	regs = task_regs(t);
	native = native_call(regs, &nr);
	if (code != SIGCODE_USER && code != SIGCODE_TKILL && code != SIGCODE_QUEUE &&
	    !may_choose_code(nr, native))
		return 0;
	/* 3: no memory was left to queue it, the call fails */
	if (!call_wanted(REC_SIGNAL, (u32)number(4) == 3 ? -11 : 0, value_bit(sig)))
		return 0;
	s = begin_call(REC_SIGNAL);
	if (!s)
		return 0;
	r = (void *)s->buf;
	r->a = sig;
	if (nr != NR_PIDFD_SEND_SIGNAL)
		r->b = (s64)(s32)first_arg(regs, native);
	set_target(r, number(2));
	return send(s, &bulk, REC_SIGNAL);
}

/* Where the parameters lie for init_module or finit_module, whichever is under way. */
static __always_inline u64 given_parameters(void)
{
	struct pt_regs *r = task_regs(current_task());
	u32 nr;

#if defined(__TARGET_ARCH_x86)
	if (!native_call(r, &nr))
		return nr == 350 ? (u32)BPF_CORE_READ((struct pt_regs___compat *)r, cx)
				 : (u32)regs_arg2(r);
	return nr == 313 ? regs_arg1(r) : regs_arg2(r);
#else
	return (native_call(r, &nr) ? nr == 273 : nr == 379) ? regs_arg1(r) : regs_arg2(r);
#endif
}

/* Notes what the kernel says of a module, unless it goes because its start failed. */
static __noinline int note_module(struct module *mod, u32 kind)
{
	static const struct module_note empty;
	u64 id = bpf_get_current_pid_tgid();
	struct module_note *m;
	long n;

	m = bpf_map_lookup_elem(&modules, &id);
	if (m && kind == REC_UNLOAD_MODULE && m->kind == REC_LOAD_MODULE)
		return 0;
	/* what else is left there is of a call whose end nobody watched */
	if (bpf_map_update_elem(&modules, &id, &empty, BPF_ANY))
		return 0;
	m = bpf_map_lookup_elem(&modules, &id);
	if (!m)
		return 0;
	m->kind = kind;
	bpf_probe_read_kernel_str(m->name, sizeof(m->name),
				  (void *)mod + bpf_core_field_offset(struct module, name));
	if (kind != REC_LOAD_MODULE)
		return 0;
	n = bpf_probe_read_user_str(m->given, sizeof(m->given), (void *)given_parameters());
	if (n <= 0 || n > sizeof(m->args))
		return 0;
	m->args_len = n;
	bpf_probe_read_kernel(m->args, n, BPF_CORE_READ(mod, args));
	return 0;
}

/*
 * tp_btf/module_load: since v2.6.31; the module is in place and its parameters
 * are copied, its own code has not run. tp_btf/module_free: it goes, by
 * delete_module or because its start failed; then it has been noted already.
 */
SEC("tp_btf/module_load")
int BPF_PROG(on_module_load)
{
	return note_module((struct module *)number(0), REC_LOAD_MODULE);
}

SEC("tp_btf/module_free")
int BPF_PROG(on_module_free)
{
	return note_module((struct module *)number(0), REC_UNLOAD_MODULE);
}

#define SYSCTL_NAME 256
#define SYSCTL_VALUE 256

/*
 * cgroup/sysctl (v5.2) on the root of the unified hierarchy: every process is
 * below it. Runs before the parameter is read or written and sees the kernel's
 * copy of the new value; that the write then fails it cannot see. Costs a copy
 * of the value for each access below /proc/sys that is reported.
 */
SEC("cgroup/sysctl")
int on_sysctl(struct bpf_sysctl *ctx)
{
	struct task_struct *t = current_task();
	struct rec_sysctl *r;
	struct scratch *s;
	u32 write = ctx->write;
	long n;

	/* SYSCTL_READ is 1, SYSCTL_WRITE is 2 */
	if (!call_wanted(REC_SYSCTL, 0, value_bit(write ? 2 : 1)))
		return 1;
	s = take(t->pid);
	if (!s) {
		fate(REC_SYSCTL, FATE_SCRATCH_BUSY);
		return 1;
	}
	r = (void *)s->buf;
	__builtin_memset(r, 0, sizeof(*r));
	fill_hdr(&r->hdr, t);
	r->write = write ? 2 : 1;
	r->position = ctx->file_pos;
	s->off = sizeof(*r) + SYSCTL_NAME + 2 * SYSCTL_VALUE;
	r->name.off = sizeof(*r);
	n = bpf_sysctl_get_name(ctx, (char *)s->buf + sizeof(*r), SYSCTL_NAME, 0);
	if (n < 0) {
		n = SYSCTL_NAME - 1;
		r->flags |= RC_NAME_CUT;
	}
	r->name.len = n;
	r->old.off = sizeof(*r) + SYSCTL_NAME;
	n = bpf_sysctl_get_current_value(ctx, (char *)s->buf + sizeof(*r) + SYSCTL_NAME,
					 SYSCTL_VALUE);
	if (n == -7) { /* E2BIG */
		n = SYSCTL_VALUE - 1;
		r->flags |= RC_OLD_CUT;
	}
	r->old.len = n > 0 ? n : 0;
	if (write) {
		r->value.off = sizeof(*r) + SYSCTL_NAME + SYSCTL_VALUE;
		n = bpf_sysctl_get_new_value(
			ctx, (char *)s->buf + sizeof(*r) + SYSCTL_NAME + SYSCTL_VALUE,
			SYSCTL_VALUE);
		if (n == -7) {
			n = SYSCTL_VALUE - 1;
			r->flags |= RC_TEXT_CUT;
		}
		r->value.len = n > 0 ? n : 0;
	}
	send(s, &bulk, REC_SYSCTL);
	return 1;
}
