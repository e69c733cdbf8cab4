// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Sockets made and their options by per-system-call tracepoints, at exit: the
 * arguments still lie in the saved registers. Not seen: 32-bit system calls;
 * options set by io_uring. Sockets it makes are uring.bpf.c.
 */
#include "sockopt.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tracepoint/syscalls/sys_exit_socket")
int exit_socket(struct trace_event_raw_sys_exit *ctx)
{
	struct pt_regs *regs = task_regs(current_task());

	return report_socket(regs_arg0(regs), regs_arg1(regs), regs_arg2(regs), ctx->ret, false);
}

SEC("tracepoint/syscalls/sys_exit_setsockopt")
int exit_setsockopt(struct trace_event_raw_sys_exit *ctx)
{
	struct pt_regs *regs = task_regs(current_task());

	return report_option(regs_arg0(regs), regs_arg1(regs), regs_arg2(regs), ctx->ret);
}
