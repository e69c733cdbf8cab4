/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Observations of credentials, shared by both ways to attach. */
#ifndef CLEW_CRED_H
#define CLEW_CRED_H

#include "filter.h"
#include "task.h"

/* Before and after come from the kernel's credentials, not from arguments. */
static __always_inline int report_cred(struct rec_ids *before, struct rec_ids *after)
{
	struct task_struct *t = current_task();
	struct rec_cred *r;
	struct scratch *s;
	struct plan_data *p;

	fate(REC_CRED, FATE_SEEN);
	if (before->uid == after->uid && before->euid == after->euid &&
	    before->suid == after->suid && before->fsuid == after->fsuid &&
	    before->gid == after->gid && before->egid == after->egid &&
	    before->sgid == after->sgid && before->fsgid == after->fsgid &&
	    before->cap_effective == after->cap_effective &&
	    before->cap_permitted == after->cap_permitted)
		return fate(REC_CRED, FATE_UNCHANGED);
	p = the_plan();
	if (!p || p->mode[REC_CRED] == PLAN_OFF)
		return fate(REC_CRED, FATE_FILTERED);
	s = take(PEEK(t, pid));
	if (!s)
		return fate(REC_CRED, FATE_SCRATCH_BUSY);
	s->off = sizeof(*r);
	r = (void *)s->buf;
	fill_hdr(&r->hdr, t);
	r->before = *before;
	r->after = *after;
	r->hdr.uid = after->uid;
	r->hdr.gid = after->gid;
	r->hdr.euid = after->euid;
	r->hdr.egid = after->egid;
	r->hdr.fsuid = after->fsuid;
	r->hdr.fsgid = after->fsgid;
	return send(s, &critical, REC_CRED);
}

#endif
