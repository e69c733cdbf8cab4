//go:build linux && (amd64 || arm64)

package sensor

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/clewsec/clew/internal/event"
)

const (
	// flowInterval is how often flows are told, unless Config says otherwise.
	flowInterval = 10 * time.Second
	// flowIdle is after how many looks without a packet a flow is forgotten.
	flowIdle = 6
	// maxFlows bounds the flows of one event; a process with more has several.
	maxFlows = 128
)

// A flowMeter turns the kernel's counts into what was sent and received since
// the last look.
type flowMeter struct {
	every time.Duration
	next  time.Time
	seen  map[flowFlowKey]*flowState
	round uint64
}

type flowState struct {
	last  flowFlow
	idle  int
	round uint64
}

// A flowGroup is what one event tells: flows of a process by a device.
type flowGroup struct {
	pid    uint32
	start  uint64
	owned  uint8
	netns  uint32
	ifname string
}

func newFlowMeter(every time.Duration) *flowMeter {
	if every <= 0 {
		every = flowInterval
	}
	return &flowMeter{every: every, next: time.Now().Add(every), seen: make(map[flowFlowKey]*flowState)}
}

// due tells whether it is time to look.
func (f *flowMeter) due(now time.Time) bool {
	if now.Before(f.next) {
		return false
	}
	f.next = now.Add(f.every)
	return true
}

// read looks at all flows and returns what happened to them, in a fixed order.
func (f *flowMeter) read(m *ebpf.Map, d *decoder, at uint64) ([]*event.Event, error) {
	f.round++
	var (
		key   flowFlowKey
		flow  flowFlow
		stale []flowFlowKey
	)
	groups := make(map[flowGroup][]event.Flow)
	owners := make(map[flowGroup]flowFlow)
	it := m.Iterate()
	for it.Next(&key, &flow) {
		s := f.seen[key]
		if s == nil || s.last.First != flow.First {
			s = new(flowState)
			f.seen[key] = s
		} else if s.round == f.round {
			continue // an iteration may meet an entry twice
		}
		s.round = f.round
		before := s.last
		s.last = flow
		if flow.InPackets == before.InPackets && flow.OutPackets == before.OutPackets {
			if s.idle++; s.idle >= flowIdle {
				stale = append(stale, key)
			}
			continue
		}
		s.idle = 0
		if flow.Owned == uint8(flowFlowOwnerFLOW_SELF) {
			continue
		}
		g := flowGroup{owned: flow.Owned, netns: flow.Netns, ifname: d.same(cstrBytes(flow.Ifname[:]))}
		if flow.Owned != 0 {
			g.pid, g.start = flow.Owner.Tgid, flow.Owner.Start
		}
		groups[g] = append(groups[g], flowOf(&key, &flow, &before))
		owners[g] = flow
	}
	// Entries that come and go meanwhile may end an iteration early; the rest
	// is met the next time.
	err := it.Err()
	whole := err == nil
	if err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return nil, fmt.Errorf("read flows: %w", err)
	}
	for _, key := range stale {
		if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, fmt.Errorf("delete flow: %w", err)
		}
		delete(f.seen, key)
	}
	for key, s := range f.seen {
		if whole && s.round != f.round {
			delete(f.seen, key)
		}
	}
	return flowEvents(groups, owners, d, at), nil
}

func flowEvents(groups map[flowGroup][]event.Flow, owners map[flowGroup]flowFlow, d *decoder, at uint64) (out []*event.Event) {
	order := make([]flowGroup, 0, len(groups))
	for g := range groups {
		order = append(order, g)
	}
	slices.SortFunc(order, func(a, b flowGroup) int {
		return cmp.Or(cmp.Compare(a.pid, b.pid), cmp.Compare(a.start, b.start), cmp.Compare(a.owned, b.owned),
			cmp.Compare(a.netns, b.netns), cmp.Compare(a.ifname, b.ifname))
	})
	for _, g := range order {
		flows := groups[g]
		slices.SortFunc(flows, func(a, b event.Flow) int {
			return cmp.Or(cmp.Compare(a.StartNS, b.StartNS), cmp.Compare(a.Source.Port, b.Source.Port),
				a.Destination.IP.Compare(b.Destination.IP), cmp.Compare(a.Destination.Port, b.Destination.Port))
		})
		flow := owners[g]
		h := *(*procRecHdr)(unsafe.Pointer(&flow.Owner)) // the same struct by another name
		h.Ts = at
		for part := range slices.Chunk(flows, maxFlows) {
			ev := d.event(event.KindNetworkFlowMonitor, &h)
			if g.owned == 0 {
				ev.Flags |= event.FlagNoProcess
			}
			ev.NetworkFlowMonitor = &event.NetworkFlowMonitor{
				DeviceIfname: g.ifname, DeviceNetns: g.netns, Flows: slices.Clone(part),
			}
			out = append(out, ev)
		}
	}
	return out
}

func flowOf(k *flowFlowKey, now, before *flowFlow) event.Flow {
	f := event.Flow{
		Source: endpoint(uint16(k.Family), &now.Laddr, now.Lport), Destination: endpoint(uint16(k.Family), &k.Raddr, k.Rport),
		L3Protocol: ethIPv4, L4Protocol: int64(k.L4),
		IngressDataSize: now.InBytes - before.InBytes, IngressPacketCount: now.InPackets - before.InPackets,
		EgressDataSize: now.OutBytes - before.OutBytes, EgressPacketCount: now.OutPackets - before.OutPackets,
		RTTUS: uint64(now.Srtt / 8), StartNS: now.First,
	}
	if now.Retransmits > before.Retransmits {
		f.Retransmits = uint64(now.Retransmits - before.Retransmits)
	}
	if k.Family == afInet6 {
		f.L3Protocol = ethIPv6
	}
	return f
}

// flows puts what was counted into what goes to the sink next.
func (st *stream) flows(k *kernel) error {
	if k.maps[flowMapFlows] == nil {
		return nil // not built for this kernel
	}
	at := bootNS()
	events, err := st.meter.read(k.maps[flowMapFlows], st.dec, at)
	if err != nil {
		return fmt.Errorf("sensor: %w", err)
	}
	for _, ev := range events {
		st.pending = append(st.pending, record{ts: at, kind: procRecKindREC_FLOWS, ev: ev, again: true})
	}
	return nil
}
