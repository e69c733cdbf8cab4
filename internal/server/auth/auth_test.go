//go:build linux

package auth

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestIdentify(t *testing.T) {
	with := Local{UID: 1000, Group: 50, HasGroup: true}
	without := Local{UID: 1000}
	for _, c := range []struct {
		name  string
		local Local
		peer  Peer
		want  Role
	}{
		{"root", with, Peer{UID: 0}, Admin},
		{"own user", with, Peer{UID: 1000, GID: 1000}, Admin},
		{"group", with, Peer{UID: 7, GID: 50}, Viewer},
		{"supplementary group", with, Peer{UID: 7, GID: 7, Groups: []uint32{1, 50}}, Viewer},
		{"other", with, Peer{UID: 7, GID: 7, Groups: []uint32{1, 2}}, None},
		{"no group on this host", without, Peer{UID: 7, GID: 0, Groups: []uint32{0}}, None},
	} {
		if got := c.local.Identify(c.peer).Role; got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestPeer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	inner, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	self := uint32(os.Getuid())
	refused := make(chan Peer, 1)
	l := &OnlyUIDs{Listener: inner, UIDs: []uint32{self + 1}, Refused: func(p Peer, err error) {
		if err != nil {
			t.Error(err)
		}
		refused <- p
	}}
	accepted := make(chan net.Conn, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := dial()
	p := <-refused
	if p.UID != self || int(p.PID) != os.Getpid() || p.GID != uint32(os.Getgid()) {
		t.Errorf("peer %+v", p)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a refused connection is open: %v", err)
	}
	c.Close()
	inner.Close()
	<-done
	if len(accepted) != 0 {
		t.Error("a connection of another user was accepted")
	}

	if _, err := PeerOf(&net.TCPConn{}); err == nil {
		t.Error("a TCP connection has a peer process")
	}
	ctx := (Local{}).ConnContext(context.Background(), &net.TCPConn{})
	if id := From(ctx); id.Role != None || !id.Local {
		t.Errorf("identity %+v of an unknown peer", id)
	}
}

func TestHostName(t *testing.T) {
	for in, want := range map[string]string{
		"Localhost:8844": "localhost", "[::1]:8844": "::1", "::1": "::1", "0.0.0.0:8844": "", "[::]:1": "", "example.org.": "example.org", "": "", "a:b:c": "a:b:c",
	} {
		if got := hostName(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestRoles(t *testing.T) {
	for r := None; r <= Admin; r++ {
		if got := ParseRole(r.String()); got != r {
			t.Errorf("%s: %s", r, got)
		}
	}
	if ParseRole("king") != None {
		t.Error("an unknown role is one")
	}
}
