// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Bytes and packets by socket and far end, counted where packets leave and
 * come, on the root control group. The agent reads the counts from time to
 * time. A flow belongs to the process that held its socket and was running
 * when a packet of it left; nobody's if that was not seen.
 *
 * Not seen: protocols other than TCP and UDP, packets made below the socket
 * layer. Bytes are those of IP packets, headers included. Costs a look-up for
 * each packet of the host, so it is attached only where a rule asks for flows.
 */
#include "packet.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* A fate beside those of drop.h: there was no room to count a packet. */
enum flow_fate { FATE_TABLE_FULL = 11 };

#define OWNER_TRIES 4

struct flow_key {
	u64 cookie; /* of the socket */
	u16 rport;
	u8 family;
	u8 l4;
	u32 pad;
	u8 raddr[16];
};

enum flow_owner { FLOW_NOBODY = 0, FLOW_OWNED = 1, FLOW_SELF = 2 };

struct flow {
	struct rec_hdr owner;
	u64 in_bytes;
	u64 in_packets;
	u64 out_bytes;
	u64 out_packets;
	u64 first; /* boot time, ns */
	u32 retransmits;
	u32 srtt; /* eighths of a microsecond */
	u32 netns;
	u16 lport;
	u8 owned; /* enum flow_owner */
	u8 tries; /* how often the owner was looked for */
	u8 laddr[16];
	char ifname[16];
};
_Static_assert(sizeof(struct flow) == 200, "flow");

/* Filled by packets, read and emptied by the agent. A packet that finds it full is counted. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps");

/* Names the numbers in BTF. */
union flow_any {
	enum flow_owner owner;
	enum flow_fate fate;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, union flow_any);
} flow_types SEC(".maps");

static __noinline int own(struct __sk_buff *skb, struct flow *f)
{
	struct task_struct *t = current_task();
	struct scratch *s = take(t->pid);

	f->tries++;
	if (!s)
		return 0;
	if (holds(s, socket_file(skb))) {
		fill_hdr(&f->owner, t);
		f->owned = is_self(t->tgid) ? FLOW_SELF : FLOW_OWNED;
	}
	give(s);
	return 0;
}

static __always_inline int count(struct __sk_buff *skb, bool out)
{
	static const struct flow empty;
	struct flow_key key = {};
	struct plan_data *p = the_plan();
	struct bpf_sock *sk = skb->sk;
	struct bpf_tcp_sock *tcp;
	struct view v = {};
	struct flow *f;

	if (!sk || !p || p->mode[REC_FLOWS] == PLAN_OFF || !see(skb, &v))
		return PASS;
	/* packets that make a connection come to the socket that listens */
	if (v.l4 == IPPROTO_TCP_ && sk->state == TCP_LISTEN_)
		return PASS;
	key.cookie = bpf_get_socket_cookie(skb);
	key.family = v.family;
	key.l4 = v.l4;
	key.rport = out ? v.dport : v.sport;
	__builtin_memcpy(key.raddr, out ? v.daddr : v.saddr, 16);
	f = bpf_map_lookup_elem(&flows, &key);
	if (!f) {
		bpf_map_update_elem(&flows, &key, &empty, BPF_NOEXIST);
		f = bpf_map_lookup_elem(&flows, &key);
		if (!f) {
			tally(REC_FLOWS, FATE_SEEN);
			tally(REC_FLOWS, (enum fate)FATE_TABLE_FULL);
			return PASS;
		}
		f->first = bpf_ktime_get_boot_ns();
		f->lport = out ? v.sport : v.dport;
		__builtin_memcpy(f->laddr, out ? v.saddr : v.daddr, 16);
		see_device(skb, f->ifname, &f->netns);
	}
	if (out) {
		__sync_fetch_and_add(&f->out_bytes, skb->len);
		__sync_fetch_and_add(&f->out_packets, 1);
		if (f->owned == FLOW_NOBODY && f->tries < OWNER_TRIES)
			own(skb, f);
	} else {
		__sync_fetch_and_add(&f->in_bytes, skb->len);
		__sync_fetch_and_add(&f->in_packets, 1);
	}
	if (v.l4 != IPPROTO_TCP_)
		return PASS;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return PASS;
	tcp = bpf_tcp_sock(sk);
	if (tcp) {
		f->retransmits = tcp->total_retrans;
		f->srtt = tcp->srtt_us;
	}
	return PASS;
}

SEC("cgroup_skb/egress")
int flow_egress(struct __sk_buff *skb)
{
	return count(skb, true);
}

SEC("cgroup_skb/ingress")
int flow_ingress(struct __sk_buff *skb)
{
	return count(skb, false);
}
