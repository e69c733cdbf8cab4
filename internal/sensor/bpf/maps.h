/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Maps that several objects share. Sizes marked 1 are set by the loader. */
#ifndef CLEW_MAPS_H
#define CLEW_MAPS_H

#include "record.h"
#include "drop.h"

#define NAME_KEY 64

/*
 * Process life, credentials, cgroup moves, canaries. Written by programs, read
 * by the agent; a record that finds it full is counted as FATE_RING_FULL.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
	__type(value, union rec_any); /* keeps the record types in BTF */
} critical SEC(".maps");

/* Everything else, apart, so that a flood of it costs no exec. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} bulk SEC(".maps");

#define SCRATCH_SLOTS 2
#define SCRATCH_BUF (65536 + 16384)
#define SCRATCH_LIMIT 45056 /* no string begins above this, none is longer than 16384 */

/*
 * Where a record is put together, SCRATCH_SLOTS for each CPU: programs that
 * trampolines call may be preempted by others of their kind. `owner` is a
 * thread id while in use.
 */
struct scratch {
	u32 owner;
	u32 off;
	u64 ctx[2];
	u8 buf[SCRATCH_BUF];
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* CPUs * SCRATCH_SLOTS */
	__type(key, u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

/* Fates by kind and CPU. Written by programs, summed by the agent. */
struct fate_counts {
	u64 n[REC_KINDS][FATE_MAX];
	u64 beside[BESIDE_MAX];
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct fate_counts);
} counters SEC(".maps");

enum plan_mode { PLAN_OFF = 0, PLAN_FILTERED = 1, PLAN_ALL = 2 };

/*
 * The kernel half of the filter plan. `bloom` answers "surely not a watched
 * base name" from a name's length and first eight bytes; `names` decides.
 */
struct plan_data {
	enum plan_mode mode[REC_KINDS];
	/* of it, what some rule wants: never more than mode and flags_any let through */
	enum plan_mode rule_mode[REC_KINDS];
	u64 flags_any[REC_KINDS];
	u64 rule_flags[REC_KINDS];
	u64 deep; /* bit per kind of which all of a hot process's events leave the kernel */
	u64 by_name; /* bit per kind that looks at names */
	u64 bloom[16];
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct plan_data);
} plan SEC(".maps");

/*
 * What a producer may send of events that no rule wants: one each `gap`, and as
 * many at once as fit into `room`. A gap of 0 is no limit. Written by the agent.
 */
struct shape_limit {
	u64 gap; /* ns */
	u64 room; /* ns */
};
enum shape_what { SHAPE_SESSION = 0, SHAPE_CGROUP = 1, SHAPE_MAX = 2 };
struct shape_data {
	struct shape_limit limit[SHAPE_MAX];
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct shape_data);
} shape SEC(".maps");

/*
 * When each producer, a session or a control group, has earned what it sent:
 * later than now by what it owes. Written by programs. When it is full, the one
 * that sent nothing for longest is forgotten, and owes nothing.
 */
struct producer {
	u64 id;
	u64 what;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct producer);
	__type(value, u64);
} producers SEC(".maps");

/*
 * Depth hints: the processes of hot contexts. Written by the agent and copied at
 * fork, cleared at exit. A fork that finds it full is BESIDE_DEPTH_FULL.
 */
struct proc_key {
	u64 start; /* of the thread group's leader, boot time, ns */
	u32 tgid;
	u32 pad;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct proc_key);
	__type(value, u32);
} depths SEC(".maps");

/* Whether there is any hint, so that nobody looks for one when there is none. */
struct hint_state {
	u64 since; /* a walk looks for processes that began after this */
	u32 hints;
	u32 recording; /* the flight recorder is on */
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct hint_state);
} depth_state SEC(".maps");

/*
 * The flight recorder: the last opens of each session that the plan refused by
 * their names. Written by programs, read by the agent through its own mapping.
 * A session has the log that its number falls on; two that share one overwrite
 * each other's moments, and so may two CPUs that write at once: `sum` tells.
 * 512 logs of 32 moments of 96 bytes and a head are 1.5 MiB.
 */
#define MOMENTS 32
#define RECORDER_LOGS 512
#define MOMENT_NAME 40
struct moment {
	u64 sum; /* of ts, start, dentry, tgid, sid and flags */
	u64 ts; /* boot time, ns */
	u64 start;
	u64 dentry; /* tells two files apart; never leaves the sensor */
	u32 tgid;
	u32 sid;
	u32 flags;
	u32 count; /* times in a row */
	char name[MOMENT_NAME]; /* cut, and without a NUL then */
};
_Static_assert(sizeof(struct moment) == 88, "moment");
struct moments {
	u64 n; /* ever written */
	struct moment m[MOMENTS];
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RECORDER_LOGS);
	__uint(map_flags, 1024); /* BPF_F_MMAPABLE */
	__type(key, u32);
	__type(value, struct moments);
} recorder SEC(".maps");

/*
 * Watched base names, cut to NAME_KEY - 1 bytes, to a bit per kind. Written by
 * the agent, which switches a kind to PLAN_ALL when its names do not fit.
 */
struct name_key {
	char name[NAME_KEY];
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct name_key);
	__type(value, u64);
} names SEC(".maps");

/* Thread groups whose bulk events are not reported: the agent and its server. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, u32);
	__type(value, u32);
} self SEC(".maps");

/*
 * Calls between entry and exit, by thread. Filled at entry, emptied at exit or
 * when the thread ends; a call that finds it full is FATE_NO_ENTRY at its exit.
 */
struct pending {
	u32 kind;
	u32 opflags;
	u32 flags;
	u32 mode;
	u32 uid;
	u32 gid;
	s32 dirfd;
	s32 dirfd2;
	s64 length;
	u64 arg;
	u64 arg2;
	u64 hash; /* of the first string, at entry */
	u64 hash2;
	u32 why; /* enum want */
	u32 pad;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, u64);
	__type(value, struct pending);
} pending SEC(".maps");

/* Credentials at the entry of a call that may change them. As `pending`. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, u64);
	__type(value, struct rec_ids);
} pending_ids SEC(".maps");

/*
 * Trampoline mode: what a call that changes a directory is about, noted where
 * the kernel has resolved it and judged where it is done. As `pending`.
 */
struct held {
	u64 mnt;
	u64 dentry;
	u64 parent;
	u32 name_len; /* with its NUL */
	u32 pad;
	struct rec_file file;
	char name[256];
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, struct held);
} held SEC(".maps");

/* The thread group that may send canaries. */
volatile const u32 cfg_agent_tgid = 0;

/* The reader is woken when more than this lies on the bulk ring. */
volatile const u64 cfg_wake_bytes = 0;

/* The bulk ring is nearly full when more than this lies on it; half of the critical ring. */
volatile const u64 cfg_bulk_spare = 0;
volatile const u64 cfg_critical_half = 0;

/* Why an observation is reported. Numbers grow with what it is worth. */
enum want {
	WANT_NO = 0,
	WANT_SPARE = 1, /* no rule wants it: the baseline, or a hot context, does */
	WANT_RULE = 2,
};

#endif
