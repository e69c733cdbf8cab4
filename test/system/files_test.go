package system

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/filehash"
	"github.com/clewsec/clew/internal/testkit/proc"
)

// watchPolicy watches a directory and raises a signal for each change, however
// many there are.
const watchPolicy = `version: 1.0.0
watch:
  - id: files_changed
    description: A watched file was changed
    severity: low
    every: 1ns
    paths: [%s]
    recursive: true
`

// oneCPU binds this thread, and whatever it starts, to one processor, until the
// function it returns is called.
func oneCPU(t *testing.T) (free func()) {
	t.Helper()
	runtime.LockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	for cpu := range 1024 {
		if before.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.SchedSetaffinity(0, &before); err != nil {
			t.Error(err)
			return // the thread ends with the test
		}
		runtime.UnlockOSThread()
	}
}

// TestFileIntegrity creates, writes, renames and deletes files as fast as one
// processor, shared with agent and server, lets it. Every change is stored with
// the process that made it, and for each there is a hash or the reason why there
// is none.
func TestFileIntegrity(t *testing.T) {
	files := size(100, 1000, 12500)
	dir := filepath.Join(t.TempDir(), "watched")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	policy := filepath.Join(t.TempDir(), "watch.yaml")
	if err := os.WriteFile(policy, fmt.Appendf(nil, watchPolicy, dir), 0o644); err != nil {
		t.Fatal(err)
	}
	free := oneCPU(t)
	c, _ := watching(t, "--policies", policy)

	began := time.Now()
	for _, change := range []func(string) error{appendTo, appendTo, moveAway, removeMoved} {
		for i := range files {
			if err := change(filepath.Join(dir, fmt.Sprintf("f%06d", i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Some stay, so that reading keeps up with them at the latest now.
	const stay = 20
	for i := range stay {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("stays%02d", i)), []byte("here to stay\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(began)
	free() // who looks at it now is not part of it

	want := map[string]int{"open": 2*files + stay, "rename": files, "unlink": files}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 90*time.Second+time.Duration(files)*40*time.Millisecond, errors.New("time is up"))
	defer cancel()
	var got map[string]int
	var hashed int
	var reasons map[string]int
	look := time.NewTicker(500 * time.Millisecond)
	defer look.Stop()
	err := proc.Until(ctx, func() (bool, error) {
		<-look.C // reading all of them takes its time, too
		var open int
		got, reasons, hashed, open = map[string]int{}, map[string]int{}, 0, 0
		err := eachEvent(ctx, c, "files_changed", func(e proc.Event) error {
			if pid := number(e, "process.pid"); pid != os.Getpid() {
				return fmt.Errorf("event %s is of process %d, not of %d", e.ID, pid, os.Getpid())
			}
			got[e.Kind]++
			state, hash := facts(e)
			switch {
			case hash && state == "":
				hashed++
			case !hash && state != "":
				reasons[state]++
			default:
				open++
			}
			return nil
		})
		if err != nil {
			return false, errors.Join(err, ctx.Err())
		}
		whole := true
		for kind, n := range want {
			whole = whole && got[kind] == n
		}
		return whole && open == 0, nil
	})
	total := 0
	for kind, n := range want {
		total += n
		if got[kind] != n {
			t.Errorf("%s: %d of %d are stored", kind, got[kind], n)
		}
	}
	answered := hashed
	for reason, n := range reasons {
		answered += n
		if !known(reason) {
			t.Errorf("reason %q is none", reason)
		}
	}
	if answered != total || hashed < stay {
		t.Errorf("%d of %d changes have a hash or a reason: %d hashed, %v", answered, total, hashed, reasons)
	}
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d changes in %v on one processor: stored %v, hashed %d, not hashed %v", total, took.Round(time.Millisecond), got, hashed, reasons)
}

// appendTo creates a file or writes to it.
func appendTo(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(path + "\n")
	return errors.Join(err, f.Close())
}

func moveAway(path string) error    { return os.Rename(path, path+".moved") }
func removeMoved(path string) error { return os.Remove(path + ".moved") }

// facts are what an event says of the content of its file.
func facts(e proc.Event) (state string, hash bool) {
	path := e.Kind + ".file"
	if e.Kind == "rename" {
		path += ".destination"
	}
	state, _ = e.Fields[path+".hash_state"].(string)
	hashes, _ := e.Fields[path+".hashes"].([]any)
	return state, len(hashes) > 0
}

func known(reason string) bool {
	for _, r := range filehash.Reasons {
		if string(r) == reason {
			return true
		}
	}
	return false
}

// eachEvent calls fn with each stored event that matched a rule.
func eachEvent(ctx context.Context, c *proc.Clew, rule string, fn func(proc.Event) error) error {
	out, err := c.Run(ctx, "events", "--json", "--since", "1h", "--rule", rule)
	if err != nil {
		return err
	}
	sc := bufio.NewScanner(bytes.NewReader(out))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var e proc.Event
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
			return err
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return sc.Err()
}

// TestBeforeAndAfter changes a file that a rule names and expects its hash, what
// it was before, and the difference.
func TestBeforeAndAfter(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "service.conf")
	if err := os.WriteFile(path, []byte("listen 80\nroot /srv\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	policy := filepath.Join(t.TempDir(), "watch.yaml")
	text := fmt.Sprintf("version: 1.0.0\nwatch:\n  - id: files_changed\n    description: A watched file was changed\n    severity: low\n    paths: [%s]\n", path)
	if err := os.WriteFile(policy, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c, _ := watching(t, "--policies", policy)
	if err := os.WriteFile(path, []byte("listen 443\nroot /srv\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("time is up"))
	defer cancel()
	var last proc.Event
	err := proc.Until(ctx, func() (bool, error) {
		found := false
		err := eachEvent(ctx, c, "files_changed", func(e proc.Event) error {
			last = e
			if _, hash := facts(e); e.Kind == "open" && hash {
				found = true
			}
			return nil
		})
		return found, err
	})
	if err != nil {
		t.Fatalf("%v: %+v", err, last)
	}
	f := last.Fields
	if number(last, "open.file.before.size") != 20 || number(last, "open.file.before.mode") != 0o100644 || number(last, "open.file.metadata.size") != 21 {
		t.Errorf("facts %v", f)
	}
	if diff := f["open.file.diff"]; diff != "@@ -1 +1 @@\n-listen 80\n+listen 443\n root /srv\n" {
		t.Errorf("difference %q", diff)
	}
	before, _ := f["open.file.before.hashes"].([]any)
	after, _ := f["open.file.hashes"].([]any)
	if len(before) != 1 || len(after) != 1 || before[0] == after[0] {
		t.Errorf("hashes %v before, %v after", before, after)
	}
}
