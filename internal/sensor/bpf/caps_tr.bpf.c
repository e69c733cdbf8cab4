// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Capabilities by trampolines. fexit/security_capable: (credentials, namespace,
 * capability, options) since v5.1; where all of the kernel asks, but for the
 * questions that its own module for capabilities asks itself: memory beyond
 * what is accounted for, which every mmap asks for, and securebits. Costs a
 * look-up for each question.
 */
#include "caps.h"
#include "tramp.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("fexit/security_capable")
int BPF_PROG(tr_capable)
{
	struct task_struct *t = current_task();
	u32 cap = number(2);
	bool granted = !(s32)number(4);
	u64 bit = cap < 64 ? 1ULL << cap : 0;
	struct caps_seen *c = caps_news(t, number(0), bit, granted);

	if (!c)
		return 0;
	return report_caps(t, c, bit, granted);
}
