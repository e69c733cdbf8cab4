// Package vm runs a static Linux program, as a rule a Go test binary, inside a
// virtual machine with a distribution's own kernel, and reports its output and
// exit status.
//
// What it is for: tests of what the kernel of the development machine cannot
// do (BPF LSM, fentry, loading modules) or that must hold on other kernels
// than that one. It works under plain emulation, without /dev/kvm, as any
// user; a boot with a small test takes about six seconds.
//
// What it is not: a place to measure speed, and no sandbox. The guest has no
// disk and no network beside its loopback; everything it needs is put in its
// initial file system, at the path it has on the host.
package vm

import (
	"bytes"
	"context"
	"crypto/rand"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrNoEmulator is returned when qemu for the wanted architecture is not
// installed.
var ErrNoEmulator = errors.New("no emulator")

// ErrNoKernel is returned when a kernel is neither in the cache nor can be
// fetched.
var ErrNoKernel = errors.New("no kernel")

// ErrNoStatus is returned when the machine stopped without saying how its
// program ended: a kernel panic, a crash of the emulator, or init failed.
var ErrNoStatus = errors.New("machine stopped without a status")

// insideEnv is set in the environment of every program that Run starts.
const insideEnv = "CLEW_VM"

// Inside reports whether this process was started by Run in a machine.
func Inside() bool { return os.Getenv(insideEnv) != "" }

// Config says what to run and where. Only Binary is needed.
type Config struct {
	// Kernel is a name from Kernels or a path to a bootable image. Empty
	// means DefaultKernel.
	Kernel string
	// Arch is a GOARCH, amd64 or arm64. Empty means that of the host.
	Arch string
	// Binary is the statically linked program to run, Args what follows
	// argv[0], Env what is added to a minimal environment.
	Binary string
	Args   []string
	Env    []string
	// Dir is the working directory in the guest; it is made there if need
	// be. Empty means the working directory of this process.
	Dir string
	// Files are files and directories of the host that are put at the same
	// path in the guest, relative ones below Dir.
	Files []string
	// Append is added to the kernel's command line.
	Append string
	// MemoryMB and CPUs size the machine: 1024 and 2 by default.
	MemoryMB int
	CPUs     int
	// CacheDir keeps kernels; by default the user's cache directory.
	CacheDir string
	// Mirror is the base address of a Debian archive. Empty means the one
	// that apt on this host uses.
	Mirror string
	// Output gets what the program writes, as it comes. Nil discards it.
	Output io.Writer
	// Console gets what the kernel writes, once the machine has stopped.
	// Nil discards it.
	Console io.Writer
	// Emulator replaces the qemu command, Init the built-in first process;
	// both are for tests of this package.
	Emulator string
	Init     string
}

// Result is how a program ended. Status is its exit status, or 128 plus the
// number of the signal that ended it.
type Result struct {
	Status  int
	Kernel  string // release, as in the image's name
	Elapsed time.Duration
}

// machine is what differs between architectures.
type machine struct {
	emulator string
	args     []string
	console  string // kernel's console
	output   string // device that the program writes to, in the guest
	pkgArch  string // Debian's name
}

var machines = map[string]machine{
	"amd64": {
		emulator: "qemu-system-x86_64",
		// Without cx16: qemu 7.2 computes the flags of cmpxchg16b wrongly now
		// and then, and kernels since 6.12 die of it while they boot.
		args:    []string{"-cpu", "max,-cx16"},
		console: "ttyS0",
		output:  "/dev/ttyS1",
		pkgArch: "amd64",
	},
	// The virt machine has one serial port: kernel and program share it.
	"arm64": {
		emulator: "qemu-system-aarch64",
		args:     []string{"-M", "virt", "-cpu", "cortex-a72"},
		console:  "ttyAMA0",
		output:   "/dev/ttyAMA0",
		pkgArch:  "arm64",
	},
}

// guest is what init in the machine is told, as JSON in guestFile.
type guest struct {
	Argv   []string `json:"argv"`
	Env    []string `json:"env"`
	Dir    string   `json:"dir"`
	Output string   `json:"output"`
	Marker string   `json:"marker"`
}

const (
	guestFile = "/vm.json"
	// lsms puts bpf where Debian's kernels leave it out of the default.
	lsms = "lsm=landlock,lockdown,yama,integrity,apparmor,bpf"
	// consoleTail is how many of the kernel's last lines an error shows.
	consoleTail = 40
)

// Available returns nil if Run has an emulator for arch (empty: the host's),
// else an error that wraps ErrNoEmulator and says what to install.
func Available(arch string) error {
	m, _, err := machineFor(arch)
	if err != nil {
		return err
	}
	if _, err := exec.LookPath(m.emulator); err != nil {
		return fmt.Errorf("%w: %s is not installed (Debian: qemu-system-x86, qemu-system-arm)", ErrNoEmulator, m.emulator)
	}
	return nil
}

func machineFor(arch string) (machine, string, error) {
	if arch == "" {
		arch = runtime.GOARCH
	}
	m, ok := machines[arch]
	if !ok {
		return m, arch, fmt.Errorf("%w for architecture %q", ErrNoEmulator, arch)
	}
	return m, arch, nil
}

// Run boots a machine, runs cfg.Binary in it and returns how that ended. The
// error is non-nil only when the program's own status is not known; a test
// that failed is Result.Status 1 and no error. When ctx ends the machine is
// killed. Run leaves no process and no file behind except in the cache.
func Run(ctx context.Context, cfg Config) (Result, error) {
	start := time.Now()
	m, arch, err := machineFor(cfg.Arch)
	if err != nil {
		return Result{}, err
	}
	if cfg.Emulator == "" {
		if err := Available(arch); err != nil {
			return Result{}, err
		}
		cfg.Emulator = m.emulator
	}
	if cfg.Dir == "" {
		if cfg.Dir, err = os.Getwd(); err != nil {
			return Result{}, err
		}
	}
	if cfg.Binary, err = filepath.Abs(cfg.Binary); err != nil {
		return Result{}, err
	}
	if err := checkStatic(cfg.Binary, arch); err != nil {
		return Result{}, err
	}
	kernel, err := Find(ctx, FindConfig{Name: cfg.Kernel, Arch: arch, CacheDir: cfg.CacheDir, Mirror: cfg.Mirror})
	if err != nil {
		return Result{}, err
	}
	tmp, err := os.MkdirTemp("", "clew-vm-")
	if err != nil {
		return Result{}, err
	}
	defer os.RemoveAll(tmp)

	if cfg.Init == "" {
		cfg.Init = filepath.Join(tmp, "init")
		if err := buildInit(ctx, cfg.Init, arch); err != nil {
			return Result{}, err
		}
	}
	var nonce [16]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return Result{}, err
	}
	g := guest{
		Argv:   append([]string{cfg.Binary}, cfg.Args...),
		Env:    append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TMPDIR=/tmp", "USER=root", insideEnv + "=" + kernel.Release}, cfg.Env...),
		Dir:    cfg.Dir,
		Output: m.output,
		Marker: "clew-vm-status " + hex.EncodeToString(nonce[:]) + " ",
	}
	initrd := filepath.Join(tmp, "initrd")
	if err := writeInitrd(initrd, cfg, g, kernel); err != nil {
		return Result{}, fmt.Errorf("build initial file system: %w", err)
	}
	console := filepath.Join(tmp, "console")
	out := &statusWriter{w: cfg.Output, marker: []byte(g.Marker)}
	runErr := emulate(ctx, cfg, m, kernel, initrd, console, out)
	out.flush()

	text, _ := os.ReadFile(console)
	if cfg.Console != nil {
		_, _ = cfg.Console.Write(text)
	}
	res := Result{Status: out.status, Kernel: kernel.Release, Elapsed: time.Since(start)}
	switch {
	case out.found:
		return res, nil
	case ctx.Err() != nil:
		return res, fmt.Errorf("run %s on %s: %w%s", filepath.Base(cfg.Binary), kernel.Release, context.Cause(ctx), tail(text))
	case runErr != nil:
		return res, fmt.Errorf("%s on %s: %w: %w%s", cfg.Emulator, kernel.Release, ErrNoStatus, runErr, tail(text))
	default:
		return res, fmt.Errorf("%s: %w%s", kernel.Release, ErrNoStatus, tail(text))
	}
}

// emulate runs qemu until it ends or ctx does.
func emulate(ctx context.Context, cfg Config, m machine, k Kernel, initrd, console string, out io.Writer) error {
	if cfg.MemoryMB == 0 {
		cfg.MemoryMB = 1024
	}
	if cfg.CPUs == 0 {
		cfg.CPUs = 2
	}
	// panic=-1 reboots at once and -no-reboot makes that an end, so that
	// a broken guest costs no waiting.
	line := fmt.Sprintf("console=%s panic=-1 oops=panic quiet %s %s", m.console, lsms, cfg.Append)
	// One thread emulates all CPUs in turns. With a thread for each, a CPU may
	// execute what another one has just patched over: kernels that patch
	// themselves while they trace died of a breakpoint that was gone.
	args := append(slices.Clone(m.args),
		"-accel", "tcg,thread=single", "-m", strconv.Itoa(cfg.MemoryMB), "-smp", strconv.Itoa(cfg.CPUs),
		"-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot",
		"-kernel", k.Image, "-initrd", initrd, "-append", strings.TrimSpace(line))
	if "/dev/"+m.console != m.output {
		args = append(args, "-serial", "file:"+console)
	}
	args = append(args, "-serial", "stdio")

	// A parent-death signal follows the thread that forked, so that thread
	// has to stay: a machine must not outlive a runner that was killed.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, cfg.Emulator, args...)
	cmd.Stdout, cmd.Stderr = out, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w%s", err, tail(stderr.Bytes()))
	}
	return nil
}

// statusWriter passes lines on until the one that carries the status; what
// comes after that is the kernel's, on machines with one serial port. A line's
// beginning is passed on at once unless it could be the marker.
type statusWriter struct {
	w      io.Writer
	marker []byte
	line   []byte // held back: the current line while it may be the marker
	plain  bool   // the current line is known not to be the marker
	status int
	found  bool
}

func (s *statusWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && !s.found {
		end := bytes.IndexByte(p, '\n') + 1
		part := p
		if end > 0 {
			part = p[:end]
		}
		p = p[len(part):]
		if !s.plain {
			s.line = append(s.line, part...)
			held := min(len(s.line), len(s.marker))
			if bytes.Equal(s.line[:held], s.marker[:held]) {
				if end > 0 {
					s.end()
				}
				continue
			}
			part, s.line, s.plain = s.line, nil, true
		}
		if err := s.pass(part); err != nil {
			return 0, err
		}
		if end > 0 {
			s.plain = false
		}
	}
	return n, nil
}

// end looks at a complete line that begins like the marker.
func (s *statusWriter) end() {
	rest, ok := bytes.CutPrefix(s.line, s.marker)
	if status, err := strconv.Atoi(strings.TrimSpace(string(rest))); ok && err == nil {
		s.status, s.found = status, true
	} else {
		_ = s.pass(s.line)
	}
	s.line = nil
}

func (s *statusWriter) flush() {
	if len(s.line) > 0 {
		_ = s.pass(s.line)
		s.line = nil
	}
}

func (s *statusWriter) pass(p []byte) error {
	if s.w == nil {
		return nil
	}
	_, err := s.w.Write(p)
	return err
}

// tail formats the last lines of b for an error.
func tail(b []byte) string {
	text := strings.TrimSpace(strings.ReplaceAll(string(b), "\r", ""))
	if text == "" {
		return ""
	}
	lines := strings.Split(text, "\n")
	if len(lines) > consoleTail {
		lines = lines[len(lines)-consoleTail:]
	}
	return "\n" + strings.Join(lines, "\n")
}

// checkStatic refuses a program that the guest could not start, with a
// sentence that says why.
func checkStatic(path, arch string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("open program: %w", err)
	}
	defer f.Close()
	want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]
	if f.Machine != want {
		return fmt.Errorf("%s is built for %s, the machine is %s", path, f.Machine, arch)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is not statically linked: build it with CGO_ENABLED=0", path)
		}
	}
	return nil
}

// buildInit compiles the machine's first process, from the sources beside this
// file: the caller may be in another module.
func buildInit(ctx context.Context, out, arch string) error {
	_, file, _, _ := runtime.Caller(0)
	dir := filepath.Dir(file)
	if _, err := os.Stat(dir); err != nil {
		dir = "" // built with -trimpath
	}
	return goCommand(ctx, dir, arch, "build", "-trimpath", "-o", out, "github.com/clewsec/clew/internal/testkit/vm/init")
}

// BuildTest compiles the tests of one package for a machine into out. Flags
// are put before the package, as in "-tags", "x".
func BuildTest(ctx context.Context, pkg, out, arch string, flags ...string) error {
	if arch == "" {
		arch = runtime.GOARCH
	}
	args := append([]string{"test", "-c", "-o", out}, flags...)
	return goCommand(ctx, "", arch, append(args, pkg)...)
}

func goCommand(ctx context.Context, dir, arch string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w%s", args[0], err, tail(out))
	}
	return nil
}

// writeInitrd puts together the guest's file system.
func writeInitrd(path string, cfg Config, g guest, k Kernel) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	a := newArchive(f)
	for _, dir := range []string{"/dev", "/proc", "/sys", "/tmp", "/run", "/root", "/etc", "/bin", "/sbin", "/usr/bin", "/usr/sbin", "/var/tmp", cfg.Dir} {
		a.dir(dir)
	}
	a.charDevice("/dev/console", 5, 1)
	a.bytes("/etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"))
	a.bytes("/etc/group", 0o644, []byte("root:x:0:\nnogroup:x:65534:\n"))
	a.bytes("/etc/hosts", 0o644, []byte("127.0.0.1 localhost\n::1 localhost\n"))
	conf, err := json.Marshal(g)
	if err != nil {
		return err
	}
	a.bytes(guestFile, 0o600, conf)
	a.file("/init", cfg.Init)
	a.file(cfg.Binary, cfg.Binary)
	if k.Busybox != "" {
		a.file("/bin/busybox", k.Busybox)
		for _, name := range k.Applets {
			a.symlink("/bin/"+name, "busybox")
		}
	}
	for _, name := range cfg.Files {
		if !filepath.IsAbs(name) {
			name = filepath.Join(cfg.Dir, name)
		}
		if err := a.tree(name); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return a.close()
}
