//go:build linux && (amd64 || arm64)

package sensor

import (
	"io"
	"net"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/kfilter"
)

// BenchmarkLoopback passes a byte back and forth over a TCP connection that
// has nothing to do with names, without a sensor and with one that watches
// packets. It reports what a program costs each time it runs, as the kernel
// counts it.
func BenchmarkLoopback(b *testing.B) {
	pass := func(b *testing.B) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.Copy(c, c)
			c.Close()
		}()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		var buf [1]byte
		for b.Loop() {
			if _, err := c.Write(buf[:]); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(c, buf[:]); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("without", pass)
	for _, x := range []struct {
		name, prog string
		plan       kfilter.Plan
		count      bool
	}{
		{"packets", "packet/packet_egress", packetPlan(), false},
		{"packets/cost", "packet/packet_egress", packetPlan(), true},
	} {
		b.Run(x.name, func(b *testing.B) {
			w := startWatch(b, Config{Plan: x.plan})
			if !x.count {
				pass(b)
				return
			}
			stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
			if err != nil {
				b.Fatal(err)
			}
			defer stats.Close()
			w.s.mu.Lock()
			p := w.s.k.progs[x.prog]
			w.s.mu.Unlock()
			before, err := p.Stats()
			if err != nil {
				b.Fatal(err)
			}
			pass(b)
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
