package system

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clewsec/clew/internal/testkit/proc"
)

// TestDemoBesideOtherWork plays the demo's attack while people and machines do
// what they do all day, on the same host at the same time. All of the attack is
// in one story, and nothing of the rest is.
func TestDemoBesideOtherWork(t *testing.T) {
	c, _ := watching(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()

	marks := map[string]string{} // what of the other work would show in a story
	stop := make(chan struct{})
	var work sync.WaitGroup
	beside := func(mark string, dir, script string) {
		marks[mark] = script
		work.Go(func() {
			for {
				cmd := exec.CommandContext(ctx, "/bin/sh", "-c", script)
				cmd.Dir = dir
				if out, err := cmd.CombinedOutput(); err != nil && ctx.Err() == nil {
					t.Errorf("%s: %v\n%s", script, err, out)
					return
				}
				select {
				case <-stop:
					return
				case <-ctx.Done():
					return
				case <-time.After(100 * time.Millisecond):
				}
			}
		})
	}
	beside("besidesession", t.TempDir(), "echo besidesession; id; whoami; ls -la /tmp; cat /etc/passwd; uname -a; grep -c root /etc/group")
	if git, err := exec.LookPath("git"); err == nil {
		src := t.TempDir()
		run(t, src, git, "init", "-q", "besiderepo")
		repo := filepath.Join(src, "besiderepo")
		if err := os.WriteFile(filepath.Join(repo, "a.txt"), []byte("a\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		run(t, repo, git, "add", "a.txt")
		run(t, repo, git, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "a")
		beside("besiderepo", t.TempDir(), "git clone -q "+repo+" copy && rm -rf copy")
	} else {
		t.Log("no git here: cloning is not tried")
	}
	if _, err := exec.LookPath("go"); err == nil {
		mod := t.TempDir()
		for name, text := range map[string]string{"go.mod": "module besidebuild\n\ngo 1.24\n", "main.go": "package main\n\nfunc main() { println(\"besidebuild\") }\n"} {
			if err := os.WriteFile(filepath.Join(mod, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		beside("besidebuild", mod, "echo '// again' >>main.go && GOFLAGS=-mod=mod go build -o besidebuild . && ./besidebuild")
	} else {
		t.Log("no go here: building is not tried")
	}
	if _, err := exec.LookPath("apt-get"); err == nil {
		// With no sources it reads its configuration and lists, and writes new
		// ones, without asking anybody.
		dir := t.TempDir()
		run(t, dir, "mkdir", "-p", "besideapt/lists/partial", "besideapt/archives/partial")
		beside("besideapt", dir, "apt-get -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists="+dir+"/besideapt/lists -o Dir::Cache="+dir+"/besideapt -qq update")
	}

	out, err := c.Run(ctx, "demo", "--json")
	close(stop)
	work.Wait()
	if err != nil {
		t.Fatalf("clew demo: %v\n%s", err, out)
	}
	var told struct {
		StoryID string `json:"storyId"`
		Steps   []struct {
			Name, Marker string
			Told         bool
		} `json:"steps"`
	}
	if err := json.Unmarshal(out, &told); err != nil {
		t.Fatalf("clew demo --json printed %q: %v", out, err)
	}
	if len(told.Steps) < 10 {
		t.Errorf("%d steps, at least 10 are expected", len(told.Steps))
	}
	for _, s := range told.Steps {
		if !s.Told {
			t.Errorf("step %s is not told", s.Name)
		}
	}
	stories, err := c.Stories(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var story *proc.Story
	for i := range stories {
		if stories[i].ID == told.StoryID {
			story = &stories[i]
			continue
		}
		// The attack is whole in its story: no other one has its service.
		if bytes.Contains(stories[i].Raw, []byte(told.Steps[0].Marker)) {
			t.Errorf("story %s has a part of the attack, which is story %s", stories[i].ID, told.StoryID)
		}
	}
	if story == nil {
		t.Fatalf("no story %s", told.StoryID)
	}
	for mark, script := range marks {
		if strings.Contains(string(story.Raw), mark) {
			t.Errorf("the attack's story has a part of: %s", script)
		}
	}
}

func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}
