// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Calls about processes, memory and the kernel by per-system-call tracepoints,
 * at exit; mprotect at entry, too, to see what was allowed before. Not seen:
 * 32-bit system calls. Cost: as in file_tp.bpf.c; mmap and mprotect are the
 * only ones of these that programs call often.
 */
#include "kern_call.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define EXIT(name, observe)                                                                        \
	SEC("tracepoint/syscalls/sys_exit_" #name)                                                 \
	int exit_##name(struct trace_event_raw_sys_exit *ctx)                                      \
	{                                                                                          \
		struct call c;                                                                     \
		call_of(&c, task_regs(current_task()), ctx->ret);                                  \
		return observe(&c);                                                                \
	}

EXIT(ptrace, observe_ptrace)
EXIT(prctl, observe_prctl)
EXIT(setrlimit, observe_setrlimit)
EXIT(prlimit64, observe_prlimit64)
EXIT(unshare, observe_unshare)
EXIT(kill, observe_sig1)
EXIT(tkill, observe_sig1)
EXIT(rt_sigqueueinfo, observe_sig1)
EXIT(tgkill, observe_sig2)
EXIT(rt_tgsigqueueinfo, observe_sig2)
EXIT(pidfd_send_signal, observe_sigfd)
EXIT(mmap, observe_mmap)
EXIT(mprotect, observe_protect)
EXIT(bpf, observe_bpf)
EXIT(init_module, observe_init_module)
EXIT(finit_module, observe_finit_module)
EXIT(delete_module, observe_delete_module)

/* Also for pkey_mprotect, whose first three arguments are the same. */
SEC("tracepoint/syscalls/sys_enter_mprotect")
int enter_mprotect(struct trace_event_raw_sys_enter *ctx)
{
	return enter_protect(ctx->args[0], ctx->args[2]);
}
