package ast

import "testing"

func TestFormat(t *testing.T) {
	src := "open.file.name == \"a\"\n\t&& opn.flags == ü"
	p := Problem{Span: Span{Start: 26, End: 35}, Msg: `unknown field "opn.flags"`, Nearest: "open.flags"}
	want := "2:5: unknown field \"opn.flags\", did you mean \"open.flags\"?\n    \t&& opn.flags == ü\n    \t   ^^^^^^^^^"
	if got := p.Format(src); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// Places outside of the text and long lines are no trouble.
	for _, s := range []Span{{-1, -5}, {1000, 2000}, {len(src), len(src)}} {
		Problem{Span: s}.Format(src)
	}
	long := ""
	for range 100 {
		long += "äöü "
	}
	for i := range len(long) {
		Problem{Span: Span{i, i + 9}}.Format(long)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"exec.file.name", "exec.file.path", "open.flags"}
	for word, want := range map[string]string{
		"exec.fil.path": "exec.file.path",
		"open.flag":     "open.flags",
		"something":     "",
		"":              "",
	} {
		if got := Nearest(word, names); got != want {
			t.Errorf("%s: got %q, want %q", word, got, want)
		}
	}
}
