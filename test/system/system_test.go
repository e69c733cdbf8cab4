// Package system tests a whole clew on this host: its own processes, the
// kernel's events, the store on disk. Parts of it are killed, overfilled and
// stopped, and what comes out of its commands must still add up.
//
// The tests need root, because the agent does. With CLEW_SOAK=1 they are
// longer, with -short shorter.
package system

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clewsec/clew/internal/testkit/proc"
)

// clew is the program under test: the one that CLEW_BIN names, as in a virtual
// machine, where nothing can be built, or one that is built once.
var clew = os.Getenv("CLEW_BIN")

// TestMain also looks for what the tests left in the kernel.
func TestMain(m *testing.M) {
	if os.Getenv(namesEnv) != "" {
		if err := lookUp(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "clew-bin-")
	if err == nil && clew == "" {
		clew, err = proc.Build(dir)
	}
	status := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		status = proc.Clean(os.Stderr, m.Run)
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// watching starts a clew that watches this host, and waits until events
// reach its store.
func watching(t *testing.T, args ...string) (*proc.Clew, proc.Status) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("watching a host needs root")
	}
	c := proc.New(t, clew)
	return c, start(t, c, args...)
}

func start(t *testing.T, c *proc.Clew, args ...string) proc.Status {
	t.Helper()
	if err := c.Start(args...); err != nil {
		t.Fatal(err)
	}
	s, err := c.WaitOK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !s.OK || len(s.Agents) != 1 || s.Agents[0].Pid != c.Pid() || s.Server.Pid <= 0 {
		t.Fatalf("status after the start of %d: %+v", c.Pid(), s)
	}
	if a := s.Agents[0]; a.Mode == "replay" || a.Mode == "none" {
		if os.Getenv("CI") != "true" && a.Reason != "" {
			t.Skip("no access to the kernel: " + a.Reason)
		}
		t.Fatalf("the agent does not watch this host: mode %q, %s", a.Mode, a.Reason)
	}
	return s
}

func tiny(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "tiny")
	if err := proc.WriteTiny(name); err != nil {
		t.Fatal(err)
	}
	return name
}

// size is how many executions a burst has.
func size(short, full, soak int) int {
	switch {
	case testing.Short():
		return short
	case os.Getenv("CLEW_SOAK") != "":
		return soak
	default:
		return full
	}
}

// prefix marks the executions of one burst of one run of one test.
func prefix(t *testing.T, burst string) string {
	return fmt.Sprintf("mark%d%s", time.Now().UnixNano(), burst)
}

// waitExact waits until the n executions of a burst are stored, and fails if
// one never is or is stored twice.
func waitExact(t *testing.T, c *proc.Clew, prefix string, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute+time.Duration(n)*2*time.Millisecond, errors.New("time is up"))
	defer cancel()
	var tally proc.Tally
	err := proc.Until(ctx, func() (bool, error) {
		events, err := c.Events(ctx, "exec", prefix)
		if err != nil {
			// The server may be on its way back.
			return false, ctx.Err()
		}
		tally = proc.Count(events, prefix, n)
		return tally.Stored == n || len(tally.Twice) > 0, nil
	})
	if err != nil || !tally.Exact() {
		t.Errorf("of %d executions: %v (%v)", n, tally, err)
	}
}

// server returns the pid of the agent's server child.
func server(c *proc.Clew) (int, error) {
	pids, err := proc.Descendants(c.Pid())
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil || exe != c.Bin {
			continue
		}
		// The agent's other child, which reads files, is the same program.
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if args := strings.Split(string(line), "\x00"); err == nil && len(args) > 1 && args[1] == "server" {
			return pid, nil
		}
	}
	return 0, nil
}

// TestStatus holds that a person is told how the host is watched.
func TestStatus(t *testing.T) {
	_, s := watching(t)
	if a := s.Agents[0]; a.Status != "ok" || a.Mode != "tracepoint" && a.Mode != "trampoline" {
		t.Errorf("agent: %+v", a)
	}
}

// TestKillServerDuringExecBurst kills the server twice while executions come
// faster than it stores them. Each is stored, each once.
func TestKillServerDuringExecBurst(t *testing.T) {
	c, status := watching(t)
	n, burst := size(2_000, 20_000, 200_000), prefix(t, "")
	killed := map[int]bool{}
	kill := func(done int) {
		if done != n/4 && done != n*3/4 {
			return
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Second, errors.New("no server came back"))
		defer cancel()
		if err := proc.Until(ctx, func() (bool, error) {
			pid, err := server(c)
			if err != nil || pid == 0 || killed[pid] {
				return false, err
			}
			killed[pid] = true
			return true, syscall.Kill(pid, syscall.SIGKILL)
		}); err != nil {
			t.Error(err)
		}
	}
	if err := proc.Burst(t.Context(), tiny(t), burst, n, kill); err != nil {
		t.Fatal(err)
	}
	if len(killed) != 2 || !killed[status.Server.Pid] {
		t.Errorf("killed %v, want two servers, first %d", killed, status.Server.Pid)
	}
	waitExact(t, c, burst, n)
	after, err := c.WaitOK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if killed[after.Server.Pid] {
		t.Errorf("status names the killed server %d", after.Server.Pid)
	}
}

// TestKillAgent has the agent write to its spool while the server stands
// still, kills it, and starts it again: what was in the spool is stored, once,
// and the time in between is a gap that says why.
func TestKillAgent(t *testing.T) {
	c, status := watching(t, "--policies", policies)
	program := tiny(t)
	mark(t)
	if err := syscall.Kill(status.Server.Pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	n, spooled := size(500, 2_000, 20_000), prefix(t, "a")
	if err := proc.Burst(t.Context(), program, spooled, n, nil); err != nil {
		t.Fatal(err)
	}
	// The first makes sure of the burst, the second of the context it is in.
	settle(t, filepath.Join(c.Data, "agent", "spool"), program)
	settle(t, filepath.Join(c.Data, "agent", "state"), program)
	down := time.Now()
	if err := c.KillAgent(); err != nil {
		t.Fatal(err)
	}
	// The server is its child and does not outlive it.
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, errors.New("the server outlived its agent"))
	defer cancel()
	if err := proc.Until(ctx, func() (bool, error) { return !proc.Alive(status.Server.Pid), nil }); err != nil {
		t.Fatal(err)
	}
	unseen := prefix(t, "b")
	if err := proc.Burst(t.Context(), program, unseen, 20, nil); err != nil {
		t.Fatal(err)
	}
	up := time.Now()
	start(t, c, "--policies", policies)
	later := prefix(t, "c")
	if err := proc.Burst(t.Context(), program, later, 100, nil); err != nil {
		t.Fatal(err)
	}
	waitExact(t, c, later, 100)
	waitExact(t, c, spooled, n)
	events, err := c.Events(t.Context(), "exec", unseen)
	if err != nil {
		t.Fatal(err)
	}
	if got := proc.Count(events, unseen, 20).Stored; got != 0 {
		t.Errorf("%d executions are stored of a time when no agent ran", got)
	}
	mark(t)
	waitGap(t, c, func(g proc.Gap) bool {
		return g.Reason == "agent_down" && !g.From.After(down) && !g.To.Before(up)
	})
}

// policies has the rules that mark trips.
const policies = "testdata/policies"

// mark does what a rule of ours looks for, so that there is a story.
func mark(t *testing.T) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "clew-system-mark")
	if out, err := exec.Command("/bin/sh", "-c", "echo >"+name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// waitGap waits until a story has a gap that is wanted.
func waitGap(t *testing.T, c *proc.Clew, want func(proc.Gap) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("no such gap"))
	defer cancel()
	var seen []proc.Gap
	stories := 0
	if err := proc.Until(ctx, func() (bool, error) {
		list, err := c.Stories(ctx)
		if err != nil {
			return false, err
		}
		seen, stories = nil, len(list)
		for _, s := range list {
			seen = append(seen, s.Gaps...)
		}
		return slices.ContainsFunc(seen, want), nil
	}); err != nil {
		t.Errorf("%v in %d stories: %+v", err, stories, seen)
	}
}

// settle waits until the agent, which writes its spool five times a second while
// something happens and its state every five, has written at or below dir well
// after now: what happened until now is there, too. A host that others use is never quiet, so that it cannot
// be waited for that nothing is written any more.
func settle(t *testing.T, dir, program string) {
	t.Helper()
	after := time.Now().Add(3 * time.Second)
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("the agent writes nothing"))
	defer cancel()
	if err := proc.Until(ctx, func() (bool, error) {
		if err := exec.Command(program).Run(); err != nil {
			return false, err
		}
		written := false
		err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			if info, err := d.Info(); err == nil && info.ModTime().After(after) {
				written = true
			}
			return nil
		})
		return written, err
	}); err != nil {
		t.Fatal(err)
	}
}

// TestOverfilledBulkRingShowsGap stops the agent while more happens than the
// ring can hold. What is lost is counted, and a story of that time says so.
func TestOverfilledBulkRingShowsGap(t *testing.T) {
	c, _ := watching(t, "--policies", policies)
	mark(t)
	flood := filepath.Join(t.TempDir(), "clew-system-flood")
	if err := syscall.Kill(c.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	from := time.Now()
	// More than 8 MiB in records of any size.
	err := func() error {
		for range size(150_000, 150_000, 1_000_000) {
			fd, err := syscall.Open(flood, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_CLOEXEC, 0o600)
			if err != nil {
				return err
			}
			if err := syscall.Close(fd); err != nil {
				return err
			}
		}
		return nil
	}()
	// The flood is on the bulk ring and must cost no execution.
	const executions = 100
	burst := prefix(t, "")
	err = errors.Join(err, proc.Burst(t.Context(), tiny(t), burst, executions, nil))
	to := time.Now()
	if err := errors.Join(err, syscall.Kill(c.Pid(), syscall.SIGCONT)); err != nil {
		t.Fatal(err)
	}
	mark(t)
	waitGap(t, c, func(g proc.Gap) bool {
		lost, err := g.Lost.Int64()
		return err == nil && lost > 0 && !g.From.After(to) && !g.To.Before(from)
	})
	waitExact(t, c, burst, executions)
}

// TestChaos does something bad between bursts, again and again, chosen by a
// seed that it prints. Every burst that an agent watched is stored, once.
func TestChaos(t *testing.T) {
	c, _ := watching(t)
	program := tiny(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	type burst struct {
		prefix string
		n      int
	}
	var bursts []burst
	for round := range size(2, 4, 200) {
		b := burst{prefix(t, fmt.Sprintf("r%d", round)), 50 + random.IntN(500)}
		var trouble func() error
		killAgent := false
		switch what := random.IntN(4); what {
		case 0:
			t.Logf("round %d: the server is killed", round)
			trouble = func() error { return signalServer(c, syscall.SIGKILL) }
		case 1:
			t.Logf("round %d: the server stands still for the burst", round)
			trouble = func() error { return signalServer(c, syscall.SIGSTOP) }
		case 2:
			t.Logf("round %d: the agent is interrupted and started again before the burst", round)
			if _, err := c.Stop(); err != nil {
				t.Fatal(err)
			}
			start(t, c)
		case 3:
			t.Logf("round %d: the agent is killed after the burst", round)
			killAgent = true
		}
		at := random.IntN(b.n)
		if err := proc.Burst(t.Context(), program, b.prefix, b.n, func(done int) {
			if trouble != nil && done == at+1 {
				if err := trouble(); err != nil {
					t.Error(err)
				}
			}
		}); err != nil {
			t.Fatal(err)
		}
		bursts = append(bursts, b)
		_ = signalServer(c, syscall.SIGCONT)
		if killAgent {
			settle(t, filepath.Join(c.Data, "agent", "spool"), program)
			if err := c.KillAgent(); err != nil {
				t.Fatal(err)
			}
			start(t, c)
		}
	}
	for _, b := range bursts {
		waitExact(t, c, b.prefix, b.n)
	}
}

// signalServer sends a signal to the server, if there is one at the moment.
func signalServer(c *proc.Clew, sig syscall.Signal) error {
	pid, err := server(c)
	if err != nil || pid == 0 {
		return err
	}
	if err := syscall.Kill(pid, sig); !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// TestCtrlC holds that an interrupted clew ends and leaves nothing in the
// kernel.
func TestCtrlC(t *testing.T) {
	before, err := proc.ReadPlaces()
	if err != nil {
		t.Fatal(err)
	}
	c, _ := watching(t)
	held := proc.Held{}
	if err := held.Add(c.Pid()); err != nil {
		t.Fatal(err)
	}
	kinds := held.Kinds()
	if kinds["program"] == 0 || kinds["map"] == 0 || kinds["link"] == 0 || kinds["process"] < 2 {
		t.Fatalf("a clew that watches holds %v", kinds)
	}
	took, err := c.Stop()
	if err != nil {
		t.Fatal(err)
	}
	// Each of some sixty tracepoints waits for a grace period of the kernel
	// when it is let go, one after the other: 0.3 to 4 s, by kernel and load.
	t.Logf("it took %s", took)
	if took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
	// The kernel frees a program some time after its last user is gone.
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, errors.New("still there after ten seconds"))
	defer cancel()
	var left []string
	if err := proc.Until(ctx, func() (bool, error) {
		if left, err = held.Remaining(); err != nil {
			return false, err
		}
		after, err := proc.ReadPlaces()
		left = append(left, after.Since(before)...)
		return len(left) == 0, err
	}); err != nil {
		t.Errorf("%v: %v", err, left)
	}
}

// TestServerProcessIsConfined looks at the server from outside.
func TestServerProcessIsConfined(t *testing.T) {
	c, status := watching(t)
	pid := status.Server.Pid

	t.Run("credentials", func(t *testing.T) {
		fields := processStatus(t, pid)
		for _, key := range []string{"Uid", "Gid"} {
			for _, id := range strings.Fields(fields[key]) {
				if id == "0" {
					t.Errorf("%s: %s", key, fields[key])
				}
			}
		}
		if slices.Contains(strings.Fields(fields["Groups"]), "0") {
			t.Errorf("Groups: %s", fields["Groups"])
		}
		// The bounding set is of no use to a process that may not gain any.
		for _, key := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
			if strings.Trim(fields[key], "0") != "" {
				t.Errorf("%s: %s", key, fields[key])
			}
		}
		if fields["NoNewPrivs"] != "1" {
			t.Errorf("NoNewPrivs: %s", fields["NoNewPrivs"])
		}
		if fields["Seccomp"] != "2" {
			t.Errorf("Seccomp: %s", fields["Seccomp"])
		}
	})
	t.Run("agent's data", func(t *testing.T) {
		st, err := os.Stat(filepath.Join(c.Data, "agent"))
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != 0o700 || st.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("%s of uid %d", st.Mode(), st.Sys().(*syscall.Stat_t).Uid)
		}
		uid := uint32(status.Server.UID)
		cmd := exec.Command("/bin/ls", filepath.Join(c.Data, "agent"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "ermission denied") {
			t.Errorf("as uid %d: %v %s", uid, err, out)
		}
	})
	t.Run("who listens", func(t *testing.T) {
		listening := listeners(t)
		all, err := proc.Descendants(c.Pid())
		if err != nil {
			t.Fatal(err)
		}
		serves := false
		for _, p := range append(all, c.Pid()) {
			root := strings.HasPrefix(processStatus(t, p)["Uid"], "0\t")
			for _, inode := range sockets(t, p) {
				if name, ok := listening[inode]; ok && root {
					t.Errorf("process %d, of root, listens on %s", p, name)
				} else if ok && p == pid {
					serves = true
				}
			}
		}
		if !serves {
			t.Error("the server listens nowhere")
		}
	})
	t.Run("calls without a session", func(t *testing.T) {
		for _, method := range []string{
			"StoryService/ListStories", "StoryService/GetStory", "EventService/SearchEvents", "EventService/TailEvents",
			"FleetService/GetStatus", "RuleService/ListRules", "SessionService/CreateLogin",
		} {
			for _, header := range []map[string]string{nil, {"Authorization": "Bearer x"}, {"Cookie": "clew_session=x"}} {
				res := post(t, status.Server.Listen, "/clew.v1."+method, header)
				if res.StatusCode != http.StatusUnauthorized {
					t.Errorf("%s with %v: %s", method, header, res.Status)
				}
			}
		}
	})
	t.Run("foreign host name", func(t *testing.T) {
		res := post(t, status.Server.Listen, "/clew.v1.StoryService/ListStories", map[string]string{"Host": "attacker.example"})
		if res.StatusCode < 400 || res.StatusCode > 499 {
			t.Errorf("%s", res.Status)
		}
	})
}

func processStatus(t *testing.T, pid int) map[string]string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		fields[key] = strings.TrimSpace(value)
	}
	return fields
}

// listeners maps the inodes of listening sockets, internet and local, to
// their addresses.
func listeners(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, name := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile("/proc/net/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			// State 0A is LISTEN.
			if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" {
				found[f[9]] = name + " " + f[1]
			}
		}
	}
	text, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 7 {
			continue
		}
		// The flag of a socket that accepts connections.
		if flags, err := strconv.ParseUint(f[3], 16, 32); err == nil && flags&0x10000 != 0 {
			found[f[6]] = "unix " + strings.Join(f[7:], " ")
		}
	}
	return found
}

// sockets lists the inodes of the sockets that a process holds.
func sockets(t *testing.T, pid int) []string {
	t.Helper()
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	var inodes []string
	for _, name := range names {
		if target, err := os.Readlink(name); err == nil {
			if inode, ok := strings.CutPrefix(target, "socket:["); ok {
				inodes = append(inodes, strings.TrimSuffix(inode, "]"))
			}
		}
	}
	return inodes
}

func post(t *testing.T, address, path string, header map[string]string) *http.Response {
	t.Helper()
	if _, _, err := net.SplitHostPort(address); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+path, bytes.NewReader([]byte("{}")))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for k, v := range header {
		if k == "Host" {
			req.Host = v
			continue
		}
		req.Header.Set(k, v)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var body any
	_ = json.NewDecoder(res.Body).Decode(&body)
	return res
}

// TestAgentGivesUpPrivileges looks at the agent from outside: every thread of
// it has what watching takes, and can get no more.
func TestAgentGivesUpPrivileges(t *testing.T) {
	c, status := watching(t)
	const bpf, sysModule, sysRawio, sysBoot, sysTime, mknod, setpcap = 39, 16, 17, 22, 25, 27, 8
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", c.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			t.Fatal(err)
		}
		fields := processStatus(t, tid)
		if fields["NoNewPrivs"] != "1" || fields["Seccomp"] != "2" {
			t.Errorf("thread %d: NoNewPrivs %s, Seccomp %s", tid, fields["NoNewPrivs"], fields["Seccomp"])
		}
		for _, key := range []string{"CapPrm", "CapEff", "CapBnd"} {
			set, err := strconv.ParseUint(fields[key], 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			if set&(1<<bpf) == 0 {
				t.Errorf("thread %d: %s %s lacks CAP_BPF", tid, key, fields[key])
			}
			for _, c := range []int{sysModule, sysRawio, sysBoot, sysTime, mknod, setpcap} {
				if set&(1<<c) != 0 {
					t.Errorf("thread %d: %s %s has capability %d", tid, key, fields[key], c)
				}
			}
		}
	}
	// A server that comes back is started by the agent as it is now.
	if err := syscall.Kill(status.Server.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Second, errors.New("no server came back"))
	defer cancel()
	if err := proc.Until(ctx, func() (bool, error) {
		pid, err := server(c)
		return err == nil && pid != 0 && pid != status.Server.Pid, nil
	}); err != nil {
		t.Fatal(err)
	}
	after, err := c.WaitOK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bound, err := strconv.ParseUint(processStatus(t, after.Server.Pid)["CapBnd"], 16, 64)
	if err != nil || bound&(1<<sysModule) != 0 {
		t.Errorf("the server's bounding set is %x (%v)", bound, err)
	}
}
