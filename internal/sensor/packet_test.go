//go:build linux && (amd64 || arm64)

package sensor

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
)

// inNet runs f on a thread in a network namespace of its own, which has a
// loopback interface with the address of a metadata service, and nothing else.
// f gets the namespace's inode, which no other has until keep ends.
func inNet(t, keep *testing.T, f func(netns uint32)) {
	t.Helper()
	done := make(chan struct{})
	var enter func()
	enter = func() {
		runtime.LockOSThread() // for good: the thread ends with its namespace
		if unix.Gettid() == os.Getpid() {
			// The first thread does not end, and /proc/self is what it shows.
			defer runtime.UnlockOSThread()
			other := make(chan struct{})
			go func() {
				defer close(other)
				enter()
			}()
			<-other
			return
		}
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("new network namespace: %v", err)
			return
		}
		if err := loopback(); err != nil {
			t.Errorf("loopback: %v", err)
			return
		}
		ns, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		if err != nil {
			t.Error(err)
			return
		}
		keep.Cleanup(func() { ns.Close() })
		var st unix.Stat_t
		if err := unix.Fstat(int(ns.Fd()), &st); err != nil {
			t.Error(err)
			return
		}
		f(uint32(st.Ino))
	}
	go func() {
		defer close(done)
		enter()
	}()
	<-done
}

func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
		return fmt.Errorf("up: %w", err)
	}
	if r, err = unix.NewIfreq("lo:1"); err != nil {
		return err
	}
	if err := r.SetInet4Addr([]byte{169, 254, 169, 254}); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, r); err != nil {
		return fmt.Errorf("address: %w", err)
	}
	return nil
}

// answer is what the tests' name server replies.
func answer(t *testing.T, query []byte) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	h.Response = true
	m := dnsmessage.Message{Header: h, Questions: []dnsmessage.Question{q}}
	head := func(name string, typ dnsmessage.Type) dnsmessage.ResourceHeader {
		return dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET, TTL: 60}
	}
	switch q.Name.String() {
	case "missing.example.":
		m.RCode = dnsmessage.RCodeNameError
	case "www.Alias.example.":
		m.Answers = []dnsmessage.Resource{
			{Header: head("www.alias.example.", dnsmessage.TypeCNAME), Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("edge.example.")}},
			{Header: head("edge.example.", dnsmessage.TypeA), Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 7}}},
			{Header: head("other.example.", dnsmessage.TypeA), Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 8}}},
			{Header: head("edge.example.", dnsmessage.TypeAAAA), Body: &dnsmessage.AAAAResource{AAAA: [16]byte{15: 1}}},
		}
	}
	b, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return b
}

func query(t *testing.T, id uint16, name string, typ dnsmessage.Type) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET}},
	}
	var opt dnsmessage.ResourceHeader
	if err := opt.SetEDNS0(1232, dnsmessage.RCodeSuccess, false); err != nil {
		t.Fatal(err)
	}
	m.Additionals = []dnsmessage.Resource{{Header: opt, Body: &dnsmessage.OPTResource{}}}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// nameServer answers on UDP at an address until it is closed.
func nameServer(t *testing.T, addr string) {
	t.Helper()
	pc, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		var buf [4096]byte
		for {
			n, from, err := pc.ReadFromUDPAddrPort(buf[:])
			if err != nil {
				return
			}
			if b := answer(t, buf[:n]); b != nil {
				pc.WriteToUDPAddrPort(b, from)
			}
		}
	}()
}

func dnsIn(netns uint32, response bool, name string) func(*event.Event) bool {
	return func(e *event.Event) bool {
		return e.DNS.Network.DeviceNetns == netns && e.DNS.IsResponse == response && e.DNS.QuestionName == name
	}
}

func checkHeaders(t *testing.T, h *event.Headers, l3, l4, direction int64, source, destination string) {
	t.Helper()
	if h.DeviceIfname != "lo" || h.L3Protocol != l3 || h.L4Protocol != l4 || h.NetworkDirection != direction || h.Size <= 28 {
		t.Errorf("headers %+v", h)
	}
	for _, x := range []struct {
		what string
		got  event.Address
		want string
	}{{"source", h.Source, source}, {"destination", h.Destination, destination}} {
		if got := netip.AddrPortFrom(x.got.IP, uint16(x.got.Port)).String(); got != x.want {
			t.Errorf("%s %s, want %s", x.what, got, x.want)
		}
	}
}

// ask sends a query from a new socket and waits for the answer.
func ask(t *testing.T, server string, q []byte) (local string) {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(server)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(q); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(patience))
	var buf [4096]byte
	if _, err := c.Read(buf[:]); err != nil {
		t.Fatal(err)
	}
	return c.LocalAddr().String()
}

// packetPlan wants all that packets tell.
func packetPlan() kfilter.Plan {
	var p kfilter.Plan
	for _, k := range []event.Kind{event.KindDNS, event.KindFailedDNS, event.KindIMDS, event.KindConnect} {
		p.Kinds[k].Mode = kfilter.All
	}
	return p
}

// TestPackets has a test for each way a name is asked for, in network
// namespaces of their own.
func TestPackets(t *testing.T) {
	w := startWatch(t, Config{Plan: packetPlan(), NotSelf: true, DNSPorts: []uint16{53, 5335}})
	for _, x := range []struct {
		name string
		f    func(t *testing.T, w *watch, netns uint32)
	}{
		{"udp", testDNSUDP}, {"udp6", testDNSUDP6}, {"port", testDNSPort}, {"tcp", testDNSTCP}, {"unknown", testDNSUnknown},
		{"malformed", testDNSMalformed}, {"unconnected", testDNSUnconnected}, {"child", testDNSChild}, {"imds", testIMDS},
	} {
		keep := t
		t.Run(x.name, func(t *testing.T) {
			w.t = t
			inNet(t, keep, func(netns uint32) { x.f(t, w, netns) })
		})
	}
	w.t = t
	w.stop()
	st, err := w.s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, st)
	if st.Unparsed == 0 {
		t.Error("nothing that is no DNS was counted")
	}
}

func testDNSUDP(t *testing.T, w *watch, netns uint32) {
	nameServer(t, "127.0.0.1:53")
	local := ask(t, "127.0.0.1:53", query(t, 0x1234, "www.Alias.example.", dnsmessage.TypeA))
	e := w.event(event.KindDNS, dnsIn(netns, false, "www.Alias.example"))
	checkActor(t, e)
	if d := e.DNS; d.ID != 0x1234 || d.QuestionType != 1 || d.QuestionClass != 1 || d.QuestionCount != 1 || d.QuestionSize != 23 || len(d.Addresses) != 0 {
		t.Errorf("query %+v", d)
	}
	checkHeaders(t, &e.DNS.Network, ethIPv4, unix.IPPROTO_UDP, directionEgress, local, "127.0.0.1:53")
	e = w.event(event.KindDNS, dnsIn(netns, true, "www.Alias.example"))
	checkActor(t, e)
	if d := e.DNS; d.ID != 0x1234 || d.ResponseCode != 0 || !slices.Equal(d.Addresses, []string{"127.0.0.7", "::1"}) {
		t.Errorf("answer %+v", d)
	}
	checkHeaders(t, &e.DNS.Network, ethIPv4, unix.IPPROTO_UDP, directionIngress, "127.0.0.1:53", local)

	ask(t, "127.0.0.1:53", query(t, 7, "missing.example.", dnsmessage.TypeTXT))
	e = w.event(event.KindDNS, dnsIn(netns, true, "missing.example"))
	checkActor(t, e)
	if d := e.DNS; d.ID != 7 || d.ResponseCode != 3 || d.QuestionType != 16 {
		t.Errorf("answer %+v", d)
	}
	w.settle()
	// The server's side of the same packets is not reported again.
	if n := len(w.events(func(e *event.Event) bool { return e.DNS != nil && e.DNS.Network.DeviceNetns == netns })); n != 4 {
		t.Errorf("%d events of two questions and two answers", n)
	}
}

// testDNSPort asks a name server on another port that is watched.
func testDNSPort(t *testing.T, w *watch, netns uint32) {
	nameServer(t, "127.0.0.1:5335")
	ask(t, "127.0.0.1:5335", query(t, 9, "port.example.", dnsmessage.TypeA))
	checkActor(t, w.event(event.KindDNS, dnsIn(netns, false, "port.example")))
	checkActor(t, w.event(event.KindDNS, dnsIn(netns, true, "port.example")))
}

func testDNSUDP6(t *testing.T, w *watch, netns uint32) {
	nameServer(t, "[::1]:53")
	local := ask(t, "[::1]:53", query(t, 9, "six.example.", dnsmessage.TypeAAAA))
	e := w.event(event.KindDNS, dnsIn(netns, false, "six.example"))
	checkActor(t, e)
	checkHeaders(t, &e.DNS.Network, ethIPv6, unix.IPPROTO_UDP, directionEgress, local, "[::1]:53")
	e = w.event(event.KindDNS, dnsIn(netns, true, "six.example"))
	checkHeaders(t, &e.DNS.Network, ethIPv6, unix.IPPROTO_UDP, directionIngress, "[::1]:53", local)
}

// testDNSUnconnected asks with sendto, as some resolvers do.
func testDNSUnconnected(t *testing.T, w *watch, netns uint32) {
	nameServer(t, "127.0.0.1:53")
	c, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i, name := range []string{"one.example.", "two.example."} {
		if _, err := c.WriteToUDPAddrPort(query(t, uint16(i), name, dnsmessage.TypeA), netip.MustParseAddrPort("127.0.0.1:53")); err != nil {
			t.Fatal(err)
		}
		checkActor(t, w.event(event.KindDNS, dnsIn(netns, false, name[:len(name)-1])))
		checkActor(t, w.event(event.KindDNS, dnsIn(netns, true, name[:len(name)-1])))
	}
}

func testDNSTCP(t *testing.T, w *watch, netns uint32) {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:53")))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:53")))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	framed := func(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }
	read := func(c net.Conn, n int) []byte {
		b := make([]byte, n)
		c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	send := func(c net.Conn, b []byte) {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	// Two questions in one segment, a third in three.
	q1 := query(t, 1, "first.example.", dnsmessage.TypeA)
	q2 := query(t, 2, "second.example.", dnsmessage.TypeA)
	q3 := query(t, 3, "www.Alias.example.", dnsmessage.TypeA)
	send(c, append(framed(q1), framed(q2)...))
	read(s, 4+len(q1)+len(q2))
	send(c, framed(q3)[:2])
	read(s, 2)
	send(c, q3[:20])
	read(s, 20)
	send(c, q3[20:])
	read(s, len(q3)-20)
	for i, name := range []string{"first.example", "second.example", "www.Alias.example"} {
		e := w.event(event.KindDNS, dnsIn(netns, false, name))
		checkActor(t, e)
		if e.DNS.ID != int64(i+1) {
			t.Errorf("id %d", e.DNS.ID)
		}
		checkHeaders(t, &e.DNS.Network, ethIPv4, unix.IPPROTO_TCP, directionEgress, c.LocalAddr().String(), "127.0.0.1:53")
	}
	a := answer(t, q3)
	send(s, framed(a))
	read(c, 2+len(a))
	e := w.event(event.KindDNS, dnsIn(netns, true, "www.Alias.example"))
	checkActor(t, e)
	if !slices.Equal(e.DNS.Addresses, []string{"127.0.0.7", "::1"}) {
		t.Errorf("addresses %v", e.DNS.Addresses)
	}
	checkHeaders(t, &e.DNS.Network, ethIPv4, unix.IPPROTO_TCP, directionIngress, "127.0.0.1:53", c.LocalAddr().String())
}

// testDNSUnknown sends answers that nobody asked for.
func testDNSUnknown(t *testing.T, w *watch, netns uint32) {
	server, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:53")))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	to := c.LocalAddr().(*net.UDPAddr).AddrPort()
	for _, name := range []string{"missing.example.", "www.Alias.example."} {
		if _, err := server.WriteToUDPAddrPort(answer(t, query(t, 77, name, dnsmessage.TypeA)), to); err != nil {
			t.Fatal(err)
		}
	}
	e := w.eventOf(event.KindFailedDNS, func(e *event.Event) bool { return e.FailedDNS.Network.DeviceNetns == netns })
	if e.FailedDNS.Code != 3 || e.PID != 0 || e.Flags&event.FlagNoProcess == 0 {
		t.Errorf("pid %d, flags %#x: %+v", e.PID, e.Flags, e.FailedDNS)
	}
	checkHeaders(t, &e.FailedDNS.Network, ethIPv4, unix.IPPROTO_UDP, directionIngress, "127.0.0.1:53", to.String())
	e = w.eventOf(event.KindDNS, dnsIn(netns, true, "www.Alias.example"))
	if e.PID != 0 || e.Flags&event.FlagNoProcess == 0 {
		t.Errorf("pid %d, flags %#x", e.PID, e.Flags)
	}
}

// testDNSMalformed sends what is no DNS, and goes on.
func testDNSMalformed(t *testing.T, w *watch, netns uint32) {
	nameServer(t, "127.0.0.1:53")
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:53")))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	loop := append(query(t, 1, "x.", dnsmessage.TypeA)[:12], 0xc0, 12, 0, 1, 0, 1)
	for _, b := range [][]byte{{}, {1}, []byte("no DNS at all, but long enough"), loop, make([]byte, 1400)} {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	ask(t, "127.0.0.1:53", query(t, 5, "after.example.", dnsmessage.TypeA))
	w.event(event.KindDNS, dnsIn(netns, true, "after.example"))
	if n := len(w.events(func(e *event.Event) bool {
		return e.DNS != nil && e.DNS.Network.DeviceNetns == netns && e.DNS.QuestionName != "after.example"
	})); n != 0 {
		t.Errorf("%d events of what is no DNS", n)
	}
}

// testDNSChild asks with a socket that another process made: the asker is who
// sent the packet, not who made the socket.
func testDNSChild(t *testing.T, w *watch, netns uint32) {
	nameServer(t, "127.0.0.1:53")
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:53")))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pid := writeByChild(t, f, query(t, 11, "child.example.", dnsmessage.TypeA))
	for _, response := range []bool{false, true} {
		e := w.eventOf(event.KindDNS, dnsIn(netns, response, "child.example"))
		if e.PID != uint32(pid) || e.PID == uint32(os.Getpid()) {
			t.Errorf("pid %d, want %d", e.PID, pid)
		}
	}
}

func testIMDS(t *testing.T, w *watch, netns uint32) {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("169.254.169.254:80")))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(netip.MustParseAddrPort("169.254.169.254:80")))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := io.WriteString(c, imdsRequestText); err != nil {
		t.Fatal(err)
	}
	e := w.event(event.KindIMDS, func(e *event.Event) bool { return e.IMDS.Network.DeviceNetns == netns && e.IMDS.Type == "request" })
	checkActor(t, e)
	if m := e.IMDS; m.CloudProvider != "aws" || !m.AWSIsIMDSv2 || m.Host != "169.254.169.254" || m.UserAgent != "aws-cli/2" ||
		m.URL != "/latest/meta-data/iam/security-credentials/role" {
		t.Errorf("request %+v", m)
	}
	checkHeaders(t, &e.IMDS.Network, ethIPv4, unix.IPPROTO_TCP, directionEgress, c.LocalAddr().String(), "169.254.169.254:80")
	if _, err := io.WriteString(s, imdsAnswerText); err != nil {
		t.Fatal(err)
	}
	e = w.event(event.KindIMDS, func(e *event.Event) bool { return e.IMDS.Network.DeviceNetns == netns && e.IMDS.Type == "response" })
	checkActor(t, e)
	if m := e.IMDS; m.CloudProvider != "aws" || !m.AWSIsIMDSv2 || m.Server != "EC2ws" || m.AWSCredentialsType != "AWS-HMAC" {
		t.Errorf("answer %+v", m)
	}
	checkHeaders(t, &e.IMDS.Network, ethIPv4, unix.IPPROTO_TCP, directionIngress, "169.254.169.254:80", c.LocalAddr().String())
}
