// Command init is the first process of a test machine: it moves to a root that
// can be mounted and unmounted like that of a real one, mounts the file systems
// that tests expect, brings the loopback interface up, runs the one program it
// was given, writes a line with that program's status and stops the machine.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// guest mirrors the type of the same name in package vm; this command does
// not import it, to stay small.
type guest struct {
	Argv   []string `json:"argv"`
	Env    []string `json:"env"`
	Dir    string   `json:"dir"`
	Output string   `json:"output"`
	Marker string   `json:"marker"`
}

// mounts are made in this order. A kernel that lacks one is not broken: the
// test that needs it says so better than init could. /tmp stays a part of the
// root: the program itself may lie below it.
var mounts = []struct{ fstype, target, data string }{
	{"proc", "/proc", ""},
	{"sysfs", "/sys", ""},
	{"devtmpfs", "/dev", ""},
	{"devpts", "/dev/pts", "ptmxmode=666"},
	{"tmpfs", "/dev/shm", ""},
	{"tmpfs", "/run", ""},
	{"securityfs", "/sys/kernel/security", ""},
	{"tracefs", "/sys/kernel/tracing", ""},
	{"bpf", "/sys/fs/bpf", ""},
	{"cgroup2", "/sys/fs/cgroup", ""},
}

// moved is the argument of the second start, in the new root.
const moved = "moved"

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: meant to be the first process of a test machine")
		os.Exit(2)
	}
	var err error
	if len(os.Args) < 2 || os.Args[1] != moved {
		// Returns only with an error.
		err = newRoot()
	} else {
		err = run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
	}
	unix.Sync()
	// The machine is run with -no-reboot: a restart is its end, and needs
	// no ACPI.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

// newRoot copies the initial file system to a tmpfs and goes on there. In the
// initial one pivot_root is refused, and file systems do not say tmpfs.
func newRoot() error {
	const target = "/.root"
	if err := os.Mkdir(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", target, "tmpfs", 0, "size=75%,mode=755"); err != nil {
		return fmt.Errorf("mount root: %w", err)
	}
	if err := moveTree("/", target, target); err != nil {
		return fmt.Errorf("copy root: %w", err)
	}
	if err := os.Chdir(target); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return unix.Exec("/init", []string{"/init", moved}, os.Environ())
}

// moveTree moves what is in from to the directory to, and frees its memory
// there file by file. It leaves skip out.
func moveTree(from, to, skip string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		src, dst := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		switch {
		case src == skip:
			continue
		case e.IsDir():
			if err := os.Mkdir(dst, 0o755); err != nil {
				return err
			}
			err = moveTree(src, dst, skip)
		case e.Type() == fs.ModeSymlink:
			var link string
			if link, err = os.Readlink(src); err == nil {
				err = os.Symlink(link, dst)
			}
		case e.Type() == 0:
			err = moveFile(src, dst)
		}
		// What is left is the console's device, which devtmpfs has, too.
		if err != nil {
			return err
		}
	}
	return nil
}

func moveFile(src, dst string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_WRONLY|os.O_EXCL, st.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close(), os.Remove(src))
}

func run() error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, "init:", err)
			continue
		}
		if err := unix.Mount(m.fstype, m.target, m.fstype, 0, m.data); err != nil {
			fmt.Fprintf(os.Stderr, "init: mount %s: %v\n", m.target, err)
		}
	}
	_ = os.Symlink("/proc/self/fd", "/dev/fd") // as udev does
	_ = os.Chmod("/tmp", 0o777|os.ModeSticky)
	_ = unix.Sethostname([]byte("vm"))
	if err := loopbackUp(); err != nil {
		fmt.Fprintln(os.Stderr, "init: loopback:", err)
	}

	text, err := os.ReadFile("/vm.json")
	if err != nil {
		return err
	}
	var g guest
	if err := json.Unmarshal(text, &g); err != nil {
		return fmt.Errorf("parse /vm.json: %w", err)
	}
	if len(g.Argv) == 0 {
		return errors.New("/vm.json names no program")
	}
	out, err := openRaw(g.Output)
	if err != nil {
		return err
	}
	defer out.Close()
	status, err := runProgram(g, out)
	if err != nil {
		fmt.Fprintf(out, "init: %v\n", err)
		status = 126
	}
	fmt.Fprintf(out, "\n%s%d\n", g.Marker, status)
	// Restarting with bytes in the port's queue would lose them.
	return unix.IoctlSetInt(int(out.Fd()), unix.TCSBRK, 1)
}

// openRaw opens a serial port for output that arrives byte for byte.
func openRaw(name string) (*os.File, error) {
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err == nil {
		t.Oflag &^= unix.OPOST
		t.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
		err = unix.IoctlSetTermios(fd, unix.TCSETS, t)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up %s: %w", name, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// runProgram starts the program and reaps every process until it has ended.
func runProgram(g guest, out *os.File) (int, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	if err := os.MkdirAll(g.Dir, 0o755); err != nil {
		return 0, err
	}
	if err := os.MkdirAll("/root", 0o700); err != nil {
		return 0, err
	}
	p, err := os.StartProcess(g.Argv[0], g.Argv, &os.ProcAttr{
		Dir:   g.Dir,
		Env:   g.Env,
		Files: []*os.File{null, out, out},
		Sys:   &unix.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, err
	}
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait: %w", err)
		case pid != p.Pid:
		case ws.Signaled():
			return 128 + int(ws.Signal()), nil
		default:
			return ws.ExitStatus(), nil
		}
	}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}
