package source

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/clewsec/clew/rules"
)

// same compares what is read here with what a YAML parser reads.
func same(path string, y *yaml.Node, n *Node) error {
	if y.Kind == yaml.AliasNode {
		return nil
	}
	if n == nil {
		if y.Kind == yaml.ScalarNode && y.Value == "" {
			return nil
		}
		return fmt.Errorf("%s: nothing is read at line %d", path, y.Line)
	}
	switch {
	case y.Kind == yaml.ScalarNode && n.Kind == Scalar:
		if y.Value != n.Value() {
			return fmt.Errorf("%s: %q is read as %q", path, y.Value, n.Value())
		}
		return places(path, n)
	case y.Kind == yaml.MappingNode && n.Kind == Mapping:
		if len(y.Content) != 2*len(n.Entries) {
			return fmt.Errorf("%s: %d keys are read as %d", path, len(y.Content)/2, len(n.Entries))
		}
		for i, e := range n.Entries {
			if err := same(path, y.Content[2*i], e.Key); err != nil {
				return err
			}
			if err := same(path+"."+e.Key.Value(), y.Content[2*i+1], e.Value); err != nil {
				return err
			}
		}
		return nil
	case y.Kind == yaml.SequenceNode && n.Kind == Sequence:
		if len(y.Content) != len(n.Items) {
			return fmt.Errorf("%s: %d members are read as %d", path, len(y.Content), len(n.Items))
		}
		for i, it := range n.Items {
			if err := same(fmt.Sprintf("%s[%d]", path, i), y.Content[i], it); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("%s: kind %d is read as %d", path, y.Kind, n.Kind)
}

// places checks that each byte of a scalar stands where it is said to.
func places(path string, n *Node) error {
	v := n.Value()
	last := n.Start
	for i := range len(v) {
		off := n.Offset(i)
		if off < last || off > len(n.src) {
			return fmt.Errorf("%s: byte %d of %q stands at %d, after %d", path, i, v, off, last)
		}
		last = off
		if v[i] != ' ' && v[i] != '\n' && off < len(n.src) && n.src[off] != v[i] && n.src[off] != '\\' {
			return fmt.Errorf("%s: byte %d of %q is %q in the file", path, i, v, n.src[off])
		}
	}
	return nil
}

func TestSameAsYAML(t *testing.T) {
	texts := map[string]string{
		"plain":      "a: b c\nd: é ü x # remark\ne:\n  one\n  two\n\n  three\n",
		"single":     "a: 'it''s'\nb: 'one\n  two\n\n  three'\n",
		"double":     `a: "q\"uo\\te \u00e9 \x41\t"` + "\nb: \"one\n  two \\\n  three\"\n",
		"literal":    "a: |\n  one\n    two\n\n  é three\n\nb: |-\n  x\nc: |+\n  y\n\nd: |2\n    z\ne: |\nf: 1\n",
		"folded":     "a: >\n  one\n  two\n\n  three\n    four\n    five\n  six\n\nb: >-\n  x\n  y\nc: >+\n  z\n\n",
		"sequences":  "a:\n- b\n- c: d\n  e: f\n- - g\n  - h\n-\n  i: j\nk: [l, m, {n: o, p: [q]}, 'r s', \"t\"]\n",
		"flow":       "a: {b: c, d: \"e, f\", g: [h,\n  i], j: }\nk: []\nl: {}\nm: [a b\n  c, d]\n",
		"windows":    "a: b\r\nc: |\r\n  d\r\n  e\r\nf: >-\r\n  g\r\n  h\r\n",
		"remarks":    "# one\n---\na: b # two\n# three\nc:\n  # four\n  d: e#f\n",
		"properties": "a: &x b\nc: *x\nd: !!str 1\ne: &y\n  f: g\n",
		"quoted key": "\"a b\": c\n'd': e\n",
		"urls":       "a: http://x/y:z\nb: [http://x]\n",
		"bom":        "\ufeffa: b\n",
		"no newline": "a: |\n  x",
		"list":       "- a\n- b\n",
	}
	err := fs.WalkDir(rules.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(rules.FS, name)
		texts[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("../testdata/good.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for i, part := range strings.Split(string(data), "\n-- ") {
		if name, text, ok := strings.Cut(part, " --\n"); ok && strings.HasSuffix(name, ".policy") {
			texts[fmt.Sprintf("good %d", i)] = text
		}
	}
	for name, text := range texts {
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := same(name, doc.Content[0], Parse(text)); err != nil {
			t.Error(err)
		}
	}
}

// TestBroken holds that what stands around a broken place is still read.
func TestBroken(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"key without colon", "a: 1\nb\nc: 2\n", "{a: 1, b?, c: 2}"},
		{"key without colon in a member", "- a\n  b: 1\n", "[{a?, b: 1}]"},
		{"quote not closed", "a: \"x\nb: 2\n", "{a: x, b: 2}"},
		{"bracket not closed", "a: [x, y\nb: {c: d, e\nf: 2\n", "{a: [x, y], b: {c: d, e?}, f: 2}"},
		{"value missing", "a:\nb: \nc:\n  d:\n", "{a, b, c: {d}}"},
		{"empty member", "a:\n  - \n  - b\n", "{a: [, b]}"},
		{"odd indentation", "a:\n    b: 1\n  c: 2\nd: 3\n", "{a: {b: 1}, d: 3}"},
		{"junk", "a: 1\n&& b || c\nd: 2\n", "{a: 1, d: 2}"},
		{"two documents", "a: 1\n---\nb: 2\n", "{a: 1, b: 2}"},
		{"tabs", "a:\n\tb: 1\nc: 2\n", "{a, \tb: 1, c: 2}"},
		{"closed too often", "a: ]\nb: [1]]\nc: 2\n", "{a: ], b: [1], c: 2}"},
	} {
		if got := shape(Parse(tt.text)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func shape(n *Node) string {
	if n == nil {
		return ""
	}
	var parts []string
	switch n.Kind {
	case Mapping:
		for _, e := range n.Entries {
			s := e.Key.Value()
			switch {
			case e.Colon < 0:
				s += "?"
			case e.Value != nil:
				s += ": " + shape(e.Value)
			}
			parts = append(parts, s)
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case Sequence:
		for _, it := range n.Items {
			parts = append(parts, shape(it))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return n.Value()
}

func FuzzParse(f *testing.F) {
	f.Add("a: |\n  b\nc: [d, {e: \"f\\u00e9\"}]\n")
	f.Add("- - - a\n- b: 'c\n\n  d'\n")
	f.Add("a: >+\n\n  x\n   y\n\n z")
	f.Add("\ufeff---\r\na: \"\\U0010ffff\\\r\n b\"")
	f.Add(strings.Repeat("[", 200) + strings.Repeat("- ", 200) + "{{{{")
	f.Fuzz(func(t *testing.T, text string) {
		check(t, text, Parse(text), 0)
	})
}

// check holds that a node lies in the text, and that places of a scalar's
// bytes rise.
func check(t *testing.T, text string, n *Node, from int) {
	if n == nil {
		return
	}
	if n.Start < from || n.End < n.Start || n.Reach < n.End || n.Reach > len(text) {
		t.Fatalf("node lies at %d to %d, reaches to %d, after %d in %d bytes", n.Start, n.End, n.Reach, from, len(text))
	}
	if n.Kind == Scalar {
		v, last := n.Value(), n.Start
		for i := range len(v) + 1 {
			off := n.Offset(i)
			if off < last || off > len(text) {
				t.Fatalf("byte %d of %q stands at %d, after %d", i, v, off, last)
			}
			last = off
		}
		for off := n.Start; off <= n.End; off++ {
			if i := n.Index(off); i < 0 || i > len(v) {
				t.Fatalf("offset %d is byte %d of %q", off, i, v)
			}
		}
		if utf8.ValidString(text) && !utf8.ValidString(v) {
			t.Fatalf("%q is read as %q", text, v)
		}
	}
	for _, e := range n.Entries {
		check(t, text, e.Key, n.Start)
		check(t, text, e.Value, e.Key.Start)
	}
	for _, it := range n.Items {
		check(t, text, it, n.Start)
	}
}
