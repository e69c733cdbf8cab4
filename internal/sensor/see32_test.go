//go:build linux && (amd64 || arm64)

package sensor

import (
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/testkit/vm"
)

const see32Policy = `
rules:
  - {id: ran, expression: 'exec.file.name == "see32"'}
  - {id: opened, expression: 'open.file.path == "BASE/secret"'}
  - {id: mode, expression: 'chmod.file.path == "BASE/secret"'}
  - {id: moved, expression: 'rename.file.path == "BASE/victim"'}
  - {id: removed, expression: 'unlink.file.path == "BASE/victim"'}
  - {id: connected, expression: 'connect.addr.port == PORT'}
  - {id: traced, expression: 'ptrace.request == PTRACE_TRACEME'}
  - {id: group, expression: 'setgid.gid == 12345'}
`

// TestSee32 runs a 32-bit program. Rules on what it does fire in trampoline
// mode, and in tracepoint mode where that was asked for; else only the one on
// its start does, as Probe says of every other kind.
func TestSee32(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("32-bit calls of arm64 are not looked into")
	}
	if vm.Inside() {
		t.Skip("nothing can be built in the machine")
	}
	base := realTemp(t)
	bin := filepath.Join(base, "see32")
	build := exec.Command("go", "build", "-o", bin, "testdata/see32/main.go")
	build.Env = append(os.Environ(), "GOARCH=386", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"connected", "group", "mode", "moved", "opened", "ran", "removed", "traced"}
	for _, tt := range []struct {
		name string
		see  bool
		want []string
	}{
		{"asked for", true, all},
		{"not asked for", false, map[bool][]string{true: all, false: {"ran"}}[resolved()]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := realTemp(t)
			stage(t, dir)
			text := strings.NewReplacer("BASE", dir, "PORT", fmt.Sprint(l.Addr().(*net.TCPAddr).Port)).Replace(see32Policy)
			set, report, err := ruleset.Load(ruleset.Config{Schema: schema}, []ruleset.File{{Name: "see32.policy", Data: []byte(text)}})
			if err != nil {
				t.Fatal(err)
			}
			if report.Failed() {
				report.WriteText(t.Output())
				t.Fatal("the policy is wrong")
			}
			w := startWatch(t, Config{Plan: ruleset.DerivePlan(set), NotSelf: true, See32: tt.see})
			cmd := exec.Command(bin, dir, l.Addr().String())
			out, err := cmd.CombinedOutput()
			if cmd.Process == nil && strings.Contains(err.Error(), "exec format error") {
				t.Skip("this kernel was built without 32-bit programs")
			}
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			w.settle()
			w.stop()
			fired := firedBy(t, set, w.recs)[uint32(cmd.Process.Pid)]
			if got := slices.Sorted(maps.Keys(fired)); !slices.Equal(got, tt.want) {
				t.Errorf("fired %v, want %v", got, tt.want)
			}
			for id, e := range fired {
				if id != "ran" && (e.Proc == nil || e.Proc.File.Path != bin) {
					t.Errorf("%s: process %+v", id, e.Proc)
				}
			}
			st, err := w.s.Stats()
			if err != nil {
				t.Fatal(err)
			}
			checkSums(t, st)
		})
	}
}
