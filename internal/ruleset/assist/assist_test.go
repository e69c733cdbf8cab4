package assist_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/assist"
	"github.com/clewsec/clew/rules"
)

// cursor marks a place in a text.
const cursor = "▮"

func workspace(t testing.TB) *assist.Workspace {
	t.Helper()
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	macros, err := ruleset.ReadFiles(rules.FS, "macros.policy", "shipped")
	if err != nil {
		t.Fatal(err)
	}
	w, err := assist.New(assist.Config{
		Rules:      ruleset.Config{Schema: schema, Macros: macros},
		Produces:   func(k event.Kind) bool { return k != event.KindSELinux },
		Tactics:    []assist.Term{{ID: "TA0002", Name: "Execution"}},
		Techniques: []assist.Term{{ID: "T1059", Name: "Command and Scripting Interpreter"}, {ID: "T1059.004", Name: "Unix Shell"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// put opens a document whose text has a cursor and returns where that is.
func put(t testing.TB, w *assist.Workspace, name, marked string) assist.Position {
	t.Helper()
	before, after, ok := strings.Cut(marked, cursor)
	if !ok {
		t.Fatalf("no cursor in %q", marked)
	}
	w.Put(name, assist.KindOf(name, ""), before+after)
	text := assist.NewText(before + after)
	return text.Position(len(before))
}

// apply carries out edits, the last one first.
func apply(text string, edits []assist.Edit) string {
	edits = slices.Clone(edits)
	slices.Reverse(edits)
	for _, e := range edits {
		t := assist.NewText(text)
		text = t.Apply(e.Range, e.NewText)
	}
	return text
}

func labels(c assist.Completions) []string {
	var out []string
	for _, it := range c.Items {
		out = append(out, it.Label)
	}
	return out
}

const policy = "x.policy"

func TestComplete(t *testing.T) {
	in := func(expression string) string { return "rules:\n  - id: a\n    expression: " + expression + "\n" }
	for _, tt := range []struct {
		name, file, text string
		want, not        []string
		first            string
	}{
		{"keys at the top", policy, cursor, []string{"macros", "rules", "version"}, []string{"expression"}, ""},
		{"keys at the top, begun", policy, "ru" + cursor, []string{"rules"}, []string{"macros"}, ""},
		{"keys of a rule", policy, "rules:\n  - id: a\n    " + cursor, []string{"expression", "every", "actions"}, []string{"id", "severity", "rules"}, ""},
		{"keys of a rule, begun", policy, "rules:\n  - id: a\n    ev" + cursor + "\n    silent: true\n", []string{"every"}, []string{"expression"}, "every"},
		{"keys between others", policy, "rules:\n  - id: a\n    " + cursor + "\n    silent: true\n  - id: b\n", []string{"expression"}, []string{"silent"}, ""},
		{"first key of a rule", policy, "rules:\n  - " + cursor, []string{"id", "expression"}, nil, "id"},
		{"keys of a rule file", "a/rule.yaml", "id: a\n" + cursor, []string{"severity", "techniques", "sequence"}, []string{"macros", "id"}, ""},
		{"keys of a macro", policy, "macros:\n  - id: a\n    " + cursor, []string{"values", "expression"}, []string{"every"}, ""},
		{"keys of an action", policy, "rules:\n  - id: a\n    actions:\n      - " + cursor, []string{"set", "kill", "filter"}, []string{"id"}, ""},
		{"keys of set", policy, "rules:\n  - id: a\n    actions:\n      - set:\n          " + cursor, []string{"name", "ttl", "scope"}, []string{"kill"}, "name"},
		{"keys in braces", policy, "rules:\n  - id: a\n    actions:\n      - set: {name: x, " + cursor + "}", []string{"value", "ttl"}, []string{"name"}, ""},
		{"keys of a threshold", "a/rule.yaml", "id: a\nthreshold:\n  " + cursor, []string{"within", "count", "by"}, []string{"steps"}, ""},
		{"keys of a threshold, begun", "a/rule.yaml", "id: a\nthreshold:\n  wi" + cursor, []string{"within"}, []string{"count"}, ""},
		{"keys behind a block", "a/rule.yaml", "expression: |\n  exec.uid == 0\n" + cursor, []string{"severity"}, nil, ""},
		{"keys of a list that is not indented", policy, "rules:\n- id: a\n  " + cursor + "\n- id: b\n", []string{"expression"}, []string{"id", "rules"}, ""},
		{"keys with line breaks of Windows", policy, "rules:\r\n  - id: a\r\n    " + cursor + "\r\n", []string{"expression"}, []string{"id"}, ""},
		{"keys below something broken", policy, "macros:\n  - id: [\nrules:\n  - id: a\n    ev" + cursor, []string{"every"}, nil, ""},
		{"fields with line breaks of Windows", policy, "rules:\r\n  - id: a\r\n    expression: |\r\n      exec.uid == 0\r\n      && exec.file.n" + cursor + "\r\n", []string{"exec.file.name"}, nil, ""},
		{"severities", "a/rule.yaml", "severity: " + cursor, []string{"info", "critical"}, []string{"process"}, "info"},
		{"types", "a/rule.yaml", "type: pro" + cursor, []string{"process"}, nil, ""},
		{"types without white space", "a/rule.yaml", "type:" + cursor, []string{"process"}, nil, ""},
		{"techniques in brackets", "a/rule.yaml", "techniques: [T1059, " + cursor + "]", []string{"T1059.004"}, nil, ""},
		{"techniques as members", "a/rule.yaml", "techniques:\n  - " + cursor, []string{"T1059.004"}, nil, ""},
		{"tactics", "a/rule.yaml", "tactics: " + cursor, []string{"TA0002"}, nil, ""},
		{"booleans", policy, "rules:\n  - id: a\n    silent: " + cursor, []string{"true", "false"}, nil, ""},
		{"signals", policy, "rules:\n  - id: a\n    actions: [{kill: {signal: " + cursor + "}}]", []string{"SIGKILL"}, []string{"O_CREAT"}, ""},
		{"by", "a/rule.yaml", "sequence:\n  by: " + cursor, []string{"process", "container"}, nil, ""},
		{"keys of a watch", policy, "watch:\n  - id: a\n    " + cursor, []string{"paths", "allow", "severity", "every"}, []string{"expression", "threshold", "id"}, "paths"},
		{"keys of a watch in a folder", "a/rule.yaml", "watch:\n  " + cursor, []string{"paths", "operations"}, []string{"severity"}, "paths"},
		{"operations", policy, "watch:\n  - id: a\n    operations: [create, re" + cursor + "]", []string{"rename"}, nil, ""},
		{"keys of allow", policy, "watch:\n  - id: a\n    allow:\n      - " + cursor, []string{"executable", "package"}, []string{"paths"}, ""},
		{"condition of allow", policy, "watch:\n  - id: a\n    allow:\n      - condition: process.file.path in " + cursor, []string{"CLEW_PACKAGE_MANAGERS"}, nil, ""},
		{"merge", policy, "macros:\n  - {id: a, combine: " + cursor + "}", []string{"merge", "override"}, nil, ""},

		{"kinds", policy, in(cursor), []string{"exec", "open", "process", "fim.write.file", "not"}, []string{"exec.file.path", "=="}, ""},
		{"kinds, begun", policy, in("ex" + cursor), []string{"exec", "exit"}[:1], []string{"open"}, "exec"},
		{"fields", policy, in("exec.file." + cursor), []string{"exec.file.path", "exec.file.name"}, []string{"open.file.path", "exec.uid"}, ""},
		{"fields behind a condition", policy, in("exec.uid == 0 && exec.file.n" + cursor), []string{"exec.file.name"}, []string{"exec.file.path"}, "exec.file.name"},
		{"fields of the kind", policy, in("open.flags > 0 && " + cursor), []string{"open", "process"}, []string{"exec"}, ""},
		{"fields of a register", policy, in("process.ancestors[A].file.n" + cursor), []string{"process.ancestors[A].file.name"}, []string{"process.ancestors.file.name"}, ""},
		{"fields in the middle", policy, in("exec.file.na" + cursor + "me == \"x\""), []string{"exec.file.name"}, nil, ""},
		{"fields of any change", policy, in("fim.write.file.p" + cursor), []string{"fim.write.file.path"}, nil, ""},
		{"operators of texts", policy, in("exec.file.name " + cursor), []string{"==", "=~", "in", "not in"}, []string{"<", "&&"}, "=="},
		{"operators of integers", policy, in("exec.uid " + cursor), []string{"==", "<", "&"}, []string{"=~"}, ""},
		{"operators of networks", policy, in("connect.addr.ip " + cursor), []string{"in", "allin"}, []string{"<"}, ""},
		{"operators behind a comparison", policy, in("exec.uid == 0 " + cursor), []string{"&&", "||"}, []string{"=="}, "&&"},
		{"constants that fit", policy, in("open.flags & " + cursor), []string{"O_CREAT", "O_TRUNC"}, []string{"SIGKILL", "EPERM"}, ""},
		{"constants that fit, in parentheses", policy, in("open.flags & (O_CREAT | O_" + cursor), []string{"O_TRUNC"}, []string{"SIGKILL"}, ""},
		{"constants that fit, in a list", policy, in("open.retval in [EPERM, " + cursor), []string{"EACCES"}, []string{"O_CREAT"}, ""},
		{"constants that do not fit", policy, in("open.flags & S_ISU" + cursor), []string{"S_ISUID"}, nil, ""},
		{"signals of events", policy, in("signal.type == " + cursor), []string{"SIGKILL"}, []string{"SIG", "SIGNALED"}, ""},
		{"kinds of DNS records", policy, in("dns.question.type == " + cursor), []string{"TXT", "A"}, []string{"NOERROR"}, ""},
		{"families", policy, in("connect.addr.family == AF_" + cursor), []string{"AF_INET"}, nil, ""},
		{"ages", policy, in("exec.file.change_time < " + cursor), []string{"5s"}, nil, ""},
		{"booleans of fields", policy, in("connect.addr.is_public == " + cursor), []string{"true", "false"}, []string{"O_CREAT"}, ""},
		{"macros of lists", policy, in("exec.file.name in " + cursor), []string{"CLEW_SHELLS"}, []string{"exec"}, ""},
		{"macros of lists, begun", policy, in("exec.file.name not in CLEW_SH" + cursor), []string{"CLEW_SHELLS"}, []string{"CLEW_WEB_SERVERS"}, "CLEW_SHELLS"},
		{"own macros", policy, "macros:\n  - {id: MINE, expression: exec.uid == 0}\n" + in(cursor), []string{"MINE"}, nil, ""},
		{"other fields of the type", policy, in("exec.uid == process.parent.u" + cursor), []string{"process.parent.uid"}, []string{"process.parent.user"}, ""},
		{"variables", policy, "rules:\n  - id: a\n    actions: [{set: {name: seen, value: 1, scope: process}}]\n    expression: exec.uid == ${" + cursor + "\n", []string{"process.seen", "process.pid"}, nil, ""},
		{"variables in a text", policy, "rules:\n  - id: a\n    actions: [{set: {name: seen, value: x}}]\n    expression: exec.file.name == \"a${" + cursor + "}\"\n", []string{"seen"}, nil, ""},
		{"nothing in a text", policy, in("exec.file.name == \"ex" + cursor + "\""), nil, []string{"exec"}, ""},
		{"nothing in an open text", policy, in("exec.file.name == \"ex" + cursor), nil, []string{"exec"}, ""},
		{"nothing in a remark", policy, "rules:\n  - id: a\n    expression: |\n      exec.uid == 0 // ex" + cursor + "\n", nil, []string{"exec"}, ""},
		{"nothing in a description", policy, "rules:\n  - id: a\n    description: ex" + cursor, nil, []string{"exec", "expression"}, ""},
		{"a new line of a block", policy, "rules:\n  - id: a\n    expression: |\n      exec.uid == 0\n      " + cursor + "\n", []string{"&&"}, []string{"expression"}, ""},
		{"an empty block", policy, "rules:\n  - id: a\n    expression: |\n      " + cursor + "\n", []string{"exec"}, nil, ""},
		{"steps", "a/rule.yaml", "sequence:\n  steps:\n    - open.file.p" + cursor, []string{"open.file.path"}, nil, ""},
		{"a filter of an action", policy, in("exec.uid == 0\n    actions:\n      - filter: " + cursor), []string{"exec"}, []string{"open"}, ""},
		{"the field of set", policy, in("exec.uid == 0\n    actions:\n      - set: {name: x, field: exec.file.p" + cursor + "}"), []string{"exec.file.path"}, nil, ""},
		{"filters", policy, "rules:\n  - id: a\n    filters: [os.is_d" + cursor + "]", []string{"os.is_debian"}, []string{"open"}, ""},
		{"a document of one condition", "x.secl", "exec.file." + cursor, []string{"exec.file.path"}, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := workspace(t)
			c := w.Complete(tt.file, put(t, w, tt.file, tt.text))
			got := labels(c)
			for _, l := range tt.want {
				if !slices.Contains(got, l) {
					t.Errorf("%s is missing in %v", l, got)
				}
			}
			for _, l := range tt.not {
				if slices.Contains(got, l) {
					t.Errorf("%s is offered", l)
				}
			}
			if tt.first != "" && (len(got) == 0 || got[0] != tt.first) {
				t.Errorf("first is %v, want %s", got[:min(1, len(got))], tt.first)
			}
		})
	}
}

// TestCompleteEdits holds what choosing a completion makes of the text.
func TestCompleteEdits(t *testing.T) {
	for _, tt := range []struct{ name, file, text, label, want string }{
		{"key", policy, "rules:\n  - id: a\n    ev" + cursor, "every", "rules:\n  - id: a\n    every: "},
		{"key of a list", policy, "ru" + cursor, "rules", "rules:"},
		{"key with a colon", policy, "rules:\n  - id: a\n    ev" + cursor + ": 5s\n", "every", "rules:\n  - id: a\n    every: 5s\n"},
		{"value", "a/rule.yaml", "severity: hi" + cursor, "high", "severity: high"},
		{"value without white space", "a/rule.yaml", "severity:" + cursor, "high", "severity: high"},
		{"first of a list", "a/rule.yaml", "techniques: " + cursor, "T1059", "techniques: [T1059]"},
		{"member in brackets", "a/rule.yaml", "techniques: [T1" + cursor + "]", "T1059.004", "techniques: [T1059.004]"},
		{"the whole name", policy, "rules:\n  - id: a\n    expression: exec.fi" + cursor + "le.na == 1\n", "exec.file.name", "rules:\n  - id: a\n    expression: exec.file.name == 1\n"},
		{"after characters of two units", policy, "rules:\n  - id: a\n    expression: exec.file.name == \"𝄞é\" && exec.ui" + cursor + "\n", "exec.uid", "rules:\n  - id: a\n    expression: exec.file.name == \"𝄞é\" && exec.uid\n"},
		{"in double quotes", policy, "rules:\n  - id: a\n    expression: \"exec.file.name == " + cursor + "\"\n", `"…"`, "rules:\n  - id: a\n    expression: \"exec.file.name == \\\"\"\n"},
		{"behind an escape", policy, "rules:\n  - id: a\n    expression: \"exec.file.name == \\\"\\u00e9\\\" && exec.ui" + cursor + "\"\n", "exec.uid", "rules:\n  - id: a\n    expression: \"exec.file.name == \\\"\\u00e9\\\" && exec.uid\"\n"},
		{"in a folded block", policy, "rules:\n  - id: a\n    expression: >-\n      exec.uid == 0\n      && exec.gi" + cursor + "\n", "exec.gid", "rules:\n  - id: a\n    expression: >-\n      exec.uid == 0\n      && exec.gid\n"},
		{"directly behind the colon", policy, "rules:\n  - id: a\n    expression:" + cursor + "\n", "exec", "rules:\n  - id: a\n    expression: exec.\n"},
		{"variable", policy, "rules:\n  - id: a\n    expression: exec.pid == ${proc" + cursor + "\n", "process.pid", "rules:\n  - id: a\n    expression: exec.pid == ${process.pid}\n"},
		{"closed variable", policy, "rules:\n  - id: a\n    expression: exec.pid == ${proc" + cursor + "}\n", "process.pid", "rules:\n  - id: a\n    expression: exec.pid == ${process.pid}\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := workspace(t)
			c := w.Complete(tt.file, put(t, w, tt.file, tt.text))
			i := slices.Index(labels(c), tt.label)
			if i < 0 {
				t.Fatalf("%s is not offered: %v", tt.label, labels(c))
			}
			text := strings.Replace(tt.text, cursor, "", 1)
			if got := apply(text, []assist.Edit{c.Items[i].Edit}); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestHover(t *testing.T) {
	in := func(expression string) string { return "rules:\n  - id: a\n    expression: " + expression + "\n" }
	for _, tt := range []struct{ name, file, text, want string }{
		{"field", policy, in("exec.fi" + cursor + "le.path == \"/a\""), "**exec.file.path** string\n\nFull path inside"},
		{"weight", policy, in("exec.syscall.p" + cursor + "ath == \"/a\""), "Weight: 45000"},
		{"plain weight", policy, in("exec.u" + cursor + "id == 0"), "Weight: a plain read"},
		{"list of objects", policy, in("process.ancestors.u" + cursor + "id == 0"), "`process.ancestors[A]` binds one"},
		{"any change", policy, in("fim.write.file.pa" + cursor + "th == \"/a\""), "Of any change of a file"},
		{"old name", policy, in("open.base" + cursor + "name == \"a\""), "An old name of `open.file.name`"},
		{"constant", policy, in("open.flags & O_CR" + cursor + "EAT > 0"), "**O_CREAT** 64 (0x40)"},
		{"mode", policy, in("chmod.file.destination.mode & S_ISU" + cursor + "ID > 0"), "**S_ISUID** 04000"},
		{"macro that is shipped", policy, in("exec.file.name in CLEW_SH" + cursor + "ELLS"), "Shells.\n\n```secl\nsh, bash"},
		{"own macro", policy, "macros: [{id: M, expression: exec.uid == 0}]\n" + in("M"+cursor), "```secl\nexec.uid == 0\n```"},
		{"operator", policy, in("exec.file.name =" + cursor + "~ \"a*\""), "Fits the pattern"},
		{"word", policy, in("connect.addr.ip all" + cursor + "in [::1]"), "All of its values"},
		{"variable", policy, "rules:\n  - id: a\n    actions: [{set: {name: n, value: 1}}]\n    expression: exec.uid == ${n" + cursor + "}\n", "**${n}** int"},
		{"key", policy, "rules:\n  - id: a\n    eve" + cursor + "ry: 5s\n", "**every** (duration)\n\nShortest time"},
		{"watch", policy, "wat" + cursor + "ch: []\n", "Files that few may change"},
		{"operations", policy, "watch:\n  - id: a\n    oper" + cursor + "ations: [create]\n", "One of: `create`"},
		{"action", policy, "rules:\n  - id: a\n    actions:\n      - k" + cursor + "ill: {signal: SIGKILL}\n", "Send a signal"},
		{"technique", "a/rule.yaml", "techniques: [T1059, T1059.0" + cursor + "04]\n", "Unix Shell"},
		{"signal", policy, "rules:\n  - id: a\n    actions: [{kill: {signal: SIGK" + cursor + "ILL}}]\n", "**SIGKILL** 9"},
		{"document of one condition", "x.secl", "exec.u" + cursor + "id == 0", "**exec.uid** int"},
		{"filter", policy, "rules:\n  - id: a\n    filters: ['os.i" + cursor + "d == \"x\"']\n", "**os.id** string"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := workspace(t)
			h, ok := w.Hover(tt.file, put(t, w, tt.file, tt.text))
			if !ok || !strings.Contains(h.Text, tt.want) {
				t.Errorf("%v %q, want %q", ok, h.Text, tt.want)
			}
		})
	}
	w := workspace(t)
	if h, ok := w.Hover(policy, put(t, w, policy, in("exec.file.name == \"ex"+cursor+"ec.uid\""))); ok {
		t.Errorf("a text means %q", h.Text)
	}
}

// marked gives the ranges between « and », and the text without them.
func marked(text string) (string, []assist.Range) {
	var b strings.Builder
	var at []int
	for _, r := range text {
		if r == '«' || r == '»' {
			at = append(at, b.Len())
			continue
		}
		b.WriteRune(r)
	}
	t := assist.NewText(b.String())
	var out []assist.Range
	for i := 0; i+1 < len(at); i += 2 {
		out = append(out, t.Range(at[i], at[i+1]))
	}
	return b.String(), out
}

func TestDiagnostics(t *testing.T) {
	for _, tt := range []struct {
		name, file, text string
		severity         assist.Severity
		want             string
	}{
		{"unknown field", policy, "rules:\n  - id: a\n    expression: |\n      exec.file.name == \"𝄞\" && «exec.uidd» == 0\n", assist.Error, `unknown field "exec.uidd", did you mean "exec.uid"?`},
		{"unknown key", policy, "rules:\n  - id: a\n    «expresion»: x\n    expression: exec.uid == 0\n", assist.Warning, `unknown key "expresion" in rule, did you mean "expression"?`},
		{"closed list", "a/rule.yaml", "id: a\ndescription: é\nseverity: «hihg»\nexpression: exec.uid == 0\n", assist.Error, `"hihg" is no severity`},
		{"path of a watch", policy, "watch:\n  - id: a\n    description: x\n    paths: [/b, «etc/a»]\n", assist.Error, "is not absolute"},
		{"operation", policy, "watch:\n  - id: a\n    description: x\n    paths: [/b]\n    operations: [«wirte»]\n", assist.Error, `did you mean "write"?`},
		{"who is allowed", policy, "watch:\n  - id: a\n    description: x\n    paths: [/b]\n    allow:\n      - condition: «process.uidd» == 0\n", assist.Error, `did you mean "process.uid"?`},
		{"a bad exclusion", policy, "watch:\n  - «id»: a\n    description: x\n    paths: [/b]\n    allow:\n      - executable: [/tmp/x]\n", assist.Warning, "everybody may write to /tmp"},
		{"mixed", policy, "rules:\n  - id: a\n    expression: >-\n      exec.uid == 0 «||»\n      exec.gid == 0 && exec.pid == 1\n", assist.Warning, "write parentheses"},
		{"not YAML", policy, "rules:\n«  - id: [»\n", assist.Error, "not YAML"},
		{"finding", policy, "rules:\n  - «id»: a\n    expression: exec.uid == 0 && exec.uid == 1\n", assist.Warning, "can never match"},
		{"a kind that nothing makes", policy, "rules:\n  - «id»: a\n    expression: selinux.bool.name == \"x\"\n", assist.Warning, "selinux events are not produced"},
		{"filtered", policy, "rules:\n  - «id»: a\n    disabled: true\n    expression: exec.uid == 0\n", assist.Hint, "is not loaded: disabled"},
		{"condition", "x.secl", "exec.file.name == \"é\" &&\n  «exec.uidd» == 0", assist.Error, `unknown field "exec.uidd"`},
		{"condition of any change", "x.secl", "fim.write.file.path == \"/a\" && «exec.uidd» == 0", assist.Error, `unknown field "exec.uidd"`},
		{"condition with a macro", "x.secl", "exec.file.name in CLEW_SHELLS && «exec.uidd» == 0", assist.Error, `unknown field "exec.uidd"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := workspace(t)
			text, want := marked(tt.text)
			w.Put(tt.file, assist.KindOf(tt.file, ""), text)
			all := w.Diagnostics(tt.file)
			i := slices.IndexFunc(all, func(d assist.Diagnostic) bool { return strings.Contains(d.Message, tt.want) })
			if i < 0 {
				t.Fatalf("nothing says %q: %+v", tt.want, all)
			}
			if all[i].Range != want[0] || all[i].Severity != tt.severity {
				t.Errorf("%v of severity %d, want %v of %d", all[i].Range, all[i].Severity, want[0], tt.severity)
			}
		})
	}
}

// TestDiagnosticsOfSets holds that policies of one directory are looked at
// together, and others by themselves.
func TestDiagnosticsOfSets(t *testing.T) {
	w := workspace(t)
	w.Put("p/a.policy", assist.Policy, "macros: [{id: M, values: [x]}]\nrules: [{id: a, expression: exec.file.name in M}]\n")
	w.Put("p/b.policy", assist.Policy, "rules: [{id: b, expression: exec.file.name not in M && exec.uid == 0}]\n")
	w.Put("q/c.policy", assist.Policy, "rules: [{id: a, expression: exec.file.name in M}]\n")
	worst := func(name string) []string {
		var out []string
		for _, d := range w.Diagnostics(name) {
			if d.Severity == assist.Error {
				out = append(out, d.Message)
			}
		}
		return out
	}
	if a, b := worst("p/a.policy"), worst("p/b.policy"); a != nil || b != nil {
		t.Errorf("%q, %q", a, b)
	}
	if c := worst("q/c.policy"); len(c) != 1 || !strings.Contains(c[0], `"M"`) {
		t.Errorf("%q", c)
	}
	if got := w.Related("p/a.policy"); !slices.Equal(got, []string{"p/a.policy", "p/b.policy"}) {
		t.Error(got)
	}
	w.Drop("p/a.policy")
	if b := worst("p/b.policy"); len(b) != 1 {
		t.Errorf("without the macro: %q", b)
	}
}

func TestDefinitionAndReferences(t *testing.T) {
	w := workspace(t)
	a, inA := marked("macros:\n  - id: «M»\n    values: [é]\nrules:\n  - id: «one»\n    expression: exec.file.name in «M» && exec.uid == 0\n    actions: [{set: {name: «seen», value: 1, scope: process}}]\n")
	b, inB := marked("rules:\n  - id: two\n    expression: \"exec.file.name == \\\"𝄞\\\" && process.file.name in «M» && exec.uid == «${process.seen}»\"\n  - {id: «one», disabled: true}\n")
	w.Put("a.policy", assist.Policy, a)
	w.Put("b.policy", assist.Policy, b)
	where := func(ls []assist.Location) string { return fmt.Sprint(ls) }
	at := func(name string, r assist.Range) assist.Location { return assist.Location{Name: name, Range: r} }
	for _, tt := range []struct {
		name       string
		at         assist.Location
		definition []assist.Location
		references []assist.Location
	}{
		{"macro", at("b.policy", inB[0]), []assist.Location{at("a.policy", inA[0])}, []assist.Location{at("a.policy", inA[0]), at("a.policy", inA[2]), at("b.policy", inB[0])}},
		{"macro where it is defined", at("a.policy", inA[0]), []assist.Location{at("a.policy", inA[0])}, []assist.Location{at("a.policy", inA[0]), at("a.policy", inA[2]), at("b.policy", inB[0])}},
		{"variable", at("b.policy", inB[1]), []assist.Location{at("a.policy", inA[3])}, []assist.Location{at("a.policy", inA[3]), at("b.policy", inB[1])}},
		{"rule", at("b.policy", inB[2]), []assist.Location{at("a.policy", inA[1]), at("b.policy", inB[2])}, []assist.Location{at("a.policy", inA[1]), at("b.policy", inB[2])}},
	} {
		if got := w.Definition(tt.at.Name, tt.at.Range.Start); where(got) != where(tt.definition) {
			t.Errorf("%s is defined at %v, want %v", tt.name, got, tt.definition)
		}
		if got := w.References(tt.at.Name, tt.at.Range.Start, true); where(got) != where(tt.references) {
			t.Errorf("%s is used at %v, want %v", tt.name, got, tt.references)
		}
	}
	if got := w.References("a.policy", inA[0].Start, false); len(got) != 2 {
		t.Errorf("without its definition: %v", got)
	}
	if got := w.Definition("a.policy", assist.Position{Line: 5, Character: 20}); got != nil {
		t.Errorf("a field is defined at %v", got)
	}
}

func TestSymbols(t *testing.T) {
	w := workspace(t)
	w.Put(policy, assist.Policy, "macros:\n  - id: M\n    values: [a]\nrules:\n  - description: x\n    id: r\n  - {id: s}\n")
	var got []string
	for _, s := range w.Symbols(policy) {
		got = append(got, fmt.Sprintf("%s %v %q %d-%d", s.Name, s.Macro, s.Detail, s.Range.Start.Line, s.Range.End.Line))
	}
	if want := []string{`M true "" 1-2`, `r false "x" 4-5`, `s false "" 6-6`}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	w.Put("a/rule.yaml", assist.RuleFile, "id: a\n")
	if got := w.Symbols("a/rule.yaml"); len(got) != 1 || got[0].Name != "a" {
		t.Error(got)
	}
}

func TestFormat(t *testing.T) {
	w := workspace(t)
	for _, tt := range []struct{ file, text, want string }{
		{policy, "rules:\n  - id: é\n    expression: exec.uid==0 || exec.gid==0 && exec.pid==1\n    silent: true\n", "rules:\n  - id: é\n    expression: |\n      exec.uid == 0 || (exec.gid == 0 && exec.pid == 1)\n    silent: true\n"},
		{policy, "rules:\n  - id: a\n    expression: exec.uid == 0\n", "rules:\n  - id: a\n    expression: exec.uid == 0\n"},
		{"x.secl", "exec.uid==0 or exec.gid==0 and exec.pid==1\n", "exec.uid == 0 || (exec.gid == 0 && exec.pid == 1)\n"},
	} {
		w.Put(tt.file, assist.KindOf(tt.file, ""), tt.text)
		edits, err := w.Format(tt.file)
		if err != nil {
			t.Fatal(err)
		}
		if got := apply(tt.text, edits); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
		if tt.text == tt.want && len(edits) > 0 {
			t.Errorf("%v where nothing changes", edits)
		}
	}
	w.Put("x.secl", assist.SECL, "exec.uid ==")
	if _, err := w.Format("x.secl"); err == nil {
		t.Error("half a condition is formatted")
	}
}

func TestActions(t *testing.T) {
	in := func(expression string) string { return "rules:\n  - id: a\n    expression: " + expression + "\n" }
	for _, tt := range []struct{ name, file, text, title, want string }{
		{"nearest field", policy, in("exec.file.name == \"𝄞\" && exec.ui" + cursor + "dd == 0"), "Replace by exec.uid", in("exec.file.name == \"𝄞\" && exec.uid == 0")},
		{"nearest constant", policy, in("open.flags & O_CREA" + cursor + "TT > 0"), "Replace by O_CREAT", in("open.flags & O_CREAT > 0")},
		{"nearest key", policy, "rules:\n  - id: a\n    expres" + cursor + "ion: exec.uid == 0\n", "Replace by expression", "rules:\n  - id: a\n    expression: exec.uid == 0\n"},
		{"nearest severity", "a/rule.yaml", "id: a\nseverity: hi" + cursor + "hg\n", "Replace by high", "id: a\nseverity: high\n"},
		{"parentheses", policy, in("exec.uid == 0 |" + cursor + "| exec.gid == 0 && exec.pid == 1"), "Add parentheses: … || (… && …)", in("exec.uid == 0 || (exec.gid == 0 && exec.pid == 1)")},
		{"parentheses on two lines", policy, "rules:\n  - id: a\n    expression: |\n      exec.uid == 0 |" + cursor + "| exec.gid == 0\n      && exec.pid == 1\n", "Add parentheses: … || (… && …)", "rules:\n  - id: a\n    expression: |\n      exec.uid == 0 || (exec.gid == 0\n      && exec.pid == 1)\n"},
		{"pattern", policy, in("open.file.path == \"/tm" + cursor + "p/*\""), `Make it a pattern: ~"/tmp/*"`, in("open.file.path == ~\"/tmp/*\"")},
		{"pattern in a list", policy, in("'open.file.name in [\"a\", \"b" + cursor + "*\"]'"), `Make it a pattern: ~"b*"`, in("'open.file.name in [\"a\", ~\"b*\"]'")},
		{"pattern in double quotes", policy, in("\"open.file.name == \\\"b" + cursor + "*\\\"\""), `Make it a pattern: ~"b*"`, in("\"open.file.name == ~\\\"b*\\\"\"")},
		{"condition by itself", "x.secl", "exec.ui" + cursor + "dd == 0", "Replace by exec.uid", "exec.uid == 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := workspace(t)
			at := put(t, w, tt.file, tt.text)
			actions := w.Actions(tt.file, assist.Range{Start: at, End: at})
			i := slices.IndexFunc(actions, func(a assist.Action) bool { return a.Title == tt.title })
			if i < 0 {
				t.Fatalf("%s is not offered: %+v", tt.title, actions)
			}
			if got := apply(strings.Replace(tt.text, cursor, "", 1), actions[i].Edits); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestTokens(t *testing.T) {
	w := workspace(t)
	text, want := marked("rules:\n  - id: é\n    expression: \"«exec.file.name» «=»«~» «\\\"𝄞*\\\"» «&»«&» «exec.uid» «in» [«1»] «# x»\"\n")
	w.Put(policy, assist.Policy, text)
	var got []string
	var at []assist.Range
	for _, k := range w.Tokens(policy) {
		got = append(got, assist.TokenTypes[k.Type])
		at = append(at, k.Range)
	}
	if !slices.Equal(at, want) {
		t.Errorf("%v, want %v", at, want)
	}
	if s := strings.Join(got, " "); s != "property operator operator string operator operator property keyword number comment" {
		t.Error(s)
	}
}

// TestText holds that positions count as UTF-16 does and never leave a line.
func TestText(t *testing.T) {
	text := assist.NewText("aé𝄞b\r\n\r\nx")
	for _, tt := range []struct{ line, character, offset int }{
		{0, 0, 0}, {0, 1, 1}, {0, 2, 3}, {0, 4, 7}, {0, 5, 8}, {1, 0, 10}, {2, 0, 12}, {2, 1, 13},
	} {
		p := assist.Position{Line: tt.line, Character: tt.character}
		if got := text.Offset(p); got != tt.offset {
			t.Errorf("%v is at %d, want %d", p, got, tt.offset)
		}
		if got := text.Position(tt.offset); got != p {
			t.Errorf("%d is %v, want %v", tt.offset, got, p)
		}
	}
	for _, tt := range []struct {
		p    assist.Position
		want int
	}{
		{assist.Position{Line: 0, Character: 3}, 3}, {assist.Position{Line: 0, Character: 99}, 8}, {assist.Position{Line: 99}, 13},
		{assist.Position{Line: -1}, 0}, {assist.Position{Line: 1, Character: -5}, 10},
	} {
		if got := text.Offset(tt.p); got != tt.want {
			t.Errorf("%v is at %d, want %d", tt.p, got, tt.want)
		}
	}
}
