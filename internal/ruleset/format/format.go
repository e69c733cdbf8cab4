// Package format writes the expressions of policy files in one way: with the
// parentheses that show how && and || nest, with symbols for operators, long
// ones on several lines. Nothing else of a file is changed, and what it means
// stays the same.
package format

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/secl/ast"
	"github.com/clewsec/clew/internal/secl/parse"
	"go.yaml.in/yaml/v3"
)

// width is how long a line of an expression may become before it is broken at
// its outermost && or ||.
const width = 100

// Expression formats the text of a condition. A text that differs from the
// result by white space alone is returned as it is: line breaks are the
// author's.
func Expression(src string) (string, error) {
	n, problems := parse.Expression(src)
	if n == nil {
		return "", problems.Err()
	}
	flat := ast.Print(n)
	if bare(flat) == bare(src) {
		return strings.TrimSpace(src), nil
	}
	b, ok := n.(*ast.Binary)
	if len(flat) <= width || !ok || b.Op != ast.And && b.Op != ast.Or {
		return flat, nil
	}
	var out strings.Builder
	for op := b.Op; ; {
		left := ast.Print(b.Left)
		if l, isLogic := b.Left.(*ast.Binary); isLogic && (l.Op == ast.And || l.Op == ast.Or) {
			left = "(" + left + ")"
		}
		out.WriteString(left + "\n" + op.String() + " ")
		right, isBinary := b.Right.(*ast.Binary)
		if !isBinary || right.Op != op {
			last := ast.Print(b.Right)
			if isBinary && (right.Op == ast.And || right.Op == ast.Or) {
				last = "(" + last + ")"
			}
			out.WriteString(last)
			return out.String(), nil
		}
		b = right
	}
}

// bare takes white space out of an expression, save within quotes.
func bare(s string) string {
	var b strings.Builder
	quoted := false
	for i, r := range s {
		if r == '"' && (i == 0 || s[i-1] != '\\') {
			quoted = !quoted
		}
		if quoted || !unicode.IsSpace(r) {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// ErrChanged says that a file cannot be formatted without a change of meaning,
// because of how its YAML is written.
var ErrChanged = errors.New("cannot be formatted as it is written")

// File formats the expressions of a policy file. Expressions that cannot be
// parsed, and those in flow mappings ({…}), are left as they are.
func File(f ruleset.File) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(f.Data, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	lines := strings.SplitAfter(string(f.Data), "\n")
	edits := expressions(&doc, nil, 0)
	// From the last line to the first, so that line numbers stay right.
	slices.SortFunc(edits, func(a, b edit) int { return b.value.Line - a.value.Line })
	for _, e := range edits {
		text, err := Expression(e.value.Value)
		if err != nil || bare(text) == bare(e.value.Value) {
			continue
		}
		lines = e.replace(lines, text)
	}
	out := []byte(strings.Join(lines, ""))
	if bytes.Equal(out, f.Data) {
		return out, nil
	}
	var again yaml.Node
	if err := yaml.Unmarshal(out, &again); err != nil || !equal(&doc, &again) {
		return nil, fmt.Errorf("%s: %w", f.Name, ErrChanged)
	}
	return out, nil
}

// edit is an expression in a file, and the key before it.
type edit struct{ key, value *yaml.Node }

// maxDepth bounds how deep a file is looked into.
const maxDepth = 32

func expressions(n *yaml.Node, out []edit, depth int) []edit {
	if depth > maxDepth {
		return out
	}
	if n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle == 0 {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if k, v := n.Content[i], n.Content[i+1]; (k.Value == "expression" || k.Value == "condition") && v.Kind == yaml.ScalarNode && v.Anchor == "" {
				out = append(out, edit{k, v})
			}
		}
	}
	if n.Style&yaml.FlowStyle != 0 {
		return out
	}
	for _, c := range n.Content {
		out = expressions(c, out, depth+1)
	}
	return out
}

// replace writes the text in place of the lines of the value, as a literal
// block. A remark beside the value stays.
func (e edit) replace(lines []string, text string) []string {
	first := e.key.Line - 1
	indent := e.key.Column - 1
	end := first + 1
	for ; end < len(lines); end++ {
		l := strings.TrimRight(lines[end], "\r\n")
		body := strings.TrimLeft(l, " ")
		if body != "" && len(l)-len(body) <= indent {
			break
		}
		// Outside of a block a remark ends the value.
		if e.value.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0 && strings.HasPrefix(body, "#") {
			break
		}
	}
	for end > first+1 && strings.TrimSpace(lines[end-1]) == "" {
		end-- // blank lines after it are not its own
	}
	head := lines[first][:strings.Index(lines[first], e.key.Value)] + e.key.Value + ": |"
	if c := e.value.LineComment; c != "" {
		head += " " + c
	}
	block := []string{head + "\n"}
	for l := range strings.SplitSeq(text, "\n") {
		block = append(block, strings.Repeat(" ", indent+2)+l+"\n")
	}
	return slices.Concat(lines[:first], block, lines[end:])
}

// equal tells whether two documents mean the same: they differ in the writing
// of expressions at most.
func equal(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || len(a.Content) != len(b.Content) {
		return false
	}
	if a.Kind == yaml.ScalarNode && a.Value != b.Value {
		x, _ := parse.Expression(a.Value)
		y, _ := parse.Expression(b.Value)
		return x != nil && y != nil && ast.Print(x) == ast.Print(y)
	}
	for i := range a.Content {
		if !equal(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}
