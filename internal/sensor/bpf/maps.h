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
	u64 flags_any[REC_KINDS];
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

#endif
