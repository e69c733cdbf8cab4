/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* What is written to SELinux's file system, shared by both ways to attach. */
#ifndef CLEW_SELINUX_H
#define CLEW_SELINUX_H

#include "kern.h"

#define SELINUX_MAGIC_ 0xf97cff8c

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct selinux_state {
	bool enforcing;
};
#pragma clang attribute pop

/* The state itself; 0 where the kernel does not say where its variables lie. */
extern void selinux_state __ksym __weak;

/* rec_call.a: which of its files was written. */
enum selinux_file {
	SELINUX_ENFORCE = 1,
	SELINUX_DISABLE = 2,
	SELINUX_BOOL = 3, /* text is its name */
	SELINUX_COMMIT = 4,
};

/* Names them in BTF. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, enum selinux_file);
} selinux_types SEC(".maps");

/* b is the number of bytes written, c the first eight; d is the mode after it and 1, or 0. */
static __noinline __attribute__((unused)) int report_selinux(u32 which, u64 file, u64 from,
							     u64 count, long ret)
{
	struct file *f = (void *)file;
	bool enforcing = false;
	struct rec_call *r;
	struct scratch *s;

	if (!call_wanted(REC_SELINUX, ret, 0))
		return 0;
	s = begin_call(REC_SELINUX);
	if (!s)
		return 0;
	r = (void *)s->buf;
	r->retval = ret;
	r->a = which;
	r->b = count;
	r->flags = RC_USER;
	if (count > 8)
		count = 8;
	asm volatile("%0 &= 15" : "+r"(count));
	bpf_probe_read_user(&r->c, count, (void *)from);
	if (which == SELINUX_ENFORCE && &selinux_state &&
	    bpf_core_field_exists(((struct selinux_state *)0)->enforcing) &&
	    !bpf_probe_read_kernel(
		    &enforcing, 1,
		    (void *)&selinux_state +
			    bpf_core_field_offset(struct selinux_state, enforcing))) {
		r->d = 1 + enforcing;
		r->flags = 0;
	}
	if (which == SELINUX_BOOL)
		put_kernel_str(s, &r->text, (u64)BPF_CORE_READ(f, f_path.dentry, d_name.name));
	return send(s, &critical, REC_SELINUX);
}

#endif
