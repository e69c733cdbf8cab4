package filehash

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
)

// A running is a service at work and what it answered.
type running struct {
	*Service
	t    *testing.T
	stop context.CancelFunc
	done chan error

	mu      sync.Mutex
	answers map[uint64]*event.FileFacts
	came    chan struct{}
	next    uint64
}

func start(t *testing.T, cfg Config) *running {
	t.Helper()
	r := &running{t: t, answers: map[uint64]*event.FileFacts{}, came: make(chan struct{}, 1), done: make(chan error, 1)}
	if cfg.Reader == nil {
		cfg.Reader = newHelper(t)
	}
	cfg.Log = slog.New(slog.DiscardHandler)
	cfg.Answer = func(f *event.FileFacts) error {
		r.put(f)
		return nil
	}
	r.Service = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() { r.done <- r.Run(ctx) }()
	t.Cleanup(func() { r.end() })
	return r
}

func (r *running) end() {
	r.stop()
	select {
	case err := <-r.done:
		if err != nil {
			r.t.Error(err)
		}
		r.done <- nil
	case <-time.After(time.Minute):
		r.t.Error("the service does not end")
	}
}

func (r *running) put(f *event.FileFacts) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answers[f.Event.Seq] != nil {
		r.t.Errorf("event %d is answered twice", f.Event.Seq)
	}
	r.answers[f.Event.Seq] = f
	select {
	case r.came <- struct{}{}:
	default:
	}
}

func (r *running) ask(path string, change func(*Ask)) uint64 {
	r.t.Helper()
	r.next++
	a := Ask{Event: event.Ref{Run: 1, Seq: r.next}, Field: "open.file", Path: path, ID: ID{Filesystem: "ext4"}}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err == nil {
		a.ID.Dev, a.ID.Inode = unix.Major(st.Dev)<<20|unix.Minor(st.Dev), st.Ino
	}
	if change != nil {
		change(&a)
	}
	if f := r.Ask(a); f != nil {
		r.put(f)
	}
	return r.next
}

func (r *running) answer(seq uint64) *event.FileFacts {
	r.t.Helper()
	deadline := time.After(time.Minute)
	for {
		r.mu.Lock()
		f := r.answers[seq]
		r.mu.Unlock()
		if f != nil {
			return f
		}
		select {
		case <-r.came:
		case <-deadline:
			r.t.Fatalf("event %d is not answered: %+v", seq, r.Stats())
		}
	}
}

func (r *running) want(seq uint64, text string) *event.FileFacts {
	r.t.Helper()
	f := r.answer(seq)
	if want := []string{"sha256:" + sum(text)}; !slices.Equal(f.Hashes, want) || f.Reason != "" {
		r.t.Errorf("hashes %q, reason %q; want %q", f.Hashes, f.Reason, want)
	}
	return f
}

func (r *running) reason(seq uint64, want Reason) *event.FileFacts {
	r.t.Helper()
	f := r.answer(seq)
	if len(f.Hashes) != 0 || f.Reason != string(want) {
		r.t.Errorf("hashes %q, reason %q; want reason %q", f.Hashes, f.Reason, want)
	}
	return f
}

func TestService(t *testing.T) {
	r := start(t, Config{MaxSize: 1000})
	dir := t.TempDir()
	a := filepath.Join(dir, "a")
	write(t, a, "one")
	f := r.want(r.ask(a, nil), "one")
	if f.Before != nil || f.After == nil || f.After.Size != 3 || f.After.Mode != 0o100644 || f.Metadata == nil || f.Metadata.Type != event.FileText || f.Field != "open.file" || f.At == 0 {
		t.Errorf("facts %+v, after %+v", f, f.After)
	}
	write(t, a, "another")
	if err := unix.Chmod(a, 0o4755); err != nil {
		t.Fatal(err)
	}
	f = r.want(r.ask(a, nil), "another")
	if f.Before == nil || f.Before.Size != 3 || f.Before.Mode != 0o100644 || f.Before.Hashes[0] != "sha256:"+sum("one") || f.After.Mode != 0o104755 || !f.Metadata.IsExecutable {
		t.Errorf("facts %+v, before %+v, after %+v", f, f.Before, f.After)
	}
	// Another file in its place is another inode of the same path.
	write(t, filepath.Join(dir, "new"), "replaced")
	if err := os.Rename(filepath.Join(dir, "new"), a); err != nil {
		t.Fatal(err)
	}
	f = r.want(r.ask(a, nil), "replaced")
	if f.Before == nil || f.Before.Size != 7 || f.Before.Inode == f.After.Inode {
		t.Errorf("before %+v, after %+v", f.Before, f.After)
	}

	write(t, filepath.Join(dir, "big"), strings.Repeat("x", 1001))
	if f := r.reason(r.ask(filepath.Join(dir, "big"), nil), ReasonSize); f.After == nil || f.After.Size != 1001 {
		t.Errorf("after %+v", f.After)
	}
	r.reason(r.ask(a, func(a *Ask) { a.MaxSize = 2 }), ReasonSize)
	r.reason(r.ask(filepath.Join(dir, "gone"), nil), ReasonVanished)
	if err := os.Rename(a, a+".moved"); err != nil {
		t.Fatal(err)
	}
	if f := r.reason(r.ask(a, nil), ReasonVanished); f.Before == nil || f.Before.Size != 8 || f.After != nil {
		t.Errorf("before %+v, after %+v", f.Before, f.After)
	}
	if err := os.Rename(a+".moved", a); err != nil {
		t.Fatal(err)
	}
	r.reason(r.ask(a, func(a *Ask) { a.ID.Inode++ }), ReasonReplaced)
	r.reason(r.ask(dir, nil), ReasonRegular)
	r.reason(r.ask("", nil), ReasonPath)
	r.reason(r.ask("relative", nil), ReasonPath)
	r.reason(r.ask(a, func(a *Ask) { a.ID.Filesystem = "fuse" }), ReasonFilesystem)
	r.reason(r.ask(a, func(a *Ask) { a.Mode = unix.S_IFIFO }), ReasonRegular)
	r.reason(r.ask(a, func(a *Ask) { a.MntNS, a.PIDs = 1, []uint32{uint32(os.Getpid()), 1 << 30} }), ReasonRoot)
	r.end()
	r.reason(r.ask(a, nil), ReasonStopped)
	st := r.Stats()
	sum := st.Hashed + st.Waiting
	for _, n := range st.Reasons {
		sum += n
	}
	if st.Asked != r.next || sum != st.Asked || st.Waiting != 0 || st.Hashed != 3 {
		t.Errorf("%d asked, %+v", r.next, st)
	}
}

// TestServiceDifference: of a file that a rule names the difference of its text
// is told, scrubbed; not of others, and not of secrets.
func TestServiceDifference(t *testing.T) {
	r := start(t, Config{Scrub: func(line string) string { return strings.ReplaceAll(line, "hunter2", "***") }})
	dir := t.TempDir()
	named := func(a *Ask) { a.Text = true }
	for _, tc := range []struct {
		name   string
		change func(*Ask)
		want   string
	}{
		{"app.conf", named, "@@ -1 +1 @@\n-a\n+pw ***\n"},
		{"other.conf", nil, ""},
		{"id_rsa", named, ""},
	} {
		path := filepath.Join(dir, tc.name)
		write(t, path, "a\n")
		// Nobody asked yet: it is looked at for later.
		r.Ask(Ask{Path: path, Text: tc.change != nil})
		write(t, path+".first", "a\n")
		r.want(r.ask(path+".first", nil), "a\n") // after it, in turn
		write(t, path, "pw hunter2\n")
		if f := r.want(r.ask(path, tc.change), "pw hunter2\n"); f.Diff != tc.want || f.Before == nil || f.Before.Size != 2 {
			t.Errorf("%s: difference %q, want %q; before %+v", tc.name, f.Diff, tc.want, f.Before)
		}
	}
}

// TestServiceWaits: a file is read when its last writer has closed it.
func TestServiceWaits(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a lease on another user's file takes root")
	}
	for _, notices := range []bool{true, false} {
		t.Run(fmt.Sprint("notices ", notices), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			w, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if _, err := w.WriteString("first "); err != nil {
				t.Fatal(err)
			}
			r := start(t, Config{WaitWriter: time.Minute})
			if !notices && r.closings != nil {
				// As on a kernel or a file system that gives none.
				r.end()
				svc := New(r.cfg)
				if svc.closings != nil {
					_ = svc.closings.close()
					svc.closings = nil
				}
				r.Service = svc
				ctx, cancel := context.WithCancel(context.Background())
				r.stop, r.done = cancel, make(chan error, 1)
				go func() { r.done <- r.Run(ctx) }()
			}
			seq := r.ask(path, nil)
			// Others that ask meanwhile wait for the same reading.
			for deadline := time.Now().Add(time.Minute); ; {
				if r.Stats().Waiting == 1 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("the file is not waited for")
				}
			}
			joined := r.ask(path, nil)
			if _, err := w.WriteString("second"); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			r.want(seq, "first second")
			r.want(joined, "first second")
		})
	}
}

func TestServiceStillOpen(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a lease on another user's file takes root")
	}
	path := filepath.Join(t.TempDir(), "f")
	w, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r := start(t, Config{WaitWriter: 30 * time.Millisecond})
	r.reason(r.ask(path, nil), ReasonStillOpen)
}

// A scripted reader does what it is told.
type scripted func(f *os.File) (Content, error)

func (s scripted) Examine(f *os.File, _, _ int64, _ time.Duration) (Content, error) { return s(f) }

// TestServiceChanged: a file that changes while it is read is read again, but
// not for ever.
func TestServiceChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "a")
	reads, changes := 0, 1
	read := scripted(func(f *os.File) (Content, error) {
		reads++
		c, err := Examine(f, 1000, 0)
		if reads <= changes {
			write(t, path, strings.Repeat("b", reads+1))
		}
		return c, err
	})
	r := start(t, Config{Reader: read})
	r.want(r.ask(path, nil), "bb")
	if reads != 2 {
		t.Errorf("read %d times, want 2", reads)
	}
	reads, changes = 0, 100
	r.reason(r.ask(path, nil), ReasonChanged)
	if reads != maxTries {
		t.Errorf("read %d times, want %d", reads, maxTries)
	}
}

// TestServiceCache: an unchanged file is read once; one that has just changed
// is not trusted to show it.
func TestServiceCache(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "a")
	// Its last change, which nobody can set, must be past.
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for time.Since(ctime(t, path)) < 2*racy {
		<-tick.C
	}
	reads := 0
	r := start(t, Config{Reader: scripted(func(f *os.File) (Content, error) {
		reads++
		return Examine(f, 1000, 0)
	})})
	r.want(r.ask(path, nil), "a")
	r.want(r.ask(path, nil), "a")
	if st := r.Stats(); reads != 1 || st.Cached != 1 || st.Hashed != 2 {
		t.Errorf("read %d times, %+v", reads, st)
	}
	write(t, path, "b")
	r.want(r.ask(path, nil), "b")
}

func ctime(t *testing.T, path string) time.Time {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return time.Unix(st.Ctim.Unix())
}

// TestServiceRates: what is beyond queue and time is told as such, and every
// ask is answered.
func TestServiceRates(t *testing.T) {
	dir := t.TempDir()
	block, reading := make(chan struct{}), make(chan struct{}, 100)
	r := start(t, Config{Queue: 10, MaxAge: time.Nanosecond, Reader: scripted(func(f *os.File) (Content, error) {
		reading <- struct{}{}
		<-block
		return Examine(f, 1000, 0)
	})})
	var seqs []uint64
	for i := range 40 {
		path := filepath.Join(dir, fmt.Sprint(i))
		write(t, path, "x")
		seqs = append(seqs, r.ask(path, nil))
	}
	close(block)
	rated := 0
	for _, seq := range seqs {
		if f := r.answer(seq); f.Reason == string(ReasonRate) {
			rated++
		}
	}
	if st := r.Stats(); rated < 29 || st.Reasons[ReasonRate] != uint64(rated) {
		t.Errorf("%d of 40 were too many, %+v", rated, st)
	}
}

// TestServiceNamespace: a path means what it means to the process that used it.
func TestServiceNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a mount namespace takes root")
	}
	dir := t.TempDir()
	write(t, dir+"/f", "outside")
	pid := sleeper(t, dir)
	inside := fmt.Sprintf("/proc/%d/root%s/f", pid, dir)
	write(t, inside, "inside")
	ns, err := mountNamespace(fmt.Sprint(pid))
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, Config{})
	r.want(r.ask(dir+"/f", nil), "outside")
	r.want(r.ask(dir+"/f", func(a *Ask) {
		want := id(t, inside)
		a.ID.Dev, a.ID.Inode, a.ID.Filesystem = want.Dev, want.Inode, "tmpfs"
		a.MntNS, a.PIDs = ns, []uint32{1 << 30, uint32(pid)}
	}), "inside")
}

func TestParseClosings(t *testing.T) {
	var got []string
	for _, b := range [][]byte{nil, make([]byte, 24), append([]byte{200, 0, 0, 0}, make([]byte, 40)...), append([]byte{24, 0, 0, 0, 3, 0, 24, 0}, make([]byte, 40)...)} {
		parseClosings(b, func(key string) { got = append(got, key) })
	}
	if len(got) != 0 {
		t.Errorf("nonsense names %q", got)
	}
}

func FuzzParseClosings(f *testing.F) {
	f.Add(make([]byte, 64))
	f.Add(append([]byte{56, 0, 0, 0, 3, 0, 24, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 32, 0}, make([]byte, 28)...))
	f.Fuzz(func(_ *testing.T, b []byte) { parseClosings(b, func(string) {}) })
}
