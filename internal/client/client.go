// Package client reaches a server for commands: the local one over its Unix
// socket, or another by URL and token.
package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"

	"connectrpc.com/connect"

	"github.com/clewsec/clew/internal/gen/clew/v1/clewv1connect"
)

// Config says which server.
type Config struct {
	Data  string // data directory of the local one
	URL   string // another one, in place of the local one
	Token string // for the other one
}

// A Client calls a server's services.
type Client struct {
	Stories clewv1connect.StoryServiceClient
	Events  clewv1connect.EventServiceClient
	Fleet   clewv1connect.FleetServiceClient
	Rules   clewv1connect.RuleServiceClient
	Session clewv1connect.SessionServiceClient
	// Backtests evaluates rules on what a server has stored.
	Backtests clewv1connect.BacktestServiceClient

	where string
}

// ErrToken means that another server was asked for without a token.
var ErrToken = errors.New("a server given by --server wants a token in $CLEW_TOKEN")

// New returns a client; it connects at the first call.
func New(cfg Config) (*Client, error) {
	if cfg.URL == "" {
		socket := filepath.Join(cfg.Data, "run", "clew.sock")
		hc := &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "unix", socket)
			},
		}}
		return newClient(hc, "http://localhost", socket), nil
	}
	u, err := url.Parse(cfg.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("server %q: want http://HOST:PORT or https://HOST:PORT", cfg.URL)
	}
	if cfg.Token == "" {
		return nil, ErrToken
	}
	hc := &http.Client{
		Transport: &bearer{token: cfg.Token},
		// A redirect could take the token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return newClient(hc, strings.TrimRight(cfg.URL, "/"), cfg.URL), nil
}

func newClient(hc *http.Client, base, where string) *Client {
	opts := []connect.ClientOption{connect.WithReadMaxBytes(256 << 20)}
	return &Client{
		Stories:   clewv1connect.NewStoryServiceClient(hc, base, opts...),
		Events:    clewv1connect.NewEventServiceClient(hc, base, opts...),
		Fleet:     clewv1connect.NewFleetServiceClient(hc, base, opts...),
		Rules:     clewv1connect.NewRuleServiceClient(hc, base, opts...),
		Session:   clewv1connect.NewSessionServiceClient(hc, base, opts...),
		Backtests: clewv1connect.NewBacktestServiceClient(hc, base, opts...),
		where:     where,
	}
}

// bearer adds the token to each request.
type bearer struct{ token string }

func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return http.DefaultTransport.RoundTrip(r)
}

// Explain says in a sentence why a call failed.
func (c *Client) Explain(err error) error {
	var ce *connect.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no clew runs at %s: start it with clew up", c.where)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s may not be opened: ask as root or as a member of group clew", c.where)
	case errors.As(err, &ce) && connect.IsWireError(err):
		return errors.New(ce.Message())
	}
	return fmt.Errorf("ask %s: %w", c.where, err)
}
