package dnscache

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/clewsec/clew/internal/event"
)

var one, two = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")

func TestNames(t *testing.T) {
	c := New()
	c.Learn(1, one, "Www.Example.org", 0)
	c.Learn(1, one, "cdn.example.org", 10)
	c.Learn(2, one, "elsewhere.example", 20)
	c.Learn(1, one, "www.example.ORG", 30)
	c.Learn(0, one, "nowhere.example", 30)
	c.Learn(1, netip.Addr{}, "invalid.example", 30)
	c.Learn(1, netip.MustParseAddr("::ffff:192.0.2.2"), "mapped.example", 30)
	for _, x := range []struct {
		netns uint32
		addr  netip.Addr
		at    int64
		want  []string
	}{
		{1, one, 40, []string{"www.example.org", "cdn.example.org"}},
		{2, one, 40, []string{"elsewhere.example"}},
		{0, one, 40, nil},
		{3, one, 40, nil},
		{1, two, 40, []string{"mapped.example"}},
		{1, netip.Addr{}, 40, nil},
		{1, one, int64(Life) + 15, []string{"www.example.org"}},
		{1, one, int64(Life) + 31, nil},
	} {
		if got := c.Names(x.netns, x.addr, x.at); !slices.Equal(got, x.want) {
			t.Errorf("%d %s at %s: %v, want %v", x.netns, x.addr, time.Duration(x.at), got, x.want)
		}
	}
	if c.Len() != 2 {
		t.Errorf("%d addresses, want 2: one of the three is too old", c.Len())
	}
}

func TestBounds(t *testing.T) {
	c := New()
	for i := range 100 {
		c.Learn(1, one, fmt.Sprintf("n%d.example", i), int64(i))
	}
	if got := c.Names(1, one, 100); len(got) != MaxNames || got[0] != "n99.example" {
		t.Errorf("%v", got)
	}
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	for i := range 2 * MaxAddresses {
		c.Learn(1, at(i), "x.example", 100)
		c.Names(1, one, 100) // of use all the time
	}
	if c.Len() != MaxAddresses {
		t.Errorf("%d addresses, want %d", c.Len(), MaxAddresses)
	}
	if c.Names(1, one, 100) == nil || c.Names(1, at(0), 100) != nil || c.Names(1, at(2*MaxAddresses-1), 100) == nil {
		t.Error("not the address that was of no use for longest made room")
	}
}

func TestEvents(t *testing.T) {
	c := New()
	answer := func(pid uint32, code int64, response bool, name string) *event.Event {
		return &event.Event{PID: pid, TimeNS: 100, Kind: event.KindDNS, DNS: &event.DNS{
			QuestionName: name, IsResponse: response, ResponseCode: code, Addresses: []string{"192.0.2.1", "no address"},
			Network: event.Headers{DeviceNetns: 5},
		}}
	}
	c.Event(answer(0, 0, true, "nobody.example"))
	c.Event(answer(7, 3, true, "failed.example"))
	c.Event(answer(7, 0, false, "asked.example"))
	c.Event(answer(7, 0, true, "right.example"))
	peer := event.Address{IP: one, Port: 443}
	want := []string{"right.example"}
	for netns, want := range map[uint32][]string{5: want, 6: nil} {
		proc := &event.Process{NetNS: netns}
		connect := &event.Event{TimeNS: 200, Proc: proc, Connect: &event.Connect{Addr: peer}}
		accept := &event.Event{TimeNS: 200, Proc: proc, Accept: &event.Accept{Addr: peer}}
		c.Event(connect)
		c.Event(accept)
		if got := connect.Connect.Addr.Hostname; !slices.Equal(got, want) {
			t.Errorf("connect in %d: %v, want %v", netns, got, want)
		}
		if got := accept.Accept.Addr.Hostname; !slices.Equal(got, want) {
			t.Errorf("accept in %d: %v, want %v", netns, got, want)
		}
	}
	flows := &event.Event{TimeNS: 200, NetworkFlowMonitor: &event.NetworkFlowMonitor{DeviceNetns: 5, Flows: []event.Flow{{Destination: peer}}}}
	c.Event(flows)
	if got := flows.NetworkFlowMonitor.Flows[0].Destination.Hostname; !slices.Equal(got, want) {
		t.Errorf("flow: %v, want %v", got, want)
	}
	c.Event(&event.Event{Connect: &event.Connect{Addr: peer}}) // no process
	c.Event(&event.Event{})
}

func BenchmarkConnect(b *testing.B) {
	c := New()
	for i := range 1000 {
		c.Learn(1, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), "x.example", 0)
	}
	ev := &event.Event{Proc: &event.Process{NetNS: 1}, Connect: &event.Connect{Addr: event.Address{IP: one}}}
	b.ReportAllocs()
	for b.Loop() {
		c.Event(ev) // an address without a name, as most are
	}
}
