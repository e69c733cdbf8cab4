// Package server wires the server: the process that holds what agents send,
// makes stories of it and answers people. It runs without privileges, as a
// child of the agent or alone.
package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clewsec/clew/internal/control"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/sandbox"
	"github.com/clewsec/clew/internal/server/api"
	"github.com/clewsec/clew/internal/server/auth"
	"github.com/clewsec/clew/internal/server/ingest"
	"github.com/clewsec/clew/internal/server/live"
	"github.com/clewsec/clew/internal/server/page"
	"github.com/clewsec/clew/internal/store"
	"github.com/clewsec/clew/internal/store/sqlite"
)

// Group is the system group whose members may look.
const Group = "clew"

// User is the system user the server runs as where a package made it.
const User = "clew"

// Config says where a server keeps its data and how it is reached.
type Config struct {
	Data   string   // data directory; server/ and run/ below it are the server's
	Listen string   // host:port of page and API; empty: local socket only
	Hosts  []string // further host names the page is called by
	// MetricsListen is where Prometheus finds /metrics, without a login; empty:
	// nowhere.
	MetricsListen string
	Page          fs.FS // files of the page; may be nil
	Version       string
	Log           *slog.Logger
	Now           func() time.Time

	// Retention is how long events are kept, counted from their arrival; they go
	// by whole files. For ever when 0.
	Retention time.Duration

	// NoSandbox leaves the process as it is. For tests, which run many servers
	// in one process.
	NoSandbox bool
}

// Validate reports everything that is wrong.
func (c *Config) Validate() error {
	var errs []error
	if c.Data == "" {
		errs = append(errs, errors.New("no data directory"))
	}
	for _, addr := range []string{c.Listen, c.MetricsListen} {
		if addr == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			errs = append(errs, fmt.Errorf("listen address %q: want HOST:PORT", addr))
		}
	}
	return errors.Join(errs...)
}

// A Server is one server. It is used once.
type Server struct {
	cfg     Config
	ready   chan struct{}
	addr    string
	metrics string
}

// New returns a server; it does nothing before Run.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(cfg.Data)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	cfg.Data = abs
	return &Server{cfg: cfg, ready: make(chan struct{})}, nil
}

// Ready is closed when the server answers.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr is the address of the page, once the server is ready; empty when there
// is none.
func (s *Server) Addr() string { return s.addr }

// MetricsAddr is the address of /metrics, once the server is ready; empty when
// there is none.
func (s *Server) MetricsAddr() string { return s.metrics }

// stopTime is how long answers under way may take once the server is to stop.
const stopTime = time.Second

// Run serves until ctx ends. Everything that was acknowledged is on disk then,
// and at every moment before.
func (s *Server) Run(ctx context.Context) (err error) {
	cfg := s.cfg
	log := cfg.Log
	if err := s.prepare(); err != nil {
		return err
	}
	var tcp net.Listener
	if cfg.Listen != "" {
		if tcp, err = listenTCP(ctx, cfg.Listen, "--listen"); err != nil {
			return err
		}
		s.addr = tcp.Addr().String()
		defer tcp.Close()
	}
	var scrape net.Listener
	if cfg.MetricsListen != "" {
		if scrape, err = listenTCP(ctx, cfg.MetricsListen, "--metrics-listen"); err != nil {
			return err
		}
		s.metrics = scrape.Addr().String()
		defer scrape.Close()
	}
	group, hasGroup := lookupGroup()
	if !cfg.NoSandbox {
		report, err := sandbox.Enter(sandbox.Config{
			ReadWrite: []string{s.path("server"), s.path("run")},
			ReadOnly:  []string{"/etc/localtime", "/usr/share/zoneinfo", "/etc/ssl", "/proc/self", "/sys/kernel/mm/transparent_hugepage"},
		})
		if err != nil {
			return err
		}
		log.Info("sandboxed", "uid", report.UID, "landlock", report.Landlock, "seccomp", report.Seccomp)
		for _, w := range report.Weaknesses {
			log.Warn("sandbox is weaker than it could be", "reason", w)
		}
	}
	lock, err := takeLock(s.path("server", "lock"))
	if err != nil {
		return err
	}
	defer lock.Close()

	st, err := sqlite.Open(ctx, sqlite.Config{Dir: s.path("server", "events")}, cfg.Now)
	if err != nil {
		return dataError(err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	ctl, err := control.Open(ctx, s.path("server", "control.db"), cfg.Now)
	if err != nil {
		return dataError(err)
	}
	defer func() { err = errors.Join(err, ctl.Close()) }()

	p := &parts{store: st, control: ctl, agents: live.NewAgents(cfg.Now), tail: live.NewTail(), source: live.NewSource(st)}
	p.stories = live.NewStories(p.source, cfg.Now)
	if err := p.load(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	return s.serve(ctx, p, tcp, scrape, auth.Local{UID: uint32(os.Getuid()), Group: group, HasGroup: hasGroup})
}

// parts are what handlers share.
type parts struct {
	store   store.Store
	control *control.DB
	agents  *live.Agents
	stories *live.Stories
	source  *live.Source
	tail    *live.Tail
}

// load brings back what was known when the last server ended.
func (p *parts) load(ctx context.Context) error {
	agents, err := p.control.Agents(ctx)
	if err != nil {
		return err
	}
	for _, a := range agents {
		run, _ := strconv.ParseUint(a.Run, 16, 64) // 0, no run's id, when it is unreadable
		p.agents.Known(&clewv1.Hello{
			AgentId: a.ID, Hostname: a.Host, Kernel: a.Kernel, Version: a.Version, Mode: a.Mode, Reason: a.Reason, Run: run, Recording: a.Recording,
		}, time.Unix(0, a.LastSeen))
	}
	return p.stories.Load(ctx, p.store, p.control)
}

func (s *Server) path(elem ...string) string {
	return filepath.Join(append([]string{s.cfg.Data}, elem...)...)
}

// prepare makes the folders and gives up root, if the process has it.
func (s *Server) prepare() error {
	for _, dir := range []string{s.path(), s.path("run")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("data directory %s: %w", s.cfg.Data, errors.Unwrap(err))
		}
	}
	if err := os.MkdirAll(s.path("server"), 0o700); err != nil {
		return fmt.Errorf("data directory %s: %w", s.cfg.Data, errors.Unwrap(err))
	}
	if s.cfg.NoSandbox || os.Geteuid() != 0 {
		return nil
	}
	uid, gid, err := s.account()
	if err != nil {
		return err
	}
	for _, dir := range []string{s.path("server"), s.path("run")} {
		if err := os.Lchown(dir, int(uid), int(gid)); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	return sandbox.Become(uid, gid)
}

// account is whom a server that was started as root becomes: the owner of its
// data, the user a package made, or the fallback.
func (s *Server) account() (uid, gid uint32, err error) {
	fi, err := os.Lstat(s.path("server"))
	if err != nil {
		return 0, 0, fmt.Errorf("data directory: %w", err)
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && st.Gid != 0 {
		return st.Uid, st.Gid, nil
	}
	if u, err := user.Lookup(User); err == nil {
		uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
		if uerr == nil && gerr == nil && uid != 0 && gid != 0 {
			return uint32(uid), uint32(gid), nil
		}
	}
	return sandbox.FallbackUID, sandbox.FallbackUID, nil
}

func lookupGroup() (gid uint32, ok bool) {
	g, err := user.LookupGroup(Group)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(g.Gid, 10, 32)
	return uint32(n), err == nil
}

// takeLock keeps a second server out of the data.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another server uses the data in %s", filepath.Dir(path))
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// dataError says what a person can do about data that cannot be opened.
func dataError(err error) error {
	var newer *store.VersionError
	switch {
	case errors.As(err, &newer):
		return newer
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the data belong to another user: %w", err)
	}
	return err
}

func listenTCP(ctx context.Context, addr, flag string) (net.Listener, error) {
	var lc net.ListenConfig
	// Landlock restricts plain TCP only.
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, "tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is taken by another program: choose another address with %s", addr, flag)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s: this port is for root only: choose one above 1023 with %s", addr, flag)
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return l, nil
}

// listenUnix makes a socket, in place of one that an earlier server left.
func listenUnix(ctx context.Context, path string, mode os.FileMode) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		if len(path) > 107 {
			return nil, fmt.Errorf("the path %s is too long for a socket: choose a shorter data directory", path)
		}
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), l.Close())
	}
	return l, nil
}

// serve answers on all sockets until ctx ends.
func (s *Server) serve(ctx context.Context, p *parts, tcp, scrape net.Listener, local auth.Local) error {
	cfg := s.cfg
	guard := auth.New(auth.Config{Listen: cfg.Listen, Hosts: append([]string{s.addr}, cfg.Hosts...)}, p.control, cfg.Log)
	in := ingest.New(ingest.Config{
		Store: p.store, Fold: p.stories, Tail: p.tail, Agents: p.agents, Aside: s.path("server", "refused"), Log: cfg.Log,
		Seen: func(ctx context.Context, h *clewv1.Hello) { s.remember(ctx, p.control, h) },
	})
	services := api.New(api.Config{
		Store: p.store, Control: p.control, Stories: p.stories, Source: p.source, Agents: p.agents, Tail: p.tail, Now: cfg.Now,
		Trouble: in.Trouble,
		Version: cfg.Version, StartedAt: cfg.Now(), PID: os.Getpid(), UID: uint32(os.Getuid()), Listen: displayAddr(s.addr),
	})
	apiMux := http.NewServeMux()
	services.Routes(apiMux, guard)

	inMux := http.NewServeMux()
	inMux.Handle(in.Route())

	// All requests end when the server does.
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var servers []*http.Server
	group, ctx := errgroup.WithContext(ctx)
	start := func(l net.Listener, h http.Handler, conn func(context.Context, net.Conn) context.Context) {
		var protocols http.Protocols
		protocols.SetHTTP1(true)
		protocols.SetUnencryptedHTTP2(true)
		srv := &http.Server{
			Handler: h, Protocols: &protocols, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
			BaseContext: func(net.Listener) context.Context { return base }, ConnContext: conn,
			ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
			HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: 250},
		}
		servers = append(servers, srv)
		group.Go(func() error {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve %s: %w", l.Addr(), err)
			}
			return nil
		})
	}

	clients, err := listenUnix(ctx, s.path("run", "clew.sock"), 0o666)
	if err != nil {
		return err
	}
	defer clients.Close()
	agents, err := listenUnix(ctx, s.path("run", "agent.sock"), 0o600)
	if err != nil {
		return err
	}
	defer agents.Close()
	start(clients, apiMux, local.ConnContext)
	start(&auth.OnlyUIDs{Listener: agents, UIDs: []uint32{0, local.UID}, Refused: func(peer auth.Peer, err error) {
		cfg.Log.Warn("agent's socket: connection refused", "uid", peer.UID, "pid", peer.PID, "error", err)
	}}, inMux, nil)
	if tcp != nil {
		start(tcp, page.Headers(guard.CheckHost(s.remote(guard, apiMux))), nil)
	}
	if scrape != nil {
		start(scrape, s.metricsHandler(p, in), nil)
		cfg.Log.Info("metrics are served without a login", "url", "http://"+displayAddr(s.metrics)+"/metrics")
	}
	close(s.ready)
	cfg.Log.Info("server ready", "listen", s.addr, "data", cfg.Data)

	group.Go(func() error {
		s.expire(ctx, p.store)
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		cancel()
		stop, done := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer done()
		for _, srv := range servers {
			if err := srv.Shutdown(stop); err != nil {
				// Someone does not let go in time; nothing of theirs was promised.
				_ = srv.Close()
			}
		}
		return nil
	})
	err = group.Wait()
	s.rememberAll(context.WithoutCancel(ctx), p)
	return err
}

// expireEvery is how often old events are looked for.
const expireEvery = time.Hour

// expire forgets old events until ctx ends. Stories made of them stay in
// memory until the next start.
func (s *Server) expire(ctx context.Context, st store.Store) {
	if s.cfg.Retention <= 0 {
		return
	}
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	for {
		gone, err := st.Expire(ctx, s.cfg.Now().Add(-s.cfg.Retention).UnixNano())
		switch {
		case err != nil && ctx.Err() == nil:
			s.cfg.Log.Warn("forget old events", "error", err)
		case gone > 0:
			s.cfg.Log.Info("old events forgotten", "events", gone)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// remote is what is reached over TCP.
func (s *Server) remote(guard *auth.Guard, services http.Handler) http.Handler {
	site := page.New(s.cfg.Page)
	guarded := guard.Remote(services)
	mux := http.NewServeMux()
	mux.HandleFunc("/login", guard.Login)
	mux.HandleFunc("/logout", guard.Logout)
	mux.Handle("/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/clew.v1.") {
			w.Header().Set("Cache-Control", "no-store")
			guarded.ServeHTTP(w, r)
			return
		}
		site.ServeHTTP(w, r)
	}))
	return mux
}

// displayAddr is the address a person on this host opens.
func displayAddr(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// remember keeps what an agent said of itself, for the time when it is gone.
func (s *Server) remember(ctx context.Context, ctl *control.DB, h *clewv1.Hello) {
	err := ctl.PutAgent(ctx, control.Agent{
		ID: h.AgentId, Host: h.Hostname, Kernel: h.Kernel, Version: h.Version, Mode: h.Mode, Reason: h.Reason,
		Run: strconv.FormatUint(h.Run, 16), Recording: h.Recording, LastSeen: s.cfg.Now().UnixNano(),
	})
	if err != nil {
		s.cfg.Log.Warn("remember agent", "agent", h.AgentId, "error", err)
	}
}

// rememberAll keeps when each agent was here last.
func (s *Server) rememberAll(ctx context.Context, p *parts) {
	for _, a := range p.agents.List() {
		h := a.Hello
		err := p.control.PutAgent(ctx, control.Agent{
			ID: h.AgentId, Host: h.Hostname, Kernel: h.Kernel, Version: h.Version, Mode: h.Mode, Reason: h.Reason,
			Run: strconv.FormatUint(h.Run, 16), Recording: h.Recording, LastSeen: a.LastSeen.UnixNano(),
		})
		if err != nil {
			s.cfg.Log.Warn("remember agent", "agent", h.AgentId, "error", err)
		}
	}
}
