/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * What became of each observation. For every kind,
 * seen = sum of all other counters, at any quiet moment.
 */
#ifndef CLEW_DROP_H
#define CLEW_DROP_H

enum fate {
	FATE_SEEN = 0,
	FATE_SENT = 1,
	FATE_FILTERED = 2, /* the plan does not want it */
	FATE_RESULT = 3, /* the call failed in a way that is not reported */
	FATE_SELF = 4, /* our own process */
	FATE_RING_FULL = 5,
	FATE_SCRATCH_BUSY = 6, /* every buffer of this CPU was in use */
	FATE_TOO_BIG = 7,
	FATE_NO_ENTRY = 8, /* exit seen without its entry */
	FATE_NO_FILE = 9, /* the descriptor had already gone */
	FATE_UNCHANGED = 10, /* credentials set to what they were */
	/* 11 is flow.bpf.c's */
	FATE_SHAPED = 12, /* its session floods, and no rule wants it */
	FATE_SHAPED_CGROUP = 13, /* the same of its control group */
	FATE_MAX = 16,
};

/* What is counted beside fates. */
enum beside {
	BESIDE_DEPTH_FULL = 0, /* processes that got no hint at fork: the table was full */
	BESIDE_MAX = 4,
};

#endif
