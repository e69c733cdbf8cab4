// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Credentials by per-system-call tracepoints: kept at entry, compared at exit.
 * One pair of programs serves setuid, setgid, setreuid, setregid, setresuid,
 * setresgid, setfsuid, setfsgid and capset. Not seen: 32-bit system calls. A change by
 * exec of a set-user-id file is in the exec record. Costs nothing elsewhere.
 */
#include "cred.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tracepoint/syscalls/sys_enter_setuid")
int enter_cred(struct trace_event_raw_sys_enter *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	struct rec_ids now;

	fill_ids(&now, BPF_CORE_READ(current_task(), cred));
	bpf_map_update_elem(&pending_ids, &id, &now, BPF_ANY);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_setuid")
int exit_cred(struct trace_event_raw_sys_exit *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	struct rec_ids *found, before, after;

	found = bpf_map_lookup_elem(&pending_ids, &id);
	if (!found) {
		fate(REC_CRED, FATE_SEEN);
		return fate(REC_CRED, FATE_NO_ENTRY);
	}
	before = *found;
	bpf_map_delete_elem(&pending_ids, &id);
	fill_ids(&after, BPF_CORE_READ(current_task(), cred));
	return report_cred(&before, &after);
}
