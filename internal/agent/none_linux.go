package agent

import (
	"bufio"
	"context"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/schema"
)

// none is a source for a host that is not watched: it says so, and nothing
// more.
type none struct{ start event.RunStart }

func (n *none) Run(ctx context.Context, sink func(*event.StreamRecord) error) error {
	start := n.start
	describeHost(&start)
	start.Mode = SensorNone
	boot := uint64(start.At - start.OffsetNS)
	for _, rec := range []*event.StreamRecord{
		{BootNS: boot, RunStart: &start},
		{BootNS: boot, Clock: &event.Clock{OffsetNS: start.OffsetNS}},
	} {
		if err := sink(rec); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// describeHost fills in what a run start says of this host and this moment.
func describeHost(s *event.RunStart) {
	now := time.Now().UnixNano()
	s.At, s.Schema, s.Arch = now, schema.Version, runtime.GOARCH
	var boot unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) == nil {
		s.OffsetNS = now - boot.Nano()
	}
	s.Hostname, _ = os.Hostname()
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		s.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		s.BootID = strings.TrimSpace(string(b))
	}
	if f, err := os.Open("/etc/os-release"); err == nil {
		defer f.Close()
		for sc := bufio.NewScanner(f); sc.Scan(); {
			if v, ok := strings.CutPrefix(sc.Text(), "PRETTY_NAME="); ok {
				s.Distribution = strings.Trim(v, `"`)
			}
		}
	}
}
