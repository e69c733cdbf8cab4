package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/testkit/proc"
)

// TestSelfProtection does to clew what somebody does who does not want to be
// seen, and holds that each is a signal of its own.
func TestSelfProtection(t *testing.T) {
	c, status := watching(t)
	held := proc.Held{}
	if err := held.Add(c.Pid()); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, rule, kind string
		do               func() error
		is               func(proc.Event) bool
	}{
		{"the agent is stopped", "clew_signalled", "signal", func() error {
			err := syscall.Kill(c.Pid(), syscall.SIGSTOP)
			return errors.Join(err, syscall.Kill(c.Pid(), syscall.SIGCONT))
		}, func(e proc.Event) bool {
			return number(e, "signal.type") == int(syscall.SIGSTOP) && number(e, "signal.pid") == c.Pid()
		}},
		{"the server is traced", "clew_traced", "ptrace", func() error { return trace(status.Server.Pid) },
			func(e proc.Event) bool { return number(e, "process.pid") == os.Getpid() }},
		{"a file of the agent is changed", "clew_files_changed", "open", func() error {
			return os.WriteFile(filepath.Join(c.Data, "agent", "planted"), nil, 0o600)
		}, func(e proc.Event) bool {
			return strings.HasSuffix(fmt.Sprint(e.Fields["open.file.path"]), "/agent/planted")
		}},
		{"somebody leaves a process out", "clew_maps_changed", "bpf", func() error {
			return withMap(held, "self", func(m *ebpf.Map) error {
				const nobody = uint32(1<<22 + 1) // no process has it
				return errors.Join(m.Put(nobody, uint32(1)), m.Delete(nobody))
			})
		}, func(e proc.Event) bool { return e.Fields["bpf.map.name"] == "self" }},
		{"a program is detached", "clew_programs_detached", "bpf", func() error { return detach(held, "packet_egress") },
			func(e proc.Event) bool { return number(e, "bpf.cmd") == 34 }},
		{"the server is killed", "clew_signalled", "signal", func() error { return syscall.Kill(status.Server.Pid, syscall.SIGKILL) },
			func(e proc.Event) bool {
				return number(e, "signal.type") == int(syscall.SIGKILL) && number(e, "signal.pid") == status.Server.Pid
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.do(); errors.Is(err, link.ErrNotSupported) {
				t.Skip("this kernel has no forced detachment (5.9)")
			} else if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("no such signal"))
			defer cancel()
			if err := proc.Until(ctx, func() (bool, error) {
				events, err := c.Events(ctx, tt.kind, tt.rule)
				if err != nil {
					return false, ctx.Err() // the server may be on its way back
				}
				for _, e := range events {
					if tt.is(e) {
						return true, nil
					}
				}
				return false, nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	// What the agent itself does to its server, its maps and its files is none.
	events, err := c.Events(t.Context(), "", "\"clew_")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if pid := number(e, "process.pid"); pid != os.Getpid() {
			t.Errorf("%s of process %d: %v", e.Kind, pid, e.Fields)
		}
	}
}

// TestAgentStopped holds that a person finds out that the agent stood still,
// although the agent could tell nobody meanwhile.
func TestAgentStopped(t *testing.T) {
	c, _ := watching(t)
	if err := syscall.Kill(c.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	program, burst := tiny(t), prefix(t, "")
	const executions = 100
	err := proc.Burst(t.Context(), program, burst, executions, nil)
	if err := errors.Join(err, syscall.Kill(c.Pid(), syscall.SIGCONT)); err != nil {
		t.Fatal(err)
	}
	// What happened meanwhile waited on the ring.
	waitExact(t, c, burst, executions)
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("no story says so"))
	defer cancel()
	if err := proc.Until(ctx, func() (bool, error) {
		out, err := c.Run(ctx, "stories", "--json")
		return strings.Contains(string(out), "Somebody ended or stopped clew") || strings.Contains(string(out), "clew_signalled"), err
	}); err != nil {
		out, _ := c.Run(t.Context(), "stories", "--json")
		t.Errorf("%v: %.2000s", err, out)
	}
}

// number reads a field that is a number.
func number(e proc.Event, field string) int {
	switch v := e.Fields[field].(type) {
	case float64:
		return int(v)
	case string:
		var n int
		if _, err := fmt.Sscan(v, &n); err == nil {
			return n
		}
	}
	return -1
}

// trace attaches to a process, and leaves it as it was.
func trace(pid int) error {
	// The tracer is a thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.PtraceAttach(pid); err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, unix.WALL, nil); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	return unix.PtraceDetach(pid)
}

// withMap calls f with a map that is held, by its name.
func withMap(held proc.Held, name string, f func(*ebpf.Map) error) error {
	for line := range held {
		var id uint32
		if n, _ := fmt.Sscanf(line, "map %d", &id); n != 1 {
			continue
		}
		m, err := ebpf.NewMapFromID(ebpf.MapID(id))
		if err != nil {
			return err
		}
		defer m.Close()
		info, err := m.Info()
		if err != nil {
			return err
		}
		if info.Name == name {
			return f(m)
		}
	}
	return fmt.Errorf("no map %s", name)
}

// detach takes a program of this name off its hook, by force.
func detach(held proc.Held, name string) error {
	for line := range held {
		var id uint32
		if n, _ := fmt.Sscanf(line, "link %d", &id); n != 1 {
			continue
		}
		l, err := link.NewFromID(link.ID(id))
		if err != nil {
			return err
		}
		defer l.Close()
		info, err := l.Info()
		if err != nil {
			return err
		}
		p, err := ebpf.NewProgramFromID(info.Program)
		if err != nil {
			return err
		}
		pinfo, err := p.Info()
		if err := errors.Join(err, p.Close()); err != nil {
			return err
		}
		if pinfo.Name == name {
			return l.Detach()
		}
	}
	return fmt.Errorf("no link of program %s", name)
}
