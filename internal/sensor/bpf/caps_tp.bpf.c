// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Capabilities by the kernel's own tracepoint. Costs a look-up for each
 * question, and a look at the stack for CAP_SYS_ADMIN until it was used.
 */
#include "caps.h"
#include "tramp.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/*
 * Every accounted mapping asks for CAP_SYS_ADMIN, to know whether it may have
 * the last of the memory: that says nothing about the process. Told by who
 * calls; 0 where the kernel does not say where its functions lie.
 */
extern void cap_vm_enough_memory __ksym __weak;
extern void security_vm_enough_memory_mm __ksym __weak;

#define CAP_SYS_ADMIN_ 21
#define FRAMES 8
#define FUNCTION 256 /* bytes that one of those is believed to have */

static __always_inline bool in_function(u64 at, const void *f)
{
	return f && at - (u64)f < FUNCTION;
}

static __always_inline bool accounting(void *ctx)
{
	u64 frames[FRAMES] = {};
	int i;

	if (bpf_get_stack(ctx, frames, sizeof(frames), 0) < 0)
		return false;
	for (i = 0; i < FRAMES; i++)
		if (in_function(frames[i], &cap_vm_enough_memory) ||
		    in_function(frames[i], &security_vm_enough_memory_mm))
			return true;
	return false;
}

/* tp_btf/cap_capable: (credentials, namespace wanted, namespace, capability, result) since v6.14.
 */
SEC("tp_btf/cap_capable")
int BPF_PROG(on_capable)
{
	struct task_struct *t = current_task();
	u32 cap = number(3);
	bool granted = !(s32)number(4);
	u64 bit = cap < 64 ? 1ULL << cap : 0;
	struct caps_seen *c = caps_news(t, number(0), bit, granted);

	if (!c || (cap == CAP_SYS_ADMIN_ && accounting(ctx)))
		return 0;
	return report_caps(t, c, bit, granted);
}
