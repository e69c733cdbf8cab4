package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/accounts"
	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/gen/clew/v1/clewv1connect"
	"github.com/clewsec/clew/internal/policies"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/runtimes"
	"github.com/clewsec/clew/internal/sensor"
	"github.com/clewsec/clew/internal/sensor/replay"
	"github.com/clewsec/clew/internal/wire"
)

// startTime is how long the server may take to answer for the first time.
const startTime = 20 * time.Second

// An Agent is one life of `clew up`.
type Agent struct {
	cfg    Config
	bounds *bounds // of this run
	// listens is where the server listens when it was left to it, so that it
	// comes back there.
	listens atomic.Pointer[string]
}

// New checks the configuration. It touches nothing.
func New(cfg Config) (*Agent, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Agent{cfg: cfg}, nil
}

// Run watches until ctx ends, which is no error, or until it cannot go on.
// When it returns, the server has ended and nothing is left in the kernel.
func (a *Agent) Run(ctx context.Context) error {
	dir, err := openDataDir(a.cfg.Data)
	if err != nil {
		return err
	}
	defer dir.close()
	hostID, seed, err := dir.identity()
	if err != nil {
		return err
	}
	// Before anything is loaded: what the kernel makes for a process counts
	// for the group that it is in then.
	a.bounds = bind(a.cfg.Limits, a.cfg.Log)
	defer func() {
		if err := a.bounds.close(); err != nil {
			a.cfg.Log.Warn("control group stays", "error", err)
		}
	}()
	// Bad policies are told before anything is started.
	ingest := ingestTransport(dir)
	first, err := a.firstEngine(dir, hostID, seed, wire.NewClient(ingest, "http://agent"))
	if err != nil {
		return err
	}
	if err := awaitGone(ctx, dir.clientSocket()); err != nil {
		return err
	}

	// The server ends last: it takes what the engine has left.
	serving, stopServer := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServer()
	working, stopWork := context.WithCancelCause(ctx)
	defer stopWork(nil)
	served := make(chan error, 1)
	var ready atomic.Bool
	srv := a.child(dir, &ready)
	go func() {
		err := srv.run(serving)
		stopWork(err)
		served <- err
	}()
	g, gctx := errgroup.WithContext(working)
	started := make(chan session, 1)
	g.Go(func() error { return a.work(gctx, dir, first, started) })
	g.Go(func() error { return a.greet(gctx, dir, &ready, started) })
	err = g.Wait()
	// A connection that is kept for later would keep the server.
	ingest.CloseIdleConnections()
	stopServer()
	if serr := <-served; serr != nil {
		// It is the cause of what the others say.
		return serr
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil
	}
	return err
}

// A session is what a person is told about a run.
type session struct {
	start  *event.RunStart
	mode   string
	reason string
}

// firstEngine prepares the engine that the configuration asks for.
func (a *Agent) firstEngine(dir *dataDir, hostID string, seed []byte, client clewv1connect.IngestServiceClient) (engineConfig, error) {
	cfg := engineConfig{dir: dir.agent(), client: client, version: a.cfg.Version, pid: int32(os.Getpid()), log: a.cfg.Log, meter: a.bounds, metricsEvery: a.cfg.MetricsEvery}
	if file, ok := strings.CutPrefix(a.cfg.Sensor, replayPrefix); ok {
		b, err := os.ReadFile(file)
		if err != nil {
			return cfg, fmt.Errorf("recording %s: %w", file, cause(err))
		}
		if cfg, err = a.replayEngine(cfg, b, ""); err != nil {
			return cfg, fmt.Errorf("play %s: %w", file, err)
		}
		return cfg, nil
	}
	var err error
	facts := policies.HostFacts()
	facts.AgentPID, facts.AgentFiles = uint32(os.Getpid()), a.ownFiles(dir)
	load := loadRules
	if a.cfg.NoShippedRules {
		load = loadOwnRules
	}
	if cfg.rules, err = load(facts, a.cfg.Policies, a.cfg.Log); err != nil {
		return cfg, err
	}
	cfg.live, cfg.accounts = true, accounts.Host()
	if a.cfg.Sensor != SensorNone {
		cfg.packages = &packager{root: "/"}
	}
	cfg.mode = a.cfg.Sensor
	start := event.RunStart{
		Run: newRun(), Seed: seed, HostID: hostID, Version: a.cfg.Version, AgentPID: facts.AgentPID, AgentFiles: facts.AgentFiles,
	}
	if a.cfg.Sensor == SensorNone {
		cfg.reason = "clew was started with --sensor none"
		cfg.source = &none{start: start}
		return cfg, nil
	}
	s, err := sensor.New(sensor.Config{
		Mode: sensor.Mode(a.cfg.Sensor), See32: a.cfg.See32, Plan: cfg.rules.plan, Start: start, Log: a.cfg.Log,
	})
	if err != nil {
		return cfg, err
	}
	cfg.source = s
	cfg.hasher = hostHasher(a.cfg.Log)
	cfg.containers = runtimes.New(runtimes.Config{Sources: runtimes.Host(os.Getenv), Log: a.cfg.Log})
	return cfg, nil
}

// replayEngine prepares an engine that plays a recording.
func (a *Agent) replayEngine(cfg engineConfig, recording []byte, reason string) (engineConfig, error) {
	src, err := replay.New(bytes.NewReader(recording))
	if err != nil {
		return cfg, err
	}
	start := src.Start()
	facts := ruleset.Facts{
		Kernel: start.Kernel, Hostname: start.Hostname, CORE: true, AgentPID: start.AgentPID, AgentFiles: start.AgentFiles,
	}
	if cfg.rules, err = loadRules(facts, a.cfg.Policies, a.cfg.Log); err != nil {
		return cfg, err
	}
	cfg.source, cfg.live, cfg.accounts, cfg.mode, cfg.reason = src, false, nil, "replay", reason
	cfg.containers, cfg.packages = nil, nil
	return cfg, nil
}

// ownFiles are globs of what an attacker would change to get rid of this agent:
// its data, its program and its rules.
func (a *Agent) ownFiles(dir *dataDir) []string {
	globs := []string{dir.path + "/**"}
	if exe, err := os.Executable(); err == nil {
		globs = append(globs, exe)
	}
	for _, p := range a.cfg.Policies {
		abs, err := filepath.Abs(p)
		if err != nil {
			continue
		}
		if fi, err := os.Stat(abs); err == nil && fi.IsDir() {
			abs += "/**"
		}
		globs = append(globs, abs)
	}
	return globs
}

// newRun is the id of a run.
func newRun() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:]) | 1
}

// work runs the engine, and another one with a recording when the kernel
// cannot be watched.
func (a *Agent) work(ctx context.Context, dir *dataDir, cfg engineConfig, started chan<- session) error {
	run := func(cfg engineConfig) error {
		var files sync.WaitGroup
		defer files.Wait()
		fctx, stop := context.WithCancel(ctx)
		defer stop()
		cfg.started = func(start *event.RunStart) {
			s := session{start: start, mode: cfg.mode, reason: cfg.reason}
			if cfg.live {
				s.mode = start.Mode
				a.reduce(dir)
				if a.cfg.Sensor != SensorNone {
					files.Go(func() { a.recordBaseline(fctx, dir.agent(), cfg.rules.watched) })
				}
			}
			started <- s
		}
		e, err := newEngine(cfg)
		if err != nil {
			return err
		}
		return e.run(ctx)
	}
	err := run(cfg)
	var blind *errNotBegun
	if !errors.As(err, &blind) || ctx.Err() != nil {
		return err
	}
	reason := whyBlind(blind.err)
	if a.cfg.Sensor != SensorAuto || len(a.cfg.Recording) == 0 {
		return errors.New(reason)
	}
	a.cfg.Log.Debug("kernel cannot be watched", "error", blind.err)
	if cfg, err = a.replayEngine(cfg, a.cfg.Recording, reason); err != nil {
		return err
	}
	return run(cfg)
}

// whyBlind says in a sentence why the kernel cannot be watched.
func whyBlind(err error) string {
	switch {
	case os.Geteuid() != 0 && errors.Is(err, os.ErrPermission):
		return "the kernel cannot be watched without root"
	case errors.Is(err, os.ErrPermission):
		return fmt.Sprintf("the kernel lets nobody watch it from here (%v)", err)
	default:
		return fmt.Sprintf("the kernel cannot be watched: %v", err)
	}
}

// child is the server's process.
func (a *Agent) child(dir *dataDir, ready *atomic.Bool) *child {
	c := &child{exe: "/proc/self/exe", log: a.cfg.Log, ready: ready.Load}
	c.env, c.adopt = a.bounds.childEnv(), a.bounds.adopt
	c.args = func() []string {
		listen := a.cfg.Listen
		if l := a.listens.Load(); l != nil {
			listen = *l
		}
		args := []string{"server", "--data", dir.path, "--listen", listen, "--log-level", a.cfg.LogLevel.String()}
		if a.cfg.MetricsListen != "" {
			args = append(args, "--metrics-listen", a.cfg.MetricsListen)
		}
		return args
	}
	if os.Geteuid() == 0 {
		c.cred = &syscall.Credential{Uid: uint32(dir.uid), Gid: uint32(dir.gid)}
		c.data, c.closed = dir.path, dir.closed()
	}
	return c
}

// awaitGone waits until no server of an earlier agent answers any more: one
// that was killed takes its server along, but a moment later.
func awaitGone(ctx context.Context, socket string) error {
	deadline := time.Now().Add(3 * time.Second)
	for {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return nil
		}
		conn.Close()
		if time.Now().After(deadline) {
			return fmt.Errorf("another server answers at %s", socket)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// greet waits until the server answers and tells a person how it started.
func (a *Agent) greet(ctx context.Context, dir *dataDir, ready *atomic.Bool, started <-chan session) error {
	client := clewv1connect.NewSessionServiceClient(socketClient(dir.clientSocket()), "http://localhost")
	deadline := time.NewTimer(startTime)
	defer deadline.Stop()
	var url string
	for url == "" {
		resp, err := client.CreateLogin(ctx, connect.NewRequest(&clewv1.CreateLoginRequest{}))
		if err == nil {
			url = resp.Msg.Url
			break
		}
		var answered *connect.Error
		if errors.As(err, &answered) && connect.IsWireError(err) && connect.CodeOf(err) != connect.CodeUnavailable {
			a.cfg.Log.Warn("server makes no login link", "error", err)
			break
		}
		select {
		case <-ctx.Done():
			return nil
		case <-deadline.C:
			return fmt.Errorf("the server does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	ready.Store(true)
	a.noteAddress(ctx, dir)
	var s session
	select {
	case s = <-started:
		// Reading the kernel's types takes far more memory than watching; it
		// is given back.
		debug.FreeOSMemory()
	case <-ctx.Done():
		return nil
	}
	if _, err := io.WriteString(a.cfg.Out, greeting(a.cfg.Version, s, url, dir.path)); err != nil {
		a.cfg.Log.Warn("greeting", "error", err)
	}
	return nil
}

// noteAddress finds out which port the server took, if any would do.
func (a *Agent) noteAddress(ctx context.Context, dir *dataDir) {
	host, port, err := net.SplitHostPort(a.cfg.Listen)
	if err != nil || port != "0" {
		return
	}
	client := clewv1connect.NewFleetServiceClient(socketClient(dir.clientSocket()), "http://localhost")
	resp, err := client.GetStatus(ctx, connect.NewRequest(&clewv1.GetStatusRequest{}))
	if err != nil {
		a.cfg.Log.Debug("server does not say where it listens", "error", err)
		return
	}
	if _, port, err = net.SplitHostPort(resp.Msg.GetServer().GetListen()); err == nil {
		addr := net.JoinHostPort(host, port)
		a.listens.Store(&addr)
	}
}

func greeting(version string, s session, url, data string) string {
	var b strings.Builder
	switch {
	case s.mode == SensorNone:
		fmt.Fprintf(&b, "clew %s runs without a sensor: this host is not watched.\n", version)
	case s.start.Recording && s.reason != "":
		fmt.Fprintf(&b, "clew %s does not watch this host: %s. It shows a RECORDING instead.\n", version, s.reason)
	case s.start.Recording:
		fmt.Fprintf(&b, "clew %s plays a RECORDING; this host is not watched.\n", version)
	default:
		fmt.Fprintf(&b, "clew %s is watching this host (%s mode).\n", version, s.mode)
	}
	if url != "" {
		fmt.Fprintf(&b, "Open %s (works once, for 15 minutes)\n", url)
	}
	fmt.Fprintf(&b, "Data is in %s\n", data)
	return b.String()
}

// socketClient speaks HTTP/1 and HTTP/2 over a Unix socket.
func socketClient(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
		DisableKeepAlives: true,
	}}
}

// ingestTransport reaches the local server, and only it: whoever else may have
// put a socket there gets nothing.
func ingestTransport(dir *dataDir) *http.Transport {
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	return &http.Transport{
		Protocols: &h2c,
		HTTP2:     &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "unix", dir.agentSocket())
			if err != nil {
				return nil, err
			}
			if err := checkPeer(conn.(*net.UnixConn), dir.uid); err != nil {
				conn.Close()
				return nil, err
			}
			return conn, nil
		},
	}
}

// checkPeer tells whether the other end of a socket belongs to the user.
func checkPeer(conn *net.UnixConn, uid int) error {
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
		return fmt.Errorf("peer of the agent's socket: %w", cerr)
	}
	if int(cred.Uid) != uid {
		return fmt.Errorf("agent's socket is served by uid %d, not by the server's %d", cred.Uid, uid)
	}
	return nil
}
