//go:build linux && (amd64 || arm64)

package sensor

import (
	"net/netip"

	"github.com/clewsec/clew/internal/event"
)

// Values of the rule language's constants.
const (
	directionEgress  = 1
	directionIngress = 2
	ethIPv4          = 0x0800
	ethIPv6          = 0x86dd
	protoTCP         = 6
)

// maxAnswers bounds the addresses of one event.
const maxAnswers = 64

// imdsMemory bounds the connections to a metadata service of which the
// request is remembered until its answer comes.
const imdsMemory = 64

// packets is what the decoder remembers between packets.
type packets struct {
	dns  tcpStreams
	imds map[uint64]imdsRequest
}

// An imdsRequest is what an answer does not say itself.
type imdsRequest struct {
	provider string
	token    bool
}

func (d *decoder) headers(r *packetRecPacket) event.Headers {
	h := event.Headers{
		DeviceIfname: d.same(cstrBytes(r.Ifname[:])), DeviceNetns: r.Netns, L3Protocol: ethIPv4, L4Protocol: int64(r.L4),
		NetworkDirection: directionIngress, Size: int64(r.Size),
		Source: endpoint(r.Family, &r.Saddr, r.Sport), Destination: endpoint(r.Family, &r.Daddr, r.Dport),
	}
	if r.Family == afInet6 {
		h.L3Protocol = ethIPv6
	}
	if r.Flags&uint8(packetRecPacketFlagRK_EGRESS) != 0 {
		h.NetworkDirection = directionEgress
	}
	return h
}

// endpoint is an address as the packet has it.
func endpoint(family uint16, raw *[16]uint8, port uint16) event.Address {
	a := event.Address{Family: int64(family), Port: uint32(port)}
	if family == afInet6 {
		a.IP = netip.AddrFrom16(*raw)
	} else {
		a.IP = netip.AddrFrom4([4]byte(raw[:4]))
	}
	return a
}

// dns makes events of a packet from or to a name server: none of one that only
// begins a message, or is none; several of one in which several end.
func (d *decoder) dns(rec *record, b []byte) bool {
	h, r, payload, ok := packetOf(b)
	if !ok {
		return false
	}
	events := 0
	message := func(b []byte) {
		ev := d.dnsEvent(h, r, b)
		if ev == nil {
			rec.unparsed++
			return
		}
		if events++; events == 1 {
			rec.ev = ev
			return
		}
		rec.more = append(rec.more, ev)
	}
	if r.L4 == protoTCP {
		key := tcpKey{r.Cookie, r.Flags&uint8(packetRecPacketFlagRK_EGRESS) != 0}
		d.packets.dns.segment(key, r.Seq, payload, int(r.Length), message)
	} else {
		message(payload)
	}
	rec.part = events == 0
	return true
}

func packetOf(b []byte) (*procRecHdr, *packetRecPacket, []byte, bool) {
	h, ok := fill[procRecHdr](b)
	r, ok2 := fill[packetRecPacket](b)
	if !ok || !ok2 {
		return nil, nil, nil, false
	}
	return h, r, str(b, procRecStr{Off: r.Payload.Off, Len: r.Payload.Len}), true
}

// dnsEvent makes an event of a message; nil if it is none, or goes the wrong
// way: an answer on its way to a name server.
func (d *decoder) dnsEvent(h *procRecHdr, r *packetRecPacket, b []byte) *event.Event {
	m, ok := parseDNS(b)
	if !ok || m.response == (r.Flags&uint8(packetRecPacketFlagRK_EGRESS) != 0) {
		return nil
	}
	if m.response && m.code != 0 && r.Flags&uint8(packetRecPacketFlagRK_OWNED) == 0 {
		ev := d.packetEvent(event.KindFailedDNS, h, r)
		ev.FailedDNS = &event.FailedDNS{Network: d.headers(r), Code: int64(m.code)}
		return ev
	}
	ev := d.packetEvent(event.KindDNS, h, r)
	ev.DNS = &event.DNS{
		ID: int64(m.id), QuestionName: d.same([]byte(m.name)), QuestionType: int64(m.qtype), QuestionClass: int64(m.qclass),
		QuestionSize: int64(m.qsize), QuestionCount: int64(m.questions), ResponseCode: int64(m.code), IsResponse: m.response,
		Network: d.headers(r),
	}
	for i, a := range m.addresses {
		if i == maxAnswers {
			break
		}
		ev.DNS.Addresses = append(ev.DNS.Addresses, a.String())
	}
	return ev
}

// packetEvent is an event of a packet; one that nobody is known to have sent
// or asked for has no process, and says so.
func (d *decoder) packetEvent(kind event.Kind, h *procRecHdr, r *packetRecPacket) *event.Event {
	ev := d.event(kind, h)
	if r.Flags&uint8(packetRecPacketFlagRK_OWNED) == 0 {
		ev.Flags |= event.FlagNoProcess
	}
	return ev
}

// imds makes an event of a packet from or to a metadata service that begins an
// HTTP message. Heads that do not lie in one packet are read as far as they do.
func (d *decoder) imds(rec *record, b []byte) bool {
	h, r, payload, ok := packetOf(b)
	if !ok {
		return false
	}
	m, ok := parseIMDS(payload)
	if !ok || m.response == (r.Flags&uint8(packetRecPacketFlagRK_EGRESS) != 0) {
		rec.part = true
		return true
	}
	ev := d.packetEvent(event.KindIMDS, h, r)
	ev.IMDS = &event.IMDS{
		Type: "request", CloudProvider: m.provider, URL: m.url, Host: m.host, UserAgent: m.userAgent, Server: m.server,
		AWSIsIMDSv2: m.token, AWSCredentialsType: m.credential, Network: d.headers(r),
	}
	if m.response {
		ev.IMDS.Type = "response"
		if asked, ok := d.packets.imds[r.Cookie]; ok {
			if ev.IMDS.CloudProvider == "" {
				ev.IMDS.CloudProvider = asked.provider
			}
			ev.IMDS.AWSIsIMDSv2 = asked.token
		}
	} else {
		if d.packets.imds == nil || len(d.packets.imds) >= imdsMemory {
			d.packets.imds = make(map[uint64]imdsRequest)
		}
		d.packets.imds[r.Cookie] = imdsRequest{m.provider, m.token}
	}
	rec.ev = ev
	return true
}
