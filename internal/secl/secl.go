// Package secl compiles rules written in SECL into functions over events.
//
// It knows no kind of event by itself: a Schema tells it which fields there
// are and how to read them, and everything is generic over the event, so that
// nothing is boxed on the way. The stages are packages of their own: parse
// reads text into a tree (ast), check gives the tree its meaning, and this
// package turns the checked expression into closures. match holds the
// matchers of strings.
//
// A compiled condition does not allocate, but for the few fields whose values
// are made when they are read, and for values joined from several.
package secl

import (
	"sort"
	"sync"

	"github.com/clewsec/clew/internal/secl/ast"
	"github.com/clewsec/clew/internal/secl/check"
	"github.com/clewsec/clew/internal/secl/parse"
)

// Ctx is what an evaluation works on. One Ctx serves one goroutine; it is
// used again for the next event by setting Event and Now.
type Ctx[E any, N comparable] struct {
	Event *E
	// Now is the time that ages are measured against, ns since the epoch.
	Now int64

	reg N
}

// Variable is a variable that rules can read.
type Variable[E any] struct {
	Type Type
	List bool
	// Get reads it; what it is scoped to is found by way of the event.
	Get Getters[*E]
}

// Env is what a rule can name besides constants.
type Env[E any, N comparable] struct {
	Schema    *Schema[E, N]
	Macros    map[string]ast.Node
	Variables map[string]Variable[E]
	// Own are fields, by name, that stand in place of those of the schema:
	// what is known of a rule while it is compiled.
	Own map[string]*Field[E, N]
}

func (e *Env[E, N]) field(path string) (*Field[E, N], bool) {
	if f, ok := e.Own[path]; ok {
		return f, true
	}
	return e.Schema.Field(path)
}

// Options of a compilation.
type Options = check.Options

// Program is a compiled condition. It is immutable and safe for use by several
// goroutines, each with its own Ctx.
type Program[E any, N comparable] struct {
	check.Result
	env *Env[E, N]
	// match is compiled when it is asked for: what is part of a group seldom
	// is.
	match func() func(*Ctx[E, N]) bool
}

// Match tells whether the condition holds.
func (p *Program[E, N]) Match(c *Ctx[E, N]) bool { return p.match()(c) }

// Compile compiles the text of a condition. The program is nil when a problem
// that is not a warning was found; warnings come with the program, too.
func Compile[E any, N comparable](env *Env[E, N], src string, opt Options) (*Program[E, N], ast.Problems) {
	n, problems := parse.Expression(src)
	if n == nil {
		return nil, problems
	}
	p, more := CompileNode(env, n, opt)
	return p, append(problems, more...)
}

// CompileNode compiles a condition that has been parsed already.
func CompileNode[E any, N comparable](env *Env[E, N], n ast.Node, opt Options) (*Program[E, N], ast.Problems) {
	opt.Value = false
	r := check.Check(n, view[E, N]{env}, opt)
	if r.Expr == nil {
		return nil, r.Problems
	}
	return &Program[E, N]{Result: r, env: env, match: sync.OnceValue(func() func(*Ctx[E, N]) bool {
		k := compiler[E, N]{env: env}
		m := k.cond(r.Expr)
		if r.Register != "" {
			m = k.bind(r.Root, m)
		}
		return m
	})}, r.Problems
}

// Value is a compiled expression of any type, as actions have it. The function
// that fits Type and List is set.
type Value[E any, N comparable] struct {
	check.Result
	Type Type
	List bool
	Bool func(*Ctx[E, N]) bool
	Int  func(*Ctx[E, N]) int64
	Str  func(*Ctx[E, N]) string
	// EachInt, EachStr and EachIP give the elements of a list; a network
	// that is no list is a list of one.
	EachInt func(*Ctx[E, N], func(int64) bool) bool
	EachStr func(*Ctx[E, N], func(string) bool) bool
	EachIP  EachIP[E, N]
	// Text renders the value, whatever its type is: integers in decimal,
	// lists joined by commas.
	Text func(*Ctx[E, N]) string
}

// CompileValue compiles an expression that need not be a condition.
func CompileValue[E any, N comparable](env *Env[E, N], src string, opt Options) (*Value[E, N], ast.Problems) {
	n, problems := parse.Expression(src)
	if n == nil {
		return nil, problems
	}
	v, more := compileValue(env, n, opt)
	return v, append(problems, more...)
}

// CompileText compiles a text in which ${variables} and %{fields} are replaced
// by their values.
func CompileText[E any, N comparable](env *Env[E, N], text string, opt Options) (*Value[E, N], ast.Problems) {
	return compileValue(env, &ast.String{At: ast.Span{End: len(text)}, Value: text}, opt)
}

func compileValue[E any, N comparable](env *Env[E, N], n ast.Node, opt Options) (*Value[E, N], ast.Problems) {
	opt.Value = true
	r := check.Check(n, view[E, N]{env}, opt)
	if r.Expr == nil {
		return nil, r.Problems
	}
	k := compiler[E, N]{env: env}
	e := r.Expr
	v := &Value[E, N]{Result: r, Type: e.Type, List: e.List, Text: k.text(e)}
	switch {
	case e.Type == Bool:
		v.Bool = k.cond(e)
	case e.Type == Int && e.List:
		v.EachInt = k.ints(e)
	case e.Type == Int:
		v.Int = k.num(e)
	case e.Type == String && e.List:
		v.EachStr = k.strs(e)
	case e.Type == String:
		v.Str = k.str(e)
	case e.Type == IP:
		v.EachIP = k.nets(e)
	}
	return v, r.Problems
}

// ParseMacro parses the text a macro stands for.
func ParseMacro(src string) (ast.Node, ast.Problems) { return parse.Macro(src) }

// CheckMacro checks a macro by itself, with the macros that are already in
// env. A list has nothing to check beyond its own literals.
func CheckMacro[E any, N comparable](env *Env[E, N], n ast.Node) ast.Problems {
	if _, ok := n.(*ast.List); ok {
		return nil
	}
	return check.Check(n, view[E, N]{env}, Options{AnyKind: true, Value: true}).Problems
}

// IsConstant tells whether a name is taken by a constant.
func IsConstant(name string) bool { return check.IsConstant(name) }

// view shows an Env to the checker.
type view[E any, N comparable] struct{ env *Env[E, N] }

func (v view[E, N]) Field(path string) (*check.Field, bool) {
	f, ok := v.env.field(path)
	if !ok {
		return nil, false
	}
	return &f.Field, true
}

func (v view[E, N]) Root(path string) (string, bool) {
	r, ok := v.env.Schema.Root(path)
	if !ok {
		return "", false
	}
	return r.Kind, true
}

func (v view[E, N]) FieldNames() []string { return v.env.Schema.Names() }

func (v view[E, N]) Macro(name string) (ast.Node, bool) {
	n, ok := v.env.Macros[name]
	return n, ok
}

func (v view[E, N]) MacroNames() []string {
	names := make([]string, 0, len(v.env.Macros))
	for n := range v.env.Macros {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

func (v view[E, N]) Variable(name string) (check.Variable, bool) {
	x, ok := v.env.Variables[name]
	return check.Variable{Type: x.Type, List: x.List}, ok
}

// Constant returns the number a constant stands for.
func Constant(name string) (int64, bool) { return check.Constant(name) }
