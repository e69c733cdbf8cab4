package graph

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
)

func TestTemplate(t *testing.T) {
	for in, want := range map[string]string{
		"":                                     "",
		"sleep":                                "sleep",
		"0.25":                                 "{n}.{n}",
		"-n5":                                  "-n{n}",
		"file12.txt":                           "file{n}.txt",
		"/tmp/tmp.Xq81kzAb/out":                "/tmp/tmp.{tmp}/out",
		"deadbeef01":                           "{hex}",
		"facade":                               "facade",
		"6f1c2d3e-4b5a-4678-9abc-def012345678": "{uuid}",
		"http://10.1.2.3:8080/x":               "http://{addr}:{n}/x",
		"1.2.3.4.5":                            "{n}.{addr}",
		"1.2.3.4.":                             "{addr}.",
		"é7ü":                                  "é{n}ü",
	} {
		if got := Template(in); got != want {
			t.Errorf("Template(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add("a1b2-3.4.5.6 deadbeef tmp.aaaaaaa 6f1c2d3e-4b5a-4678-9abc-def012345678")
	f.Add("\xff999999999.9.9.9")
	f.Fuzz(func(t *testing.T, s string) {
		got := Template(s)
		if len(got) > 3*len(s)+8 {
			t.Errorf("%d bytes became %d", len(s), len(got))
		}
		if strings.ContainsAny(got, "0123456789") && !strings.Contains(s, "{") {
			t.Errorf("Template(%q) = %q keeps a number", s, got)
		}
	})
}

func TestShort(t *testing.T) {
	for _, tc := range []struct {
		in   string
		n    int
		want string
	}{
		{"short", 10, "short"},
		{"/usr/lib/very/long/php-fpm8.2", 15, "/usr/lib/…fpm8.2"[:9] + "…pm8.2"},
		{"a\x1b[2Jb", 10, "a [2Jb"},
		{"a\u202eb", 10, "a b"},
	} {
		if got := Short(tc.in, tc.n); got != tc.want {
			t.Errorf("Short(%q, %d) = %q, want %q", tc.in, tc.n, got, tc.want)
		}
	}
}

func TestAgentBytes(t *testing.T) {
	got := AgentBytes("6f1c2d3e-4b5a-4678-9abc-def012345678")
	if got[0] != 0x6f || got[15] != 0x78 {
		t.Errorf("got %x", got)
	}
	seen := map[[16]byte]string{}
	for _, id := range []string{"", "x", "6f1c2d3e-4b5a-4678-9abc-def01234567", "6f1c2d3e-4b5a-4678-9abc-def0123456789", "6f1c2d3e-4b5a-4678-9abc-def01234567g"} {
		b := AgentBytes(id)
		if o, dup := seen[b]; dup {
			t.Errorf("%q and %q are alike", id, o)
		}
		seen[b] = id
	}
}

func TestAddrText(t *testing.T) {
	for _, tc := range []struct {
		a    event.Address
		want string
	}{
		{event.Address{IP: netip.MustParseAddr("::ffff:10.0.0.1"), Port: 80}, "10.0.0.1:80"},
		{event.Address{IP: netip.MustParseAddr("2001:db8::1"), Port: 443}, "[2001:db8::1]:443"},
		{event.Address{IP: netip.MustParseAddr("10.0.0.1")}, "10.0.0.1"},
		{event.Address{IP: netip.MustParseAddr("10.0.0.1"), Port: 53, Hostname: []string{"ns.example"}}, "ns.example:53"},
		{event.Address{UnixPath: "/run/x.sock"}, "/run/x.sock"},
	} {
		if got := AddrText(&tc.a); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}

// records makes a small story by hand.
type records struct {
	items []Item
	procs map[Key]*event.Process
	now   int64
	seq   uint64
}

func (r *records) proc(parent *event.Process, path string, args ...string) *event.Process {
	r.seq++
	r.now += 1e6
	p := &event.Process{ID: event.Ref{Run: 1, Seq: r.seq}, PID: uint32(100 + r.seq), StartNS: r.seq, CreatedAt: r.now, IsExec: true, File: event.File{Path: path}, AllArgs: append([]string{path}, args...)}
	if parent != nil {
		p.ParentID = parent.ID
	}
	r.procs[Key{"a", p.ID}] = p
	return p
}

func (r *records) event(p *event.Process, e event.Event) *event.Event {
	r.seq++
	r.now += 1e6
	e.Run, e.Seq, e.TimeNS, e.PID, e.StartNS, e.ProcID, e.ContextKeys = 1, r.seq, r.now, p.PID, p.StartNS, p.ID, []string{"k"}
	r.items = append(r.items, Item{"a", &e})
	return &e
}

func (r *records) build(budget int, links ...Link) *Result {
	agents := map[string]*Agent{"a": {ID: "a", Hostname: "h", Last: r.now, Boots: map[uint64]string{1: "b"}, BootID: "b"}}
	return Build(Input{StoryID: "st_1", AsOf: r.now, Agents: agents, Items: r.items, Procs: r.procs, Links: links, Whole: map[string]bool{"k": true}, Budget: budget})
}

func newRecords() *records { return &records{procs: map[Key]*event.Process{}, now: 1e18} }

func exec() event.Event { return event.Event{Kind: event.KindExec, Exec: &event.Exec{}} }

func TestOneProcessManyImages(t *testing.T) {
	r := newRecords()
	parent := r.proc(nil, "/sbin/init")
	sh := r.proc(parent, "/bin/sh")
	r.event(sh, exec())
	py := r.proc(sh, "/usr/bin/python3")
	py.PID, py.StartNS = sh.PID, sh.StartNS
	r.event(py, exec())
	res := r.build(0)
	var found bool
	for _, n := range res.Graph.Nodes {
		if n.Label == "sh › python3" {
			found = true
			if len(n.Images) != 2 || n.Images[0].Path != "/bin/sh" {
				t.Errorf("images: %v", n.Images)
			}
			if n.State != "alive" {
				t.Errorf("state %s", n.State)
			}
		}
	}
	if !found || len(res.Graph.Nodes) != 2 {
		t.Errorf("nodes: %v", res.Graph.Nodes)
	}
	if res.Items[1].Became != "sh" || res.Items[0].Became != "" {
		t.Errorf("became: %q %q", res.Items[0].Became, res.Items[1].Became)
	}
}

func TestFilesKeepTheirIdentityWhenRenamed(t *testing.T) {
	r := newRecords()
	p := r.proc(nil, "/bin/cp")
	r.event(p, exec())
	r.event(p, event.Event{Kind: event.KindOpen, Open: &event.Open{File: event.File{Path: "/tmp/a"}, Flags: 0x41, Created: true}})
	r.event(p, event.Event{Kind: event.KindRename, Rename: &event.Rename{File: event.File{Path: "/tmp/a"}, Destination: event.File{Path: "/tmp/b"}}})
	run := r.proc(p, "/tmp/b")
	r.event(run, exec())
	r.event(p, event.Event{Kind: event.KindOpen, Open: &event.Open{File: event.File{Path: "/tmp/a"}, Flags: 0x41, Created: true}})
	res := r.build(0)
	files := map[string]string{}
	for _, n := range res.Graph.Nodes {
		if n.Kind == "file" {
			files[n.Label] = n.Id
		}
	}
	if len(files) != 2 || files["/tmp/b"] == "" || files["/tmp/a"] == "" {
		t.Fatalf("files: %v", files)
	}
	var ran bool
	for _, e := range res.Graph.Edges {
		ran = ran || e.Kind == "execute_file" && e.Source == files["/tmp/b"] && e.Label == "ran"
	}
	if !ran {
		t.Error("no edge from the renamed file to who ran it")
	}
	if got := res.Ran[1]; got.Proc.Label != "b" {
		t.Errorf("ran: %v", res.Ran)
	}
}

func TestAncestorsAreOneNode(t *testing.T) {
	r := newRecords()
	var at *event.Process
	for _, path := range []string{"/sbin/init", "/usr/bin/containerd-shim", "/usr/bin/tini", "/usr/sbin/nginx"} {
		at = r.proc(at, path)
	}
	sh := r.proc(at, "/bin/sh")
	r.event(sh, exec())
	res := r.build(0)
	if len(res.Graph.Nodes) != 3 {
		t.Fatalf("%d nodes: %v", len(res.Graph.Nodes), res.Graph.Nodes)
	}
	a := res.Graph.Nodes[0]
	if a.Kind != "ancestors" || strings.Join(a.Path, ",") != "init,containerd-shim,tini" || a.Count != 3 || a.FoldReason != "chain" {
		t.Errorf("ancestors: %v", a)
	}
	if n := res.Graph.Nodes[1]; n.Label != "nginx" && !strings.HasSuffix(n.Label, "nginx") || n.TreeParentId != a.Id || n.Id != res.Graph.EntryId {
		t.Errorf("service: %v", n)
	}
}

func TestStateOfItsOwnStaysOut(t *testing.T) {
	r := newRecords()
	sh := r.proc(nil, "/bin/sh")
	r.event(sh, exec())
	for i := range 6 {
		c := r.proc(sh, "/bin/sleep", "9")
		r.event(c, exec())
		if i != 3 {
			r.event(c, event.Event{Kind: event.KindExit, Exit: &event.Exit{}})
		}
	}
	res := r.build(0)
	groups, alone := 0, 0
	for _, n := range res.Graph.Nodes {
		switch {
		case n.Kind == "group":
			groups++
			if n.Count != 5 || n.State != "ended" {
				t.Errorf("group: %v", n)
			}
		case strings.HasPrefix(n.Label, "sleep"):
			alone++
			if n.State != "alive" {
				t.Errorf("alone: %v", n)
			}
		}
	}
	if groups != 1 || alone != 1 {
		t.Errorf("%d groups, %d alone", groups, alone)
	}
}

func TestBudgetGroupsSevereBySignature(t *testing.T) {
	r := newRecords()
	sh := r.proc(nil, "/bin/sh")
	r.event(sh, exec())
	for i := range 200 {
		c := r.proc(sh, "/bin/"+string(rune('a'+i%10)), "x")
		e := r.event(c, exec())
		e.Signals = []event.Signal{{RuleID: "r", Title: "R", Severity: "high"}}
	}
	for budget, reasons := range map[int]string{0: "budget", 300: ""} {
		res := r.build(budget)
		want := ""
		for _, n := range res.Graph.Nodes {
			if n.Kind == "group" {
				want = n.FoldReason
				if n.Severity != "high" {
					t.Errorf("group %s shows %q", n.Label, n.Severity)
				}
			}
		}
		if want != reasons {
			t.Errorf("budget %d: %d nodes, folded for %q", budget, len(res.Graph.Nodes), want)
		}
	}
}

func TestPublicPeersAreTheInternet(t *testing.T) {
	r := newRecords()
	p := r.proc(nil, "/usr/sbin/httpd")
	r.event(p, event.Event{Kind: event.KindAccept, Accept: &event.Accept{Addr: event.Address{IP: netip.MustParseAddr("8.8.4.4"), Port: 5}}})
	c := r.proc(p, "/bin/sh")
	r.event(c, exec())
	r.event(c, event.Event{Kind: event.KindConnect, Connect: &event.Connect{Addr: event.Address{IP: netip.MustParseAddr("8.8.8.8"), Port: 443}, Protocol: 6, Retval: -13}})
	res := r.build(0)
	last := res.Graph.Lanes[len(res.Graph.Lanes)-1]
	if last.Kind != "internet" {
		t.Fatalf("lanes: %v", res.Graph.Lanes)
	}
	for _, n := range res.Graph.Nodes {
		if want := n.Kind == "actor" || n.Kind == "endpoint"; want != (n.LaneId == last.Id) {
			t.Errorf("%s %s is in lane %s", n.Kind, n.Label, n.LaneId)
		}
		if n.Kind == "actor" && n.Id != res.Graph.EntryId {
			t.Error("the peer is not the entry")
		}
	}
	var refused bool
	for _, e := range res.Graph.Edges {
		refused = refused || e.Refused && e.Kind == "network"
	}
	if !refused {
		t.Error("no refused edge")
	}
}

func TestSubshellsAreTheirShells(t *testing.T) {
	r := newRecords()
	sh := r.proc(nil, "/bin/sh")
	r.event(sh, exec())
	sub := r.proc(sh, "/bin/sh")
	sub.IsThread, sub.IsExec = true, false
	id := r.proc(sub, "/usr/bin/id")
	r.event(id, exec())
	r.event(id, event.Event{Kind: event.KindExit, Exit: &event.Exit{}})
	r.event(sub, event.Event{Kind: event.KindExit, Exit: &event.Exit{}})
	worker := r.proc(sh, "/bin/sh") // does something of its own
	worker.IsThread, worker.IsExec = true, false
	r.event(worker, event.Event{Kind: event.KindOpen, Open: &event.Open{File: event.File{Path: "/tmp/x"}, Flags: 1, Created: true}})
	r.event(worker, event.Event{Kind: event.KindExit, Exit: &event.Exit{}})
	res := r.build(0)
	labels := map[string]*clewv1.Node{}
	for _, n := range res.Graph.Nodes {
		labels[n.Label] = n
	}
	if len(labels) != 4 || labels["id"] == nil || labels["id"].TreeParentId != labels["sh"].Id || labels["sh (fork)"] == nil {
		t.Errorf("nodes: %v", res.Graph.Nodes)
	}
	if h := res.Graph.Hidden; len(h) != 1 || h[0].Reason != "folded" || h[0].Nodes != 1 {
		t.Errorf("hidden: %v", h)
	}
	if res.Processes != 4 {
		t.Errorf("%d processes", res.Processes)
	}
	if got := res.Items[1].Parent.Label; got != "sh" {
		t.Errorf("parent of id: %q", got)
	}
}

func TestPlumbingIsCounted(t *testing.T) {
	r := newRecords()
	p := r.proc(nil, "/bin/cat")
	r.event(p, exec())
	for _, path := range []string{"/etc/ld.so.cache", "/usr/lib/libc.so.6", "/usr/lib/evil.so", "/home/u/notes"} {
		e := r.event(p, event.Event{Kind: event.KindOpen, Open: &event.Open{File: event.File{Path: path}}})
		if path == "/usr/lib/evil.so" {
			e.Signals = []event.Signal{{RuleID: "r", Severity: "low"}}
		}
	}
	r.event(p, event.Event{Kind: event.KindOpen, Open: &event.Open{File: event.File{Path: "/dev/null", Mode: 0o020666}, Flags: 1}})
	res := r.build(0)
	var files []string
	for _, n := range res.Graph.Nodes {
		if n.Kind == "file" {
			files = append(files, n.Label)
		} else if n.Did["file"] != 5 {
			t.Errorf("did: %v", n.Did)
		}
	}
	if got := strings.Join(files, " "); got != "/usr/lib/evil.so /home/u/notes" {
		t.Errorf("files: %s", got)
	}
	if h := res.Graph.Hidden; len(h) != 1 || h[0].Reason != "layer_off" || h[0].Nodes != 2 {
		t.Errorf("hidden: %v", h)
	}
}

func TestOtherProcessesAndTheKernel(t *testing.T) {
	r := newRecords()
	sh := r.proc(nil, "/bin/sh")
	victim := r.proc(nil, "/usr/sbin/sshd")
	r.event(sh, exec())
	target := event.Target{PID: victim.PID, StartNS: victim.StartNS, Node: victim.ID}
	r.event(sh, event.Event{Kind: event.KindPtrace, Ptrace: &event.Ptrace{Request: 5, Tracee: target}})
	r.event(sh, event.Event{Kind: event.KindSignal, SignalSent: &event.SignalSent{Type: 9, Target: target, Retval: -1}})
	r.event(sh, event.Event{Kind: event.KindSignal, SignalSent: &event.SignalSent{Type: 15, Target: event.Target{PID: sh.PID, StartNS: sh.StartNS, Node: sh.ID}}})
	r.event(sh, event.Event{Kind: event.KindLoadModule, LoadModule: &event.LoadModule{Name: "rk"}})
	r.event(sh, event.Event{Kind: event.KindUnloadModule, UnloadModule: &event.UnloadModule{Name: "rk"}})
	r.event(sh, event.Event{Kind: event.KindDNS, DNS: &event.DNS{QuestionName: "c2.example"}})
	r.event(sh, event.Event{Kind: event.KindMount, Mount: &event.Mount{MountpointPath: "/mnt", FSType: "tmpfs"}})
	r.event(sh, event.Event{Kind: event.KindMprotect, Mprotect: &event.Mprotect{ReqProtection: 7}})
	res := r.build(0)
	label := map[string]string{}
	for _, n := range res.Graph.Nodes {
		label[n.Id] = n.Kind + " " + n.Label
	}
	var got []string
	for _, e := range res.Graph.Edges {
		refused := ""
		if e.Refused {
			refused = ", refused"
		}
		got = append(got, fmt.Sprintf("%s: %s → %s (%s ×%d%s)", e.Kind, label[e.Source], label[e.Target], e.Label, e.Count, refused))
	}
	slices.Sort(got)
	want := []string{
		"inject: process sh → process sshd (traced ×1)",
		"network: process sh → endpoint c2.example (looked up ×1)",
		"signal: process sh → process sshd (tried to signal (refused) ×1, refused)",
		"write: process sh → file /mnt (mounted ×1)",
		"write: process sh → kernel module rk (loaded, removed ×2)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
