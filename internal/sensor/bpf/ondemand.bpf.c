// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Functions that rules name. The object is loaded once for each of them, with
 * its name and the number of its arguments; the agent says where it belongs.
 *
 * Arguments are numbers; where one is an address, the text there is taken, too:
 * the caller's memory as it is when the call begins, or the kernel's.
 */
#include "kern.h"
#include "tramp.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define HOOK_ARGS 6
#define HOOK_NAME 80
#define HOOK_TEXT 256

struct rec_hook {
	struct rec_hdr hdr;
	u64 arg[HOOK_ARGS];
	struct rec_str text[HOOK_ARGS];
	char name[HOOK_NAME];
	u32 args;
	u32 pad;
};
_Static_assert(sizeof(struct rec_hook) == 272, "rec_hook");

/* Names the record in BTF. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct rec_hook);
} hook_types SEC(".maps");

volatile const char cfg_name[HOOK_NAME] = {};
volatile const u32 cfg_args = 0;

static __always_inline void put_text(struct scratch *s, struct rec_str *out, u64 from)
{
	u32 off = s->off;
	long n;

	out->off = off;
	if (from < 4096 || off > SCRATCH_LIMIT)
		return;
	if ((s64)from > 0)
		n = bpf_probe_read_user_str(AT(s, off), HOOK_TEXT, (void *)from);
	else
		n = bpf_probe_read_kernel_str(AT(s, off), HOOK_TEXT, (void *)from);
	if (n <= 1 || n > HOOK_TEXT)
		return;
	out->len = n - 1;
	s->off = off + n;
}

static __noinline int report_hook(u64 *arg)
{
	struct task_struct *t = current_task();
	struct rec_hook *r;
	struct scratch *s;
	int i;

	if (!arg || !call_wanted(REC_ONDEMAND, 0, ~0ULL))
		return 0;
	s = take(t->pid);
	if (!s)
		return fate(REC_ONDEMAND, FATE_SCRATCH_BUSY);
	s->off = sizeof(*r);
	r = (void *)s->buf;
	__builtin_memset(r, 0, sizeof(*r));
	fill_hdr(&r->hdr, t);
	for (i = 0; i < HOOK_NAME; i++)
		r->name[i] = cfg_name[i];
	r->args = cfg_args;
	for (i = 0; i < HOOK_ARGS; i++) {
		if (i >= cfg_args)
			break;
		r->arg[i] = arg[i];
		put_text(s, &r->text[i], arg[i]);
	}
	return send(s, &bulk, REC_ONDEMAND);
}

/* A system call as it begins. Not seen: 32-bit callers, io_uring. */
SEC("tracepoint/syscalls/sys_enter_ondemand")
int on_call(struct trace_event_raw_sys_enter *ctx)
{
	u64 arg[HOOK_ARGS] = {};

	bpf_probe_read_kernel(
		arg, sizeof(arg),
		(void *)ctx + bpf_core_field_offset(struct trace_event_raw_sys_enter, args));
	return report_hook(arg);
}

/* A function of the kernel as it begins. */
SEC("fentry/ondemand")
int BPF_PROG(on_function)
{
	u64 arg[HOOK_ARGS] = {};
	int i;

#pragma unroll
	for (i = 0; i < HOOK_ARGS; i++) {
		if (i >= cfg_args)
			break;
		arg[i] = number(i);
	}
	return report_hook(arg);
}
