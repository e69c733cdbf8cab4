// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Sockets made and their options by trampolines (fexit). 32-bit callers pass
 * here, too; io_uring has a way of its own to options.
 */
#include "sockopt.h"
#include "tramp.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* An argument as a number: typed pointers may not go to where numbers do. */
#define argument(n)                                                                                \
	({                                                                                         \
		u64 v_ = 0;                                                                        \
		bpf_probe_read_kernel(&v_, sizeof(v_), &ctx[n]);                                   \
		v_;                                                                                \
	})

/* __sys_socket: (family, type, protocol) since v4.17. */
SEC("fexit/__sys_socket")
int BPF_PROG(tr_socket)
{
	return report_socket(argument(0), argument(1), argument(2), (s32)argument(3), false);
}

/* __sys_socket_file: the same since v5.19, da214a475f8b, for io_uring alone. */
SEC("fexit/__sys_socket_file")
int BPF_PROG(tr_socket_file)
{
	return report_socket(argument(0), argument(1), argument(2), result(argument(3)), true);
}

/* __sys_setsockopt: (fd, level, optname, value, length) since v5.8. */
SEC("fexit/__sys_setsockopt")
int BPF_PROG(tr_setsockopt)
{
	return report_option(argument(0), argument(1), argument(2), (s32)argument(5));
}
