package runtimes

import (
	"context"
	"net"
	"net/http"
	"time"
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
