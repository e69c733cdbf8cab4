/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Scripts. By the time a program has been replaced, the kernel holds its
 * interpreter and has let the script itself go; trampolines see it before.
 */
#ifndef CLEW_SCRIPT_H
#define CLEW_SCRIPT_H

#include "path.h"

#define SCRIPT_PATH 1024

/*
 * The script that a thread is about to execute, by thread. Filled when the
 * kernel has opened it, emptied when it runs. What an exec that failed leaves
 * behind is replaced by the thread's next one.
 */
struct script {
	struct rec_file file;
	u8 path[SCRIPT_PATH];
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, u64);
	__type(value, struct script);
} scripts SEC(".maps");

/* Appends what is known of the script of a thread, and forgets it. */
SUBPROG int put_script(struct scratch *s, struct rec_file *out, u64 thread)
{
	u64 key = thread;
	struct script *k;
	u32 off, n;

	if (!s || !out)
		return 0;
	k = bpf_map_lookup_elem(&scripts, &key);
	if (!k)
		return 0;
	off = s->off;
	if (off <= SCRATCH_LIMIT) {
		*out = k->file;
		n = out->path.len;
		if (n > SCRIPT_PATH)
			n = SCRIPT_PATH;
		bpf_probe_read_kernel(AT(s, off), SCRIPT_PATH, k->path);
		out->path.off = off;
		s->off = off + n;
	}
	bpf_map_delete_elem(&scripts, &key);
	return 0;
}

#endif
