// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * SELinux by trampolines, on the functions that serve its files; whoever
 * writes, and however. Costs nothing elsewhere.
 */
#include "selinux.h"
#include "tramp.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* All are (file, the caller's memory, count, position). */
SEC("fexit/sel_write_enforce")
int BPF_PROG(tr_enforce)
{
	return report_selinux(SELINUX_ENFORCE, number(0), number(1), number(2), number(4));
}

/* Gone in v6.4, f22f9aaf6c3d. */
SEC("fexit/sel_write_disable")
int BPF_PROG(tr_disable)
{
	return report_selinux(SELINUX_DISABLE, number(0), number(1), number(2), number(4));
}

SEC("fexit/sel_write_bool")
int BPF_PROG(tr_bool)
{
	return report_selinux(SELINUX_BOOL, number(0), number(1), number(2), number(4));
}

SEC("fexit/sel_commit_bools_write")
int BPF_PROG(tr_commit)
{
	return report_selinux(SELINUX_COMMIT, number(0), number(1), number(2), number(4));
}
