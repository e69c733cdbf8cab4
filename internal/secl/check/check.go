// Package check gives parsed rules their meaning: it resolves names, checks
// types, compiles literals, folds constants and orders operands by cost. It
// reports every problem it finds, not the first. What it returns knows
// nothing of how events are held in memory.
package check

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"sort"
	"strings"

	"github.com/clewsec/clew/internal/secl/ast"
	"github.com/clewsec/clew/internal/secl/match"
)

// Field is what the checker has to know of an event field.
type Field struct {
	// Name is the full path, as process.ancestors.file.name.
	Name string
	Type Type
	// List is true for fields with many values.
	List bool
	// Iter is the list of objects the field belongs to, process.ancestors;
	// empty for others. A field below it is a list.
	Iter string
	// Many is true where each object of such a list has many values.
	Many bool
	// Kind is the kind of event that has the field, empty when all have it.
	Kind string
	// Kinds limits a field without Kind to some kinds; nil is all.
	Kinds []string
	// Weight is the cost of reading it; 0 means a plain read.
	Weight int
	// Fold makes comparisons ignore the case of letters.
	Fold bool
	// MaxLen is the length of the longest literal that can match, 0 for any.
	MaxLen int
}

// Path tells whether the field is a file path, which is compared with globs.
func (f *Field) Path() bool {
	return strings.HasSuffix(f.Name, ".path") && !strings.Contains(f.Name, ".syscall.")
}

// Variable is what the checker has to know of a variable.
type Variable struct {
	Type Type
	List bool
}

// Env is what names stand for.
type Env interface {
	// Field finds a field by path, old names included, registers and indexes
	// taken off. The caller must not change what it points at.
	Field(path string) (*Field, bool)
	// Root tells whether path is a list of objects such as
	// process.ancestors, and which kind of event has it.
	Root(path string) (kind string, ok bool)
	// FieldNames are the names to suggest.
	FieldNames() []string
	// Macro finds a macro's tree.
	Macro(name string) (ast.Node, bool)
	// MacroNames are the names to suggest, sorted.
	MacroNames() []string
	// Variable finds a variable by its name with its scope.
	Variable(name string) (Variable, bool)
}

// Options of a check.
type Options struct {
	// Kind is the kind of event the expression is for. When it is empty the
	// expression must name one by its fields.
	Kind string
	// AnyKind lets an expression have fields of no kind at all.
	AnyKind bool
	// Value allows an expression of any type, not only a condition.
	Value bool
}

// Result is a checked expression.
type Result struct {
	// Expr is nil where there was a problem that is not a warning.
	Expr *Expr
	// Kind is the kind of event the expression is for, empty when it may be
	// any.
	Kind string
	// Register and Root are set when the expression binds one element of a
	// list of objects.
	Register, Root string
	// Fields are the paths of the fields the expression names, sorted.
	Fields   []string
	Problems ast.Problems
}

// maxNodes bounds what macros may grow to.
const (
	maxNodes  = 64 << 10
	maxMacros = 16
	maxSegs   = 1189
)

// Check checks an expression.
func Check(n ast.Node, env Env, opt Options) Result {
	c := &checker{env: env, opt: opt, kind: opt.Kind, fields: map[string]struct{}{}}
	c.lint(n)
	var e *Expr
	c.guard(func() {
		e = c.expr(n)
		if opt.Value && e.Op == Const && e.Type == String && e.lit == ast.Plain && strings.ContainsAny(e.Str, "$%") {
			e = c.interpolate(e, true)
		}
		c.top(n, e)
	})
	r := Result{Kind: c.kind, Register: c.register, Root: c.root, Problems: c.problems}
	for f := range c.fields {
		r.Fields = append(r.Fields, f)
	}
	sort.Strings(r.Fields)
	if !c.problems.Failed() {
		order(e)
		r.Expr = e
	}
	return r
}

type checker struct {
	env      Env
	opt      Options
	problems ast.Problems
	// at is where a macro is used, while one is expanded.
	at       *ast.Span
	macros   int
	nodes    int
	kind     string
	limited  *Field
	fields   map[string]struct{}
	register string
	root     string
}

// tooLarge unwinds when macros grow beyond all bounds.
type tooLarge struct{}

func (c *checker) guard(f func()) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(tooLarge); !ok {
				panic(r)
			}
		}
	}()
	f()
}

func (c *checker) span(s ast.Span) ast.Span {
	if c.at != nil {
		return *c.at
	}
	return s
}

func (c *checker) fail(at ast.Span, code ast.Code, format string, args ...any) *Expr {
	c.problems = append(c.problems, ast.Problem{Span: c.span(at), Code: code, Msg: fmt.Sprintf(format, args...)})
	return &Expr{Span: c.span(at), Index: -1}
}

func (c *checker) warn(at ast.Span, format string, args ...any) {
	if c.at == nil {
		c.problems = append(c.problems, ast.Problem{Span: at, Code: ast.Lint, Msg: fmt.Sprintf(format, args...), Warning: true})
	}
}

func (c *checker) top(n ast.Node, e *Expr) {
	if e.Type == Invalid {
		return
	}
	if !c.opt.Value {
		if e.Type != Bool {
			c.fail(n.Span(), ast.TypeError, "want a condition, but this is %s", describe(e))
			return
		}
		if e.lit != ast.Plain {
			c.fail(n.Span(), ast.TypeError, "want a condition, but this is a pattern")
			return
		}
	}
	if c.kind == "" && !c.opt.AnyKind {
		c.fail(n.Span(), ast.NoKind, "no field names a kind of event: a rule needs one such as exec.file.name or open.flags")
	}
	if f := c.limited; f != nil && c.kind != "" && !slices.Contains(f.Kinds, c.kind) {
		c.fail(n.Span(), ast.WrongKind, "field %s is not available for %s events", f.Name, c.kind)
	}
}

// lint warns about chains that mix && and ||.
func (c *checker) lint(n ast.Node) {
	ast.Walk(n, func(n ast.Node) bool {
		if b, ok := n.(*ast.Binary); ok && b.Mixed {
			c.warn(b.OpAt, "&& and || have one precedence and nest to the right; write parentheses to show what is meant")
		}
		return true
	})
}

func describe(e *Expr) string {
	if e.List {
		return "a list of type " + e.Type.String()
	}
	return "of type " + e.Type.String()
}

func (c *checker) expr(n ast.Node) *Expr {
	if c.nodes++; c.nodes > maxNodes {
		c.fail(n.Span(), ast.Limit, "expression has more than %d parts with its macros expanded", maxNodes)
		panic(tooLarge{})
	}
	at := c.span(n.Span())
	switch n := n.(type) {
	case *ast.Int:
		return integer(at, n.Value)
	case *ast.Duration:
		e := integer(at, n.Value)
		e.dur = true
		return e
	case *ast.String:
		return &Expr{Op: Const, Type: String, Str: n.Value, lit: n.Kind, Span: at, Index: -1}
	case *ast.Net:
		p, err := parseNet(n)
		if err != nil {
			return c.fail(n.At, ast.Syntax, "%v", err)
		}
		return &Expr{Op: Const, Type: IP, Net: p, Span: at, Index: -1}
	case *ast.Var:
		return c.variable(n.At, n.Name)
	case *ast.FieldRef:
		return c.field(n.At, n.Name)
	case *ast.Ident:
		return c.ident(n)
	case *ast.Unary:
		return c.unary(n)
	case *ast.Binary:
		switch n.Op {
		case ast.And, ast.Or:
			return c.logic(n)
		case ast.In, ast.NotIn, ast.AllIn:
			return c.in(n)
		case ast.Add, ast.Sub, ast.BitAnd, ast.BitOr, ast.BitXor:
			return c.arith(n)
		default:
			return c.compare(n)
		}
	case *ast.List:
		return c.fail(n.At, ast.TypeError, "a list can only stand on the right side of in, not in and allin")
	}
	return c.fail(n.Span(), ast.Syntax, "not an expression")
}

func parseNet(n *ast.Net) (netip.Prefix, error) {
	if !n.CIDR {
		a, err := netip.ParseAddr(n.Text)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("not an address: %s", n.Text)
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(n.Text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("not a network: %s", n.Text)
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

func (c *checker) ident(n *ast.Ident) *Expr {
	at := c.span(n.At)
	switch n.Name {
	case "true", "false":
		return boolean(at, n.Name == "true")
	}
	if v, ok := constants[n.Name]; ok {
		return integer(at, v)
	}
	if m, ok := c.env.Macro(n.Name); ok {
		var e *Expr
		c.expand(n.At, func() { e = c.expr(m) })
		return e
	}
	return c.field(n.At, n.Name)
}

// expand runs f with every place set to where the macro is used.
func (c *checker) expand(at ast.Span, f func()) {
	if c.macros >= maxMacros {
		c.fail(at, ast.Limit, "macros are nested more than %d deep", maxMacros)
		panic(tooLarge{})
	}
	outer := c.at
	if c.at == nil {
		c.at = &at
	}
	c.macros++
	f()
	c.macros--
	c.at = outer
}

func (c *checker) field(at ast.Span, name string) *Expr {
	e := &Expr{Op: FieldOp, Span: c.span(at), Index: -1}
	base, ok := c.brackets(at, name, e)
	if !ok {
		return &Expr{Span: c.span(at), Index: -1}
	}
	f, found := c.env.Field(base)
	if !found {
		if owner, cut := strings.CutSuffix(base, ".length"); cut {
			if kind, isRoot := c.env.Root(owner); isRoot {
				f, found = &Field{Name: owner, Iter: owner, Kind: kind, Type: Int, Weight: weightIter}, true
				e.Length = true
			} else if f, found = c.env.Field(owner); found && (f.Type == String || f.List) {
				e.Length = true
			} else {
				found = false
			}
		}
	}
	if !found {
		c.unknown(at, name)
		return &Expr{Span: c.span(at), Index: -1}
	}
	e.Field = f
	e.Type, e.List = f.Type, f.List
	if e.Length {
		e.Type = Int
		// The length of a list is one number; of each name in a list of
		// objects there is one per object.
		e.List = f.Iter != "" && f.Iter != f.Name
	}
	if e.Register != "" && f.Iter != c.root {
		return c.fail(at, ast.UnknownField, "%s is not a field of the list %s", f.Name, c.root)
	}
	if e.Index >= 0 {
		if !f.List || f.Iter != "" {
			return c.fail(at, ast.TypeError, "only a list has elements; %s is %s", f.Name, describe(e))
		}
		e.List = false
	}
	e.Weight = max(f.Weight, weightPlain)
	if f.Iter != "" {
		e.Weight += weightIter
	}
	c.uses(at, f)
	return e
}

// brackets takes a register or index off a field's name.
func (c *checker) brackets(at ast.Span, name string, e *Expr) (string, bool) {
	open := strings.IndexByte(name, '[')
	if open < 0 {
		return name, true
	}
	inner, rest, _ := strings.Cut(name[open+1:], "]")
	base := name[:open]
	if strings.ContainsAny(rest, "[]") || inner == "" {
		c.fail(at, ast.Syntax, "%s has more than one pair of brackets", name)
		return "", false
	}
	if inner[0] >= '0' && inner[0] <= '9' {
		i := 0
		for _, d := range []byte(inner) {
			if d < '0' || d > '9' || i > 1<<20 {
				c.fail(at, ast.Syntax, "%s is not an index", inner)
				return "", false
			}
			i = i*10 + int(d-'0')
		}
		if rest != "" {
			c.fail(at, ast.Syntax, "nothing can follow the index in %s", name)
			return "", false
		}
		e.Index = i
		return base, true
	}
	if _, ok := c.env.Root(base); !ok {
		c.fail(at, ast.UnknownField, "%s is not a list of objects, it cannot have the register %s", base, inner)
		return "", false
	}
	if inner == "_" {
		c.fail(at, ast.RegisterName, "_ cannot be the name of a register")
		return "", false
	}
	if c.register != "" && (c.register != inner || c.root != base) {
		c.fail(at, ast.TwoRegisters, "a rule can have one register; %s[%s] is the second beside %s[%s]", base, inner, c.root, c.register)
		return "", false
	}
	c.register, c.root = inner, base
	e.Register = inner
	return base + rest, true
}

func (c *checker) unknown(at ast.Span, name string) {
	names := append(slices.Clip(c.env.FieldNames()), c.env.MacroNames()...)
	near := ast.Nearest(name, names)
	if !strings.Contains(name, ".") && strings.ToUpper(name) == name {
		if k := ast.Nearest(name, constantNames()); k != "" && near == "" {
			near = k
		}
	}
	what := "field"
	if !strings.Contains(name, ".") {
		what = "name"
	}
	c.problems = append(c.problems, ast.Problem{
		Span: c.span(at), Code: ast.UnknownField, Nearest: near,
		Msg: fmt.Sprintf("unknown %s %q", what, name),
	})
}

func constantNames() []string {
	names := make([]string, 0, len(constants))
	for n := range constants {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// uses notes a field and the kind of event it belongs to.
func (c *checker) uses(at ast.Span, f *Field) {
	c.fields[f.Name] = struct{}{}
	if f.Kinds != nil && c.limited == nil {
		c.limited = f
	}
	switch {
	case f.Kind == "":
	case c.kind == "":
		c.kind = f.Kind
	case c.kind != f.Kind:
		c.fail(at, ast.TwoKinds, "%s is a field of %s events, but the rule is for %s events", f.Name, f.Kind, c.kind)
	}
}

func (c *checker) variable(at ast.Span, name string) *Expr {
	e := &Expr{Op: VarOp, Var: name, Span: c.span(at), Index: -1, Weight: weightPlain}
	v, ok := c.env.Variable(name)
	if !ok {
		if owner, cut := strings.CutSuffix(name, ".length"); cut {
			if v, ok = c.env.Variable(owner); ok && (v.List || v.Type == String) {
				e.Var, e.Length, e.Type = owner, true, Int
				return e
			}
		}
		return c.fail(at, ast.UnknownVar, "unknown variable ${%s}: no rule sets it", name)
	}
	e.Type, e.List = v.Type, v.List
	return e
}

func (c *checker) unary(n *ast.Unary) *Expr {
	x := c.expr(n.X)
	at := c.span(n.At)
	if x.Type == Invalid {
		return x
	}
	if n.Op == ast.Not {
		if x.Type != Bool {
			return c.fail(n.At, ast.TypeError, "%s needs a condition, but this is %s; write not ( … ) around a comparison", n.Op, describe(x))
		}
		return not(at, x)
	}
	if x = scalar(x); x.Type != Int || x.List {
		return c.fail(n.At, ast.TypeError, "%s needs an integer, but this is %s", n.Op, describe(x))
	}
	op := Neg
	if n.Op == ast.Complement {
		op = Complement
	}
	e := &Expr{Op: op, Type: Int, Span: at, Args: []*Expr{x}, Weight: x.Weight, Index: -1, arith: true}
	return fold(e)
}

// scalar makes a field that is bound by a register the one value it is.
func scalar(e *Expr) *Expr {
	if e.List && e.Register != "" && e.Op == FieldOp && !e.Field.Many {
		s := *e
		s.List = false
		return &s
	}
	return e
}

func fold(e *Expr) *Expr {
	for _, a := range e.Args {
		if !constant(a) {
			return e
		}
	}
	v := e.Args[0].Int
	switch e.Op {
	case Neg:
		v = -v
	case Complement:
		v = ^v
	case Add:
		v += e.Args[1].Int
	case Sub:
		v -= e.Args[1].Int
	case BitAnd:
		v &= e.Args[1].Int
	case BitOr:
		v |= e.Args[1].Int
	case BitXor:
		v ^= e.Args[1].Int
	}
	k := integer(e.Span, v)
	k.arith = true
	return k
}

func (c *checker) arith(n *ast.Binary) *Expr {
	l, r := scalar(c.expr(n.Left)), scalar(c.expr(n.Right))
	if l.Type == Invalid || r.Type == Invalid {
		return &Expr{Span: c.span(n.At), Index: -1}
	}
	for _, x := range [...]*Expr{l, r} {
		if x.Type != Int || x.List {
			return c.fail(n.At, ast.TypeError, "%s needs integers on both sides, but one is %s", n.Op, describe(x))
		}
	}
	op := map[ast.Op]Op{ast.Add: Add, ast.Sub: Sub, ast.BitAnd: BitAnd, ast.BitOr: BitOr, ast.BitXor: BitXor}[n.Op]
	e := &Expr{Op: op, Type: Int, Span: c.span(n.At), Args: []*Expr{l, r}, Weight: l.Weight + r.Weight, Index: -1, arith: true}
	return fold(e)
}

// logic walks a chain in a loop: the tree nests to the right, and a chain of
// thousands is legal.
func (c *checker) logic(n *ast.Binary) *Expr {
	op := And
	if n.Op == ast.Or {
		op = Or
	}
	var operands []*Expr
	bad := false
	add := func(x ast.Node) {
		e := c.expr(x)
		if e.Type != Invalid && e.Type != Bool {
			e = c.fail(x.Span(), ast.TypeError, "%s needs conditions on both sides, but this is %s", n.Op, describe(e))
		}
		bad = bad || e.Type == Invalid
		operands = append(operands, e)
	}
	add(n.Left)
	rest := n.Right
	for {
		b, ok := rest.(*ast.Binary)
		if !ok || b.Op != n.Op {
			break
		}
		add(b.Left)
		rest = b.Right
	}
	add(rest)
	if bad {
		return &Expr{Span: c.span(n.At), Index: -1}
	}
	return logic(op, c.span(n.At), operands)
}

func (c *checker) compare(n *ast.Binary) *Expr {
	l, r := c.expr(n.Left), c.expr(n.Right)
	at := c.span(n.At)
	if l.Type == Invalid || r.Type == Invalid {
		return &Expr{Span: at, Index: -1}
	}
	if l.Type != r.Type {
		return c.fail(n.At, ast.TypeError, "cannot compare: left side is %s, right side is %s", describe(l), describe(r))
	}
	negative := n.Op == ast.NotEq || n.Op == ast.NotMatch
	var e *Expr
	switch l.Type {
	case String:
		e = c.compareStrings(n, l, r)
	case Int:
		e = c.compareInts(n, l, r)
	default:
		if n.Op != ast.Eq && n.Op != ast.NotEq {
			return c.fail(n.OpAt, ast.Operator, "%s does not work on values of type %s", n.Op, l.Type)
		}
		if l.Op == Const {
			l, r = r, l
		}
		switch {
		case l.Type == Bool && l.Op == Const:
			e = boolean(at, l.Bool == r.Bool)
		case l.Type == Bool && r.Op == Const && !l.List:
			e = l
			if !r.Bool {
				e = not(at, l)
			}
		case l.Type == IP && r.Op == Const:
			e = &Expr{Op: InNets, Type: Bool, Span: at, Args: []*Expr{l}, Nets: []netip.Prefix{r.Net}, Weight: l.Weight, Index: -1}
			if l.Op == Const {
				e = boolean(at, Overlap(l.Net, r.Net))
			}
		default:
			e = pair(Eq, at, l, r)
		}
	}
	if e.Type == Invalid {
		return e
	}
	if negative {
		return not(at, e)
	}
	return e
}

// pair makes a comparison of two values that are not both constant. Where one
// side only is a list it is the left one.
func pair(op Op, at ast.Span, l, r *Expr) *Expr {
	return &Expr{Op: op, Type: Bool, Span: at, Args: []*Expr{l, r}, Weight: l.Weight + r.Weight, Index: -1}
}

func (c *checker) compareInts(n *ast.Binary, l, r *Expr) *Expr {
	at := c.span(n.At)
	if n.Op == ast.Match || n.Op == ast.NotMatch {
		return c.fail(n.OpAt, ast.Operator, "%s compares strings, not integers", n.Op)
	}
	if r.dur {
		if n.Op == ast.NotEq {
			return c.fail(n.OpAt, ast.TypeError, "!= does not work with a duration")
		}
		if !l.arith && !l.dur {
			l = &Expr{Op: Age, Type: Int, List: l.List, Span: l.Span, Args: []*Expr{l}, Weight: l.Weight, Index: -1}
		}
	} else if l.dur && !constant(r) {
		c.warn(n.At, "a duration on the left is compared with the bare number; write the field first to compare its age")
	}
	op, swap := Eq, false
	switch n.Op {
	case ast.Less:
		op = Less
	case ast.LessEq:
		op = LessEq
	case ast.Greater:
		op, swap = Less, true
	case ast.GreaterEq:
		op, swap = LessEq, true
	}
	if swap {
		l, r = r, l
	}
	if constant(l) && constant(r) {
		v := false
		switch op {
		case Eq:
			v = l.Int == r.Int
		case Less:
			v = l.Int < r.Int
		case LessEq:
			v = l.Int <= r.Int
		}
		return boolean(at, v)
	}
	if op == Eq && (constant(l) || constant(r)) {
		if constant(l) {
			l, r = r, l
		}
		return &Expr{Op: InInts, Type: Bool, Span: at, Args: []*Expr{l}, Ints: []int64{r.Int}, Weight: l.Weight, Index: -1}
	}
	return pair(op, at, l, r)
}

func (c *checker) compareStrings(n *ast.Binary, l, r *Expr) *Expr {
	at := c.span(n.At)
	switch n.Op {
	case ast.Match, ast.NotMatch:
		if r.Op != Const || interpolated(r) {
			return c.fail(n.Right.Span(), ast.NotLiteral, "%s needs a literal on its right side, without variables", n.Op)
		}
		if r.lit == ast.Plain {
			r.lit = ast.Pattern
		}
	case ast.Eq, ast.NotEq:
	default:
		return c.fail(n.OpAt, ast.Operator, "%s does not work on strings", n.Op)
	}
	if l.Op == Const && r.Op != Const {
		l, r = r, l
	}
	if l.Op == Const && l.lit != ast.Plain {
		l, r = r, l
	}
	if r.Op == Const && !(r.lit == ast.Plain && interpolated(r)) {
		if l.Op == Const && l.lit != ast.Plain {
			return c.fail(n.At, ast.TypeError, "a pattern can be compared with a field only")
		}
		if interpolated(l) {
			if l = c.interpolate(l, false); l.Type == Invalid {
				return l
			}
		}
		return c.set(at, l, []*Expr{r})
	}
	for _, x := range [...]**Expr{&l, &r} {
		if (*x).Op == Const {
			if *x = c.interpolate(*x, false); (*x).Type == Invalid {
				return *x
			}
		}
	}
	return pair(Eq, at, l, r)
}

func interpolated(e *Expr) bool {
	return e.Op == Const && e.Type == String && strings.Contains(e.Str, "${")
}

// interpolate replaces ${variables} in a constant, and with fields %{fields},
// too.
func (c *checker) interpolate(e *Expr, fields bool) *Expr {
	out := &Expr{Op: Concat, Type: String, Span: e.Span, Index: -1}
	s := e.Str
	for s != "" {
		i := strings.Index(s, "${")
		if j := strings.Index(s, "%{"); fields && j >= 0 && (i < 0 || j < i) {
			i = j
		}
		end := -1
		if i >= 0 {
			end = strings.IndexByte(s[i:], '}')
		}
		if end < 0 {
			out.Args = append(out.Args, &Expr{Op: Const, Type: String, Str: s, Span: e.Span, Index: -1})
			break
		}
		if i > 0 {
			out.Args = append(out.Args, &Expr{Op: Const, Type: String, Str: s[:i], Span: e.Span, Index: -1})
		}
		var v *Expr
		// Where fields can stand a field is accepted in ${…}, too, as policies
		// write it.
		name := s[i+2 : i+end]
		if s[i] == '$' && !(fields && c.isField(name)) {
			v = c.variable(e.Span, name)
		} else {
			v = c.field(e.Span, name)
		}
		if v.Type == Invalid {
			return v
		}
		out.Args = append(out.Args, v)
		out.Weight += v.Weight
		s = s[i+end+1:]
	}
	return out
}

// isField tells whether a name that is no variable is a field.
func (c *checker) isField(name string) bool {
	if _, ok := c.env.Variable(name); ok {
		return false
	}
	_, ok := c.env.Field(name)
	return ok
}

// set compiles literals against the value x.
func (c *checker) set(at ast.Span, x *Expr, lits []*Expr) *Expr {
	var f *Field
	if x.Op == FieldOp && !x.Length {
		f = x.Field
	}
	isPath := f != nil && f.Path()
	folding := f != nil && f.Fold
	var values []string
	var matchers []match.Matcher
	bad, regexps := false, 0
	for _, l := range lits {
		if f != nil && f.MaxLen > 0 && len(l.Str) > f.MaxLen {
			c.fail(l.Span, ast.TooLong, "%s has at most %d bytes, this literal can never match", f.Name, f.MaxLen)
			bad = true
			continue
		}
		if isPath && !c.pathLiteral(l) {
			bad = true
			continue
		}
		switch l.lit {
		case ast.Plain:
			values = append(values, l.Str)
			if len(lits) > 1 && isPath && strings.Contains(l.Str, "*") {
				c.warn(l.Span, `"%s" has a wildcard but is compared letter by letter; write ~"%s"`, l.Str, l.Str)
			}
		case ast.Pattern:
			var m match.Matcher
			var err error
			code := ast.PatternError
			if isPath {
				m, err = match.NewGlob(l.Str)
				code = ast.Glob
			} else {
				m, err = match.NewPattern(l.Str, folding)
			}
			if err != nil {
				c.fail(l.Span, code, "%v", err)
				bad = true
				continue
			}
			if isPath && match.Hollow(l.Str) {
				c.warn(l.Span, `a glob that begins with * and has no slash matches no path; write ~"/%s" for the root directory`, l.Str)
			}
			if !strings.Contains(l.Str, "*") && !folding {
				// A pattern without a star is a plain string, and those can
				// be looked up.
				values = append(values, l.Str)
				continue
			}
			matchers = append(matchers, m)
		case ast.Regexp:
			m, err := match.NewRegexp(l.Str, folding)
			if err != nil {
				c.fail(l.Span, ast.RegexpError, "regular expression does not compile: %s", regexpReason(err))
				bad = true
				continue
			}
			regexps++
			matchers = append(matchers, m)
		}
	}
	if bad {
		return &Expr{Span: at, Index: -1}
	}
	e := &Expr{Op: InSet, Type: Bool, Span: at, Args: []*Expr{x}, Set: match.NewSet(values, matchers, folding), Index: -1}
	if x.Op == Const {
		return boolean(at, e.Set.Match(x.Str))
	}
	switch {
	case len(lits) == 1 && regexps == 1:
		e.Weight = weightRegexp
	case len(lits) == 1 && len(matchers) == 1:
		e.Weight = weightPattern
	case len(matchers) > 0:
		e.Weight = weightMixed
	case len(lits) > 1:
		e.Weight = weightMember * len(lits)
	}
	e.Weight += x.Weight
	return e
}

func regexpReason(err error) string {
	return strings.TrimPrefix(err.Error(), "error parsing regexp: ")
}

// pathLiteral checks what is compared with a path: nothing else could ever be
// equal to one.
func (c *checker) pathLiteral(l *Expr) bool {
	s := l.Str
	if l.lit == ast.Regexp {
		c.fail(l.Span, ast.RegexpOnPath, "regular expressions do not work on paths; use a glob, or the field .name")
		return false
	}
	if s == "" {
		return true
	}
	err := checkPath(s)
	if err != nil {
		c.fail(l.Span, ast.PathLiteral, "path %q %v", s, err)
	}
	return err == nil
}

var (
	errNotAbsolute = errors.New("is not absolute: it must begin with / or *")
	errNotClean    = errors.New(`is not clean: it has ".", "..", "//" or a slash at the end`)
	errTooLong     = errors.New("is longer than any path the kernel reports")
	errLoneStar    = errors.New("would match every path in no directory; write **")
)

func checkPath(s string) error {
	if s[0] != '/' && s[0] != '*' {
		return errNotAbsolute
	}
	if s == "*" {
		return errLoneStar
	}
	if path.Clean(s) != s {
		return errNotClean
	}
	n := 0
	for seg := range strings.SplitSeq(s, "/") {
		if n++; len(seg) > 255 || n > maxSegs {
			return errTooLong
		}
	}
	return nil
}

func (c *checker) in(n *ast.Binary) *Expr {
	x := c.expr(n.Left)
	at := c.span(n.At)
	e := c.member(n, x, n.Right)
	if x.Type == Invalid || e.Type == Invalid {
		return &Expr{Span: at, Index: -1}
	}
	if n.Op == ast.NotIn {
		return not(at, e)
	}
	return e
}

// member builds the test of x against the right side of in.
func (c *checker) member(n *ast.Binary, x *Expr, right ast.Node) *Expr {
	at := c.span(n.At)
	switch r := right.(type) {
	case *ast.Ident:
		if m, ok := c.env.Macro(r.Name); ok {
			if _, isConst := constants[r.Name]; !isConst {
				var e *Expr
				c.expand(r.At, func() { e = c.member(n, x, m) })
				if e.Op != Const && e != x {
					e.Span = at
				}
				return e
			}
		}
	case *ast.List:
		return c.list(n, x, r.Items)
	case *ast.Net:
		return c.list(n, x, []ast.Node{r})
	}
	r := c.expr(right)
	if x.Type == Invalid || r.Type == Invalid {
		return &Expr{Span: at, Index: -1}
	}
	if !r.List {
		return c.fail(right.Span(), ast.TypeError, "%s needs a list on its right side, but this is %s", n.Op, describe(r))
	}
	if x.Type != r.Type {
		return c.fail(n.At, ast.TypeError, "left side is %s, but the list has members of type %s", describe(x), r.Type)
	}
	if x.Op == Const {
		switch x.Type {
		case String:
			return c.set(at, r, []*Expr{x})
		case Int:
			return &Expr{Op: InInts, Type: Bool, Span: at, Args: []*Expr{r}, Ints: []int64{x.Int}, Weight: r.Weight, Index: -1}
		case IP:
			return &Expr{Op: InNets, Type: Bool, Span: at, Args: []*Expr{r}, Nets: []netip.Prefix{x.Net}, Weight: r.Weight, Index: -1}
		}
	}
	return pair(Eq, at, x, r)
}

// list builds the test of x against literals.
func (c *checker) list(n *ast.Binary, x *Expr, items []ast.Node) *Expr {
	at := c.span(n.At)
	members := make([]*Expr, 0, len(items))
	for _, it := range items {
		m := c.expr(it)
		if m.Type == Invalid {
			x = m
			continue
		}
		if m.Op != Const {
			x = c.fail(it.Span(), ast.TypeError, "a list holds literals and constants only")
			continue
		}
		if interpolated(m) {
			c.warn(m.Span, "variables are not replaced inside of lists, this string is compared as it is written")
		}
		members = append(members, m)
	}
	if x.Type == Invalid {
		return x
	}
	for _, m := range members {
		if m.Type != x.Type {
			return c.fail(n.At, ast.TypeError, "left side is %s, but the list has members of type %s", describe(x), m.Type)
		}
	}
	e := &Expr{Type: Bool, Span: at, Args: []*Expr{x}, Weight: x.Weight + weightMember*len(members), Index: -1}
	switch x.Type {
	case String:
		if x.Op == Const && x.lit != ast.Plain {
			return c.fail(n.Left.Span(), ast.TypeError, "a pattern cannot be compared with a list of literals")
		}
		return c.set(at, x, members)
	case Int:
		e.Op = InInts
		for _, m := range members {
			e.Ints = append(e.Ints, m.Int)
		}
		slices.Sort(e.Ints)
		e.Ints = slices.Compact(e.Ints)
		if x.Op == Const {
			return boolean(at, slices.Contains(e.Ints, x.Int))
		}
	case IP:
		e.Op = InNets
		if n.Op == ast.AllIn && x.List {
			e.Op = AllNets
		}
		for _, m := range members {
			e.Nets = append(e.Nets, m.Net)
		}
		if x.Op == Const {
			return boolean(at, slices.ContainsFunc(e.Nets, func(p netip.Prefix) bool { return Overlap(p, x.Net) }))
		}
	case Bool:
		t := slices.ContainsFunc(members, func(m *Expr) bool { return m.Bool })
		f := slices.ContainsFunc(members, func(m *Expr) bool { return !m.Bool })
		switch {
		case t && f:
			return boolean(at, true)
		case x.List:
			return pair(Eq, at, x, members[0])
		case t:
			return x
		default:
			return not(at, x)
		}
	}
	return e
}

// Overlap tells whether one of two networks contains the address of the
// other. An IPv4 address in IPv6 clothes is the IPv4 address.
func Overlap(a, b netip.Prefix) bool {
	return a.Contains(b.Addr().Unmap()) || b.Contains(a.Addr().Unmap())
}

// IsConstant tells whether a name is a constant of the language.
func IsConstant(name string) bool {
	_, ok := constants[name]
	return ok || name == "true" || name == "false"
}

// Constant returns the number a constant of the language stands for.
func Constant(name string) (int64, bool) {
	v, ok := constants[name]
	return v, ok
}
