package backtest

import (
	"reflect"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/pipeline"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/testkit/streamtest"
)

// kept tells whether an agent without rules keeps an event. Its process has no
// context of its own, which would be a reason as well.
func kept(t *testing.T, e *event.Event) bool {
	t.Helper()
	p, err := pipeline.New(pipeline.Config{})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := streamtest.New()
	e.PID, e.TID, e.StartNS = 1, 1, 1
	recs := append(b.Records, &event.StreamRecord{Seq: 10, BootNS: 2e9, Event: e})
	found := false
	for _, rec := range recs {
		if err := p.Push(rec, func(out *event.SpoolRecord) error {
			found = found || out.Event != nil
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// whole is an event of a kind with nothing but the part that the kind promises.
func whole(t *testing.T, k event.Kind) *event.Event {
	t.Helper()
	e := &event.Event{Kind: k}
	v := reflect.ValueOf(e).Elem()
	for i := range v.NumField() {
		f := v.Field(i)
		name := v.Type().Field(i).Name
		if f.Kind() != reflect.Pointer || name == "Proc" || name == "Host" {
			continue
		}
		f.Set(reflect.New(f.Type().Elem()))
		if e.Complete() {
			return e
		}
		f.SetZero()
	}
	t.Fatalf("no part completes %s", k)
	return nil
}

// TestKeptKinds holds what is said to be kept to what an agent keeps.
func TestKeptKinds(t *testing.T) {
	for _, k := range alwaysKept {
		if !kept(t, whole(t, k)) {
			t.Errorf("%s is not always kept", k)
		}
	}
	for k, fields := range changed {
		for _, field := range fields {
			for _, path := range []string{"/etc/x", "/home/x"} {
				e := whole(t, k)
				for _, ref := range event.FileRefs {
					if ref.Kind == k && ref.Path+".path" == field {
						ref.Get(e).Path = path
					}
				}
				if e.Open != nil {
					e.Open.Flags = 0o1
				}
				if got, want := kept(t, e), strings.HasPrefix(path, "/etc/"); got != want {
					t.Errorf("%s with %s %s: kept is %t", k, field, path, got)
				}
			}
		}
	}
	for name, want := range map[string]bool{"security.capability": true, "user.x": false, "security": false} {
		for _, e := range []*event.Event{
			{Kind: event.KindSetxattr, Setxattr: &event.Setxattr{DestinationName: name}}, {Kind: event.KindRemovexattr, Removexattr: &event.Removexattr{DestinationName: name}},
		} {
			if got := kept(t, e); got != want {
				t.Errorf("%s of %s: kept is %t", e.Kind, name, got)
			}
		}
	}
	for flag := range int64(20) {
		e := whole(t, event.KindOpen)
		e.Open.File.Path, e.Open.Flags = "/etc/x", 1<<flag
		if got, want := kept(t, e), e.Open.Flags&openWrites != 0; got != want {
			t.Errorf("open with flags %#o: kept is %t", e.Open.Flags, got)
		}
	}
}

// TestKeptWhole tells apart conditions of which an agent keeps all that they
// can match, and those of which it need not.
func TestKeptWhole(t *testing.T) {
	for expr, want := range map[string]bool{
		`exec.file.name == "x"`:                                                       true,
		`mount.syscall.fs_type == "x"`:                                                true,
		`connect.addr.port == 80`:                                                     false,
		`chmod.file.path == "/etc/a"`:                                                 true,
		`chmod.file.path =~ "/usr/**"`:                                                true,
		`chmod.file.path in ["/etc/a", ~"/opt/*"]`:                                    true,
		`chmod.file.path in ["/etc/a", "/tmp/a"]`:                                     false,
		`chmod.file.path != "/etc/a"`:                                                 false,
		`chmod.file.path =~ "/*/a"`:                                                   false,
		`chmod.file.name == "a"`:                                                      false,
		`chmod.file.path == "/etc/a" || chmod.file.path == "/root/b"`:                 true,
		`chmod.file.path == "/etc/a" || chmod.file.name == "b"`:                       false,
		`chmod.file.path == "/etc/a" && chmod.file.name == "b"`:                       true,
		`rename.file.path == "/tmp/a" && rename.file.destination.path == "/etc/a"`:    true,
		`open.file.path == "/etc/a"`:                                                  false,
		`open.file.path == "/etc/a" && open.flags & O_CREAT > 0`:                      true,
		`open.file.path == "/etc/a" && open.flags & (O_WRONLY | O_RDWR) != 0`:         true,
		`open.file.path == "/etc/a" && open.flags & O_CLOEXEC > 0`:                    false,
		`open.file.path == "/etc/a" && open.flags & (O_CREAT | O_CLOEXEC) > 0`:        false,
		`open.file.path == "/tmp/a" && open.flags & O_CREAT > 0`:                      false,
		`setxattr.file.destination.name == "security.capability"`:                     true,
		`setxattr.file.destination.namespace == "security"`:                           true,
		`removexattr.file.destination.name in ["security.capability", "user.x"]`:      false,
		`removexattr.file.destination.namespace == "user" && process.file.name == ""`: false,
	} {
		set, report, err := Compile([]ruleset.File{{Name: "x.policy", Data: []byte("rules:\n  - id: x\n    expression: |\n      " + expr + "\n")}})(ruleset.Facts{}, true)
		if err != nil {
			t.Fatal(err)
		}
		if len(set.Rules()) != 1 {
			t.Errorf("%s: %+v", expr, report)
			continue
		}
		for _, c := range set.Conditions(set.Rules()[0]) {
			if got := keptWhole(&c); got != want {
				t.Errorf("%s: %t", expr, got)
			}
		}
	}
}
