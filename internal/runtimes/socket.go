package runtimes

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// transport reaches a runtime over its Unix socket, and only one that root
// serves: a socket of somebody else, wherever it lies, gets no question.
func transport(path string, grpc bool) *http.Transport {
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, callTime)
			defer cancel()
			var d net.Dialer
			conn, err := d.DialContext(ctx, "unix", path)
			if err != nil {
				return nil, err
			}
			if err := checkPeer(conn.(*net.UnixConn)); err != nil {
				conn.Close()
				return nil, err
			}
			return conn, nil
		},
		MaxResponseHeaderBytes: 64 << 10,
		ResponseHeaderTimeout:  callTime,
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConns:           2,
		DisableCompression:     true,
	}
	if grpc {
		var h2c http.Protocols
		h2c.SetUnencryptedHTTP2(true)
		t.Protocols = &h2c
		// A stream of events is silent for hours.
		t.ResponseHeaderTimeout = 0
		t.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second}
	}
	return t
}

// checkPeer refuses a server that is neither root's nor our own user's.
func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if cerr != nil {
		return fmt.Errorf("who serves the socket: %w", cerr)
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("socket is served by uid %d, not by root", cred.Uid)
	}
	return nil
}
