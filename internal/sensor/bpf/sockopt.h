/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Making sockets and setting their options, shared by both ways to attach. */
#ifndef CLEW_SOCKOPT_H
#define CLEW_SOCKOPT_H

#include "filter.h"
#include "path.h"

#define SOL_SOCKET_ 1
#define SO_ATTACH_FILTER_ 26
#define SO_ATTACH_REUSEPORT_CBPF_ 51

/* The instructions of a filter that are kept: 2048 of the 4096 there may be. */
#define FILTER_BYTES 16384

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* What the kernel keeps of a classic filter, as it was given. */
struct sock_fprog_kern {
	u16 len;
	void *filter;
};
struct bpf_prog {
	struct sock_fprog_kern *orig_prog;
};
struct sk_filter {
	struct bpf_prog *prog;
};
struct sock_reuseport {
	struct bpf_prog *prog;
};
struct sock___filter {
	struct sk_filter *sk_filter;
	struct sock_reuseport *sk_reuseport_cb;
};

#pragma clang attribute pop

struct rec_socket {
	struct rec_hdr hdr;
	s32 retval;
	s32 domain;
	s32 type;
	s32 protocol;
};
_Static_assert(sizeof(struct rec_socket) == 128, "rec_socket");

struct rec_sockopt {
	struct rec_hdr hdr;
	s32 retval;
	s32 level;
	s32 optname;
	u16 family;
	u16 type;
	u16 protocol;
	u16 filter_len; /* instructions */
	struct rec_str filter; /* the first of them */
};
_Static_assert(sizeof(struct rec_sockopt) == 136, "rec_sockopt");

/* Names the records in BTF. */
union sockopt_any {
	struct rec_socket socket;
	struct rec_sockopt sockopt;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, union sockopt_any);
} sockopt_types SEC(".maps");

static __always_inline bool option_wanted(u32 kind)
{
	struct plan_data *p = the_plan();

	return p && p->mode[kind] != PLAN_OFF;
}

static __noinline __attribute__((unused)) int report_socket(s32 domain, s32 type, s32 protocol,
							    long ret, bool by_ring)
{
	struct task_struct *t = current_task();
	struct rec_socket *r;
	struct scratch *s;

	fate(REC_SOCKET, FATE_SEEN);
	if (ret < 0 && ret != -EPERM_ && ret != -EACCES_)
		return fate(REC_SOCKET, FATE_RESULT);
	if (!option_wanted(REC_SOCKET))
		return fate(REC_SOCKET, FATE_FILTERED);
	if (is_self(t->tgid))
		return fate(REC_SOCKET, FATE_SELF);
	s = take(t->pid);
	if (!s)
		return fate(REC_SOCKET, FATE_SCRATCH_BUSY);
	s->off = sizeof(*r);
	r = (void *)s->buf;
	fill_hdr(&r->hdr, t);
	if (by_ring)
		r->hdr.flags |= RH_ASYNC;
	r->retval = ret;
	r->domain = domain;
	r->type = type;
	r->protocol = protocol;
	return send(s, &bulk, REC_SOCKET);
}

/*
 * An option was set, or refused. A classic filter is read from the kernel's own
 * copy of it: what the caller's memory says may have changed since.
 */
static __noinline __attribute__((unused)) int report_option(u32 fd, s32 level, s32 optname,
							    long ret)
{
	struct task_struct *t = current_task();
	struct sock_fprog_kern *orig = NULL;
	struct sock___filter *sf;
	struct rec_sockopt *r;
	struct socket *so;
	struct scratch *s;
	struct sock *sk;
	struct file *f;
	u64 n, from;

	fate(REC_SETSOCKOPT, FATE_SEEN);
	if (ret && ret != -EPERM_ && ret != -EACCES_)
		return fate(REC_SETSOCKOPT, FATE_RESULT);
	if (!option_wanted(REC_SETSOCKOPT))
		return fate(REC_SETSOCKOPT, FATE_FILTERED);
	if (is_self(t->tgid))
		return fate(REC_SETSOCKOPT, FATE_SELF);
	f = fd_file(t, fd);
	if (!f || (BPF_CORE_READ(f, f_inode, i_mode) & S_IFMT_) != S_IFSOCK_)
		return fate(REC_SETSOCKOPT, FATE_NO_FILE);
	so = BPF_CORE_READ(f, private_data);
	sk = BPF_CORE_READ(so, sk);
	if (!sk)
		return fate(REC_SETSOCKOPT, FATE_NO_FILE);
	s = take(t->pid);
	if (!s)
		return fate(REC_SETSOCKOPT, FATE_SCRATCH_BUSY);
	s->off = sizeof(*r);
	r = (void *)s->buf;
	__builtin_memset(r, 0, sizeof(*r));
	fill_hdr(&r->hdr, t);
	r->retval = ret;
	r->level = level;
	r->optname = optname;
	r->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	r->type = BPF_CORE_READ(so, type);
	r->protocol = sock_protocol(sk);
	sf = (void *)sk;
	if (!ret && level == SOL_SOCKET_ && optname == SO_ATTACH_FILTER_)
		orig = BPF_CORE_READ(sf, sk_filter, prog, orig_prog);
	else if (!ret && level == SOL_SOCKET_ && optname == SO_ATTACH_REUSEPORT_CBPF_)
		orig = BPF_CORE_READ(sf, sk_reuseport_cb, prog, orig_prog);
	if (orig) {
		r->filter_len = BPF_CORE_READ(orig, len);
		from = (u64)BPF_CORE_READ(orig, filter);
		n = (u64)r->filter_len * 8;
		if (n > FILTER_BYTES)
			n = FILTER_BYTES;
		asm volatile("%0 &= 0x7fff" : "+r"(n));
		if (!bpf_probe_read_kernel(s->buf + sizeof(*r), n, (void *)from)) {
			r->filter.off = sizeof(*r);
			r->filter.len = n;
			s->off += n;
		}
	}
	return send(s, &bulk, REC_SETSOCKOPT);
}

#endif
