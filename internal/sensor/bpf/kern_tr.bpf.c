// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Calls about processes, memory and the kernel by trampolines on the functions
 * of the system calls, those of 32-bit callers included: __x64_sys_ since
 * v4.17, fa697140f9a2, and __ia32_sys_ beside them; arm64 gives both kinds of
 * callers the same function where the arguments do not differ. No cost on other
 * system calls.
 */
#include "kern_call.h"
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* fexit: the arguments lie in the registers of the caller, the result is the second. */
#define TR(prog, place, fill, observe)                                                             \
	SEC("fexit/" place)                                                                        \
	int BPF_PROG(prog, struct pt_regs *regs, long ret)                                         \
	{                                                                                          \
		struct call c;                                                                     \
		fill(&c, regs, ret);                                                               \
		return observe(&c);                                                                \
	}

#if defined(__TARGET_ARCH_x86)

static __always_inline void call_of_32(struct call *c, struct pt_regs *r, long ret)
{
	struct pt_regs___compat *x = (void *)r;

	c->arg[0] = (u32)BPF_CORE_READ(x, bx);
	c->arg[1] = (u32)BPF_CORE_READ(x, cx);
	c->arg[2] = (u32)r->dx;
	c->arg[3] = (u32)r->si;
	c->arg[4] = (u32)r->di;
	c->arg[5] = (u32)BPF_CORE_READ(x, bp);
	c->ret = ret;
}

/* The offset of mmap2 is in pages. */
static __always_inline int observe_mmap2(struct call *c)
{
	c->arg[5] <<= 12;
	return observe_mmap(c);
}

/* Limits of 32 bits are two numbers of 32 bits; what the kernel holds is read from there. */
#define NATIVE(name, observe) TR(tr_##name, "__x64_sys_" #name, call_of, observe)
#define COMPAT(name, observe) TR(tr32_##name, "__ia32_sys_" #name, call_of_32, observe)
#define COMPAT_OWN(name, observe) TR(tr32_##name, "__ia32_compat_sys_" #name, call_of_32, observe)

COMPAT_OWN(ptrace, observe_ptrace)
COMPAT(prctl, observe_prctl)
COMPAT_OWN(setrlimit, observe_setrlimit)
COMPAT(prlimit64, observe_prlimit64)
COMPAT(unshare, observe_unshare)
COMPAT(kill, observe_sig1)
COMPAT(tkill, observe_sig1)
COMPAT_OWN(rt_sigqueueinfo, observe_sig1)
COMPAT(tgkill, observe_sig2)
COMPAT_OWN(rt_tgsigqueueinfo, observe_sig2)
COMPAT(pidfd_send_signal, observe_sigfd)
COMPAT(mmap_pgoff, observe_mmap2)
COMPAT(mprotect, observe_protect)
COMPAT(pkey_mprotect, observe_protect)
COMPAT(bpf, observe_bpf)
COMPAT(init_module, observe_init_module)
COMPAT(finit_module, observe_finit_module)
COMPAT(delete_module, observe_delete_module)

#define ENTER(prog, place, a0, a2)                                                                 \
	SEC("fentry/" place)                                                                       \
	int BPF_PROG(prog, struct pt_regs *regs)                                                   \
	{                                                                                          \
		return enter_protect(a0, a2);                                                      \
	}
ENTER(in_mprotect, "__x64_sys_mprotect", regs->di, regs->dx)
ENTER(in_pkey_mprotect, "__x64_sys_pkey_mprotect", regs->di, regs->dx)
ENTER(in32_mprotect, "__ia32_sys_mprotect", (u32)BPF_CORE_READ((struct pt_regs___compat *)regs, bx),
      (u32)regs->dx)
ENTER(in32_pkey_mprotect, "__ia32_sys_pkey_mprotect",
      (u32)BPF_CORE_READ((struct pt_regs___compat *)regs, bx), (u32)regs->dx)

#else

#define NATIVE(name, observe) TR(tr_##name, "__arm64_sys_" #name, call_of, observe)
#define COMPAT_OWN(name, observe) TR(tr32_##name, "__arm64_compat_sys_" #name, call_of, observe)

COMPAT_OWN(ptrace, observe_ptrace)
COMPAT_OWN(setrlimit, observe_setrlimit)
COMPAT_OWN(rt_sigqueueinfo, observe_sig1)
COMPAT_OWN(rt_tgsigqueueinfo, observe_sig2)

#define ENTER(prog, place)                                                                         \
	SEC("fentry/" place)                                                                       \
	int BPF_PROG(prog, struct pt_regs *regs)                                                   \
	{                                                                                          \
		return enter_protect(regs_arg0(regs), regs_arg2(regs));                            \
	}
ENTER(in_mprotect, "__arm64_sys_mprotect")
ENTER(in_pkey_mprotect, "__arm64_sys_pkey_mprotect")

#endif

NATIVE(ptrace, observe_ptrace)
NATIVE(prctl, observe_prctl)
NATIVE(setrlimit, observe_setrlimit)
NATIVE(prlimit64, observe_prlimit64)
NATIVE(unshare, observe_unshare)
NATIVE(kill, observe_sig1)
NATIVE(tkill, observe_sig1)
NATIVE(rt_sigqueueinfo, observe_sig1)
NATIVE(tgkill, observe_sig2)
NATIVE(rt_tgsigqueueinfo, observe_sig2)
NATIVE(pidfd_send_signal, observe_sigfd)
NATIVE(mmap, observe_mmap)
NATIVE(mprotect, observe_protect)
NATIVE(pkey_mprotect, observe_protect)
NATIVE(bpf, observe_bpf)
NATIVE(init_module, observe_init_module)
NATIVE(finit_module, observe_finit_module)
NATIVE(delete_module, observe_delete_module)

/*
 * check_helper_call: the verifier looks at a call of a helper function, whose
 * number is in the instruction. A static function that some builds of the
 * kernel have put into its only caller; helpers are not known there.
 */
SEC("fentry/check_helper_call")
int BPF_PROG(tr_helper, void *env, struct bpf_insn *insn)
{
	static const struct helper_bits none;
	u64 id = bpf_get_current_pid_tgid();
	struct helper_bits *h;
	u32 n;

	if (is_agent())
		return 0;
	h = bpf_map_lookup_elem(&helpers, &id);
	if (!h) {
		bpf_map_update_elem(&helpers, &id, &none, BPF_NOEXIST);
		h = bpf_map_lookup_elem(&helpers, &id);
		if (!h)
			return 0;
	}
	n = BPF_CORE_READ(insn, imm);
	if (n < 256)
		h->bits[(n >> 6) & 3] |= 1ULL << (n & 63);
	return 0;
}
