package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestStatusWriter feeds every stream in chunks of every size: the serial
// port cuts where it likes.
func TestStatusWriter(t *testing.T) {
	const marker = "status 1234 "
	for _, tt := range []struct {
		name, in, out string
		status        int
		found         bool
	}{
		{"plain", "a\nb\n", "a\nb\n", 0, false},
		{"status", "ok\n\nstatus 1234 3\n", "ok\n\n", 3, true},
		{"zero", "status 1234 0\n", "", 0, true},
		{"other number", "status 9999 3\n", "status 9999 3\n", 0, false},
		{"not at the start", "x status 1234 3\n", "x status 1234 3\n", 0, false},
		{"no number", "status 1234 many\n", "status 1234 many\n", 0, false},
		{"cut off", "ok\nstatus 12", "ok\nstatus 12", 0, false},
		{"without line end", "ok\nstatus 1234 3", "ok\nstatus 1234 3", 0, false},
		{"output after", "a\nstatus 1234 3\nreboot: Restarting\nstatus 1234 4\n", "a\n", 3, true},
	} {
		for size := 1; size <= len(tt.in); size++ {
			var out bytes.Buffer
			s := &statusWriter{w: &out, marker: []byte(marker)}
			for in := []byte(tt.in); len(in) > 0; in = in[min(size, len(in)):] {
				if _, err := s.Write(in[:min(size, len(in))]); err != nil {
					t.Fatal(err)
				}
			}
			s.flush()
			if out.String() != tt.out || s.status != tt.status || s.found != tt.found {
				t.Errorf("%s in chunks of %d: %q, status %d, found %v", tt.name, size, out.String(), s.status, s.found)
			}
		}
	}
}

// TestStatusWriterStreams holds that the beginning of a line is passed on
// before its end is there: a test that hangs has to show where.
func TestStatusWriterStreams(t *testing.T) {
	var out bytes.Buffer
	s := &statusWriter{w: &out, marker: []byte("status ")}
	if _, err := s.Write([]byte("waiting")); err != nil || out.String() != "waiting" {
		t.Errorf("after half a line: %q, %v", out.String(), err)
	}
}

func TestMirrorsFrom(t *testing.T) {
	for _, tt := range []struct{ name, targets, want string }{
		{"debian", "Debian Debian http://m.example/debian/\nDebian Debian http://m.example/debian/\nDebian Debian-Security http://m.example/debian-security/\n", "http://m.example/debian"},
		{"no lists yet", "$(ORIGIN) $(LABEL) http://m.example/debian/\n", "http://m.example/debian"},
		{"odd address", "Debian Debian https://m.example/d/\n", "https://m.example/d"},
		{"ubuntu", "Ubuntu Ubuntu http://m.example/ubuntu/\n", "http://m.example/debian"},
		{"debian before its neighbour", "Ubuntu Ubuntu http://u.example/ubuntu/\nDebian Debian http://m.example/debian/\n", "http://m.example/debian http://u.example/debian"},
		{"others", "Other Stuff http://m.example/apt/\nhttp://\n\n", ""},
	} {
		if got := strings.Join(mirrorsFrom(tt.targets), " "); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestKernelPackage(t *testing.T) {
	for _, tt := range []struct{ name, depends, want string }{
		{"meta-package", "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-50-cloud-amd64\n", "linux-image-6.1.0-50-cloud-amd64"},
		{"image in a package of its own", "linux-image-7.2-cloud-amd64\n |Depends: dracut\n  Depends: linux-base-7.2-cloud-amd64\n  Depends: linux-binary-7.2-cloud-amd64\n", "linux-binary-7.2-cloud-amd64"},
		{"image", "linux-image-6.1.0-50-cloud-amd64\n  Depends: kmod\n  Conflicts: linux-image-6.1.0-50-cloud-amd64-unsigned\n", ""},
	} {
		got := ""
		if m := kernelPackage.FindStringSubmatch(tt.depends); m != nil {
			got = m[1]
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestFindRefuses(t *testing.T) {
	for name, cfg := range map[string]FindConfig{
		"unknown name": {Name: "2.4"},
		"absent path":  {Name: filepath.Join(t.TempDir(), "vmlinuz")},
		"no archive":   {Name: "6.1", CacheDir: t.TempDir(), Mirror: "file:" + t.TempDir()},
	} {
		if _, err := exec.LookPath("apt-get"); err != nil && name == "no archive" {
			continue
		}
		if _, err := Find(t.Context(), cfg); !errors.Is(err, ErrNoKernel) {
			t.Errorf("%s: %v, want ErrNoKernel", name, err)
		}
	}
}

// TestInitrd unpacks an archive with busybox, which is what reads it in a
// rescue shell, and compares.
func TestInitrd(t *testing.T) {
	cpio := []string{"cpio"}
	if _, err := exec.LookPath("cpio"); err != nil {
		if _, err := exec.LookPath("busybox"); err != nil {
			t.Skip("neither cpio nor busybox is installed")
		}
		cpio = []string{"busybox", "cpio"}
	}
	src, dst := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{"a": "", "b/c": "x", "b/d": "xyz\n", "b/long": strings.Repeat("n", 4097)} {
		name = filepath.Join(src, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../a", filepath.Join(src, "b/link")); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	a := newArchive(&buf)
	if err := a.tree(src); err != nil {
		t.Fatal(err)
	}
	a.bytes("/deep/er/file", 0o600, []byte("1"))
	a.bytes("/deep/er/file", 0o600, []byte("second of a name is ignored"))
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(cpio[0], append(cpio[1:], "-i", "-d", "-m", "--no-absolute-filenames")...)
	if cpio[0] == "busybox" {
		cmd = exec.Command("busybox", "cpio", "-i", "-d", "-m")
	}
	cmd.Dir, cmd.Stdin = dst, &buf
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command("diff", "-r", "--no-dereference", src, filepath.Join(dst, src)).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if b, err := os.ReadFile(filepath.Join(dst, "deep/er/file")); err != nil || string(b) != "1" {
		t.Errorf("deep/er/file: %q, %v", b, err)
	}
}

// emulator writes a script that stands for qemu: it gets $console (a file),
// $marker, and writes the program's output.
func emulator(t *testing.T, script string) Config {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("the stand-in speaks with two serial ports, as on amd64")
	}
	dir := t.TempDir()
	init := filepath.Join(dir, "init")
	if err := buildInit(t.Context(), init, "amd64"); err != nil {
		t.Fatal(err)
	}
	qemu, kernel := filepath.Join(dir, "qemu"), filepath.Join(dir, "vmlinuz-0.1")
	text := `#!/bin/sh
while [ $# -gt 0 ]; do
	case "$1 $2" in
	"-initrd "*) marker=$(grep -a -o 'clew-vm-status [0-9a-f]* ' "$2") ;;
	"-serial file:"*) console=${2#file:} ;;
	esac
	shift
done
` + script
	if err := errors.Join(os.WriteFile(qemu, []byte(text), 0o755), os.WriteFile(kernel, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	return Config{Kernel: kernel, Binary: init, Init: init, Emulator: qemu}
}

func TestRunStandIn(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		status       int
		output       string
		err          error
		says         string
	}{
		{name: "success", script: `echo fine; echo "${marker}0"`, output: "fine\n"},
		{name: "failure", script: `printf 'bad\n%s1\n' "$marker"; exit 3`, status: 1, output: "bad\n"},
		{name: "kernel panic", script: `echo begun; echo "Kernel panic - not syncing" >"$console"`, output: "begun\n", err: ErrNoStatus, says: "Kernel panic"},
		{name: "emulator fails", script: `echo "no such option" >&2; exit 1`, err: ErrNoStatus, says: "no such option"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := emulator(t, tt.script)
			var out bytes.Buffer
			cfg.Output = &out
			res, err := Run(t.Context(), cfg)
			if !errors.Is(err, tt.err) || (tt.err != nil && !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("error %v, want %v with %q", err, tt.err, tt.says)
			}
			if res.Status != tt.status || out.String() != tt.output {
				t.Errorf("status %d, output %q; want %d, %q", res.Status, out.String(), tt.status, tt.output)
			}
			if res.Kernel != "0.1" {
				t.Errorf("kernel %q", res.Kernel)
			}
		})
	}
}

// TestRunDeadline has a machine that never ends; the error is the deadline's
// own, and the process is gone.
func TestRunDeadline(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	cfg := emulator(t, fmt.Sprintf("echo $$ >%s\nexec sleep 1000\n", pidFile))
	late := errors.New("late")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	go func() {
		for ctx.Err() == nil {
			if b, err := os.ReadFile(pidFile); err == nil && len(b) > 0 {
				cancel(late)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if _, err := Run(ctx, cfg); !errors.Is(err, late) {
		t.Fatalf("error %v, want %v", err, late)
	}
	pid, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/proc/" + strings.TrimSpace(string(pid))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("process %s still there: %v", pid, err)
	}
}

func TestRunRefuses(t *testing.T) {
	cfg := emulator(t, "exit 1")
	cfg.Arch = "mips"
	if _, err := Run(t.Context(), cfg); !errors.Is(err, ErrNoEmulator) {
		t.Errorf("unknown architecture: %v", err)
	}
	cfg.Arch, cfg.Binary = "amd64", "vm.go"
	if _, err := Run(t.Context(), cfg); err == nil {
		t.Error("a source file was taken for a program")
	}
}
