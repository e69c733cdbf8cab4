package parse

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/secl/ast"
)

func TestPrint(t *testing.T) {
	for _, tc := range []struct{ src, want string }{
		{`a == 1 && b == 2 || c == 3`, `a == 1 && (b == 2 || c == 3)`},
		{`(a == 1 && b == 2) || c == 3`, `(a == 1 && b == 2) || c == 3`},
		{`a || b && c or d`, `a || (b && (c || d))`},
		{`a and b and c`, `a && b && c`},
		{`(a && b) && c`, `(a && b) && c`},
		{`not x == 1`, `!x == 1`},
		{`not (x == 1)`, `!(x == 1)`},
		{`flags & 3 | 4 == 6`, `flags & (3 | 4) == 6`},
		{`x & 1 + 1 == 2`, `(x & 1) + 1 == 2`},
		{`x - 1 - 2 == 0`, `x - 1 - 2 == 0`},
		{`x - (1 - 2) == 0`, `x - (1 - 2) == 0`},
		{`x == 1+2`, `x == 1 + 2`},
		{`a == b == c`, `a == (b == c)`},
		{`x in[ A,B ]`, `x in [ A, B ]`},
		{`x not in ["a",~"b*",r"c"]`, `x not in [ "a", ~"b*", r"c" ]`},
		{`x =~"a" // why`, `x =~ ~"a"`},
		{`- 5 == -5`, `-(5) == -5`},
		{`^process.uid == -1`, `^process.uid == -1`},
		{`ip in 10.0.0.0/8 || ip in [::1, fe80::/10]`, `ip in 10.0.0.0/8 || ip in [ ::1, fe80::/10 ]`},
		{`t < 5s && ${process.n} > 0x10 && %{open.file.name} != "x"`, `t < 5s && ${process.n} > 0x10 && %{open.file.name} != "x"`},
		{`process.ancestors[A].comm == "x"`, `process.ancestors[A].comm == "x"`},
	} {
		n, problems := Expression(tc.src)
		if n == nil {
			t.Errorf("%s\n%s", tc.src, problems.Format(tc.src))
			continue
		}
		got := ast.Print(n)
		if got != tc.want {
			t.Errorf("%s\n got %s\nwant %s", tc.src, got, tc.want)
		}
		again(t, n, got)
	}
}

// again parses what was printed and compares the trees.
func again(t *testing.T, n ast.Node, text string) {
	t.Helper()
	m, problems := Macro(text)
	if m == nil {
		t.Fatalf("printed text does not parse: %s\n%s", text, problems.Format(text))
	}
	if !reflect.DeepEqual(bare(n), bare(m)) {
		t.Fatalf("printed text means something else: %s", text)
	}
	if text2 := ast.Print(m); text2 != text {
		t.Fatalf("printing is not stable:\n%s\n%s", text, text2)
	}
}

// bare is a tree without places.
func bare(n ast.Node) any {
	switch n := n.(type) {
	case *ast.Binary:
		return []any{n.Op, bare(n.Left), bare(n.Right)}
	case *ast.Unary:
		return []any{n.Op, bare(n.X)}
	case *ast.List:
		out := []any{"list"}
		for _, it := range n.Items {
			out = append(out, bare(it))
		}
		return out
	case *ast.Ident:
		return "ident " + n.Name
	case *ast.FieldRef:
		return "field " + n.Name
	case *ast.Var:
		return "var " + n.Name
	case *ast.Int:
		return n.Value
	case *ast.Duration:
		return []any{"duration", n.Value}
	case *ast.String:
		return []any{n.Kind, n.Value}
	case *ast.Net:
		return "net " + n.Text
	}
	return nil
}

func TestSpans(t *testing.T) {
	const src = `a == "x" && ( b in [1, 2] )`
	n, _ := Expression(src)
	and := n.(*ast.Binary)
	for _, tc := range []struct {
		n    ast.Node
		want string
	}{
		{and, src},
		{and.Left, `a == "x"`},
		{and.Right, `( b in [1, 2] )`},
		{and.Right.(*ast.Binary).Right, `[1, 2]`},
	} {
		s := tc.n.Span()
		if got := src[s.Start:s.End]; got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}

func TestLimits(t *testing.T) {
	for name, src := range map[string]string{
		"parentheses": strings.Repeat("(", 100000/2) + "a",
		"not":         strings.Repeat("!", 10000) + "a",
		"comparisons": strings.Repeat("a==", 5000) + "a",
		"bits":        strings.Repeat("a|", 5000) + "a",
		"plus":        strings.Repeat("a + ", 4000) + "a",
		"words":       strings.Repeat("a ", maxTokens+1),
		"bytes":       strings.Repeat(" ", MaxBytes) + "a",
	} {
		n, problems := Expression(src)
		if n != nil || len(problems) == 0 || problems[len(problems)-1].Code != ast.Limit {
			t.Errorf("%s: want a limit, got %v", name, problems)
		}
	}
	// A long chain is no nesting.
	src := strings.Repeat("a && ", 3000) + "a"
	if n, problems := Expression(src); n == nil {
		t.Errorf("chain of 3000: %v", problems)
	}
	src = strings.Repeat("a && a || ", 1500) + "a"
	if n, problems := Expression(src); n == nil {
		t.Errorf("mixed chain of 3000: %v", problems)
	}
}

func FuzzExpression(f *testing.F) {
	b, err := os.ReadFile(filepath.Join("..", "testdata", "vectors.txt"))
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if parts := strings.SplitN(line, "|", 4); len(parts) == 4 {
			f.Add(strings.TrimSpace(parts[3]))
		}
	}
	f.Fuzz(func(t *testing.T, src string) {
		n, problems := Macro(src)
		if (n == nil) != problems.Failed() {
			t.Fatalf("tree %v, problems %v", n, problems)
		}
		problems.Format(src)
		if n == nil {
			return
		}
		text := ast.Print(n)
		// Parentheses make the text longer; what no longer fits is no error.
		if m, ps := Macro(text); m == nil && ps[len(ps)-1].Code == ast.Limit {
			return
		}
		again(t, n, text)
	})
}
