package evalfile_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/evalfile"
)

func eval(t *testing.T, policy, events string) string {
	t.Helper()
	d, err := evalfile.New()
	if err != nil {
		t.Fatal(err)
	}
	set, report, err := ruleset.Load(ruleset.Config{Schema: d.Schema(), OwnRatesOnly: true}, []ruleset.File{{Name: "x.policy", Data: []byte(policy)}})
	if err != nil {
		t.Fatal(err)
	}
	if report.Failed() {
		t.Fatalf("%+v", report.Problems)
	}
	var b strings.Builder
	err = d.Read(strings.NewReader(events), func(n int, e *event.Event) error {
		for _, m := range set.Eval(e, nil) {
			fmt.Fprintf(&b, "%d:%s ", n, m.Rule.ID)
		}
		d.Forget(e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(b.String())
}

func TestEval(t *testing.T) {
	const curl = `{"kind":"exec","at":1700000000000000000,"fields":{"exec.file.path":"/usr/bin/curl","process.uid":7,"exec.argv":["-s","--data","x"],"process.ancestors":[{"file.path":"/usr/bin/bash","uid":7},{"comm":"init","file.name":"other"}]}}`
	for _, tc := range []struct {
		name, expr, event string
		want              bool
	}{
		{"derived name", `exec.file.name == "curl"`, curl, true},
		{"the same process at two places", `process.file.path == "/usr/bin/curl" && exec.uid == 7`, curl, true},
		{"absent is zero", `exec.comm == "" && process.gid == 0`, curl, true},
		{"flags from arguments", `exec.args_flags == "s" && exec.args_options == "data=x" && exec.args == "-s --data x"`, curl, true},
		{"argv0 left out", `exec.argv.length == 3 && exec.argv0 == ""`, curl, true},
		{"ancestor", `exec.uid == 7 && process.ancestors.file.name == "bash"`, curl, true},
		{"one ancestor", `exec.uid == 7 && process.ancestors[A].file.name == "bash" && process.ancestors[A].uid == 7`, curl, true},
		{"not one ancestor", `exec.uid == 7 && process.ancestors[A].file.name == "bash" && process.ancestors[A].comm == "init"`, curl, false},
		{"derived of an ancestor that is given", `exec.uid == 7 && process.ancestors.file.name == "other"`, curl, true},
		{"parent is the first ancestor", `exec.uid == 7 && process.parent.file.name == "bash"`, curl, true},
		{"age", `exec.created_at < 5s`, `{"kind":"exec","at":"2023-11-14T22:13:20Z","fields":{"exec.created_at":1699999999000000000}}`, true},
		{"given wins", `exec.file.name == "x" && process.file.name == "x"`, `{"kind":"exec","fields":{"exec.file.path":"/bin/y","exec.file.name":"x"}}`, true},
		{"given wins over arguments", `exec.args_flags == "z" && exec.args_flags != "s"`, `{"kind":"exec","fields":{"exec.argv":["-s"],"exec.args_flags":["z"]}}`, true},
		{"file", `open.file.name == "b" && open.flags & O_CREAT > 0 && open.file.rights == 0600`, `{"kind":"open","fields":{"open.file.path":"/a/b","open.flags":66,"open.file.mode":33152}}`, true},
		{"destination", `rename.file.destination.extension == ".so"`, `{"kind":"rename","fields":{"rename.file.destination.path":"/a/b.so"}}`, true},
		{"file name given", `unlink.file.name == "q" && unlink.file.path == ""`, `{"kind":"unlink","fields":{"unlink.file.name":"q"}}`, true},
		{"address", `connect.addr.ip in [10.0.0.0/8] && connect.addr.port == 80 && !connect.addr.is_public`, `{"kind":"connect","fields":{"connect.addr.ip":"10.1.2.3","connect.addr.port":80}}`, true},
		{"public", `connect.addr.is_public`, `{"kind":"connect","fields":{"connect.addr.ip":"8.8.8.8"}}`, true},
		{"public given", `connect.addr.is_public`, `{"kind":"connect","fields":{"connect.addr.is_public":true}}`, true},
		{"old name", `open.filename == "/x"`, `{"kind":"open","fields":{"open.filename":"/x"}}`, true},
		{"host", `exec.uid == 0 && event.hostname == "h"`, `{"kind":"exec","fields":{"event.hostname":"h"}}`, true},
		{"service", `exec.uid == 0 && event.service == "s"`, `{"kind":"exec","fields":{"event.service":"s"}}`, true},
		{"large integer as text", `chmod.file.inode == 9223372036854775807`, `{"kind":"chmod","fields":{"chmod.file.inode":"9223372036854775807"}}`, true},
		{"container", `exec.uid == 0 && container.id == "c" && process.container.id == "c"`, `{"kind":"exec","fields":{"container.id":"c"}}`, true},
		{"unobserved kind", `exec.uid == 0`, `{"kind":"dns","fields":{"dns.question.name":"x"}}`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q, err := json.Marshal(tc.expr) // JSON strings are YAML strings
			if err != nil {
				t.Fatal(err)
			}
			got := eval(t, "rules: [{id: r, expression: "+string(q)+"}]", "\n"+tc.event+"\n")
			want := ""
			if tc.want {
				want = "0:r"
			}
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestVerdicts holds that every event is judged: only a rate that a rule
// states is applied.
func TestVerdicts(t *testing.T) {
	line := `{"kind":"exec","at":5,"fields":{"exec.uid":1}}` + "\n"
	got := eval(t, "rules: [{id: all, expression: exec.uid == 1}, {id: once, every: 1h, expression: exec.uid == 1}]", strings.Repeat(line, 100))
	if n := strings.Count(got, ":all"); n != 100 {
		t.Errorf("%d verdicts, want 100", n)
	}
	if n := strings.Count(got, ":once"); n != 1 {
		t.Errorf("%d verdicts of the rule with a rate, want 1", n)
	}
}

// TestVariables holds that lines about one process are about one process.
func TestVariables(t *testing.T) {
	got := eval(t, `
rules:
  - {id: note, silent: true, expression: exec.file.name == "a", actions: [{set: {name: seen, value: true, scope: process}}]}
  - {id: later, expression: 'open.file.path == "/x" && ${process.seen}'}
`, `{"kind":"exec","fields":{"exec.file.path":"/a","process.pid":7}}
{"kind":"open","fields":{"open.file.path":"/x","process.pid":8}}
{"kind":"open","fields":{"open.file.path":"/x","process.pid":7}}`)
	if got != "2:later" {
		t.Errorf("got %q", got)
	}
}

func TestErrors(t *testing.T) {
	for line, want := range map[string]string{
		`nonsense`:                       "line 2: not an event",
		`{"fields":{}}`:                  "line 2: event has no kind",
		`{"kind":"exec","at":"morning"}`: "line 2: at: \"morning\" is neither",
		`{"kind":"exec","fields":{"exec.uid":"x"}}`:             "line 2: field exec.uid: \"x\" is no integer",
		`{"kind":"exec","fields":{"process.ancestors":7}}`:      "line 2: field process.ancestors: want a list",
		`{"kind":"connect","fields":{"connect.addr.ip":"x"}}`:   "line 2: field connect.addr.ip: ",
		`{"kind":"exec","fields":{"process.ancestors":[null]}}`: "",
	} {
		d, err := evalfile.New()
		if err != nil {
			t.Fatal(err)
		}
		err = d.Read(strings.NewReader("\n"+line), func(int, *event.Event) error { return nil })
		var le *evalfile.LineError
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", line, err)
		case want != "" && (!errors.As(err, &le) || !strings.HasPrefix(err.Error(), want)):
			t.Errorf("%s: got %v, want %s", line, err, want)
		}
	}
}

func TestUnknown(t *testing.T) {
	d, err := evalfile.New()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Decode([]byte(`{"kind":"exec","id":"ev_x","ruleIds":[],"fields":{"exec.fil":1,"open.file.path":"/x"}}`)); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(d.Unknown(), " "); got != "open.file.path process.fil" {
		t.Errorf("got %s", got)
	}
}

// TestFields holds that every field of the model can be given.
func TestFields(t *testing.T) {
	d, err := evalfile.New()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range d.Schema().Names() {
		f, _ := d.Schema().Field(name)
		kind := f.Kind
		switch {
		case kind == "" && f.Kinds != nil:
			kind = f.Kinds[0]
		case kind == "":
			kind = "exec"
		}
		v, set := "", func(e *event.Event) bool { return false }
		switch {
		case name == "event.timestamp", name == "event.async", f.Iter != "":
			continue
		case f.Get.Bool != nil:
			v, set = "true", f.Get.Bool
		case f.Get.Int != nil:
			v, set = "77", func(e *event.Event) bool { return f.Get.Int(e) == 77 }
		case f.Get.Str != nil:
			v, set = `"seven"`, func(e *event.Event) bool { return f.Get.Str(e) == "seven" }
		case f.Get.IP != nil:
			v, set = `"7.7.7.7"`, func(e *event.Event) bool { return f.Get.IP(e).String() == "7.7.7.7/32" }
		case f.Get.Ints != nil:
			v, set = `[77]`, func(e *event.Event) bool { return slices.Equal(f.Get.Ints(e), []int64{77}) }
		case f.Get.Walk != nil:
			v, set = `["seven"]`, func(e *event.Event) bool { return f.Get.Walk(e, func(s string) bool { return s == "seven" }) }
		default:
			v, set = `["seven"]`, func(e *event.Event) bool { l := f.Get.Strs(e); return len(l) == 1 && l[0] == "seven" }
		}
		e, err := d.Decode([]byte(`{"kind":"` + kind + `","fields":{"` + name + `":` + v + `}}`))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !set(e) {
			t.Errorf("%s: is not what was given", name)
		}
	}
}

// TestLists holds that lists of objects can be given, and that rules find
// their way through each.
func TestLists(t *testing.T) {
	for _, tc := range []struct{ kind, fields, rule string }{
		{"exec", `"process.ancestors":[{"comm":"a"},{"comm":"b","uid":7}]`, `process.ancestors[A].comm == "b" && process.ancestors[A].uid == 7`},
		{"exec", `"process.ancestors":[{"file.name":"x","file.path":"/usr/bin/y"}]`, `process.ancestors.file.name == "x"`},
		{"exec", `"exec.file.path":"/usr/bin/python3.11","exec.file.other_paths":["/usr/bin/python3"]`, `exec.file.name == "python3" && exec.file.path != "/usr/bin/python2"`},
		{"exec", `"process.ancestors":[{"file.path":"/a"},{"file.path":"/b","file.other_paths":["/c/d"]}]`, `process.ancestors.file.name == "d" && exec.uid == 0`},
		{"dns", `"dns.question.name":"a.b.example.org"`, `dns.question.name.root_domain == "example.org"`},
		{"dns", `"dns.question.name":"a.b.example.org","dns.question.name.root_domain":"given.org"`, `dns.question.name.root_domain == "given.org"`},
		{"ptrace", `"ptrace.tracee.pid":5,"ptrace.tracee.ancestors":[{"comm":"a"},{"comm":"b"}]`, `ptrace.tracee.pid == 5 && ptrace.tracee.ancestors.comm == "b"`},
		{"signal", `"signal.target.parent.comm":"sshd","signal.type":9`, `signal.type == SIGKILL && signal.target.parent.comm == "sshd"`},
		{"exec", `"process.user_session.k8s_username":"eve"`, `process.user_session.k8s_username == "eve"`},
		{"exec", `"exec.file.metadata.is_upx_packed":true`, `exec.file.metadata.is_upx_packed`},
		{"dns", `"dns.question.name":"Example.COM","network.destination.port":53`, `dns.question.name == "example.com" && network.destination.port == 53`},
		{"network_flow_monitor", `"network_flow_monitor.flows":[{"source.port":1,"destination.port":443},{"source.port":2,"destination.port":80}]`,
			`network_flow_monitor.flows[A].source.port == 2 && network_flow_monitor.flows[A].destination.port == 80`},
		{"network_flow_monitor", `"network_flow_monitor.flows":[{"source.port":1,"destination.port":443},{"source.port":2,"destination.port":80}]`,
			`!(network_flow_monitor.flows[A].source.port == 1 && network_flow_monitor.flows[A].destination.port == 80)`},
		{"network_flow_monitor", `"network_flow_monitor.flows":[{"source.ip":"10.0.0.1"},{"source.ip":"10.0.0.2"}]`, `network_flow_monitor.flows.source.ip allin [10.0.0.0/8]`},
		{"network_flow_monitor", `"network_flow_monitor.flows":[{"source.ip":"10.0.0.1"},{"source.ip":"10.0.0.2"}]`, `network_flow_monitor.flows.length == 2`},
		{"bpf", `"bpf.prog.helpers":[1,36]`, `BPF_PROBE_WRITE_USER in bpf.prog.helpers`},
		{"bpf", `"bpf.prog.helpers":[1,36]`, `bpf.prog.helpers in [BPF_PROBE_WRITE_USER]`},
	} {
		d, err := evalfile.New()
		if err != nil {
			t.Fatal(err)
		}
		e, err := d.Decode([]byte(`{"kind":"` + tc.kind + `","fields":{` + tc.fields + `}}`))
		if err != nil {
			t.Errorf("%s: %v", tc.fields, err)
			continue
		}
		if u := d.Unknown(); len(u) > 0 {
			t.Errorf("%s: unknown %v", tc.fields, u)
		}
		match, err := ruleset.CompilePredicate(d.Schema(), e.Kind, tc.rule)
		if err != nil {
			t.Errorf("%s: %v", tc.rule, err)
			continue
		}
		if !match(e) {
			t.Errorf("%s does not match %s", tc.rule, tc.fields)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"kind":"exec","at":1,"fields":{"exec.argv":["a"],"process.ancestors":[{"pid":1}]}}`))
	f.Add([]byte(`{"kind":"connect","at":"2023-11-14T22:13:20Z","fields":{"connect.addr.ip":"::1"}}`))
	f.Add([]byte(`{"kind":"fork"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := evalfile.New()
		if err != nil {
			t.Fatal(err)
		}
		if e, err := d.Decode(data); err == nil && e.Proc == nil {
			t.Error("event without a process")
		}
	})
}
