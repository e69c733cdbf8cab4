// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Name look-ups and the cloud's metadata service, by programs on the root
 * control group: they see the packets of every socket in it, in every network
 * namespace, with the socket at hand. Only the client's side is reported:
 * packets to a name server's port as they leave, and from it as they come.
 *
 * Who asked is whoever holds the socket and was running when the packet left.
 * An answer belongs to whoever asked with that id on that socket; if nobody
 * did, to nobody.
 *
 * Not seen: packets made by hand below the socket layer (AF_PACKET, XDP), names
 * asked over TLS or HTTPS. Costs some tens of nanoseconds for each packet.
 */
#include "packet.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Bytes of a packet's payload that are kept: what fits into the least IPv6 packet. */
#define PAYLOAD_MAX 1232

/* rec_packet.flags */
enum rec_packet_flag {
	RK_EGRESS = 1,
	RK_OWNED = 2, /* the header says whose packet it is */
};

struct rec_packet {
	struct rec_hdr hdr; /* nobody's when not RK_OWNED: zero but for the time */
	u64 cookie; /* of the socket */
	u32 seq; /* TCP: number of the payload's first byte */
	u32 length; /* of the payload, of which less may be kept */
	u32 size; /* of the packet, from its network header on */
	u32 netns; /* of the device */
	u16 family;
	u16 sport;
	u16 dport;
	u8 l4;
	u8 flags;
	struct rec_str payload;
	u32 pad;
	u8 saddr[16];
	u8 daddr[16];
	char ifname[16];
};
_Static_assert(sizeof(struct rec_packet) == 200, "rec_packet");

/*
 * Who asked, by socket and query: id is that of a query over UDP, or ANY_QUERY
 * for a TCP connection. Filled as queries leave, emptied by their answers; the
 * oldest go first.
 */
#define ANY_QUERY 0x10000
struct asker_key {
	u64 cookie;
	u32 id;
	u32 pad;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct asker_key);
	__type(value, struct rec_hdr);
} askers SEC(".maps");

/* Names the record and its flags in BTF. */
union packet_any {
	struct rec_packet packet;
	enum rec_packet_flag flag;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, union packet_any);
} packet_types SEC(".maps");

/* Ports of name servers; 0 is none. */
volatile const u16 cfg_dns_ports[4] = {53, 0, 0, 0};

static __always_inline bool is_dns(u16 port)
{
	return port && (port == cfg_dns_ports[0] || port == cfg_dns_ports[1] ||
			port == cfg_dns_ports[2] || port == cfg_dns_ports[3]);
}

/* 169.254.169.254 and fd00:ec2::254, TCP port 80. */
static __always_inline bool is_imds(struct view *v, bool out)
{
	u8 *a = out ? v->daddr : v->saddr;
	u16 port = out ? v->dport : v->sport;

	if (v->l4 != IPPROTO_TCP_ || port != 80)
		return false;
	if (v->family == AF_INET_)
		return *(u32 *)a == bpf_htonl(0xa9fea9fe);
	return *(u32 *)a == bpf_htonl(0xfd000ec2) && !*(u32 *)(a + 4) && !*(u32 *)(a + 8) &&
	       *(u32 *)(a + 12) == bpf_htonl(0x254);
}

/* Puts a packet on the ring; s holds a record without a payload. */
static __always_inline int post(struct __sk_buff *skb, struct scratch *s, u32 kind, u32 from,
				u64 length)
{
	struct rec_packet *r = (void *)s->buf;
	enum fate f = FATE_SENT;
	u64 n = length;

	if (n > PAYLOAD_MAX)
		n = PAYLOAD_MAX;
	/* from 1 to 2048, as the verifier of any age can tell; length is not 0 */
	n--;
	asm volatile("%0 &= 0x7ff" : "+r"(n));
	n++;
	if (bpf_skb_load_bytes(skb, from, s->buf + sizeof(*r), n)) {
		give(s);
		return tally(kind, FATE_TOO_BIG);
	}
	r->payload.off = sizeof(*r);
	r->payload.len = n;
	n = (sizeof(*r) + n + 7) & ~7ULL;
	r->hdr.kind = kind;
	r->hdr.size = n;
	asm volatile("" : "+r"(n));
	if (n > sizeof(*r) + PAYLOAD_MAX)
		f = FATE_TOO_BIG;
	else if (bpf_ringbuf_output(&bulk, s->buf, n, wakeup(&bulk)))
		f = FATE_RING_FULL;
	give(s);
	return tally(kind, f);
}

static __noinline int report(struct __sk_buff *skb, struct view *v, u32 kind, bool out)
{
	struct asker_key key = {.id = ANY_QUERY};
	u32 from = v->at + 8, seq = 0, length = 0;
	struct task_struct *t;
	struct rec_packet *r;
	struct plan_data *p;
	struct rec_hdr *who;
	struct scratch *s;
	bool syn = false;
	u16 id;

	if (v->l4 == IPPROTO_TCP_) {
		u8 tcp[16];

		if (bpf_skb_load_bytes(skb, v->at, tcp, sizeof(tcp)))
			return 0;
		from = v->at + (tcp[12] >> 4) * 4;
		seq = (u32)tcp[4] << 24 | (u32)tcp[5] << 16 | (u32)tcp[6] << 8 | tcp[7];
		syn = tcp[13] & TCP_FLAG_SYN;
		seq += syn;
	}
	if (skb->len > from)
		length = skb->len - from;
	/* a connection's first packet leaves in connect(2), and tells who called it */
	if (!length && !(syn && out))
		return 0;
	if (length)
		tally(kind, FATE_SEEN);
	p = the_plan();
	if (!p || p->mode[kind & (REC_KINDS - 1)] == PLAN_OFF)
		return length ? tally(kind, FATE_FILTERED) : 0;
	if (v->l4 == IPPROTO_UDP_) {
		if (length < 2 || bpf_skb_load_bytes(skb, from, &id, sizeof(id)))
			return tally(kind, FATE_RESULT);
		key.id = id;
	}
	t = current_task();
	s = take(t->pid);
	if (!s)
		return length ? tally(kind, FATE_SCRATCH_BUSY) : 0;
	r = (void *)s->buf;
	__builtin_memset(r, 0, sizeof(*r));
	key.cookie = bpf_get_socket_cookie(skb);
	if (out && holds(s, socket_file(skb))) {
		fill_hdr(&r->hdr, t);
		r->flags = RK_OWNED;
		bpf_map_update_elem(&askers, &key, &r->hdr, BPF_ANY);
	} else {
		who = bpf_map_lookup_elem(&askers, &key);
		if (who) {
			r->hdr = *who;
			r->flags = RK_OWNED;
			if (!out && key.id != ANY_QUERY)
				bpf_map_delete_elem(&askers, &key);
		}
		r->hdr.ts = bpf_ktime_get_boot_ns();
		r->hdr.cpu = bpf_get_smp_processor_id();
	}
	if (!length) {
		give(s);
		return 0;
	}
	if (is_self(r->hdr.tgid)) {
		give(s);
		return tally(kind, FATE_SELF);
	}
	if (out)
		r->flags |= RK_EGRESS;
	r->cookie = key.cookie;
	r->seq = seq;
	r->length = length;
	r->size = skb->len;
	r->family = v->family;
	r->l4 = v->l4;
	r->sport = v->sport;
	r->dport = v->dport;
	__builtin_memcpy(r->saddr, v->saddr, 16);
	__builtin_memcpy(r->daddr, v->daddr, 16);
	see_device(skb, r->ifname, &r->netns);
	return post(skb, s, kind, from, length);
}

/*
 * Whether a packet is plainly none of those: TCP or UDP right behind its
 * network header, and of other ports. Most packets get no further.
 */
static __always_inline bool other(struct __sk_buff *skb, bool out)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	u16 *ports, port;

	if (skb->protocol == bpf_htons(ETH_P_IP_)) {
		struct ip4_ports *h = data;

		if ((void *)(h + 1) > end || h->version_ihl != 0x45)
			return false;
		ports = &h->sport;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6_)) {
		struct ip6 *h = data;

		ports = (void *)(h + 1);
		if ((void *)(ports + 2) > end ||
		    (h->next != IPPROTO_TCP_ && h->next != IPPROTO_UDP_))
			return false;
	} else {
		return true;
	}
	port = bpf_ntohs(ports[out]);
	return port != 80 && !is_dns(port);
}

static __always_inline int observe(struct __sk_buff *skb, bool out)
{
	struct view v = {};

	if (other(skb, out) || !see(skb, &v))
		return PASS;
	if (is_dns(out ? v.dport : v.sport))
		report(skb, &v, REC_DNS, out);
	else if (is_imds(&v, out))
		report(skb, &v, REC_IMDS, out);
	return PASS;
}

/* Since v4.10. Before a packet is cut into fragments. */
SEC("cgroup_skb/egress")
int packet_egress(struct __sk_buff *skb)
{
	return observe(skb, true);
}

/* Since v4.10. After fragments are one packet again, before the socket has it. */
SEC("cgroup_skb/ingress")
int packet_ingress(struct __sk_buff *skb)
{
	return observe(skb, false);
}
