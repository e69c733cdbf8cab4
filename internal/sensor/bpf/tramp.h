/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* What programs on trampolines share. */
#ifndef CLEW_TRAMP_H
#define CLEW_TRAMP_H

#include "kernel.h"
#include <bpf/bpf_tracing.h>

/* An error, or 0, out of what a function returned: an int or a pointer. */
static __always_inline long result(u64 ret)
{
	u32 high = ret >> 32;
	s32 low = ret;

	if ((high == 0 || high == 0xffffffff) && low < 0 && low >= -4095)
		return low;
	return 0;
}

/* An argument as a number: typed pointers may not go to where numbers do. */
#define number(n)                                                                                  \
	({                                                                                         \
		u64 v_ = 0;                                                                        \
		bpf_probe_read_kernel(&v_, sizeof(v_), &ctx[n]);                                   \
		v_;                                                                                \
	})

#endif
