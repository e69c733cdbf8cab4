package secl

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/clewsec/clew/internal/secl/ast"
	"github.com/clewsec/clew/internal/secl/check"
	"github.com/clewsec/clew/internal/secl/parse"
)

// naive evaluates a tree as plainly as can be: no folding, no ordering, no
// sets, values in interfaces, lists copied, one register element after the
// other. It checks the compiler on random expressions.
type naive struct {
	s   *Schema[record, *node]
	r   *record
	reg *node
}

func (v naive) values(n ast.Node) []any {
	switch n := n.(type) {
	case *ast.Int:
		return []any{n.Value}
	case *ast.Duration:
		return []any{n.Value}
	case *ast.String:
		return []any{n}
	case *ast.Net:
		p, err := netip.ParsePrefix(n.Text)
		if err != nil {
			a := netip.MustParseAddr(n.Text)
			p = netip.PrefixFrom(a, a.BitLen())
		}
		return []any{p}
	case *ast.List:
		var out []any
		for _, it := range n.Items {
			out = append(out, v.values(it)...)
		}
		return out
	case *ast.Ident:
		return v.ident(n.Name)
	case *ast.Unary:
		if n.Op == ast.Not {
			return []any{!v.truth(n.X)}
		}
		x := v.values(n.X)[0].(int64)
		if n.Op == ast.Neg {
			return []any{-x}
		}
		return []any{^x}
	case *ast.Binary:
		switch n.Op {
		case ast.Add, ast.Sub, ast.BitAnd, ast.BitOr, ast.BitXor:
			a, b := v.values(n.Left)[0].(int64), v.values(n.Right)[0].(int64)
			return []any{map[ast.Op]int64{ast.Add: a + b, ast.Sub: a - b, ast.BitAnd: a & b, ast.BitOr: a | b, ast.BitXor: a ^ b}[n.Op]}
		}
		return []any{v.truth(n)}
	}
	panic(fmt.Sprintf("no value: %T", n))
}

func (v naive) ident(name string) []any {
	if name == "true" || name == "false" {
		return []any{name == "true"}
	}
	if c, ok := Constant(name); ok {
		return []any{c}
	}
	plain := strings.Replace(name, "[A]", "", 1)
	f, ok := v.s.Field(plain)
	if !ok {
		panic("no field " + plain)
	}
	if f.Iter != "" {
		var out []any
		for p := v.r.first; p != nil; p = p.next {
			if plain != name && p != v.reg {
				continue
			}
			if f.Elem.Str != nil {
				out = append(out, f.Elem.Str(p))
				for i := 0; f.Elem.Others != nil && i < f.Elem.Others(p); i++ {
					out = append(out, f.Elem.Other(p, i))
				}
			} else {
				out = append(out, f.Elem.Int(p))
			}
		}
		return out
	}
	switch {
	case f.Get.Bool != nil:
		return []any{f.Get.Bool(v.r)}
	case f.Get.Int != nil:
		return []any{f.Get.Int(v.r)}
	case f.Get.Others != nil:
		out := []any{f.Get.Str(v.r)}
		for i := range f.Get.Others(v.r) {
			out = append(out, f.Get.Other(v.r, i))
		}
		return out
	case f.Get.Str != nil:
		return []any{f.Get.Str(v.r)}
	case f.Get.IP != nil:
		return []any{f.Get.IP(v.r)}
	}
	var out []any
	for _, s := range f.Get.Strs(v.r) {
		out = append(out, s)
	}
	return out
}

func (v naive) truth(n ast.Node) bool {
	b, ok := n.(*ast.Binary)
	if !ok {
		return slices.Contains(v.values(n), any(true))
	}
	switch b.Op {
	case ast.And:
		return v.truth(b.Left) && v.truth(b.Right)
	case ast.Or:
		return v.truth(b.Left) || v.truth(b.Right)
	case ast.NotEq, ast.NotMatch, ast.NotIn:
		positive := map[ast.Op]ast.Op{ast.NotEq: ast.Eq, ast.NotMatch: ast.Match, ast.NotIn: ast.In}[b.Op]
		return !v.truth(&ast.Binary{Op: positive, Left: b.Left, Right: b.Right})
	}
	_, age := b.Right.(*ast.Duration)
	if _, arith := b.Left.(*ast.Binary); arith {
		age = false
	}
	isPath := strings.HasSuffix(path(b.Left), ".path") || strings.HasSuffix(path(b.Right), ".path")
	for _, l := range v.values(b.Left) {
		for _, r := range v.values(b.Right) {
			if x, ok := l.(int64); ok && age {
				l = testNow - x
			}
			if pairs(b.Op, l, r, isPath) {
				return true
			}
		}
	}
	return false
}

func path(n ast.Node) string {
	if id, ok := n.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}

func pairs(op ast.Op, l, r any, isPath bool) bool {
	switch a := l.(type) {
	case int64:
		b := r.(int64)
		switch op {
		case ast.Less:
			return a < b
		case ast.LessEq:
			return a <= b
		case ast.Greater:
			return a > b
		case ast.GreaterEq:
			return a >= b
		}
		return a == b
	case netip.Prefix:
		return check.Overlap(a, r.(netip.Prefix))
	case bool:
		return a == r.(bool)
	case *ast.String:
		if s, ok := r.(string); ok {
			return literalMatches(a, s, op == ast.Match, isPath)
		}
		return a.Value == r.(*ast.String).Value
	case string:
		if s, ok := r.(*ast.String); ok {
			return literalMatches(s, a, op == ast.Match, isPath)
		}
		return a == r.(string)
	}
	panic("no comparison")
}

// literalMatches turns patterns and globs into regular expressions.
func literalMatches(lit *ast.String, s string, promote, isPath bool) bool {
	kind := lit.Kind
	if promote && kind == ast.Plain {
		kind = ast.Pattern
	}
	switch kind {
	case ast.Plain:
		return lit.Value == s
	case ast.Regexp:
		return regexp.MustCompile(lit.Value).MatchString(s)
	}
	any := `(?s:.*)`
	text := lit.Value
	suffix := `\z`
	if isPath {
		any = `[^/]*`
		if strings.HasPrefix(text, "*") {
			if text != "**" && !strings.Contains(text, "/") {
				return false
			}
			text = "/" + text
		}
		if t, ok := strings.CutSuffix(text, "/**"); ok {
			text, suffix = t, `/(?s:.+)\z`
		}
	}
	parts := strings.Split(text, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(`\A` + strings.Join(parts, any) + suffix).MatchString(s)
}

type exprGen struct{ r *rand.Rand }

func (g exprGen) pick(list ...string) string { return list[g.r.IntN(len(list))] }

func (g exprGen) number(depth int) string {
	if depth == 0 || g.r.IntN(3) == 0 {
		return g.pick("open.flags", "open.retval", "process.uid", "0", "1", "-1", "2", "7", "O_CREAT", "EPERM", "exec_none")
	}
	a, b := g.number(depth-1), g.number(depth-1)
	switch g.r.IntN(4) {
	case 0:
		return "(-" + a + ")"
	case 1:
		return "(^" + a + ")"
	default:
		return "(" + a + " " + g.pick("+", "-", "&", "|", "^") + " " + b + ")"
	}
}

func (g exprGen) stringLit() string {
	return g.pick(`"a"`, `"ab"`, `""`, `"sh"`, `~"a*"`, `~"*b"`, `~"*a*b"`, `r"^a"`, `r"b$"`)
}

func (g exprGen) pathLit() string {
	return g.pick(`"/a"`, `"/a/b"`, `""`, `~"/a/*"`, `~"/*/b"`, `~"*/b"`, `~"/a/**"`, `~"**"`, `~"/a*"`, `~"*b"`)
}

func (g exprGen) pathField() string {
	return g.pick("open.file.path", "process.file.path", "process.ancestors.file.path", "process.ancestors[A].file.path")
}

func (g exprGen) leaf() string {
	name := g.pick("open.file.name", "process.comm", "process.file.name", "process.ancestors.comm", "process.ancestors[A].comm")
	switch g.r.IntN(11) {
	case 0:
		return name + " " + g.pick("==", "!=") + " " + g.stringLit()
	case 1:
		return name + " " + g.pick("in", "not in", "allin") + " [ " + g.stringLit() + ", " + g.stringLit() + ", " + g.stringLit() + " ]"
	case 2:
		return g.pathField() + " " + g.pick("==", "!=") + " " + g.pathLit()
	case 3:
		return g.pathField() + " " + g.pick("in", "not in") + " [ " + g.pathLit() + ", " + g.pathLit() + " ]"
	case 4:
		return g.number(2) + " " + g.pick("==", "!=", "<", "<=", ">", ">=") + " " + g.number(2)
	case 5:
		return g.pick("process.ancestors.uid", "process.ancestors[A].uid", "process.uid") + " " + g.pick("==", "!=", "<", "<=", ">", ">=") + " " + g.number(1)
	case 6:
		return g.number(1) + " " + g.pick("in", "not in") + " [ 0, 1, 64 ]"
	case 7:
		return g.pick("process.is_thread", "!process.is_kworker", "process.is_thread == process.is_kworker", "process.is_thread != true", "true", "false")
	case 8:
		return name + " " + g.pick("==", "!=") + " " + g.pick("process.comm", "open.file.name", "process.file.name", "process.file.path", "process.ancestors.file.path")
	case 9:
		return "open.file.change_time " + g.pick("<", "<=", ">", ">=", "==") + " " + g.pick("5s", "10m", "1h")
	default:
		return g.pick("process.comm in process.ancestors.comm", "open.file.name in process.ancestors.comm",
			"process.file.path == open.file.path", "open.file.path in process.ancestors.file.path", "process.file.path not in process.ancestors.file.path")
	}
}

func (g exprGen) expr(depth int) string {
	if depth == 0 || g.r.IntN(5) == 0 {
		return g.leaf()
	}
	a, b := g.expr(depth-1), g.expr(depth-1)
	switch g.r.IntN(6) {
	case 0:
		return "not (" + a + ")"
	case 1:
		return a + " && " + b
	case 2:
		return a + " || " + b
	case 3:
		return "(" + a + ") && (" + b + ")"
	case 4:
		return "(" + a + ") || " + b
	default:
		return "!(" + a + " && " + b + ")"
	}
}

func (g exprGen) record(s *Schema[record, *node]) *record {
	var parts []string
	set := func(k string, vs ...string) { parts = append(parts, k+"="+g.pick(vs...)) }
	set("open.file.name", "a", "ab", "", "sh", "aab")
	set("open.file.path", "/a", "/a/b", "", "/x/b", "/a/b/c", "/ab")
	set("open.flags", "0", "1", "2", "64", "66")
	set("open.retval", "0", "-1", "3")
	set("process.uid", "0", "1", "7")
	set("process.comm", "a", "sh", "ab")
	set("process.file.name", "a", "sh", "")
	set("process.is_thread", "true", "false")
	set("process.is_kworker", "true", "false")
	set("open.file.change_time", "0", "1699999999000000000", "1699999500000000000")
	set("process.ancestors.comm", "", "a", "sh;a", "ab;sh;b")
	set("process.file.path", "", "/a", "/a/b;/x/b", "/x;/ab;/a/b/c")
	set("process.ancestors.file.path", "", "/a", "/a/b:/ab;/x", "/x/b;/a:/a/b:/ab")
	set("process.ancestors.uid", "", "0", "1;0", "7;1;0")
	return newRecord(s, strings.Join(parts, ","))
}

// agree compares the compiler with the plain evaluator. It tells whether the
// expression compiled, and how often it held.
func agree(t *testing.T, env *Env[record, *node], g exprGen) (compiled bool, held int) {
	t.Helper()
	src := "open.flags >= -9 && (" + g.expr(4) + ")"
	src = strings.ReplaceAll(src, "exec_none", "process.pid")
	p, problems := Compile(env, src, Options{})
	if p == nil {
		// A random text may compare what cannot be compared; that it is
		// refused is fine here.
		if len(problems) == 0 {
			t.Fatalf("%s: refused without a problem", src)
		}
		return false, 0
	}
	n, _ := parse.Expression(src)
	for range 20 {
		r := g.record(env.Schema)
		// Where there are objects each of them is tried in the register; the
		// empty register is for a list without any.
		want, regs := false, []*node{nil}
		if strings.Contains(src, "[A]") && r.first != nil {
			regs = nil
			for o := r.first; o != nil; o = o.next {
				regs = append(regs, o)
			}
		}
		for _, reg := range regs {
			want = want || naive{s: env.Schema, r: r, reg: reg}.truth(n)
		}
		if got := p.Match(&Ctx[record, *node]{Event: r, Now: testNow}); got != want {
			t.Fatalf("%s\non %v\ngot %v, want %v", src, r.vals, got, want)
		}
		if want {
			held++
		}
	}
	return true, held
}

// TestNaive compares the compiler with the plain evaluator on random conditions
// and events: some seconds, and where CLEW_SOAK is set two minutes, or as long
// as it says. CLEW_SOAK_SEED is the first seed.
func TestNaive(t *testing.T) {
	env := testEnv(t)
	first, err := strconv.ParseUint(cmp.Or(os.Getenv("CLEW_SOAK_SEED"), "0"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	var long time.Duration
	if v := os.Getenv("CLEW_SOAK"); v != "" {
		if long, err = time.ParseDuration(v); err != nil {
			long = 2 * time.Minute
		}
	}
	const least = 1200
	compiled, held, seed := 0, 0, first
	for until := time.Now().Add(long); seed < first+least || time.Now().Before(until); seed++ {
		c, h := agree(t, env, exprGen{rand.New(rand.NewPCG(seed, 3))})
		if c {
			compiled++
			held += h
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	tries := int(seed - first)
	t.Logf("%d seeds from %d on", tries, first)
	if compiled < tries/2 || held < compiled || held > 19*compiled {
		t.Errorf("%d of %d compiled, held %d times: the test says little", compiled, tries, held)
	}
}

func FuzzNaive(f *testing.F) {
	env := testEnv(f)
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) { agree(t, env, exprGen{rand.New(rand.NewPCG(a, b))}) })
}
