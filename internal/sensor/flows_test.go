//go:build linux && (amd64 || arm64)

package sensor

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
)

// TestFlows sends over TCP and UDP and adds up what is told of it.
func TestFlows(t *testing.T) {
	if unsafe.Sizeof(flowFlow{}.Owner) != unsafe.Sizeof(procRecHdr{}) {
		t.Fatal("a flow's owner is no header of a record")
	}
	var p kfilter.Plan
	p.Kinds[event.KindNetworkFlowMonitor].Mode = kfilter.All
	w := startWatch(t, Config{Plan: p, NotSelf: true, FlowInterval: 100 * time.Millisecond})
	inNet(t, t, func(netns uint32) {
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		const size = 1 << 20
		go c.Write(make([]byte, size))
		if _, err := io.CopyN(io.Discard, s, size); err != nil {
			t.Fatal(err)
		}
		local, peer := c.LocalAddr().(*net.TCPAddr).AddrPort(), l.Addr().(*net.TCPAddr).AddrPort()
		// There are two flows: the client's and the server's, mirror images.
		for _, x := range []struct {
			what         string
			source, dest netip.AddrPort
			client       bool
		}{{"client", local, peer, true}, {"server", peer, local, false}} {
			var sent, received, rtt uint64
			w.event(event.KindNetworkFlowMonitor, func(e *event.Event) bool {
				m := e.NetworkFlowMonitor
				if m.DeviceNetns != netns {
					return false
				}
				checkActor(t, e)
				if m.DeviceIfname != "lo" {
					t.Errorf("device %q", m.DeviceIfname)
				}
				for _, f := range m.Flows {
					if netip.AddrPortFrom(f.Source.IP, uint16(f.Source.Port)) != x.source || netip.AddrPortFrom(f.Destination.IP, uint16(f.Destination.Port)) != x.dest {
						continue
					}
					if f.L3Protocol != ethIPv4 || f.L4Protocol != unix.IPPROTO_TCP || f.StartNS == 0 {
						t.Errorf("%+v", f)
					}
					sent, received, rtt = sent+f.EgressDataSize, received+f.IngressDataSize, max(rtt, f.RTTUS)
				}
				if x.client {
					return sent >= size && received > 0 && rtt > 0
				}
				return received >= size && sent > 0
			})
			if got := max(sent, received); got > size+size/4 {
				t.Errorf("%s: %d bytes of %d", x.what, got, size)
			}
		}

		u, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		to := netip.MustParseAddrPort("127.0.0.1:9")
		for range 3 {
			u.WriteToUDPAddrPort(make([]byte, 100), to) // refused; sent all the same
		}
		var packets, bytes uint64
		w.event(event.KindNetworkFlowMonitor, func(e *event.Event) bool {
			for _, f := range e.NetworkFlowMonitor.Flows {
				if e.NetworkFlowMonitor.DeviceNetns == netns && f.Destination.Port == 9 && f.L4Protocol == unix.IPPROTO_UDP {
					packets, bytes = packets+f.EgressPacketCount, bytes+f.EgressDataSize
				}
			}
			return packets == 3 && bytes == 3*128
		})
	})
	w.stop()
	st, err := w.s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, st)
}
