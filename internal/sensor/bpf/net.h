/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Observations of sockets, shared by both ways to attach. */
#ifndef CLEW_NET_H
#define CLEW_NET_H

#include "filter.h"
#include "path.h"

struct sockaddr_in_ {
	u16 family;
	u16 port;
	u32 addr;
};
struct sockaddr_in6_ {
	u16 family;
	u16 port;
	u32 flow;
	u8 addr[16];
};

/* How a call came. */
enum sock_how {
	SOCK_ADDR_KERNEL = 1, /* the address is a copy in kernel memory, else the caller's */
	SOCK_BY_RING = 2, /* io_uring */
};

/*
 * Both ends from the kernel's socket. Where the kernel has no peer, because the
 * call was refused or is a datagram's, the address that was asked for is used.
 */
static __noinline __attribute__((unused)) int report_sock(u32 kind, u64 file, u64 addr, u32 how,
							  long ret)
{
	bool addr_kernel = how & SOCK_ADDR_KERNEL;
	struct task_struct *t = current_task();
	struct file *f = (void *)file;
	struct socket *so;
	struct rec_net *r;
	struct scratch *s;
	struct sockaddr_in6_ a = {};
	struct plan_data *p = the_plan();
	struct sock *sk;
	u32 why, done;
	u16 family;

	if ((BPF_CORE_READ(f, f_inode, i_mode) & S_IFMT_) != S_IFSOCK_)
		return fate(kind, FATE_NO_FILE);
	so = BPF_CORE_READ(f, private_data);
	sk = BPF_CORE_READ(so, sk);
	if (!sk)
		return fate(kind, FATE_NO_FILE);
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (family != AF_INET_ && family != AF_INET6_ && family != AF_UNIX_)
		return fate(kind, FATE_FILTERED);
	if (is_self(PEEK(t, tgid)))
		return fate(kind, FATE_SELF);
	if (!p || kind >= REC_KINDS)
		return fate(kind, FATE_FILTERED);
	why = why_wanted(p, kind, 0);
	if (why != WANT_RULE) {
		done = shaped(kind);
		if (done != FATE_SENT)
			return fate(kind, done);
	}
	s = take(PEEK(t, pid));
	if (!s)
		return fate(kind, FATE_SCRATCH_BUSY);
	s->off = sizeof(*r);
	r = (void *)s->buf;
	__builtin_memset(r, 0, sizeof(*r));
	fill_hdr(&r->hdr, t);
	if (how & SOCK_BY_RING)
		r->hdr.flags |= RH_ASYNC;
	r->retval = ret;
	r->family = family;
	r->type = BPF_CORE_READ(so, type);
	if (addr && addr_kernel)
		bpf_probe_read_kernel(&a, sizeof(a), (void *)addr);
	else if (addr && bpf_probe_read_user(&a, sizeof(a), (void *)addr))
		bpf_probe_read_user(&a, sizeof(struct sockaddr_in_), (void *)addr);
	if (family == AF_UNIX_) {
		if (addr && a.family == AF_UNIX_) {
			u64 at = addr + 2;

			/* an abstract name begins with a NUL */
			if (!(a.port & 0xff)) {
				r->pad = 1;
				at++;
			}
			if (addr_kernel)
				put_kernel_str(s, &r->path, at);
			else
				put_user_str(s, &r->path, at);
		}
		return send_bulk(s, kind, why);
	}
	r->protocol = sock_protocol(sk);
	r->lport = BPF_CORE_READ(sk, __sk_common.skc_num);
	r->rport = __builtin_bswap16(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (family == AF_INET_) {
		*(u32 *)r->laddr = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		*(u32 *)r->raddr = BPF_CORE_READ(sk, __sk_common.skc_daddr);
	} else {
		bpf_probe_read_kernel(
			r->laddr, 16,
			(void *)sk +
				bpf_core_field_offset(struct sock, __sk_common.skc_v6_rcv_saddr));
		bpf_probe_read_kernel(
			r->raddr, 16,
			(void *)sk + bpf_core_field_offset(struct sock, __sk_common.skc_v6_daddr));
	}
	if (kind == REC_CONNECT && (!r->rport || ret < 0)) {
		if (a.family == AF_INET_) {
			r->family = AF_INET_;
			__builtin_memset(r->raddr, 0, 16);
			*(u32 *)r->raddr = ((struct sockaddr_in_ *)&a)->addr;
		} else if (a.family == AF_INET6_) {
			r->family = AF_INET6_;
			__builtin_memcpy(r->raddr, a.addr, 16);
		}
		r->rport = __builtin_bswap16(a.port);
	}
	if (kind == REC_BIND && ret < 0) {
		if (a.family == AF_INET_)
			*(u32 *)r->laddr = ((struct sockaddr_in_ *)&a)->addr;
		else
			__builtin_memcpy(r->laddr, a.addr, 16);
		r->lport = __builtin_bswap16(a.port);
	}
	return send_bulk(s, kind, why);
}

static __always_inline bool net_wanted(u32 kind)
{
	struct plan_data *p = the_plan();

	return p && p->mode[kind] != PLAN_OFF;
}

#endif
