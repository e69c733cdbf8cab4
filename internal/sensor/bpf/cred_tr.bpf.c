// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/* Credentials by trampolines. */
#include "cred.h"
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct task_struct___exec {
	unsigned int in_execve : 1;
} __attribute__((preserve_access_index));

/*
 * commit_creds (v2.6.29 to now): the one place where a task's credentials
 * change, whatever the way; it cannot fail. An exec of a set-user-id file comes
 * here, too, and is in the exec record. Runs before the change, so both are at
 * hand.
 */
SEC("fentry/commit_creds")
int BPF_PROG(tr_cred)
{
	struct task_struct *t = current_task();
	struct task_struct___exec *x = (void *)t;
	struct rec_ids before, after;

	if (bpf_core_field_exists(x->in_execve) && BPF_CORE_READ_BITFIELD_PROBED(x, in_execve))
		return 0;
	fill_ids(&before, BPF_CORE_READ(t, cred));
	fill_ids(&after, (struct cred *)ctx[0]);
	return report_cred(&before, &after);
}
