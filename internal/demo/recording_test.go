package demo_test

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/clewsec/clew/internal/demo"
	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/policies"
	"github.com/clewsec/clew/internal/replay"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/server/apijson"
	"github.com/clewsec/clew/internal/server/storytext"
	"github.com/clewsec/clew/internal/stream"
)

var update = flag.Bool("update", false, "write the golden files")

func rules(f ruleset.Facts) (*ruleset.Set, error) {
	set, _, err := policies.Load(f)
	return set, err
}

func replayed(t *testing.T) *replay.Result {
	t.Helper()
	rec, _ := demo.Recording()
	res, err := replay.Run(bytes.NewReader(rec), rules)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// The recording holds one story, and every step of the attack is in it.
func TestRecordingIsOneStory(t *testing.T) {
	res := replayed(t)
	if len(res.Stories) != 1 {
		t.Fatalf("%d stories, want 1", len(res.Stories))
	}
	st := res.Stories[0]
	js, err := apijson.Marshal(st)
	if err != nil {
		t.Fatal(err)
	}
	_, plan := demo.Recording()
	for _, s := range plan.Steps() {
		if !bytes.Contains(js, []byte(s.Marker)) {
			t.Errorf("step %s is not told: no %s", s.Name, s.Marker)
		}
	}
	if st.Counts.Lost != 0 {
		t.Errorf("%d events are missing in the recording", st.Counts.Lost)
	}
	text := storytext.Text(st, storytext.Options{Zone: time.UTC})
	golden(t, "demo.story.txt", []byte(text))
	pretty, err := apijson.MarshalIndent(st)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "demo.story.json", append(pretty, '\n'))
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from what the recording tells now; look at the difference, then run with -update", path)
	}
}

// Where, when and on how many processors a recording is replayed changes no
// byte of the answer.
func TestReplayIsDeterministic(t *testing.T) {
	if len(os.Getenv("CLEW_REPLAY_CHILD")) > 0 {
		js, err := apijson.List(replayed(t).Stories)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(os.Getenv("CLEW_REPLAY_CHILD"), js, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var first []byte
	for i, env := range [][]string{{"TZ=UTC"}, {"TZ=UTC"}, {"TZ=Asia/Kathmandu"}, {"GOMAXPROCS=1"}} {
		out := filepath.Join(t.TempDir(), "out.json")
		cmd := exec.Command(exe, "-test.run=^TestReplayIsDeterministic$")
		cmd.Dir = t.TempDir()
		cmd.Env = append(append(os.Environ(), "CLEW_REPLAY_CHILD="+out), env...)
		if b, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", env, err, b)
		}
		got, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = got
		}
		if !bytes.Equal(got, first) {
			t.Errorf("with %v the replay gives another answer", env)
		}
	}
}

// foreign matches what a recording must not hold: directories of the person or
// the service that made it.
var foreign = regexp.MustCompile(`/home/(?:[^d]|d[^e])|/root/|/w[o]rk\b|/builds?/|/Users/|/actions|\.internal\b|/docker/`)

// distribution matches the releases of kernels that everybody can install.
var distribution = regexp.MustCompile(`-(cloud-)?(amd64|arm64|generic)$`)

// Whatever recording is checked in holds nothing of the machine it was made
// on, and is small.
func TestRecordingsAreClean(t *testing.T) {
	var files []string
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules" || d.Name() == ".cache") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".clewrec") {
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no recording found")
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > 2<<20 {
			t.Errorf("%s has %d bytes, 2 MiB are allowed", path, len(data))
		}
		r, err := stream.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		s := r.Start()
		if s.HostID != "" || s.BootID != "" || s.Hostname == host && len(host) > 2 {
			t.Errorf("%s names its host: %+v", path, s)
		}
		if !distribution.MatchString(s.Kernel) {
			t.Errorf("%s was made on kernel %s, which is no distribution's", path, s.Kernel)
		}
		for {
			rec, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			image := rec.Snapshot
			if rec.Event != nil && rec.Event.Exec != nil {
				image = rec.Event.Exec.Image
			}
			if image != nil && len(image.Cgroup) > 1 {
				t.Errorf("%s: record %d names the control group %s", path, rec.Seq, image.Cgroup)
			}
			if m := foreign.Find(event.AppendStreamRecord(nil, rec)); m != nil {
				t.Errorf("%s: record %d holds %q", path, rec.Seq, m)
			}
		}
		r.Close()
	}
}
