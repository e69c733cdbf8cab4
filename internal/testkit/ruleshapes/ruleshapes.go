// Package ruleshapes writes rules of every shape on every field, for tests of
// what reads rules.
package ruleshapes

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/secl"
)

// Policy writes a policy with one rule for each field that rules can name, and
// returns it with the number of its rules. All of them are valid. It is the
// same for the same schema.
func Policy(schema *ruleset.Schema) (text string, rules int) {
	g := writer{rand.New(rand.NewPCG(7, 9))}
	var b strings.Builder
	b.WriteString("macros:\n  - {id: NAMES, values: [a, '~\"b*\"', 'r\"c$\"']}\n  - {id: PATHS, values: [/a, '~\"/b/*\"']}\n  - {id: NOBODY, expression: process.uid == 65534}\nrules:\n")
	const anchor = " >= 0"
	anchors := map[string]string{}
	for _, name := range schema.Names() {
		f, _ := schema.Field(name)
		if f.Kind != "" && f.Type == secl.Int && !f.List && anchors[f.Kind] == "" {
			anchors[f.Kind] = name + anchor
		}
	}
	for _, name := range schema.Names() {
		f, _ := schema.Field(name)
		expr := shape(g, name, schema)
		switch {
		case f.Kind != "":
		case f.Kinds != nil:
			// Several kinds have it: a field of one of them alone says which.
			for _, k := range f.Kinds {
				if anchors[k] != "" {
					expr += " && " + anchors[k]
					break
				}
			}
		default:
			expr = g.pick("exec.uid >= 0", "open.flags >= 0", "connect.addr.port >= 0") + " && (" + expr + ")"
		}
		switch g.r.IntN(5) {
		case 0:
			expr = "not (" + expr + ")"
		case 1:
			expr = "(" + expr + ") && !NOBODY"
		case 2:
			expr = "NOBODY or (" + expr + ") # why"
		}
		fmt.Fprintf(&b, "  - id: r%d\n    expression: |-\n      %s\n", rules, expr)
		rules++
	}
	return b.String(), rules
}

type writer struct{ r *rand.Rand }

func (g writer) pick(list ...string) string { return list[g.r.IntN(len(list))] }

// shape makes a comparison of a field, of a random form that its type has.
func shape(g writer, name string, schema *ruleset.Schema) string {
	f, _ := schema.Field(name)
	register := name
	if f.Iter != "" && g.r.IntN(2) == 0 {
		register = f.Iter + "[A]" + strings.TrimPrefix(name, f.Iter)
	}
	text := func() string {
		if f.Path() {
			return g.pick(`"/etc/x"`, `~"/etc/*"`, `~"/usr/**"`, `""`)
		}
		return g.pick(`"x"`, `~"a*b"`, `r"^x"`, `""`)
	}
	switch f.Type {
	case secl.Bool:
		if f.List {
			return register + " == " + g.pick("true", "false")
		}
		return g.pick("", "!", "not ") + register
	case secl.Int:
		single := !f.List || register != name && !f.Many
		switch n := g.r.IntN(6); {
		case n == 0:
			return register + " " + g.pick("in", "not in", "allin") + " [ 1, -2, 0x10 ]"
		case n == 1 && single:
			return register + g.pick(" & ", " | ", " ^ ") + "3 " + g.pick("> 0", "== 1", "!= 7")
		case n == 2 && single:
			return "-" + register + " + 1 < 2 - 3"
		case n == 3:
			return register + g.pick(" < ", " > ", " <= ", " >= ", " == ") + g.pick("5s", "10m", "2h", "1d")
		case n == 4:
			return "7 " + g.pick("==", "!=", "<", ">=") + " " + register
		}
		return register + " " + g.pick("==", "!=", "<", "<=", ">", ">=") + " 7"
	case secl.IP:
		return register + " " + g.pick("== 10.0.0.1", "!= ::1", "in 10.0.0.0/8", "not in [ 10.0.0.0/8, fe80::/10 ]", "allin [ 192.0.2.1 ]")
	}
	switch g.r.IntN(7) {
	case 0:
		return register + " " + g.pick("in", "not in", "allin") + " [ " + text() + ", " + text() + " ]"
	case 1:
		return g.pick(`"/x"`, `""`) + " " + g.pick("==", "!=") + " " + register
	case 2:
		if f.List && register == name {
			return `"/x" ` + g.pick("in", "not in") + " " + name
		}
		return register + ` == "/${process.pid}/x"`
	case 3:
		if f.List && f.Iter == "" {
			return name + `[1] == "x" && ` + name + ".length > 1"
		}
		return register + `.length > 3`
	case 4:
		if f.Path() {
			return register + ` in PATHS`
		}
		return register + ` in NAMES`
	case 5:
		lit := g.pick(`"x*"`, `~"*y"`)
		if f.Path() {
			lit = g.pick(`"/x*"`, `~"/y/**"`)
		}
		return register + " " + g.pick("=~", "!~") + " " + lit
	}
	return register + " " + g.pick("==", "!=") + " " + text()
}
