//go:build linux && (amd64 || arm64)

package sensor

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
)

// The tests below watch this kernel and make real system calls. The mode is
// that of $CLEW_SENSOR_MODE, else tracepoint.

func testMode() Mode {
	if m := os.Getenv("CLEW_SENSOR_MODE"); m != "" {
		return Mode(m)
	}
	return Tracepoint
}

func needKernel(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root and BPF")
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Skip("needs root and BPF: ", err)
	}
	m.Close()
}

// everything lets all kinds through.
func everything() kfilter.Plan {
	var p kfilter.Plan
	for k := range p.Kinds {
		if recKinds[k] != nil {
			p.Kinds[k].Mode = kfilter.All
		}
	}
	p.Kinds[event.KindOndemand].Names = []string{"syscall:chroot"}
	return p
}

// A watch is a running sensor and the records it has given.
type watch struct {
	t    testing.TB
	s    *Sensor
	stop func()

	mu   sync.Mutex
	cond *sync.Cond
	recs []*event.StreamRecord
	done bool
	err  error
}

func startWatch(t testing.TB, cfg Config) *watch {
	t.Helper()
	needKernel(t)
	if cfg.Mode == "" {
		cfg.Mode = testMode()
	}
	cfg.Start.Run = 42
	cfg.Start.Seed = make([]byte, 32)
	cfg.Start.HostID = uuid.Nil.String()
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := &watch{t: t, s: s}
	w.cond = sync.NewCond(&w.mu)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		err := s.Run(ctx, func(r *event.StreamRecord) error {
			note(r)
			w.mu.Lock()
			w.recs = append(w.recs, r)
			w.cond.Broadcast()
			w.mu.Unlock()
			return nil
		})
		w.mu.Lock()
		w.done, w.err = true, err
		w.cond.Broadcast()
		w.mu.Unlock()
	}()
	w.stop = sync.OnceFunc(func() {
		cancel()
		w.mu.Lock()
		for !w.done {
			w.cond.Wait()
		}
		w.mu.Unlock()
		if w.err != nil {
			t.Errorf("Run: %v", w.err)
		}
	})
	t.Cleanup(w.stop)
	w.record("end of the snapshot", func(r *event.StreamRecord) bool { return r.SnapshotEnd != nil })
	return w
}

// patience is a bound for failures only: the machine may be slow and busy.
const patience = 3 * time.Minute

// record waits for a record.
func (w *watch) record(what string, match func(*event.StreamRecord) bool) *event.StreamRecord {
	w.t.Helper()
	timer := time.AfterFunc(patience, func() {
		w.mu.Lock()
		w.cond.Broadcast()
		w.mu.Unlock()
	})
	defer timer.Stop()
	deadline := time.Now().Add(patience)
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := 0
	for {
		for ; seen < len(w.recs); seen++ {
			if match(w.recs[seen]) {
				return w.recs[seen]
			}
		}
		if w.done {
			w.t.Fatalf("no %s: the sensor ended: %v", what, w.err)
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("no %s within %s", what, patience)
		}
		w.cond.Wait()
	}
}

// event waits for an event of this process.
func (w *watch) event(kind event.Kind, match func(*event.Event) bool) *event.Event {
	w.t.Helper()
	me := uint32(os.Getpid())
	return w.eventOf(kind, func(e *event.Event) bool { return e.PID == me && match(e) })
}

func (w *watch) eventOf(kind event.Kind, match func(*event.Event) bool) *event.Event {
	w.t.Helper()
	return w.record(kind.String()+" event", func(r *event.StreamRecord) bool {
		return r.Event != nil && r.Event.Kind == kind && match(r.Event)
	}).Event
}

// settle waits until everything done so far has come out: a canary has passed.
func (w *watch) settle() {
	w.t.Helper()
	nonce := uint64(time.Now().UnixNano())
	if err := w.s.Canary(nonce); err != nil {
		w.t.Fatal(err)
	}
	w.record("canary", func(r *event.StreamRecord) bool { return r.Canary != nil && r.Canary.Nonce == nonce })
}

// events returns those so far that match.
func (w *watch) events(match func(*event.Event) bool) []*event.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*event.Event
	for _, r := range w.recs {
		if r.Event != nil && match(r.Event) {
			out = append(out, r.Event)
		}
	}
	return out
}

// checkActor checks what every event says of who did it.
func checkActor(t *testing.T, e *event.Event) {
	t.Helper()
	if e.PID != uint32(os.Getpid()) {
		t.Errorf("pid %d, want %d", e.PID, os.Getpid())
	}
	if e.TID == 0 {
		t.Error("no thread id")
	}
	if want := startOf(t, os.Getpid()); e.StartNS/1e7 != want {
		t.Errorf("start %d ns, want %d ticks", e.StartNS, want)
	}
	if e.UID != uint32(os.Getuid()) || e.GID != uint32(os.Getgid()) || e.EUID != uint32(os.Geteuid()) {
		t.Errorf("ids %d %d %d", e.UID, e.GID, e.EUID)
	}
	if e.Run != 42 || e.Seq == 0 {
		t.Errorf("run %d, number %d", e.Run, e.Seq)
	}
	if d := time.Since(time.Unix(0, e.TimeNS)); d < -time.Second || d > time.Minute {
		t.Errorf("happened %s ago", d)
	}
	if d := int64(bootNS()) - int64(e.BootNS); d < 0 || d > int64(time.Minute) {
		t.Errorf("happened %d ns of boot time ago", d)
	}
}

// startOf is a process's start in clock ticks of 10 ms, as /proc tells.
func startOf(t *testing.T, pid int) uint64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	s := string(b)
	fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	var n uint64
	if _, err := fmt.Sscan(fields[19], &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// checkFile compares a file that the kernel resolved with what stat says.
func checkFile(t *testing.T, f *event.File, path string) {
	t.Helper()
	if f.Path != path {
		t.Errorf("path %q, want %q", f.Path, path)
	}
	if f.PathSource != "kernel" {
		t.Errorf("path source %q, want kernel", f.PathSource)
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	if f.Inode != st.Ino || f.UID != st.Uid || f.GID != st.Gid {
		t.Errorf("inode %d uid %d gid %d, want %d %d %d", f.Inode, f.UID, f.GID, st.Ino, st.Uid, st.Gid)
	}
	if f.Mode != st.Mode {
		t.Errorf("mode %o, want %o", f.Mode, st.Mode)
	}
	if uint64(f.Links) != uint64(st.Nlink) {
		t.Errorf("%d links, want %d", f.Links, st.Nlink)
	}
	if dev := unix.Mkdev(f.Dev>>20, f.Dev&0xfffff); dev != st.Dev {
		t.Errorf("device %#x, want %#x", dev, st.Dev)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		t.Fatal(err)
	}
	if want := map[int64]string{unix.TMPFS_MAGIC: "tmpfs", unix.EXT4_SUPER_MAGIC: "ext4", unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.RAMFS_MAGIC: "rootfs"}[int64(fs.Type)]; want != "" && f.Filesystem != want && !(want == "rootfs" && f.Filesystem == "ramfs") {
		t.Errorf("file system %q, want %q", f.Filesystem, want)
	}
	var sx unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_MNT_ID, &sx); err == nil && sx.Mask&unix.STATX_MNT_ID != 0 && uint64(f.MountID) != sx.Mnt_id {
		t.Errorf("mount id %d, want %d", f.MountID, sx.Mnt_id)
	}
	if d := time.Since(time.Unix(0, f.ChangeTime)); d < -time.Minute || d > 24*time.Hour {
		t.Errorf("changed %s ago", d)
	}
	if d := time.Since(time.Unix(0, f.ModificationTime)); d < -time.Minute || d > 24*time.Hour {
		t.Errorf("modified %s ago", d)
	}
}

// realTemp is a temporary directory without symbolic links in its path.
func realTemp(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// ours lists programs, maps and links of this process that are in the kernel.
func ours(t *testing.T) (out []string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		target, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err == nil && (strings.Contains(target, "bpf") || strings.Contains(target, "perf_event")) {
			out = append(out, target)
		}
	}
	return out
}

// census counts all programs, maps and links of the machine.
func census(t *testing.T) (programs, maps, links map[uint32]bool) {
	t.Helper()
	programs, maps, links = map[uint32]bool{}, map[uint32]bool{}, map[uint32]bool{}
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if err != nil {
			break
		}
		id = next
		programs[uint32(id)] = true
	}
	for id := ebpf.MapID(0); ; {
		next, err := ebpf.MapGetNextID(id)
		if err != nil {
			break
		}
		id = next
		maps[uint32(id)] = true
	}
	it := new(link.Iterator)
	defer it.Close()
	for it.Next() {
		links[uint32(it.ID)] = true
	}
	return programs, maps, links
}
