//go:build linux && (amd64 || arm64)

package sensor

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/testkit/vm"
)

var update = flag.Bool("update", false, "rewrite what the tests found out: testdata/rows, testdata/verifier-budget.txt")

// A row is what the tests found out about one kernel in one mode: how each kind
// of event can be watched there, each of which they have made and seen. Rows are checked in, and the
// page docs/reference/kinds-by-kernel.md is written from them (tools/kindspage).
type row struct {
	Arch   string    `json:"arch"`
	Kernel string    `json:"kernel"` // major.minor
	From   string    `json:"from"`   // whose kernel it is
	Mode   Mode      `json:"mode"`
	Kinds  []rowKind `json:"kinds"`
}

type rowKind struct {
	Kind   string `json:"kind"`
	Status Status `json:"status"`
	Reason string `json:"reason,omitempty"`
}

func (r *row) name() string { return fmt.Sprintf("%s-%s-%s", r.Arch, r.Kernel, r.Mode) }

// rowEnv asks a test binary in a machine to print its row.
const rowEnv = "CLEW_SENSOR_ROW"

// rowMark begins the line with the row.
const rowMark = "ROW "

// printed is the row on its way out of a machine.
type printed struct {
	Row      row               `json:"row"`
	Programs map[string]uint32 `json:"programs"` // instructions verified, by object/name
}

// saw collects what the tests of this process saw.
var saw struct {
	sync.Mutex
	kinds    [event.NumKinds]bool
	programs map[string]uint32
}

// note takes down what a stream has given.
func note(r *event.StreamRecord) {
	if r.Event == nil {
		return
	}
	saw.Lock()
	saw.kinds[r.Event.Kind] = true
	saw.Unlock()
}

// noteBudget takes down what the verifier went through for the programs of a
// sensor. Kernels tell since v5.16, aba64c7da983.
func noteBudget(t testing.TB, s *Sensor) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	saw.Lock()
	defer saw.Unlock()
	if saw.programs == nil {
		saw.programs = make(map[string]uint32)
	}
	for name, p := range s.k.progs {
		info, err := p.Info()
		if err != nil {
			t.Errorf("facts of %s: %v", name, err)
			continue
		}
		if n, ok := info.VerifiedInstructions(); ok {
			saw.programs[name] = n
		}
	}
}

// thisRow is the row of this kernel. A kind that should be seen and that no
// test saw, or that cannot be seen and was, is an error: no cell of the page is
// anybody's opinion.
func thisRow() (printed, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return printed{}, err
	}
	release := strings.SplitN(unix.ByteSliceToString(u.Release[:]), ".", 3)
	if len(release) < 3 {
		return printed{}, fmt.Errorf("kernel release %q", release)
	}
	r := row{Arch: runtime.GOARCH, Kernel: release[0] + "." + release[1], From: "host", Mode: testMode()}
	if vm.Inside() {
		r.From = "Debian"
	}
	saw.Lock()
	defer saw.Unlock()
	var wrong []string
	for _, k := range kindChecks(testMode()) {
		r.Kinds = append(r.Kinds, rowKind{k.Kind.String(), k.Status, k.Reason})
		switch seen := saw.kinds[k.Kind]; {
		case k.Status != Impossible && !seen:
			wrong = append(wrong, fmt.Sprintf("%s should be seen here (%s), and no test saw it", k.Kind, k.Status))
		case k.Status == Impossible && seen:
			wrong = append(wrong, fmt.Sprintf("%s was seen, and should not be possible: %s", k.Kind, k.Reason))
		}
	}
	slices.SortFunc(r.Kinds, func(a, b rowKind) int { return strings.Compare(a.Kind, b.Kind) })
	if len(wrong) > 0 {
		return printed{}, fmt.Errorf("%s", strings.Join(wrong, "\n"))
	}
	return printed{r, saw.programs}, nil
}

// finish is what TestMain does after the tests: in a machine it hands the row
// to the host; natively it compares it, if all tests ran.
func finish(w io.Writer) error {
	switch {
	case os.Getenv(rowEnv) != "":
		p, err := thisRow()
		if err != nil {
			return err
		}
		b, err := json.Marshal(p)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s%s\n", rowMark, b)
		return err
	case vm.Inside() || flag.Lookup("test.run").Value.String() != "" || testing.Short() || flag.Lookup("test.list").Value.String() != "":
		return nil
	}
	saw.Lock()
	none := len(saw.programs) == 0
	saw.Unlock()
	if none {
		return nil // no privileges, and TestKinds said so
	}
	p, err := thisRow()
	if err != nil {
		return err
	}
	return p.check()
}

// readRow finds the row in what a test binary printed.
func readRow(out string) (printed, error) {
	for line := range strings.Lines(out) {
		text, ok := strings.CutPrefix(line, rowMark)
		if !ok {
			continue
		}
		var p printed
		err := json.Unmarshal([]byte(text), &p)
		return p, err
	}
	return printed{}, fmt.Errorf("the tests printed no row")
}

// check compares a row with what is checked in, or rewrites that.
func (p *printed) check() error {
	if err := p.checkBudget("testdata/verifier-budget.txt"); err != nil {
		return err
	}
	name := filepath.Join("testdata", "rows", p.Row.name()+".json")
	b, err := json.MarshalIndent(p.Row, "", "  ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if *update {
		return os.WriteFile(name, b, 0o644)
	}
	old, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		// Somebody's own kernel, or a machine's newest one has become newer.
		fmt.Fprintf(os.Stderr, "%s is not among the kernels of docs/reference/kinds-by-kernel.md; -update adds it\n", p.Row.name())
		return nil
	}
	if err != nil {
		return err
	}
	if bytes.Equal(old, b) {
		return nil
	}
	var was row
	if err := json.Unmarshal(old, &was); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return fmt.Errorf("%s is not what the tests found, run them with -update and look at the difference:\n%s", name, diffRows(was.Kinds, p.Row.Kinds))
}

func diffRows(was, is []rowKind) string {
	var b strings.Builder
	for _, k := range was {
		if !slices.Contains(is, k) {
			fmt.Fprintf(&b, "- %s %s %s\n", k.Kind, k.Status, k.Reason)
		}
	}
	for _, k := range is {
		if !slices.Contains(was, k) {
			fmt.Fprintf(&b, "+ %s %s %s\n", k.Kind, k.Status, k.Reason)
		}
	}
	return b.String()
}

const (
	// budgetGrowth is how much more than before a program may cost the verifier.
	// A little is the difference between two builds of one kernel version.
	budgetGrowth = 1.2
	// budgetSlack keeps small programs from failing over a handful.
	budgetSlack = 200
	// budgetCeiling is far below the million at which kernels refuse a program:
	// one that comes near takes seconds to load.
	budgetCeiling = 500_000
)

// checkBudget compares the instructions verified with a file of lines "kernel
// program instructions", or rewrites this kernel's lines in it.
func (p *printed) checkBudget(name string) error {
	if len(p.Programs) == 0 {
		return nil // before v5.16
	}
	budget, err := readBudget(name)
	if err != nil && !(*update && os.IsNotExist(err)) {
		return err
	}
	key := p.Row.name()
	if *update {
		if budget == nil {
			budget = map[string]map[string]uint32{}
		}
		budget[key] = p.Programs
		return writeBudget(name, budget)
	}
	if over := overBudget(budget, key, p.Programs); len(over) > 0 {
		return fmt.Errorf("the verifier goes through more than %s allows; if that must be, run the tests with -update:\n%s", name, strings.Join(over, "\n"))
	}
	return nil
}

// overBudget names the programs that cost too much. On a kernel that has no
// line at all only the ceiling holds.
func overBudget(budget map[string]map[string]uint32, key string, programs map[string]uint32) (over []string) {
	for _, prog := range slices.Sorted(maps.Keys(programs)) {
		n := programs[prog]
		allowed, ok := budget[key][prog]
		limit := uint32(budgetCeiling)
		switch {
		case ok:
			limit = min(uint32(float64(allowed)*budgetGrowth)+budgetSlack, budgetCeiling)
		case budget[key] != nil:
			over = append(over, fmt.Sprintf("%s %s: %d, not in the file", key, prog, n))
			continue
		}
		if n > limit {
			over = append(over, fmt.Sprintf("%s %s: %d, was %d, at most %d", key, prog, n, allowed, limit))
		}
	}
	return over
}

const budgetHead = `# What the verifier goes through for each program, in instructions, by kernel and mode.
# Compared by the tests of internal/sensor, rewritten by them with -update.
# A program may grow by a fifth before they complain. A kernel refuses a million.
`

func readBudget(name string) (map[string]map[string]uint32, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	budget := map[string]map[string]uint32{}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		var key, prog string
		var n uint32
		if _, err := fmt.Sscan(line, &key, &prog, &n); err != nil {
			return nil, fmt.Errorf("%s: line %q: %w", name, line, err)
		}
		if budget[key] == nil {
			budget[key] = map[string]uint32{}
		}
		budget[key][prog] = n
	}
	return budget, nil
}

func writeBudget(name string, budget map[string]map[string]uint32) error {
	var b strings.Builder
	b.WriteString(budgetHead)
	for _, key := range slices.Sorted(maps.Keys(budget)) {
		b.WriteByte('\n')
		for _, prog := range slices.Sorted(maps.Keys(budget[key])) {
			fmt.Fprintf(&b, "%-26s %-32s %7d\n", key, prog, budget[key][prog])
		}
	}
	return os.WriteFile(name, []byte(b.String()), 0o644)
}

// TestBudgetSees holds that a program which grew is named.
func TestBudgetSees(t *testing.T) {
	budget := map[string]map[string]uint32{"a": {"x/one": 10_000, "x/two": 450_000}, "b": {"x/one": 20_000, "x/new": 5}}
	for _, tt := range []struct {
		key   string
		progs map[string]uint32
		over  int
	}{
		{"a", map[string]uint32{"x/one": 12_200}, 0},
		{"a", map[string]uint32{"x/one": 12_201}, 1},
		{"a", map[string]uint32{"x/two": budgetCeiling + 1}, 1},
		{"a", map[string]uint32{"x/new": 5}, 1}, // the kernel has lines, the program none
		{"c", map[string]uint32{"x/one": budgetCeiling}, 0},
		{"c", map[string]uint32{"x/one": budgetCeiling + 1}, 1},
	} {
		if over := overBudget(budget, tt.key, tt.progs); len(over) != tt.over {
			t.Errorf("%s %v: %q", tt.key, tt.progs, over)
		}
	}
	name := filepath.Join(t.TempDir(), "budget")
	if err := writeBudget(name, budget); err != nil {
		t.Fatal(err)
	}
	got, err := readBudget(name)
	if err != nil || !maps.EqualFunc(got, budget, func(a, b map[string]uint32) bool { return maps.Equal(a, b) }) {
		t.Errorf("%v, %v", got, err)
	}
}

// TestEachKind makes an event of each kind, all under one sensor that watches
// everything: what a machine needs to show of a kernel.
func TestEachKind(t *testing.T) {
	w := startWatch(t, Config{Plan: everything(), NotSelf: true, DNSPorts: []uint16{53, 5335}, FlowInterval: 100 * time.Millisecond})
	noteBudget(t, w.s)
	type sub = struct {
		name string
		f    func(*testing.T, *watch)
	}
	net := func(f func(*testing.T, *watch, uint32)) func(*testing.T, *watch) {
		keep := t
		return func(t *testing.T, w *watch) { inNet(t, keep, func(netns uint32) { f(t, w, netns) }) }
	}
	subs := []sub{
		{"open", testOpen},
		{"unlink", testUnlink},
		{"rmdir", testRmdir},
		{"mkdir", testMkdir},
		{"rename", testRename},
		{"chmod", testChmod},
		{"chown", testChown},
		{"link", testLink},
		{"symlink", testSymlink},
		{"connect", testConnect},
		{"bind", testBind},
		{"accept", testAccept},
		{"exec", testExec},
		{"fork", testFork},
		{"exit", testExit},
		{"ids", testIDs},
		{"cgroup", testCgroup},
		{"chdir", testChdir},
		{"xattr", testXattr},
		{"utimes", testUtimes},
		{"splice", testSplice},
		{"mount", testMount},
		{"capset", testCapset},
	}
	if !before515() {
		subs = append(subs,
			sub{"io_uring", testUring},
			sub{"ptrace", testPtrace},
			sub{"signal", testSignal},
			sub{"prctl", testPrctl},
			sub{"setrlimit", testSetrlimit},
			sub{"unshare", testUnshare},
			sub{"memory", testMemory},
			sub{"bpf", testBPF},
			sub{"module", testModule},
			sub{"sysctl", testSysctl},
			sub{"dns", net(testDNSUDP)},
			sub{"failed dns", net(testDNSUnknown)},
			sub{"imds", net(testIMDS)},
			sub{"sockets and flows", net(testSomeSocket)},
			sub{"capabilities", testCapability},
			sub{"ondemand", testNamed},
		)
	}
	for _, s := range subs {
		t.Run(s.name, func(t *testing.T) {
			w.t = t
			s.f(t, w)
		})
	}
	w.t = t
	w.stop()
	st, err := w.s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, st)
}

// testSomeSocket makes a socket, sets an option of it and sends through it.
func testSomeSocket(t *testing.T, w *watch, netns uint32) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, 3); err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendto(fd, []byte("x"), 0, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	w.event(event.KindSocket, func(e *event.Event) bool { return e.Socket.Retval == int64(fd) })
	w.event(event.KindSetsockopt, func(e *event.Event) bool { return e.Setsockopt.Optname == unix.SO_PRIORITY })
	w.event(event.KindNetworkFlowMonitor, func(e *event.Event) bool { return e.NetworkFlowMonitor.DeviceNetns == netns })
}
