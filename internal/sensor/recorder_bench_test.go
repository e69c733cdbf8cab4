//go:build linux && (amd64 || arm64)

package sensor

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// BenchmarkRecorder reports what the program of open costs for calls that are
// refused by name, with the flight recorder and without, for one file and for
// many in turn.
func BenchmarkRecorder(b *testing.B) {
	dir := realTemp(b)
	var paths []string
	for i := range 64 {
		paths = append(paths, filepath.Join(dir, fmt.Sprint("nothing-of-interest-", i)))
		fd, err := unix.Open(paths[i], unix.O_CREAT|unix.O_WRONLY, 0o600)
		if err != nil {
			b.Fatal(err)
		}
		unix.Close(fd)
	}
	prog := "file_tp/exit_openat"
	if testMode() == Trampoline {
		prog = "file_tr/tr_open"
	}
	for _, off := range []bool{true, false} {
		for _, files := range []int{1, len(paths)} {
			b.Run(fmt.Sprintf("off=%t/files=%d", off, files), func(b *testing.B) {
				w := startWatch(b, Config{Plan: byName("wanted"), NotSelf: true, NoRecorder: off})
				stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
				if err != nil {
					b.Fatal(err)
				}
				defer stats.Close()
				w.s.mu.Lock()
				p := w.s.k.progs[prog]
				w.s.mu.Unlock()
				before, err := p.Stats()
				if err != nil {
					b.Fatal(err)
				}
				for i := 0; b.Loop(); i++ {
					fd, err := unix.Open(paths[i%files], unix.O_RDONLY, 0)
					if err != nil {
						b.Fatal(err)
					}
					unix.Close(fd)
				}
				after, err := p.Stats()
				if err != nil {
					b.Fatal(err)
				}
				if n := after.RunCount - before.RunCount; n > 0 {
					b.ReportMetric(float64(after.Runtime-before.Runtime)/float64(n), "ns/run")
				}
			})
		}
	}
}
