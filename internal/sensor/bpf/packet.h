/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Packets at the root control group: what a program there may know of a
 * packet, and which process it belongs to. Programs that include this let
 * every packet pass and change none.
 */
#ifndef CLEW_PACKET_H
#define CLEW_PACKET_H

#include "filter.h"
#include "path.h"
#include <bpf/bpf_endian.h>

#define PASS 1

#define ETH_P_IP_ 0x0800
#define ETH_P_IPV6_ 0x86dd
#define IPPROTO_TCP_ 6
#define IPPROTO_UDP_ 17
#define TCP_LISTEN_ 10
#define TCP_FLAG_SYN 0x02

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	struct net *net;
} possible_net_t;
struct net_device {
	char name[16];
	possible_net_t nd_net;
};
struct sk_buff {
	struct net_device *dev;
};
struct socket___file {
	struct file *file;
};
struct sock___socket {
	struct socket___file *sk_socket;
};

#pragma clang attribute pop

/* The headers of a packet, as far as anybody here needs them. */
struct view {
	u32 at; /* where the transport header begins */
	u16 sport;
	u16 dport;
	u8 family;
	u8 l4;
	u8 pad[2];
	u8 saddr[16];
	u8 daddr[16];
};

struct ip4_ports {
	u8 version_ihl;
	u8 tos;
	u16 len;
	u16 id;
	u16 frag;
	u8 ttl;
	u8 protocol;
	u16 check;
	u32 saddr;
	u32 daddr;
	u16 sport;
	u16 dport;
};
struct ip6 {
	u32 flow;
	u16 len;
	u8 next;
	u8 hops;
	u8 saddr[16];
	u8 daddr[16];
};

/*
 * Reads a TCP or UDP packet's headers; false for any other, and for all but
 * the first fragment of one. Packets begin with their network header here.
 */
static __always_inline bool see(struct __sk_buff *skb, struct view *v)
{
	u16 ports[2];
	int i;

	if (skb->protocol == bpf_htons(ETH_P_IP_)) {
		struct ip4_ports h;

		if (bpf_skb_load_bytes(skb, 0, &h, sizeof(h)))
			return false;
		if (h.protocol != IPPROTO_TCP_ && h.protocol != IPPROTO_UDP_)
			return false;
		if (h.frag & bpf_htons(0x1fff))
			return false;
		v->family = AF_INET_;
		v->l4 = h.protocol;
		v->at = (h.version_ihl & 15) * 4;
		v->sport = bpf_ntohs(h.sport);
		v->dport = bpf_ntohs(h.dport);
		if (v->at != 20) {
			if (bpf_skb_load_bytes(skb, v->at, ports, sizeof(ports)))
				return false;
			v->sport = bpf_ntohs(ports[0]);
			v->dport = bpf_ntohs(ports[1]);
		}
		*(u32 *)v->saddr = h.saddr;
		*(u32 *)v->daddr = h.daddr;
		return true;
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6_)) {
		struct ip6 h;
		u32 at = sizeof(h);
		u8 next;

		if (bpf_skb_load_bytes(skb, 0, &h, sizeof(h)))
			return false;
		next = h.next;
		for (i = 0; i < 6; i++) {
			u8 ext[4];

			if (next == IPPROTO_TCP_ || next == IPPROTO_UDP_)
				break;
			/* hop by hop, routing, fragment, destination options */
			if (next != 0 && next != 43 && next != 44 && next != 60)
				return false;
			if (bpf_skb_load_bytes(skb, at, ext, sizeof(ext)))
				return false;
			if (next == 44) {
				if (((u16)ext[2] << 8 | ext[3]) & 0xfff8)
					return false;
				at += 8;
			} else {
				at += 8 + (u32)ext[1] * 8;
			}
			next = ext[0];
		}
		if (i == 6)
			return false;
		if (bpf_skb_load_bytes(skb, at, ports, sizeof(ports)))
			return false;
		v->family = AF_INET6_;
		v->l4 = next;
		v->at = at;
		v->sport = bpf_ntohs(ports[0]);
		v->dport = bpf_ntohs(ports[1]);
		__builtin_memcpy(v->saddr, h.saddr, 16);
		__builtin_memcpy(v->daddr, h.daddr, 16);
		return true;
	}
	return false;
}

/*
 * A pointer of the context as a number: programs of this type may not read
 * through it, but may have memory read that lies where it points.
 */
static __always_inline u64 address_of(void *p)
{
	void *kept = p;
	u64 v = 0;

	asm volatile("" : : "r"(&kept) : "memory");
	bpf_probe_read_kernel(&v, sizeof(v), &kept);
	return v;
}

#define FD_CHUNK 512
#define FD_CHUNKS 4
#define FD_ROOM 16384 /* where in the scratch buffer descriptors are looked through */

/*
 * Whether a file is among the descriptors of the current task, the first 2048
 * of them. Packets are also sent by whoever an interrupt found on the CPU, so
 * only a holder of the socket is believed to have sent one. Without a branch
 * in the inner loop, the verifier need not follow both ways of thousands.
 */
SUBPROG int holds(struct scratch *s, u64 file)
{
	struct task_struct *t = current_task();
	struct fdtable *fdt = t->files->fdt;
	u32 max = fdt->max_fds, i, k;
	u64 fds = (u64)fdt->fd, n, x, others;

	if (!s || !file || !fds)
		return 0;
	for (i = 0; i < FD_CHUNKS; i++) {
		if (i * FD_CHUNK >= max)
			return 0;
		n = max - i * FD_CHUNK;
		if (n > FD_CHUNK)
			n = FD_CHUNK;
		asm volatile("%0 &= 0x3ff" : "+r"(n));
		/* a read that fails leaves zeros */
		bpf_probe_read_kernel(s->buf + FD_ROOM, FD_CHUNK * 8, NULL);
		if (bpf_probe_read_kernel(s->buf + FD_ROOM, n * 8,
					  (void *)(fds + (u64)i * FD_CHUNK * 8)))
			return 0;
		others = 1;
#pragma unroll 16
		for (k = 0; k < FD_CHUNK; k++) {
			x = *(volatile u64 *)(s->buf + FD_ROOM + k * 8) ^ file;
			others &= (x | -x) >> 63; /* 0 where x is 0 */
		}
		if (!others)
			return 1;
	}
	return 0;
}

/* The file of a packet's socket; 0 when nobody holds it any more. */
static __always_inline u64 socket_file(struct __sk_buff *skb)
{
	struct sock___socket *sk;
	struct bpf_sock *b = skb->sk;

	if (!b)
		return 0;
	sk = (void *)address_of(b);
	return (u64)BPF_CORE_READ(sk, sk_socket, file);
}

static __always_inline void see_device(struct __sk_buff *skb, char *name, u32 *netns)
{
	struct sk_buff *raw = (void *)address_of(skb);
	struct net_device *dev = BPF_CORE_READ(raw, dev);

	if (!dev)
		return;
	bpf_probe_read_kernel_str(name, 16,
				  (void *)dev + bpf_core_field_offset(struct net_device, name));
	*netns = BPF_CORE_READ(dev, nd_net.net, ns.inum);
}

/*
 * Adds one to a fate. A packet may interrupt a program of the same kind on the
 * same CPU, which a plain addition would forget.
 */
static __always_inline int tally(u32 kind, enum fate f)
{
	u32 zero = 0;
	struct fate_counts *c = bpf_map_lookup_elem(&counters, &zero);

	if (c && kind < REC_KINDS)
		__sync_fetch_and_add(&c->n[kind][f], 1);
	return 0;
}

#endif
