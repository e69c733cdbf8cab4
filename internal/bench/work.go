package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errSkip ends the message of a work that cannot be done on this machine.
var errSkip = errors.New("not here")

// Result is what a worker prints: how often it did its operation, warming up
// included, how long one took, and the processor time, user and system, that one
// took of the worker and what it started, in nanoseconds.
type Result struct {
	Ops   int     `json:"ops"`
	NS    float64 `json:"ns"`
	CPUNS float64 `json:"cpuNs"`
}

// work is one kind of operation. prepare is called once, in the directory
// that do gets; do repeats the operation n times. A batch is as many as take
// about the given time, or one operation if none is given.
type work struct {
	name, title string
	batch       time.Duration
	prepare     func(dir string) error
	do          func(dir string, n int) error
}

// batches is how many are timed. Their median counts, so that one hiccup does
// not.
const batches = 5

// list is in the order of the report.
var list = []work{
	{"exec", "spawn of `true`", 300 * time.Millisecond, prepareExec, doExec},
	{"open", "open and close of one file", 200 * time.Millisecond, prepareOpen, doOpen},
	{"pipe", "1-byte write and read on a pipe", 200 * time.Millisecond, func(string) error { return nil }, doPipe},
	{"stat", "stat of one file", 200 * time.Millisecond, prepareOpen, doStat},
	{"walk", "walk of a tree of 1,000 files", 200 * time.Millisecond, prepareWalk, doWalk},
	{"web", "request to a web server on loopback", 200 * time.Millisecond, prepareWeb, doWeb},
	{"build", "Go build, cold cache", 0, prepareBuild, doBuild},
}

var works = func() map[string]work {
	m := map[string]work{}
	for _, w := range list {
		m[w.name] = w
	}
	return m
}()

// Names returns the works that can be measured.
func Names() []string {
	var names []string
	for _, w := range list {
		names = append(names, w.name)
	}
	return names
}

// Work is the worker's side: args are a work's name, its prepared directory
// and the scale. It writes a Result as JSON.
func Work(args []string, out io.Writer) error {
	if len(args) != 3 {
		return fmt.Errorf("bench worker: want name, directory and scale, got %d arguments", len(args))
	}
	w, ok := works[args[0]]
	if !ok {
		return fmt.Errorf("bench worker: no work named %q", args[0])
	}
	scale, err := strconv.ParseFloat(args[2], 64)
	if err != nil || scale <= 0 {
		return fmt.Errorf("bench worker: scale %q is no positive number", args[2])
	}
	runtime.LockOSThread()
	n, rounds, warming := 1, 1, 0
	if w.batch > 0 {
		if n, warming, err = w.calibrate(args[1], time.Duration(float64(w.batch)*scale)); err != nil {
			return err
		}
		rounds = batches
	}
	var took []float64
	before, err := ownCPU()
	if err != nil {
		return err
	}
	for range rounds {
		start := time.Now()
		if err := w.do(args[1], n); err != nil {
			return err
		}
		took = append(took, float64(time.Since(start).Nanoseconds())/float64(n))
	}
	after, err := ownCPU()
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(Result{
		Ops: warming + n*rounds, NS: median(took), CPUNS: float64((after - before).Nanoseconds()) / float64(n*rounds),
	})
}

// ownCPU is the processor time of this process and its children that have
// ended.
func ownCPU() (time.Duration, error) {
	var sum time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		if err := unix.Getrusage(who, &r); err != nil {
			return 0, fmt.Errorf("read processor time: %w", err)
		}
		sum += time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	return sum, nil
}

// calibrate finds how many operations take about the given time, and says how
// many it did for that. It doubles, so that caches and the processor's
// frequency settle meanwhile.
func (w work) calibrate(dir string, want time.Duration) (n, done int, err error) {
	const most = 1 << 24
	for n := 1; ; n *= 2 {
		start := time.Now()
		if err := w.do(dir, n); err != nil {
			return 0, 0, err
		}
		done += n
		if took := time.Since(start); took >= want/2 || n >= most {
			return max(1, int(float64(n)*float64(want)/float64(max(took, 1)))), done, nil
		}
	}
}

// truePaths are tried in this order; a spawn must not search PATH.
var truePaths = []string{"/bin/true", "/usr/bin/true"}

func findTrue() (string, error) {
	for _, p := range truePaths {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("none of %s exists: %w", strings.Join(truePaths, ", "), errSkip)
}

func prepareExec(string) error {
	_, err := findTrue()
	return err
}

func doExec(_ string, n int) error {
	name, err := findTrue()
	if err != nil {
		return err
	}
	argv := []string{name}
	for range n {
		p, err := os.StartProcess(name, argv, &os.ProcAttr{})
		if err != nil {
			return err
		}
		if st, err := p.Wait(); err != nil || !st.Success() {
			return fmt.Errorf("%s: %v, %w", name, st, err)
		}
	}
	return nil
}

// uninteresting is a name that no rule watches.
const uninteresting = "measured.dat"

func prepareOpen(dir string) error {
	return os.WriteFile(filepath.Join(dir, uninteresting), []byte("x"), 0o644)
}

// doOpen and doPipe call the kernel directly: what Go's scheduler adds to a
// system call would hide a part of what is looked for.
func doOpen(dir string, n int) error {
	name, err := unix.BytePtrFromString(filepath.Join(dir, uninteresting))
	if err != nil {
		return err
	}
	at := unix.AT_FDCWD
	for range n {
		fd, _, errno := syscall.RawSyscall6(unix.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(name)), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
		if errno != 0 {
			return fmt.Errorf("open: %w", errno)
		}
		if _, _, errno := syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0); errno != 0 {
			return fmt.Errorf("close: %w", errno)
		}
	}
	return nil
}

func doStat(dir string, n int) error {
	name := filepath.Join(dir, uninteresting)
	var st unix.Stat_t
	for range n {
		if err := unix.Stat(name, &st); err != nil {
			return fmt.Errorf("stat: %w", err)
		}
	}
	return nil
}

// prepareWalk makes 10 directories of 10 of 10 files.
func prepareWalk(dir string) error {
	for i := range 100 {
		sub := filepath.Join(dir, "tree", strconv.Itoa(i/10), strconv.Itoa(i%10))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return err
		}
		for j := range 10 {
			if err := os.WriteFile(filepath.Join(sub, strconv.Itoa(j)), nil, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// doWalk looks at every file, as find does.
func doWalk(dir string, n int) error {
	for range n {
		files := 0
		if err := filepath.WalkDir(filepath.Join(dir, "tree"), func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			files++
			_, err = d.Info()
			return err
		}); err != nil {
			return err
		}
		if files != 1000 {
			return fmt.Errorf("walk: found %d files", files)
		}
	}
	return nil
}

func prepareWeb(dir string) error {
	return os.WriteFile(filepath.Join(dir, "index.html"), bytes.Repeat([]byte("x"), 4096), 0o644)
}

// doWeb asks a server of its own, with a connection for each request, as
// clients from elsewhere do.
func doWeb(dir string, n int) (err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	defer func() {
		if cerr := srv.Close(); err == nil {
			err = cerr
		}
		<-served
	}()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range n {
		resp, err := client.Get("http://" + l.Addr().String() + "/index.html")
		if err != nil {
			return err
		}
		size, err := io.Copy(io.Discard, resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return err
		}
		if size == 0 {
			return errors.New("web: the answer is empty")
		}
	}
	return nil
}

func doPipe(_ string, n int) error {
	var fd [2]int
	if err := unix.Pipe(fd[:]); err != nil {
		return err
	}
	defer unix.Close(fd[0])
	defer unix.Close(fd[1])
	var b [1]byte
	p := uintptr(unsafe.Pointer(&b[0]))
	for range n {
		if m, _, errno := syscall.RawSyscall(unix.SYS_WRITE, uintptr(fd[1]), p, 1); m != 1 {
			return fmt.Errorf("write: %w", errno)
		}
		if m, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(fd[0]), p, 1); m != 1 {
			return fmt.Errorf("read: %w", errno)
		}
	}
	return nil
}

// buildPackages is how many packages the built module has: enough that the
// compiler is started often, as in real builds.
const buildPackages = 24

func prepareBuild(dir string) error {
	if _, err := exec.LookPath("go"); err != nil {
		return fmt.Errorf("no Go toolchain: %w", errSkip)
	}
	write := func(name, text string) error {
		name = filepath.Join(dir, "src", name)
		return errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644))
	}
	errs := []error{write("go.mod", "module measured.example/m\n\ngo 1.21\n")}
	var imports, sum strings.Builder
	for i := range buildPackages {
		pkg := fmt.Sprintf("p%02d", i)
		fmt.Fprintf(&imports, "\t\"measured.example/m/%s\"\n", pkg)
		fmt.Fprintf(&sum, "\tsum += %s.Sum([]int{%d})\n", pkg, i)
		errs = append(errs, write(filepath.Join(pkg, pkg+".go"), "package "+pkg+`

func Sum(v []int) int {
	sum := 0
	for _, n := range v {
		sum += n
	}
	return sum
}
`))
	}
	errs = append(errs, write("main.go", "package main\n\nimport (\n"+imports.String()+")\n\nfunc main() {\n\tsum := 0\n"+sum.String()+"\tprintln(sum)\n}\n"))
	return errors.Join(errs...)
}

func doBuild(dir string, n int) error {
	for range n {
		if err := oneBuild(dir); err != nil {
			return err
		}
	}
	return nil
}

func oneBuild(dir string) (err error) {
	cache, err := os.MkdirTemp(dir, "cache-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(cache)) }()
	return goBuild(dir, "GOCACHE="+cache)
}

// goBuild builds the prepared module and throws the program away.
func goBuild(dir string, env ...string) error {
	cmd := exec.Command("go", "build", "-o", os.DevNull, ".")
	cmd.Dir = filepath.Join(dir, "src")
	cmd.Env = slices.Concat(os.Environ(), []string{
		"GOPROXY=off", "GOTOOLCHAIN=local", "GOFLAGS=", "GOWORK=off", "GO111MODULE=on", "CGO_ENABLED=0",
	}, env)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
