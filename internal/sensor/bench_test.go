//go:build linux && (amd64 || arm64)

package sensor

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
)

// BenchmarkPrograms reports what a program costs each time it runs, as the
// kernel counts it, for calls that are refused and calls that are reported.
func BenchmarkPrograms(b *testing.B) {
	dir := realTemp(b)
	path := filepath.Join(dir, "nothing-of-interest")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		b.Fatal(err)
	}
	plan := kfilter.Baseline()
	open := plan.Kinds[event.KindOpen]
	open.Names = []string{"authorized_keys", "crontab", "passwd", "shadow", "sudoers"}
	plan.Kinds[event.KindOpen] = open
	w := startWatch(b, Config{Plan: plan, NotSelf: true})
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		b.Fatal(err)
	}
	defer stats.Close()
	measure := func(b *testing.B, prog string) {
		w.s.mu.Lock()
		p := w.s.k.progs[prog]
		w.s.mu.Unlock()
		if p == nil {
			b.Skip("not in this mode")
		}
		before, err := p.Stats()
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			after, err := p.Stats()
			if err != nil {
				b.Fatal(err)
			}
			if n := after.RunCount - before.RunCount; n > 0 {
				b.ReportMetric(float64(after.Runtime-before.Runtime)/float64(n), "ns/run")
			}
		})
	}
	opens := func(b *testing.B, flags int) {
		for b.Loop() {
			fd, err := unix.Open(path, flags, 0)
			if err != nil {
				b.Fatal(err)
			}
			unix.Close(fd)
		}
	}
	name := "file_tp/exit_openat"
	if testMode() == Trampoline {
		name = "file_tr/tr_open"
	}
	b.Run("open/refused", func(b *testing.B) { measure(b, name); opens(b, unix.O_RDONLY) })
	b.Run("open/reported", func(b *testing.B) { measure(b, name); opens(b, unix.O_WRONLY) })
	bpfName := "kern_tp/exit_bpf"
	if testMode() == Trampoline {
		bpfName = "kern_tr/tr_bpf"
	}
	b.Run("bpf/refused", func(b *testing.B) {
		m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
		if err != nil {
			b.Fatal(err)
		}
		defer m.Close()
		measure(b, bpfName)
		var v uint64
		for b.Loop() {
			if err := m.Lookup(uint32(0), &v); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, prog := range []string{"proc/on_fork", "proc/on_exec", "proc/on_exit"} {
		b.Run(filepath.Base(prog), func(b *testing.B) {
			measure(b, prog)
			exe, err := os.Executable()
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				cmd := exec.Command(exe, "0")
				cmd.Env = append(os.Environ(), "CLEW_SENSOR_HELPER=exit")
				if err := cmd.Run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
