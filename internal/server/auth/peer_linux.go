package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Peer is the process at the other end of a Unix socket, as the kernel knew
// it when it connected.
type Peer struct {
	PID    int32
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary
}

// PeerOf asks the kernel who is at the other end of c.
func PeerOf(c net.Conn) (Peer, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return Peer{}, errors.New("peer: not a Unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("peer: %w", err)
	}
	var p Peer
	var opErr error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, opErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); opErr != nil {
			return
		}
		p = Peer{PID: cred.Pid, UID: cred.Uid, GID: cred.Gid}
		p.Groups, opErr = peerGroups(int(fd))
	})
	if err := errors.Join(err, opErr); err != nil {
		return Peer{}, fmt.Errorf("peer: %w", err)
	}
	return p, nil
}

// maxGroups is the kernel's NGROUPS_MAX.
const maxGroups = 65536

// peerGroups reads SO_PEERGROUPS (Linux 4.13).
func peerGroups(fd int) ([]uint32, error) {
	groups := make([]uint32, 64)
	for {
		size := uint32(len(groups) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return groups[:size/4], nil
		case errno == unix.ERANGE && int(size/4) > len(groups) && size/4 <= maxGroups:
			groups = make([]uint32, size/4)
		default:
			return nil, errno
		}
	}
}

// Local says who the local socket lets in.
type Local struct {
	UID      uint32 // the server's own
	Group    uint32 // members are viewers
	HasGroup bool
}

// Identify turns a peer into a caller: root and the server's own user are
// admin, members of the group viewer, others nobody.
func (l Local) Identify(p Peer) Identity {
	id := Identity{Actor: "local:" + strconv.FormatUint(uint64(p.UID), 10), Local: true}
	switch {
	case p.UID == 0, p.UID == l.UID:
		id.Role = Admin
	case l.HasGroup && (p.GID == l.Group || slices.Contains(p.Groups, l.Group)):
		id.Role = Viewer
	}
	return id
}

// ConnContext is for http.Server.ConnContext of the local socket: it puts the
// caller of a connection into the contexts of its requests.
func (l Local) ConnContext(ctx context.Context, c net.Conn) context.Context {
	p, err := PeerOf(c)
	if err != nil {
		return With(ctx, Identity{Actor: "local:unknown", Local: true})
	}
	return With(ctx, l.Identify(p))
}

// OnlyUIDs is a listener that closes connections of other users at once.
type OnlyUIDs struct {
	net.Listener
	UIDs    []uint32
	Refused func(Peer, error) // called for each connection closed
}

// Accept implements net.Listener.
func (l *OnlyUIDs) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		p, err := PeerOf(c)
		if err == nil && slices.Contains(l.UIDs, p.UID) {
			return c, nil
		}
		l.Refused(p, err)
		_ = c.Close() // nothing was said on it
	}
}
