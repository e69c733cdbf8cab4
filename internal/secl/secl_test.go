package secl

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/secl/ast"
	"github.com/clewsec/clew/internal/secl/parse"
)

var update = flag.Bool("update", false, "rewrite golden files")

// TestProblems shows what an author sees: every problem, with place, caret and
// the nearest right name.
func TestProblems(t *testing.T) {
	env := testEnv(t)
	var b strings.Builder
	for _, src := range []string{
		"open.fil.name == \"a\"\n  && open.flags & O_CREATE > 0\n  && process.uuid == true",
		`open.file.name == "a" && open.flags == "x" && open.file.path =~ "/a/**/b"`,
		`open.file.name == "a" && exec.comm == "b"`,
		`open.file.name == "a" || open.flags > 1 && open.retval == 0`,
		`open.file.path in [ "/tmp/*", ~"*.txt" ]`,
		`5s > open.file.change_time`,
		`open.file.change_time > 1d && open.flags==1+0x10`,
		`open.file.name == "a" AND open.flags == 1`,
		`open.file.name == 'a'`,
		`open.file.name == "a" && ${nope} == 1`,
		`open.file.name in [ "${process.pid}" ]`,
		`not open.flags == 1`,
		`open.file.name`,
		`process.uid == 0`,
	} {
		_, problems := Compile(env, src, Options{})
		b.WriteString(src + "\n" + problems.Format(src) + "\n")
	}
	golden := filepath.Join("testdata", "problems.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestMacros(t *testing.T) {
	env := testEnv(t)
	env.Macros = map[string]ast.Node{}
	add := func(name, src string) {
		n, problems := ParseMacro(src)
		if n == nil {
			t.Fatal(problems.Format(src))
		}
		env.Macros[name] = n
	}
	add("SHELLS", `["sh", ~"b*sh"]`)
	add("IS_ROOT", `exec.uid == 0`)
	add("ROOT_SHELL", `IS_ROOT && exec.comm in SHELLS`)
	add("BROKEN", `exec.comm in NOWHERE`)
	for _, tc := range []struct{ fields, expr, want string }{
		{"exec.comm=bash", `exec.comm in SHELLS`, "true"},
		{"exec.comm=cat", `exec.comm in SHELLS`, "false"},
		{"exec.comm=cat", `exec.comm not in SHELLS && IS_ROOT`, "true"},
		{"exec.comm=bash", `ROOT_SHELL`, "true"},
		{"exec.comm=bash, exec.uid=1", `ROOT_SHELL`, "false"},
		{"exec.comm=bash", `!ROOT_SHELL`, "false"},
		{"-", `ROOT_SHELL && open.flags == 1`, "ERR(two event types)"},
		{"-", `SHELLS`, "ERR(type)"},
		{"-", `exec.uid in SHELLS`, "ERR(type)"},
		{"-", `BROKEN`, "ERR(unknown field)"},
	} {
		got, problems := evaluate(env, newRecord(env.Schema, tc.fields), tc.expr)
		if got != tc.want {
			t.Errorf("%s on %s: got %s, want %s\n%s", tc.expr, tc.fields, got, tc.want, problems.Format(tc.expr))
		}
	}
	// A macro that doubles at each step ends in a refusal, not in memory.
	add("M0", `exec.uid == 1`)
	for i, name := range []string{"M1", "M2", "M3", "M4", "M5", "M6", "M7", "M8"} {
		prev := "M" + string(rune('0'+i))
		add(name, strings.TrimSuffix(strings.Repeat(prev+" && ", 20), " && "))
	}
	if _, problems := Compile(env, "M8", Options{}); len(problems) == 0 || problems[0].Code != ast.Limit {
		t.Errorf("want a limit, got %v", problems)
	}
	add("LOOP", `LOOP && exec.uid == 1`)
	if _, problems := Compile(env, "LOOP", Options{}); len(problems) == 0 || problems[0].Code != ast.Limit {
		t.Errorf("want a limit, got %v", problems)
	}
}

func TestExplain(t *testing.T) {
	env := testEnv(t)
	n, _ := ParseMacro(`["sh", "bash"]`)
	env.Macros = map[string]ast.Node{"SHELLS": n}
	for _, tc := range []struct{ fields, expr, want string }{
		{"exec.comm=sh", `exec.comm in SHELLS && exec.uid == 0`, `exec.comm in SHELLS=sh exec.uid == 0=0`},
		{"exec.comm=sh, exec.uid=5", `exec.comm == "x" || exec.uid > 4 || exec.gid == 1`, `exec.uid > 4=5`},
		{"exec.comm=sh", `not (exec.comm == "x" || exec.uid == 1)`, `exec.comm == "x"=sh exec.uid == 1=0`},
		{"exec.comm=sh", `not (exec.comm == "x" && exec.uid == 0)`, `exec.comm == "x"=sh`},
		{"exec.comm=sh, exec.argv=a;b", `"b" in exec.argv && true`, `"b" in exec.argv=a,b`},
		{"exec.comm=sh", `exec.uid == exec.gid`, `exec.uid == exec.gid=`},
		{"exec.comm=sh", `exec.comm == "x"`, ``},
		{"exec.comm=sh, process.ancestors.comm=a;b, process.ancestors.uid=1;2", `exec.comm == "sh" && process.ancestors[A].uid == 2 && process.ancestors[A].comm == "b"`,
			`exec.comm == "sh"=sh process.ancestors[A].uid == 2=2 process.ancestors[A].comm == "b"=b`},
	} {
		p, problems := Compile(env, tc.expr, Options{})
		if p == nil {
			t.Fatal(problems.Format(tc.expr))
		}
		var got []string
		for _, part := range p.Explain(&Ctx[record, *node]{Event: newRecord(env.Schema, tc.fields)}) {
			got = append(got, tc.expr[part.Span.Start:part.Span.End]+"="+part.Value)
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%s on %s:\n got %s\nwant %s", tc.expr, tc.fields, s, tc.want)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	env := testEnv(t)
	r := newRecord(env.Schema, "open.file.name=abc, open.file.path=/a/b/abc, process.ancestors.comm=a;b;c, open.flags=1, process.pid=12, open.file.change_time=1")
	for _, expr := range []string{
		`open.file.name == "x"`,
		`open.file.name in ["a", "b", "c", "d", "e", "f", ~"x*y*z"]`,
		`open.file.path =~ "/a/*/abd"`,
		`open.file.name == "x${process.pid}"`,
		`open.file.name == "abc${process.pid}"`,
		`process.ancestors.comm == "x" && open.file.name == "abc"`,
		`process.ancestors.uid == 7 && open.file.name == "abc"`,
		`process.ancestors[A].comm == "a" && process.ancestors[A].uid == 1 && open.file.name == "abc"`,
		`open.flags & (O_CREAT | O_TRUNC) > 0`,
		`open.file.change_time < 5s`,
	} {
		p, problems := Compile(env, expr, Options{})
		if p == nil {
			t.Fatal(problems.Format(expr))
		}
		c := &Ctx[record, *node]{Event: r, Now: testNow}
		if n := testing.AllocsPerRun(100, func() {
			if p.Match(c) {
				t.Fatalf("%s matches", expr)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", expr, n)
		}
	}
}

func TestValue(t *testing.T) {
	env := testEnv(t)
	r := newRecord(env.Schema, "open.flags=3, open.file.name=abc, exec.argv=a;b")
	c := &Ctx[record, *node]{Event: r}
	v, problems := CompileValue(env, `open.flags + 1`, Options{})
	if v == nil {
		t.Fatal(problems)
	}
	if got := v.Int(c); got != 4 {
		t.Errorf("got %d, want 4", got)
	}
	v, _ = CompileValue(env, `exec.argv`, Options{})
	var got []string
	v.EachStr(c, func(s string) bool { got = append(got, s); return false })
	if len(got) != 2 || got[1] != "b" {
		t.Errorf("got %v", got)
	}
}

// FuzzCompile compiles any text and runs what compiles.
func FuzzCompile(f *testing.F) {
	b, err := os.ReadFile(filepath.Join("testdata", "vectors.txt"))
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if parts := strings.SplitN(line, "|", 4); len(parts) == 4 {
			f.Add(strings.TrimSpace(parts[3]))
		}
	}
	env := testEnv(f)
	r := newRecord(env.Schema, "open.file.name=abc, exec.argv=-x;y, process.ancestors.comm=a;b, open.flags=1, network.destination.ip=10.0.0.1")
	f.Fuzz(func(t *testing.T, src string) {
		p, problems := Compile(env, src, Options{})
		if (p == nil) != problems.Failed() {
			t.Fatalf("program %v, problems %v", p, problems)
		}
		if p == nil {
			return
		}
		c := &Ctx[record, *node]{Event: r, Now: testNow}
		got := p.Match(c)
		// What is printed means the same.
		n, _ := parse.Expression(src)
		if q, ps := Compile(env, ast.Print(n), Options{}); q != nil {
			if q.Match(c) != got {
				t.Fatalf("%s and %s differ", src, ast.Print(n))
			}
		} else if ps[len(ps)-1].Code != ast.Limit {
			t.Fatalf("printed text does not compile: %s\n%s", ast.Print(n), ps.Format(ast.Print(n)))
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	env := testEnv(b)
	r := newRecord(env.Schema, "open.file.path=/usr/lib/x86_64-linux-gnu/libc.so.6, open.flags=524288, process.ancestors.comm=a;b;c;d;e;f")
	for name, expr := range map[string]string{
		"equal":     `open.file.path == "/etc/passwd"`,
		"globs":     `open.file.path in [~"/etc/*", ~"/root/.ssh/*", ~"/home/*/.ssh/*"]`,
		"flags":     `open.flags & (O_CREAT | O_TRUNC) > 0 && open.file.path == "/x"`,
		"ancestors": `process.ancestors.comm in ["sshd", "nginx", "httpd"] && open.flags > 0`,
	} {
		p, problems := Compile(env, expr, Options{})
		if p == nil {
			b.Fatal(problems)
		}
		b.Run(name, func(b *testing.B) {
			c := &Ctx[record, *node]{Event: r, Now: testNow}
			b.ReportAllocs()
			for b.Loop() {
				p.Match(c)
			}
		})
	}
}
