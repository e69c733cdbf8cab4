// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Sockets by trampolines (fexit). 32-bit callers and io_uring pass
 * here, too. Both ends come from the kernel's socket.
 */
#include "net.h"
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* An argument as a number: typed pointers may not go to where numbers do. */
#define number(n)                                                                                  \
	({                                                                                         \
		u64 v_ = 0;                                                                        \
		bpf_probe_read_kernel(&v_, sizeof(v_), &ctx[n]);                                   \
		v_;                                                                                \
	})

/* __sys_connect_file (v5.5 to now): the address is the kernel's copy. */
SEC("fexit/__sys_connect_file")
int BPF_PROG(tr_connect)
{
	s32 ret = number(4);

	fate(REC_CONNECT, FATE_SEEN);
	if (ret && ret != -EINPROGRESS_ && ret != -EPERM_ && ret != -EACCES_)
		return fate(REC_CONNECT, FATE_RESULT);
	if (!net_wanted(REC_CONNECT))
		return fate(REC_CONNECT, FATE_FILTERED);
	return report_sock(REC_CONNECT, number(0), number(1), SOCK_ADDR_KERNEL, ret);
}

/* __sys_bind (v4.17 to now): the address that was asked for is the caller's. */
SEC("fexit/__sys_bind")
int BPF_PROG(tr_bind)
{
	s32 ret = number(3);
	struct file *f;

	fate(REC_BIND, FATE_SEEN);
	if (ret && ret != -EPERM_ && ret != -EACCES_)
		return fate(REC_BIND, FATE_RESULT);
	if (!net_wanted(REC_BIND))
		return fate(REC_BIND, FATE_FILTERED);
	f = fd_file(current_task(), number(0));
	if (!f)
		return fate(REC_BIND, FATE_NO_FILE);
	return report_sock(REC_BIND, (u64)f, number(1), 0, ret);
}

#define NR_IO_URING_ENTER 426 /* the same everywhere */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct socket___file {
	struct file *file;
};
#if defined(__TARGET_ARCH_arm64)
struct pt_regs___call {
	s32 syscallno;
};
#endif
#pragma clang attribute pop

/* Whether the kernel does this for a ring: in its worker, or as a ring is entered. */
static __always_inline bool by_ring(struct task_struct *t)
{
	struct pt_regs *r = task_regs(t);

	if (t->flags & PF_IO_WORKER)
		return true;
#if defined(__TARGET_ARCH_x86)
	return r->orig_ax == NR_IO_URING_ENTER;
#else
	return BPF_CORE_READ((struct pt_regs___call *)r, syscallno) == NR_IO_URING_ENTER;
#endif
}

/*
 * __sys_bind_socket (v6.11, 7481fd93fa0a): (socket, the kernel's copy of the
 * address, its length). bind(2) passes here, too, and is seen above.
 */
SEC("fexit/__sys_bind_socket")
int BPF_PROG(tr_bind_socket)
{
	struct socket___file *so = (void *)number(0);
	s32 ret = number(3);
	struct file *f;

	if (!by_ring(current_task()))
		return 0;
	fate(REC_BIND, FATE_SEEN);
	if (ret && ret != -EPERM_ && ret != -EACCES_)
		return fate(REC_BIND, FATE_RESULT);
	if (!net_wanted(REC_BIND))
		return fate(REC_BIND, FATE_FILTERED);
	f = BPF_CORE_READ(so, file);
	if (!f)
		return fate(REC_BIND, FATE_NO_FILE);
	return report_sock(REC_BIND, (u64)f, number(1), SOCK_ADDR_KERNEL | SOCK_BY_RING, ret);
}

/*
 * do_accept (v5.13 to now) returns the new socket's file. The number of its
 * arguments changed in v6.10, so the result is asked for (v5.17, f92c1e183604).
 */
SEC("fexit/do_accept")
int BPF_PROG(tr_accept)
{
	u64 ret = 0;

	fate(REC_ACCEPT, FATE_SEEN);
	if (bpf_get_func_ret(ctx, &ret) || !ret || ret >= (u64)-4095)
		return fate(REC_ACCEPT, FATE_RESULT);
	if (!net_wanted(REC_ACCEPT))
		return fate(REC_ACCEPT, FATE_FILTERED);
	return report_sock(REC_ACCEPT, ret, 0, 0, 0);
}
