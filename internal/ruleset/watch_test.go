package ruleset_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/evalfile"
	"github.com/clewsec/clew/internal/secl/match"
)

func watched(t testing.TB, schema *ruleset.Schema, name, text string) (*ruleset.Set, *ruleset.Report) {
	t.Helper()
	set, report, err := ruleset.Load(ruleset.Config{Schema: schema, OwnRatesOnly: true}, []ruleset.File{{Name: name, Data: []byte(text)}})
	if err != nil {
		t.Fatal(err)
	}
	return set, report
}

func clean(t testing.TB, schema *ruleset.Schema, text string) *ruleset.Set {
	t.Helper()
	set, report := watched(t, schema, "x.policy", text)
	if len(report.Problems) > 0 {
		var b strings.Builder
		if err := report.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		t.Fatalf("%s\n%s", text, b.String())
	}
	return set
}

// A deed is something done to a file, as fields of an event; %s is the file.
type deed struct {
	operation, kind, fields string
}

// deeds are all ways to change a file that the sensor reports, one at least
// for each of the operations.
var deeds = []deed{
	{"create", "open", `"open.file.path":%q,"open.flags":66,"open.retval":3`},
	{"write", "open", `"open.file.path":%q,"open.flags":1,"open.retval":3`},
	{"write", "open", `"open.file.path":%q,"open.flags":2,"open.retval":3`},
	{"write", "open", `"open.file.path":%q,"open.flags":513,"open.retval":0`},
	{"write", "open", `"open.file.path":%q,"open.flags":1024,"open.retval":3`},
	{"create", "mkdir", `"mkdir.file.path":%q`},
	{"rename", "rename", `"rename.file.path":%q,"rename.file.destination.path":"/x"`},
	{"rename", "rename", `"rename.file.path":"/x","rename.file.destination.path":%q`},
	{"delete", "unlink", `"unlink.file.path":%q`},
	{"delete", "rmdir", `"rmdir.file.path":%q`},
	{"link", "link", `"link.file.path":%q,"link.file.destination.path":"/x"`},
	{"link", "link", `"link.file.path":"/x","link.file.destination.path":%q`},
	{"link", "symlink", `"symlink.file.path":%q`},
	{"mode", "chmod", `"chmod.file.path":%q`},
	{"owner", "chown", `"chown.file.path":%q`},
	{"attributes", "setxattr", `"setxattr.file.path":%q`},
	{"attributes", "removexattr", `"removexattr.file.path":%q`},
	{"times", "utimes", `"utimes.file.path":%q`},
	{"mount", "mount", `"mount.mountpoint.path":%q`},
	{"mount", "umount", `"umount.mountpoint.path":%q`},
}

// splice is the one that is looked for only where the file's name is known.
var splice = deed{"splice", "splice", `"splice.file.path":%q,"splice.pipe_exit_flag":16,"splice.retval":1`}

// harmless are what looks alike and changes nothing.
var harmless = []deed{
	{"", "open", `"open.file.path":%q,"open.flags":0,"open.retval":3`},
	{"", "open", `"open.file.path":%q,"open.flags":524288,"open.retval":3`},
	{"", "splice", `"splice.file.path":%q,"splice.pipe_exit_flag":0,"splice.retval":1`},
	{"", "chdir", `"chdir.file.path":%q`},
	{"", "exec", `"exec.file.path":%q`},
}

func (d deed) event(t testing.TB, dec *evalfile.Decoder, path, by string) *event.Event {
	t.Helper()
	if by == "" {
		by = `"process.file.path":"/usr/bin/vi","process.euid":1000`
	}
	return decoded(t, dec, fmt.Sprintf(`{"kind":%q,"fields":{%s,%s}}`, d.kind, fmt.Sprintf(d.fields, path), by))
}

func fires(set *ruleset.Set, e *event.Event, id string) int {
	n := 0
	for _, m := range set.Eval(e, nil) {
		if m.Rule.ID == id {
			n++
		}
	}
	return n
}

// TestWatchOperations does everything there is to files that are watched, with
// all operations looked for and with each alone, and to their neighbours.
func TestWatchOperations(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	dec, err := evalfile.New()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		about, paths      string
		inside, neighbour []string
	}{
		{"a file", `[/etc/a/sshd_config]`, []string{"/etc/a/sshd_config"},
			[]string{"/etc/a/sshd_config2", "/etc/a/sshd_config/x", "/etc/a/ssh_config", "/x/etc/a/sshd_config", "/etc/b/sshd_config"}},
		{"a glob", `[/home/*/.ssh/authorized_keys]`, []string{"/home/a/.ssh/authorized_keys"},
			[]string{"/home/a/b/.ssh/authorized_keys", "/home/.ssh/authorized_keys", "/home/a/.ssh/authorized_keys.old", "/home/a"}},
		{"a directory", `[/etc/a/]`, []string{"/etc/a", "/etc/a/b"}, []string{"/etc/a/b/c", "/etc/ab", "/etc/b"}},
		{"everything below", `[/etc/a]
    recursive: true`, []string{"/etc/a", "/etc/a/b", "/etc/a/b/c"}, []string{"/etc/ab", "/etc/b", "/b/etc/a"}},
		{"everything below a glob", `[/home/*/.ssh]
    recursive: true`, []string{"/home/x/.ssh", "/home/x/.ssh/a/b"}, []string{"/home/x/ssh/a", "/home/.ssh/a"}},
		{"everything below, as a glob", `["/etc/a/**"]`, []string{"/etc/a/b", "/etc/a/b/c"}, []string{"/etc/ab"}},
		{"several", `[/etc/a, /etc/b]`, []string{"/etc/a", "/etc/b"}, []string{"/etc/c"}},
		{"all there is", `[/]
    recursive: true`, []string{"/a", "/a/b"}, nil},
	} {
		policy := "watch:\n  - id: w\n    description: x\n    paths: " + tc.paths + "\n"
		all := clean(t, schema, policy)
		for _, d := range deeds {
			for _, p := range tc.inside {
				if n := fires(all, d.event(t, dec, p, ""), "w"); n != 1 {
					t.Errorf("%s: %s of %s (%s) raises %d signals", tc.about, d.kind, p, d.fields, n)
				}
			}
			for _, p := range tc.neighbour {
				if d.kind == "rename" && strings.HasPrefix(tc.inside[0], p+"/") {
					continue
				}
				if n := fires(all, d.event(t, dec, p, ""), "w"); n != 0 {
					t.Errorf("%s: %s of the neighbour %s raises %d signals", tc.about, d.kind, p, n)
				}
			}
		}
		for _, d := range harmless {
			for _, p := range tc.inside {
				if n := fires(all, d.event(t, dec, p, ""), "w"); n != 0 {
					t.Errorf("%s: %s of %s (%s) raises %d signals", tc.about, d.kind, p, d.fields, n)
				}
			}
		}
		for _, op := range ruleset.Operations {
			one := clean(t, schema, policy+"    operations: ["+op+"]\n")
			for _, d := range deeds {
				// A file that is created is opened for writing, too.
				want := d.operation == op || op == "write" && d.kind == "open"
				for _, p := range tc.inside {
					if n := fires(one, d.event(t, dec, p, ""), "w"); (n == 1) != want || n > 1 {
						t.Errorf("%s, %s alone: %s of %s (%s) raises %d signals", tc.about, op, d.kind, p, d.fields, n)
					}
				}
			}
		}
	}
}

// TestWatchRefused holds that a change that the kernel refused is none, until
// attempts are asked for.
func TestWatchRefused(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	dec, err := evalfile.New()
	if err != nil {
		t.Fatal(err)
	}
	const policy = "watch:\n  - id: w\n    description: x\n    paths: [/etc/a]\n"
	changes, attempts := clean(t, schema, policy), clean(t, schema, policy+"    attempts: true\n")
	for _, d := range append(slices.Clone(deeds), splice) {
		fields, _, _ := strings.Cut(d.fields, fmt.Sprintf(`,"%s.retval"`, d.kind))
		d.fields = fields + fmt.Sprintf(`,"%s.retval":-13`, d.kind)
		e := d.event(t, dec, "/etc/a", "")
		if n := fires(changes, e, "w"); n != 0 {
			t.Errorf("%s that was refused raises %d signals", d.kind, n)
		}
		if n := fires(attempts, e, "w"); n != 1 {
			t.Errorf("with attempts, %s that was refused raises %d signals", d.kind, n)
		}
	}
}

// TestWatchAllow holds that each way to allow somebody a change allows it, for
// everything that is a change, and nobody else.
func TestWatchAllow(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	dec, err := evalfile.New()
	if err != nil {
		t.Fatal(err)
	}
	const (
		dpkg    = `"process.file.path":"/usr/bin/dpkg"`
		fake    = `"process.file.path":"/tmp/dpkg"`
		below   = `"process.file.path":"/bin/sh","process.ancestors":[{"file.path":"/usr/bin/perl"},{"file.path":"/usr/bin/dpkg"}]`
		owned   = `"process.file.path":"/usr/bin/dpkg","process.file.package.name":"dpkg"`
		root    = `"process.file.path":"/bin/x","process.euid":0,"process.euser":"root"`
		nobody  = `"process.file.path":"/bin/x","process.euid":65534,"process.euser":"nobody"`
		inside  = `"process.file.path":"/bin/x","container.id":"0123456789abcdef"`
		script  = `"process.file.path":"/opt/tool/bin/x"`
		deeper  = `"process.file.path":"/opt/tool/bin/y/x"`
		manager = `"process.file.path":"/bin/m"`
	)
	for _, tc := range []struct {
		allow   string
		yes, no []string
	}{
		{"[]", nil, []string{dpkg}},
		{"[{executable: [/usr/bin/dpkg]}]", []string{dpkg, owned}, []string{fake, below, root}},
		{"[{executable: [/opt/tool/bin/*]}]", []string{script}, []string{deeper, dpkg}},
		{"[{executable: [/usr/bin/dpkg], descendants: true}]", []string{dpkg, below}, []string{fake}},
		{"[{executable: [/usr/bin/dpkg], package: true}]", []string{owned}, []string{dpkg, below}},
		{"[{package: true}]", []string{owned}, []string{dpkg, root}},
		{"[{user: [root]}]", []string{root}, []string{nobody}},
		{"[{user: [0]}]", []string{root}, []string{nobody}},
		{"[{user: [daemon, nobody, 7]}]", []string{nobody}, []string{root}},
		{"[{executable: [/bin/x], user: [root]}]", []string{root}, []string{nobody, dpkg}},
		{"[{executable: [/usr/bin/dpkg]}, {user: [root]}]", []string{dpkg, root}, []string{nobody, below}},
		{"[{condition: process.file.path in MANAGERS || container.id != \"\" # why\n    }]", []string{manager, inside}, []string{dpkg, root}},
		{"[{executable: [/bin/x], condition: process.euid == 0}]", []string{root}, []string{nobody, manager}},
	} {
		set := clean(t, schema, "macros:\n  - {id: MANAGERS, values: [/bin/m]}\nwatch:\n  - id: w\n    description: x\n    paths: [/etc/a]\n    allow: "+tc.allow+"\n")
		for _, d := range append(slices.Clone(deeds), splice) {
			for want, list := range [][]string{tc.yes, tc.no} {
				for _, by := range list {
					if n := fires(set, d.event(t, dec, "/etc/a", by), "w"); n != want {
						t.Errorf("%s: %s by %s raises %d signals", tc.allow, d.kind, by, n)
					}
				}
			}
		}
	}
}

// TestWatchDirectoriesAbove holds that the rename of a directory above a file
// is a change of it, and that of its neighbours is not.
func TestWatchDirectoriesAbove(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	dec, err := evalfile.New()
	if err != nil {
		t.Fatal(err)
	}
	set := clean(t, schema, "watch:\n  - {id: w, description: x, paths: [/etc/ssh/sshd_config, /home/*/.ssh/authorized_keys]}\n")
	for p, want := range map[string]int{
		"/etc/ssh": 1, "/etc": 1, "/home": 1, "/home/a/.ssh": 1, "/home/a": 0, "/etc/sshx": 0, "/etc/ssh/moduli": 0, "/home/a/.sshx": 0,
	} {
		for _, d := range deeds {
			if d.kind != "rename" {
				continue
			}
			if n := fires(set, d.event(t, dec, p, ""), "w"); n != want {
				t.Errorf("rename of %s (%s) raises %d signals, want %d", p, d.fields, n, want)
			}
		}
	}
}

// TestWatchKernelFilter holds that a watch of files with known names lets
// through files of those names alone, and that one of directories leaves the
// openings filtered.
func TestWatchKernelFilter(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	plan := ruleset.DerivePlan(clean(t, schema, "watch:\n  - {id: w, description: x, paths: [/etc/ssh/sshd_config, /home/*/.ssh/authorized_keys]}\n"))
	for k := range plan.Kinds {
		kind := event.Kind(k)
		want := kfilter.Kind{}
		switch kind {
		case event.KindOpen, event.KindMkdir, event.KindSplice, event.KindUnlink, event.KindRmdir, event.KindLink,
			event.KindSymlink, event.KindChmod, event.KindChown, event.KindSetxattr, event.KindRemovexattr, event.KindUtimes:
			want = kfilter.Kind{Mode: kfilter.Filtered, Names: []string{"authorized_keys", "sshd_config"}}
		case event.KindRename:
			want = kfilter.Kind{Mode: kfilter.Filtered, Names: []string{".ssh", "authorized_keys", "etc", "home", "ssh", "sshd_config"}}
		case event.KindMount, event.KindUmount:
			want = kfilter.Kind{Mode: kfilter.All}
		}
		if got := plan.Kinds[k]; got.Mode != want.Mode || got.FlagsAny != want.FlagsAny || !slices.Equal(got.Names, want.Names) {
			t.Errorf("%s: %+v, want %+v", kind, got, want)
		}
	}
	plan = ruleset.DerivePlan(clean(t, schema, "watch:\n  - {id: w, description: x, paths: [/etc/ssh], recursive: true}\n"))
	if got := plan.Kinds[event.KindOpen]; got.Mode != kfilter.Filtered || got.FlagsAny != kfilter.OpenWrite {
		t.Errorf("open: %+v", got)
	}
	if got := plan.Kinds[event.KindSplice]; got.Mode != kfilter.Filtered || !slices.Equal(got.Names, []string{"ssh"}) {
		t.Errorf("splice: %+v", got)
	}
}

// TestWatchProblems holds that what is wrong with a watch is said where it
// stands (marked by «) and costs no other rule.
func TestWatchProblems(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	const head = "rules:\n  - {id: good, expression: exec.uid == 0}\nwatch:\n"
	for _, tc := range []struct{ text, want string }{
		{head + "  - «id: w\n    description: x\n", "watch has no paths"},
		{head + "  - «{description: x, paths: [/a]}\n", "watch has no id"},
		{head + "  - {id: «w, paths: [/a]}\n", "rule has no description"},
		{head + "  - {id: w, description: x, paths: [/b, «a]}\n", `path "a" is not absolute`},
		{head + "  - {id: w, description: x, paths: [«/a/../b]}\n", "is not clean"},
		{head + "  - {id: w, description: x, paths: [«/a/**/b]}\n", "**"},
		{head + "  - {id: w, description: x, paths: [«'/a\"b']}\n", "cannot write"},
		{head + "  - {id: w, description: x, paths: [«'/a${b}']}\n", "cannot write"},
		{head + "  - {id: w, description: x, paths: [/a], operations: [«wirte]}\n", `did you mean "write"?`},
		{head + "  - {id: w, description: x, paths: [/a], operations: «[]}\n", "operations are empty"},
		{head + "  - {id: w, description: x, paths: [/a], severity: «hihg}\n", `did you mean "high"?`},
		{head + "  - {id: w, description: x, paths: [/a], allow: [«{}]}\n", "it would allow everybody"},
		{head + "  - {id: w, description: x, paths: [/a], allow: [«{descendants: true, user: [root]}]}\n", "descendants needs executable"},
		{head + "  - {id: w, description: x, paths: [/a], allow: [{executable: [«dpkg]}]}\n", "is not absolute"},
		{head + "  - {id: w, description: x, paths: [/a], allow: [{condition: «process.uidd == 0}]}\n", `did you mean "process.uid"?`},
		{head + "  - {id: w, description: x, paths: [/a], allow: [{condition: «open.flags == 0}]}\n", "asks for a field of open events"},
		{head + "  - {id: w, description: x, paths: [/a], allow: [{condition: «'process.ancestors[A].uid == 0 && process.ancestors[A].comm == \"x\"'}]}\n", "asks for one element"},
		{head + "  - {id: w, description: x, paths: [/a], «pths: [/a]}\n", `did you mean "paths"?`},
		{"rules:\n  - {id: good, expression: exec.uid == 0}\nwatch: «x\n", "watch must be a list"},
		{head + "  - {id: «good, description: x, paths: [/a]}\n", "is defined twice"},
	} {
		text := strings.Replace(tc.text, "«", "", 1)
		before, _, _ := strings.Cut(tc.text, "«")
		at := ruleset.Position{File: "x.policy", Line: strings.Count(before, "\n") + 1, Column: len(before) - strings.LastIndexByte(before, '\n')}
		set, report := watched(t, schema, "x.policy", text)
		found := slices.ContainsFunc(report.Problems, func(p ruleset.Problem) bool { return p.At == at && strings.Contains(p.Msg, tc.want) })
		if !found {
			t.Errorf("%s\nno %q at %v: %v", text, tc.want, at, report.Problems)
		}
		if len(set.Rules()) == 0 || set.Rules()[0].ID != "good" {
			t.Errorf("%s\nthe good rule is not loaded", text)
		}
	}
	for text, want := range map[string]string{
		"id: w\ndescription: x\nexpression: exec.uid == 0\nwatch: {paths: [/a]}\n":                                               "neither an expression",
		"id: w\ndescription: x\nthreshold: {count: 2, within: 1s}\nwatch: {paths: [/a]}\n":                                       "neither an expression",
		"id: w\ndescription: x\nwatch: [/a]\n":                                                                                   "watch must be a mapping",
		"a: &a {executable: [/b]}\nid: w\ndescription: x\nwatch: {paths: [/a], allow: [" + strings.Repeat("*a,", 20000) + "]}\n": "name more than",
	} {
		if _, report := watched(t, schema, "w/rule.yaml", text); !slices.ContainsFunc(report.Problems, func(p ruleset.Problem) bool { return strings.Contains(p.Msg, want) }) {
			t.Errorf("%.80s\n%v", text, report.Problems)
		}
	}
}

// TestWatchRule holds that a watch is a rule like others: one of its folder's
// name, with the keys of rules, that a later file can switch off or replace.
func TestWatchRule(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	const folder = "id: w\ndescription: x\nseverity: high\ntechniques: [T1098]\ntags: {a: b}\nwatch:\n  paths: [/etc/a]\n  recursive: true\n  allow:\n    - executable: [/bin/b]\n"
	set, report := watched(t, schema, "w/rule.yaml", folder)
	if len(report.Problems) > 0 || len(set.Rules()) != 1 {
		t.Fatal(report.Problems)
	}
	r := set.Rules()[0]
	if r.ID != "w" || r.Severity != "high" || r.Type != "file" || r.Signal(0).Tags[0] != "a:b" || len(r.Kinds) != 15 {
		t.Errorf("%+v", r)
	}
	if want := []string{"/etc/a", "/etc/a/**"}; !slices.Equal(r.Watch.Globs(), want) {
		t.Errorf("globs %q, want %q", r.Watch.Globs(), want)
	}
	texts := set.Text(r)
	if want := `open.file.path in [ "/etc/a", ~"/etc/a/**" ] && open.flags & (O_CREAT|O_WRONLY|O_RDWR|O_APPEND|O_TRUNC) > 0 && open.retval >= 0 && !(process.file.path in [ "/bin/b" ])`; texts[0] != want {
		t.Errorf("first condition\n%s, want\n%s", texts[0], want)
	}
	dec, err := evalfile.New()
	if err != nil {
		t.Fatal(err)
	}
	e := deeds[0].event(t, dec, "/etc/a/b", "")
	for later, want := range map[string]int{
		"rules: [{id: w, disabled: true}]\n":                                                    0,
		"rules: [{id: w, disabled: false}]\n":                                                   1,
		"rules: [{id: w, combine: override, expression: exec.uid == 0}]\n":                      0,
		"rules: [{id: w, combine: override, expression: open.flags > 0}]\n":                     1,
		"rules: [{id: w, combine: override, every: 1h, override_options: {fields: [every]}}]\n": 1,
		"watch: [{id: v, description: y, paths: [/etc/a/b]}]\n":                                 1,
	} {
		set, report, err := ruleset.Load(ruleset.Config{Schema: schema}, []ruleset.File{{Name: "w/rule.yaml", Data: []byte(folder)}, {Name: "x.policy", Data: []byte(later)}})
		if err != nil || report.Failed() {
			t.Fatal(err, report)
		}
		if n := fires(set, e, "w"); n != want {
			t.Errorf("%s: %d signals, want %d", later, n, want)
		}
	}
}

// FuzzWatchPaths holds, for any path and any file, that a watch fires exactly
// for what its globs match, whatever the operation, and that what it fires for
// leaves the kernel.
func FuzzWatchPaths(f *testing.F) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		f.Fatal(err)
	}
	f.Add("/etc/a", "/etc/a", false)
	f.Add("/etc/a/", "/etc/a/b", false)
	f.Add("/etc/*/c", "/etc/b/c", true)
	f.Add("/**", "/x", true)
	f.Add("/a/*b*", "/a/xbbx", false)
	f.Add("/a\"b", "/a\"b", false)
	f.Fuzz(func(t *testing.T, path, file string, recursive bool) {
		raw, err := json.Marshal(path)
		if err != nil || !strings.HasPrefix(file, "/") {
			t.Skip()
		}
		set, report := watched(t, schema, "x.policy", fmt.Sprintf("watch:\n  - {id: w, description: x, recursive: %v, paths: [%s]}\n", recursive, raw))
		if report.Failed() {
			return
		}
		w := set.Rules()[0].Watch
		want := false
		for _, g := range w.Globs() {
			m, err := match.NewGlob(g)
			if err != nil {
				t.Fatal(err)
			}
			want = want || g == file || strings.Contains(g, "*") && m.Match(file)
		}
		plan := ruleset.DerivePlan(set)
		for _, e := range []*event.Event{
			{Kind: event.KindOpen, Proc: &event.Process{}, Open: &event.Open{File: event.File{Path: file}, Flags: 1}},
			{Kind: event.KindUnlink, Proc: &event.Process{}, Unlink: &event.Unlink{File: event.File{Path: file}}},
			{Kind: event.KindUtimes, Proc: &event.Process{}, Utimes: &event.Utimes{File: event.File{Path: file}}},
		} {
			if n := fires(set, e, "w"); (n == 1) != want {
				t.Errorf("%s of %q raises %d signals with a watch of %q", e.Kind, file, n, w.Globs())
			}
			if base := file[strings.LastIndexByte(file, '/')+1:]; want && !plan.Lets(e.Kind, 1, base) {
				t.Errorf("%s of %q does not leave the kernel", e.Kind, file)
			}
		}
	})
}

// TestWatchRandom compares watches of random paths, operations and writers with
// a naive reading of what they say.
func TestWatchRandom(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	dec, err := evalfile.New()
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	segs := []string{"a", "b", "c"}
	name := func(max int) string {
		var b strings.Builder
		for range 1 + r.IntN(max) {
			b.WriteString("/" + segs[r.IntN(len(segs))])
		}
		return b.String()
	}
	fired := 0
	for range 60 {
		dirs := make([]string, 1+r.IntN(3))
		for i := range dirs {
			dirs[i] = name(3)
		}
		ops := slices.Clone(ruleset.Operations)
		r.Shuffle(len(ops), func(i, j int) { ops[i], ops[j] = ops[j], ops[i] })
		ops = ops[:1+r.IntN(len(ops))]
		recursive, writer := r.IntN(2) == 0, "/bin/"+segs[r.IntN(len(segs))]
		set := clean(t, schema, fmt.Sprintf("watch:\n  - id: w\n    description: x\n    recursive: %v\n    paths: [%s]\n    operations: [%s]\n    allow: [{executable: [%s]}]\n",
			recursive, strings.Join(dirs, ", "), strings.Join(ops, ", "), writer))
		for range 60 {
			d, file, by := deeds[r.IntN(len(deeds))], name(4), "/bin/"+segs[r.IntN(len(segs))]
			want := slices.Contains(ops, d.operation) || d.kind == "open" && slices.Contains(ops, "write")
			want = want && by != writer && slices.ContainsFunc(dirs, func(dir string) bool {
				return file == dir || recursive && strings.HasPrefix(file, dir+"/") || d.kind == "rename" && strings.HasPrefix(dir, file+"/")
			})
			n := fires(set, d.event(t, dec, file, fmt.Sprintf(`"process.file.path":%q`, by)), "w")
			if (n == 1) != want {
				t.Fatalf("%v %v of %v by others than %s: %s of %s by %s raises %d signals", ops, recursive, dirs, writer, d.kind, file, by, n)
			}
			fired += n
		}
	}
	if fired < 100 {
		t.Errorf("%d signals", fired)
	}
}

// TestWatchedPaths holds that what rules watch is found whichever way they say
// it.
func TestWatchedPaths(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	set := clean(t, schema, `macros:
  - {id: M, expression: '[ "/m/1", ~"/m/2/*" ]'}
  - {id: BY, expression: 'process.file.path not in [ "/bin/a" ]'}
rules:
  - {id: a, expression: 'fim.write.file.path in [ "/b", ~"/a/*" ] && BY'}
  - {id: b, expression: 'fim.write.file.path in M && (fim.write.file.path == "/c" || process.uid == 0)'}
  - {id: c, expression: 'fim.write.file.path =~ "/d/**" && fim.write.file.path not in [ "/d/x" ]'}
  - {id: d, expression: 'open.file.path == "/e"'}
  - {id: e, expression: 'fim.write.file.name == "f"'}
watch:
  - {id: f, description: x, paths: [/w, /b], recursive: true}
`)
	want := "/a/* /b /b/** /c /d/** /m/1 /m/2/* /w /w/**"
	if got := strings.Join(set.WatchedPaths(), " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
