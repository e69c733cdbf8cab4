/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Capabilities that a process was asked for and was granted, shared by both
 * ways to attach. The kernel checks them all the time; a check is an
 * observation when it is news: a capability that this image of the process was
 * not asked for before, or not granted before. A record holds all there are so
 * far, so that the last one is the sum.
 */
#ifndef CLEW_CAPS_H
#define CLEW_CAPS_H

#include "kern.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct task_struct___creds {
	const struct cred *real_cred;
	const struct cred *cred;
};
#pragma clang attribute pop

/*
 * What an image was asked for, by thread group: start and memory tell it from
 * others with the same number. Written by checks; the oldest go first, and one
 * that comes back is told again.
 */
struct caps_seen {
	u64 start;
	u64 mm;
	u64 attempted;
	u64 used;
	u64 told_attempted;
	u64 told_used;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, u32);
	__type(value, struct caps_seen);
} caps_seen SEC(".maps");

/*
 * The image's entry if the check is news to it, NULL if it is none. Checks of
 * other credentials than the task's own are not the process's: the kernel's
 * own, as overlayfs makes with those of who mounted it, or those of whoever
 * opened a file.
 */
static __always_inline struct caps_seen *caps_news(struct task_struct *t, u64 cred, u64 bit,
						   bool granted)
{
	struct task_struct___creds *k = (void *)t;
	u64 start = t->group_leader->start_boottime, mm = (u64)t->mm;
	struct caps_seen *c;
	u32 key = t->tgid;

	if (t->flags & PF_KTHREAD || !bit)
		return NULL;
	c = bpf_map_lookup_elem(&caps_seen, &key);
	if (c && c->start == start && c->mm == mm &&
	    (granted ? c->told_used : c->told_attempted) & bit)
		return NULL;
	if (cred != (u64)t->cred || cred != (u64)BPF_CORE_READ(k, real_cred))
		return NULL;
	if (!c || c->start != start || c->mm != mm) {
		struct caps_seen fresh = {.start = start, .mm = mm};

		bpf_map_update_elem(&caps_seen, &key, &fresh, BPF_ANY);
		c = bpf_map_lookup_elem(&caps_seen, &key);
	}
	return c;
}

/* Tells of news, unless the plan does not want it; then it is told when it does. */
static __always_inline int report_caps(struct task_struct *t, struct caps_seen *c, u64 bit,
				       bool granted)
{
	bool known = (granted ? c->used : c->attempted) & bit;
	struct plan_data *p = the_plan();
	struct rec_call *r;
	struct scratch *s;

	c->attempted |= bit;
	if (granted)
		c->used |= bit;
	if (!p || p->mode[REC_CAPABILITIES] == PLAN_OFF ||
	    (p->mode[REC_CAPABILITIES] == PLAN_FILTERED &&
	     !(bit & p->flags_any[REC_CAPABILITIES]))) {
		if (known)
			return 0;
		fate(REC_CAPABILITIES, FATE_SEEN);
		return fate(REC_CAPABILITIES, FATE_FILTERED);
	}
	if (is_self(t->tgid)) {
		if (known)
			return 0;
		fate(REC_CAPABILITIES, FATE_SEEN);
		return fate(REC_CAPABILITIES, FATE_SELF);
	}
	fate(REC_CAPABILITIES, FATE_SEEN);
	s = begin_call(REC_CAPABILITIES);
	if (!s)
		return 0;
	c->told_attempted |= bit;
	if (granted)
		c->told_used |= bit;
	r = (void *)s->buf;
	r->a = c->attempted;
	r->b = c->used;
	return send(s, &bulk, REC_CAPABILITIES);
}

#endif
