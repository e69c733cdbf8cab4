//go:build !linux

package auth

import (
	"context"
	"errors"
	"net"
)

// A Peer is the process at the other end of a Unix socket.
type Peer struct {
	PID    int32
	UID    uint32
	GID    uint32
	Groups []uint32
}

// PeerOf cannot tell here.
func PeerOf(net.Conn) (Peer, error) { return Peer{}, errors.New("peer: not known on this system") }

// Local says who the local socket lets in: nobody on this system.
type Local struct {
	UID      uint32
	Group    uint32
	HasGroup bool
}

// ConnContext marks the caller as unknown.
func (l Local) ConnContext(ctx context.Context, _ net.Conn) context.Context {
	return With(ctx, Identity{Actor: "local:unknown", Local: true})
}

// OnlyUIDs is a listener that closes every connection on this system.
type OnlyUIDs struct {
	net.Listener
	UIDs    []uint32
	Refused func(Peer, error)
}

// Accept implements net.Listener.
func (l *OnlyUIDs) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.Refused(PeerOf(c))
		_ = c.Close()
	}
}
