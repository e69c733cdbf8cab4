// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/* Credentials by trampolines. */
#include "cred.h"
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct task_struct___exec {
	unsigned int in_execve : 1;
} __attribute__((preserve_access_index));

struct user_namespace;
struct cred___ns {
	struct user_namespace *user_ns;
} __attribute__((preserve_access_index));

static __always_inline u64 user_ns_of(u64 cred)
{
	return (u64)BPF_CORE_READ((struct cred___ns *)cred, user_ns);
}

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
	/* capabilities of another user namespace say nothing about those here */
	if (user_ns_of((u64)BPF_CORE_READ(t, cred)) != user_ns_of(ctx[0])) {
		after.cap_effective = before.cap_effective;
		after.cap_permitted = before.cap_permitted;
	}
	return report_cred(&before, &after);
}
