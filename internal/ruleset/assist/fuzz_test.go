package assist_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/ruleset/assist"
)

// FuzzAnswers asks everything about any text at any place: nothing may end in
// a panic, and every answer must lie in the text and be the same twice.
func FuzzAnswers(f *testing.F) {
	for _, s := range []string{
		"rules:\n  - id: a\n    expression: |\n      exec.file.name in [\"é\", ~\"x*\"] || open.flags & (O_CREAT|O_TR\n",
		"macros:\n- {id: M, values: [a, ~\"b*\"]}\nrules:\n- id: a\n  expression: \"process.ancestors[A].uid == ${process.x} && \\u00e9\"\n  actions:\n  - set: {name: x, value: [1], scope: process}\n",
		"id: a\nseverity: hihg\ntechniques: [T1059, ]\nsequence:\n  within: 5m\n  steps:\n    - fim.write.file.path == \"${a}%{b}\"\n    - \n",
		"rules:\n  - id: [\n  \t- {a: {b: [c, 'd\n",
		"exec.file.name =~ \"𝄞*\" && not (exec.uidd == 0 || exec.uid == 1 && 2 == 2",
		"%{exec.file.path} == \"\\\"",
		"\ufeffrules: >+\n\n\r\n   x\r\n",
	} {
		for kind := range byte(3) {
			f.Add(s, len(s)/2, kind)
		}
	}
	w := workspace(f)
	f.Fuzz(func(t *testing.T, text string, off int, kind byte) {
		if len(text) > 4096 {
			return
		}
		name := [...]string{"a.policy", "a/rule.yaml", "a.secl"}[kind%3]
		w.Put(name, assist.KindOf(name, ""), text)
		x := assist.NewText(text)
		at := x.Position(off)
		inside := func(what string, r assist.Range) {
			if a, b := x.Offset(r.Start), x.Offset(r.End); a > b || x.Position(a) != r.Start || x.Position(b) != r.End {
				t.Fatalf("%s: %v of %q", what, r, text)
			}
		}
		c := w.Complete(name, at)
		for _, it := range c.Items {
			inside("completion", it.Edit.Range)
			if r := it.Edit.Range; r.Start.Line != at.Line || r.End.Line != at.Line {
				t.Fatalf("completion at %v edits %v of %q", at, r, text)
			}
		}
		if h, ok := w.Hover(name, at); ok {
			inside("hover", h.Range)
		}
		for _, l := range append(w.Definition(name, at), w.References(name, at, true)...) {
			inside("location", l.Range)
		}
		first := w.Diagnostics(name)
		for _, d := range first {
			inside("diagnostic", d.Range)
		}
		w.Put(name, assist.KindOf(name, ""), text)
		if again := w.Diagnostics(name); fmt.Sprint(first) != fmt.Sprint(again) {
			t.Fatalf("%v, then %v", first, again)
		}
		for _, s := range w.Symbols(name) {
			inside("symbol", s.Range)
			inside("symbol's name", s.Selection)
		}
		last := assist.Position{}
		for _, k := range w.Tokens(name) {
			inside("token", k.Range)
			if s := k.Range.Start; s.Line < last.Line || s.Line == last.Line && s.Character < last.Character {
				t.Fatalf("token at %v after %v of %q", s, last, text)
			}
			last = k.Range.End
		}
		for _, a := range w.Actions(name, assist.Range{Start: at, End: at}) {
			for _, e := range a.Edits {
				inside("action", e.Range)
			}
		}
		if edits, err := w.Format(name); err == nil {
			for _, e := range edits {
				inside("format", e.Range)
			}
		}
		w.Drop(name)
	})
}

// large is a policy of so many rules.
func large(n int) string {
	var b strings.Builder
	b.WriteString("macros:\n  - {id: OWN, values: [a, b]}\nrules:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - id: rule_%d\n    description: Something happened\n    expression: |\n      exec.file.path == \"/usr/bin/program%d\"\n      && process.parent.file.name in OWN && exec.uid == %d\n", i, i, i)
	}
	return b.String()
}

func BenchmarkComplete10000(b *testing.B) {
	w := workspace(b)
	text := large(10_000) + "  - id: last\n    expression: exec.file.n"
	at := assist.NewText(text)
	end := at.Position(len(text))
	b.Run("after a change", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w.Put(policy, assist.Policy, text)
			if len(w.Complete(policy, end).Items) == 0 {
				b.Fatal("nothing")
			}
		}
	})
	b.Run("again", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w.Complete(policy, end)
		}
	})
}

func BenchmarkDiagnostics10000(b *testing.B) {
	w := workspace(b)
	text := large(10_000)
	b.ReportAllocs()
	for b.Loop() {
		w.Put(policy, assist.Policy, text)
		w.Diagnostics(policy)
	}
}
