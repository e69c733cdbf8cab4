// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Sockets by per-system-call tracepoints, at exit: descriptor, file, socket.
 * Both ends come from the kernel's socket, so a bind to port 0 shows the port
 * that was given, and nothing the caller rewrites meanwhile is believed.
 * Not seen: 32-bit system calls, connections of kernel threads. io_uring is
 * uring.bpf.c.
 */
#include "net.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* EINPROGRESS is how a non-blocking connect succeeds. */
SEC("tracepoint/syscalls/sys_exit_connect")
int exit_connect(struct trace_event_raw_sys_exit *ctx)
{
	long ret = ctx->ret;
	struct task_struct *t;
	struct pt_regs *regs;
	struct file *f;

	fate(REC_CONNECT, FATE_SEEN);
	if (ret && ret != -EINPROGRESS_ && ret != -EPERM_ && ret != -EACCES_)
		return fate(REC_CONNECT, FATE_RESULT);
	if (!net_wanted(REC_CONNECT))
		return fate(REC_CONNECT, FATE_FILTERED);
	t = current_task();
	regs = task_regs(t);
	f = fd_file(t, regs_arg0(regs));
	if (!f)
		return fate(REC_CONNECT, FATE_NO_FILE);
	return report_sock(REC_CONNECT, (u64)f, regs_arg1(regs), 0, ret);
}

SEC("tracepoint/syscalls/sys_exit_bind")
int exit_bind(struct trace_event_raw_sys_exit *ctx)
{
	long ret = ctx->ret;
	struct task_struct *t;
	struct pt_regs *regs;
	struct file *f;

	fate(REC_BIND, FATE_SEEN);
	if (ret && ret != -EPERM_ && ret != -EACCES_)
		return fate(REC_BIND, FATE_RESULT);
	if (!net_wanted(REC_BIND))
		return fate(REC_BIND, FATE_FILTERED);
	t = current_task();
	regs = task_regs(t);
	f = fd_file(t, regs_arg0(regs));
	if (!f)
		return fate(REC_BIND, FATE_NO_FILE);
	return report_sock(REC_BIND, (u64)f, regs_arg1(regs), 0, ret);
}

/* The new descriptor's socket is the connection. Also for accept4. */
SEC("tracepoint/syscalls/sys_exit_accept")
int exit_accept(struct trace_event_raw_sys_exit *ctx)
{
	long ret = ctx->ret;
	struct task_struct *t;
	struct file *f;

	fate(REC_ACCEPT, FATE_SEEN);
	if (ret < 0)
		return fate(REC_ACCEPT, FATE_RESULT);
	if (!net_wanted(REC_ACCEPT))
		return fate(REC_ACCEPT, FATE_FILTERED);
	t = current_task();
	f = fd_file(t, ret);
	if (!f)
		return fate(REC_ACCEPT, FATE_NO_FILE);
	return report_sock(REC_ACCEPT, (u64)f, 0, 0, ret);
}
