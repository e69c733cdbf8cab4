package ast

import "strings"

// Print returns the expression as text. Wherever && and || meet, and wherever
// one operator stands below another of a different kind, the text has
// parentheses; parsing it gives an equal tree.
func Print(n Node) string {
	var b strings.Builder
	write(&b, n)
	return b.String()
}

func write(b *strings.Builder, n Node) {
	switch n := n.(type) {
	case *Binary:
		operand(b, n.Left, n.Op, true)
		b.WriteByte(' ')
		b.WriteString(n.Op.String())
		b.WriteByte(' ')
		operand(b, n.Right, n.Op, false)
	case *Unary:
		b.WriteString(n.Op.String())
		switch x := n.X.(type) {
		case *Ident, *FieldRef, *Var:
			write(b, x)
		default:
			// Without parentheses a sign or ! could be read as part of the
			// literal that follows: -1 is not -(1).
			paren(b, x)
		}
	case *List:
		b.WriteByte('[')
		for i, it := range n.Items {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteByte(' ')
			write(b, it)
		}
		b.WriteString(" ]")
	case *Ident:
		b.WriteString(n.Name)
	case *FieldRef:
		b.WriteString("%{" + n.Name + "}")
	case *Var:
		b.WriteString("${" + n.Name + "}")
	case *Int:
		b.WriteString(n.Text)
	case *Duration:
		b.WriteString(n.Text)
	case *Net:
		b.WriteString(n.Text)
	case *String:
		switch n.Kind {
		case Pattern:
			b.WriteByte('~')
		case Regexp:
			b.WriteByte('r')
		}
		b.WriteByte('"')
		b.WriteString(n.Value)
		b.WriteByte('"')
	}
}

func paren(b *strings.Builder, n Node) {
	b.WriteByte('(')
	write(b, n)
	b.WriteByte(')')
}

// operand writes one side of a binary operator.
func operand(b *strings.Builder, n Node, parent Op, left bool) {
	x, ok := n.(*Binary)
	if !ok {
		write(b, n)
		return
	}
	switch {
	case parent == And || parent == Or:
		if x.Op == And || x.Op == Or {
			// A chain of one operator nests to the right by itself.
			if left || x.Op != parent {
				paren(b, x)
				return
			}
		}
		write(b, x)
	case comparison(parent) && !comparison(x.Op) && x.Op != And && x.Op != Or:
		write(b, x)
	case left && (parent == Add || parent == Sub) && (x.Op == Add || x.Op == Sub):
		write(b, x)
	default:
		paren(b, x)
	}
}

func comparison(o Op) bool { return o >= Eq && o <= AllIn }
