package ruleset_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/ruleset"
)

// netGen makes rules that share few values, so that they come together in
// every structure that conditions are found by, and events that often meet
// them.
type netGen struct{ r *rand.Rand }

func (g netGen) pick(list ...string) string { return list[g.r.IntN(len(list))] }

func (g netGen) n(n int) int { return g.r.IntN(n) }

func (g netGen) prog() string { return g.pick("sh", "bash", "curl", "nginx", "id", "x", "") }

func (g netGen) dir() string {
	return g.pick("/", "/bin/", "/usr/bin/", "/usr/sbin/", "/tmp/", "/tmp/.x/", "/etc/cron.d/", "/home/a/.ssh/")
}

func (g netGen) path() string {
	if g.n(20) == 0 {
		return g.pick("", "pipe", "/", "bin/sh")
	}
	return g.dir() + g.pick("sh", "bash", "curl", "nginx", "id", "x", "key", "aa.key")
}

// pathLit is what a path is compared with.
func (g netGen) pathLit() string {
	switch g.n(4) {
	case 0:
		return `~"` + g.pick("/tmp/**", "/usr/*", "/usr/**", "/*/bin/*", "/*/*/sh", "/home/*/.ssh/*", "/home/*/.ssh/key", "*/sh", "/*/.x/**", "**",
			"/tmp/*.key", "/*", "/etc/cron.d/*", "/*/*") + `"`
	default:
		return `"` + g.dir() + g.pick("sh", "bash", "curl", "key") + `"`
	}
}

// word is what a string is compared with.
func (g netGen) word() string {
	switch g.n(6) {
	case 0:
		return `~"` + g.pick("*sh", "b*", "*ur*", "*", "*.key", "n*x", "*-c*", "*/tmp/*sh*", "S*H") + `"`
	case 1:
		return `r"` + g.pick("^sh$", "sh", "(?i)SH", ".*(bash|curl).*", "^(b|d)ash", "cu?rl", "ngin[xy]", "-c.*sh", "k.y$", "(?i)k", "(a|b)*", "(sh|id)(x|)", ".*(sh|-c).*", `\.key$`) + `"`
	default:
		return `"` + g.prog() + `"`
	}
}

func (g netGen) words(one func() string) string {
	var out []string
	for range 1 + g.n(4) {
		out = append(out, one())
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// test is a comparison of a field with literals.
func (g netGen) test(name string, one func() string) string {
	switch g.n(5) {
	case 0:
		return name + " == " + one()
	case 1:
		return name + " != " + one()
	case 2:
		return name + " not in " + g.words(one)
	default:
		return name + " in " + g.words(one)
	}
}

var netNets = []string{"10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "127.0.0.0/8", "0.0.0.0/0", "::1", "fe80::/10", "::/0", "::ffff:10.1.0.0/112", "10.1.2.0/24"}

func (g netGen) network() string { return g.pick(netNets...) }

func (g netGen) leaf(kind string) string {
	number := func(name string, values ...string) string {
		v := func() string { return g.pick(values...) }
		return g.test(name, v)
	}
	process := g.pick("process", "process", "process.parent", "process.ancestors")
	switch g.n(16) {
	case 0, 1:
		return g.test(process+".file.name", g.word)
	case 2:
		return g.test(process+".file.path", g.pathLit)
	case 3:
		return g.test(process+".comm", g.word)
	case 4:
		return number(process+".uid", "0", "1", "1000")
	case 5:
		return number(process+".uid", "0", "33") + " " + g.pick("&&", "||") + " process.gid < 5"
	case 6:
		return g.test(process+".args", g.word)
	case 7:
		return g.test(process+"."+g.pick("args_flags", "argv", "envs", "args_options"), g.word)
	case 8:
		return g.pick("", "!") + "process.is_kworker"
	case 9:
		return fmt.Sprintf("process.cap_effective & %d %s", g.n(8), g.pick("> 0", "!= 0", "== 0", "== 1", "in [1, 2]", "not in [0, 2]", "not in [0]", ">= 1", ">= 2", "< 1"))
	case 10:
		return fmt.Sprintf("%d %s process.cap_effective & %d", g.n(3)-1, g.pick("<", "<=", "==", "!="), g.n(8))
	case 11:
		if g.n(4) == 0 {
			return "process.args.length > 5"
		}
		return fmt.Sprintf(`process.file.name == "${%s}"`, g.pick("last", "last", "other"))
	case 12:
		return g.pick(`${process.seen}`, `!${process.seen}`, `"sh" in ${names}`)
	}
	switch kind {
	case "open":
		switch g.n(4) {
		case 0:
			return g.test("open.file.path", g.pathLit)
		case 1:
			return g.test("open.file.name", g.word)
		default:
			return fmt.Sprintf("open.flags & %s %s", g.pick("O_CREAT", "(O_CREAT|O_RDWR|O_WRONLY)", "3"), g.pick("> 0", "!= 0", "== O_CREAT", "== 2"))
		}
	case "connect":
		switch g.n(3) {
		case 0:
			return number("connect.addr.port", "22", "80", "443")
		default:
			return g.test("connect.addr.ip", g.network)
		}
	case "dns":
		return g.test("dns.question.name", func() string { return `"` + g.pick("evil.com", "EVIL.com", "a.b", "") + `"` })
	}
	return g.pick("", "!") + "(" + g.test(process+".file.name", g.word) + ")"
}

// bound is a condition on one element of a list.
func (g netGen) bound() string {
	of := "process.ancestors[A]."
	switch g.n(4) {
	case 0:
		return g.test(of+"file.name", g.word)
	case 1:
		return g.test(of+"file.path", g.pathLit)
	case 2:
		return g.test(of+"args", g.word)
	default:
		return of + "uid " + g.pick("== 0", "!= 0", "in [0, 1]", "> 0")
	}
}

func (g netGen) condition(kind string, depth int, bound bool) string {
	if depth == 0 || g.n(4) == 0 {
		if bound && g.n(2) == 0 {
			return g.bound()
		}
		return g.leaf(kind)
	}
	a, b := g.condition(kind, depth-1, bound), g.condition(kind, depth-1, bound)
	switch g.n(7) {
	case 0:
		return "not (" + a + ")"
	case 1, 2:
		return "(" + a + ") || (" + b + ")"
	case 3:
		return "not ((" + a + ") || (" + b + "))"
	default:
		return "(" + a + ") && (" + b + ")"
	}
}

// expression is a rule about a kind of event.
func (g netGen) expression(kind string) string {
	head := map[string]string{
		"exec": "exec.uid >= 0", "open": "open.retval >= -9", "connect": "connect.addr.port >= 0", "dns": "dns.id >= 0",
	}[kind]
	return head + " && (" + g.condition(kind, 1+g.n(3), g.n(5) == 0) + ")"
}

func (g netGen) file() event.File {
	f := event.File{Path: g.path()}
	for range g.n(3) {
		f.OtherPaths = append(f.OtherPaths, g.path())
	}
	return f
}

func (g netGen) process(depth int) *event.Process {
	p := &event.Process{
		ID: event.Ref{Run: 1, Seq: uint64(g.n(4))}, UID: uint32(g.n(2) * 1000), GID: uint32(g.n(9)), Comm: g.prog(), File: g.file(),
		IsKworker: g.n(2) == 0, CapEffective: uint64(g.n(8)),
		AllArgs: []string{"sh", g.pick("-c", "-xc", "--key=x", "k"), g.pick("curl", "/tmp/x/sh", "id")}[:g.n(4)],
		Envs:    []string{g.pick("sh", "PATH"), "id"}[:g.n(3)],
	}
	if depth > 0 {
		p.Parent = g.process(depth - 1)
	}
	return p
}

func (g netGen) event(kind string) *event.Event {
	k, _ := event.KindByName(kind)
	e := &event.Event{Kind: k, TimeNS: 1, Proc: g.process(g.n(5))}
	e.Allocate()
	switch kind {
	case "open":
		e.Open.File, e.Open.Flags = g.file(), []int64{0, 1, 2, 0o100, 0o102}[g.n(5)]
	case "connect":
		e.Connect.Addr.Port = []uint32{22, 80, 443}[g.n(3)]
		if ip := g.pick("10.1.2.3", "10.1.9.9", "127.0.0.1", "8.8.8.8", "::1", "fe80::1%eth0", "::ffff:10.1.2.3", ""); ip != "" {
			e.Connect.Addr.IP = netip.MustParseAddr(ip)
		}
	case "dns":
		e.DNS.QuestionName = g.pick("evil.com", "Evil.com", "x", "")
	}
	return e
}

// sameAsAlone holds that a set finds exactly the rules that match one by one,
// in their order. It returns how often one matched.
func sameAsAlone(t testing.TB, schema *ruleset.Schema, seed uint64) int {
	g := netGen{rand.New(rand.NewPCG(seed, 9))}
	kind := g.pick("exec", "open", "connect", "dns")
	var policy strings.Builder
	policy.WriteString("rules:\n")
	for _, v := range []string{"{name: seen, value: true, scope: process}", "{name: last, field: process.file.name}", "{name: names, field: process.comm, append: true, size: 2}", "{name: other, value: sh}"} {
		// Declared by rules that never match.
		fmt.Fprintf(&policy, "  - {id: d%d, silent: true, expression: 'exec.uid < 0', actions: [{set: %s}]}\n", policy.Len(), v)
	}
	var alone []ruleset.Predicate
	n := 2 + g.n(60)
	for len(alone) < n {
		expr := g.expression(kind)
		if strings.Contains(expr, "${") {
			continue
		}
		p, err := ruleset.CompilePredicate(schema, kindOf(kind), expr)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		fmt.Fprintf(&policy, "  - id: r%d\n    every: 1ns\n    expression: |-\n      %s\n", len(alone), expr)
		alone = append(alone, p)
	}
	set := loadRules(t, policy.String())
	matched := 0
	for i := range 40 {
		e := g.event(kind)
		e.TimeNS += int64(i)
		var want []string
		for j, p := range alone {
			if p(e) {
				want = append(want, fmt.Sprintf("r%d", j))
			}
		}
		matched += len(want)
		if got := ids(set.Eval(e, nil)); got != strings.Join(want, " ") {
			t.Fatalf("seed %d: got %s, want %v\n%s", seed, got, want, policy.String())
		}
	}
	if set.Panics() > 0 {
		t.Fatalf("seed %d: %d panics", seed, set.Panics())
	}
	return matched
}

func kindOf(name string) event.Kind {
	k, _ := event.KindByName(name)
	return k
}

// withVariables holds the same where rules set what others read: each rule of
// a set sees what those before it have set, as if each were asked by itself.
func withVariables(t testing.TB, seed uint64) int {
	g := netGen{rand.New(rand.NewPCG(seed, 11))}
	kind := g.pick("exec", "open")
	sets := []string{"{name: seen, value: true, scope: process}", "{name: seen, value: false, scope: process}", "{name: last, field: process.file.name}",
		"{name: names, field: process.comm, append: true, size: 2}", "{name: other, value: sh}"}
	n := 5 + g.n(40)
	var rules []string
	for i := range n {
		rule := fmt.Sprintf("  - id: r%d\n    every: 1ns\n    priority: %d\n    expression: |-\n      %s\n", i, g.n(3), g.expression(kind))
		if i < len(sets) {
			rule += "    actions: [{set: " + sets[i] + "}]\n"
		} else if g.n(3) == 0 {
			rule += "    actions: [{set: " + g.pick(sets...) + "}]\n"
		}
		rules = append(rules, rule)
	}
	fast := loadRules(t, "rules:\n"+strings.Join(rules, ""))
	// The slow one tries every condition: a condition that any event may
	// meet, and that nothing is found by, makes each rule the alternative of
	// one.
	for i, r := range rules {
		rules[i] = strings.Replace(r, "|-\n      ", "|-\n      process.pid < 0 || ", 1)
	}
	slow := loadRules(t, "rules:\n"+strings.Join(rules, ""))
	for _, r := range slow.Rules() {
		for _, c := range slow.Conditions(r) {
			if c.Index != "" {
				t.Fatalf("seed %d: %s is found by %s", seed, r.Expression, c.Index)
			}
		}
	}
	matched := 0
	for i := range 40 {
		e := g.event(kind)
		e.TimeNS += int64(i)
		got, want := ids(fast.Eval(e, nil)), ids(slow.Eval(e, nil))
		if got != want {
			t.Fatalf("seed %d: got %s, want %s\n%s", seed, got, want, strings.Join(rules, ""))
		}
		if want != "" {
			matched++
		}
	}
	return matched
}

// soak runs f with one seed after the other: as many as asked for, and where
// CLEW_SOAK is set for two minutes, or as long as it says. CLEW_SOAK_SEED is
// the first seed.
func soak(t testing.TB, least int, f func(seed uint64)) {
	t.Helper()
	first, err := strconv.ParseUint(cmp.Or(os.Getenv("CLEW_SOAK_SEED"), "0"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	var d time.Duration
	if v := os.Getenv("CLEW_SOAK"); v != "" {
		if d, err = time.ParseDuration(v); err != nil {
			d = 2 * time.Minute
		}
	}
	until, n := time.Now().Add(d), 0
	for ; n < least || time.Now().Before(until); n++ {
		f(first + uint64(n))
	}
	t.Logf("%d seeds from %d on", n, first)
}

func TestNet(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	matched := 0
	soak(t, 100, func(seed uint64) { matched += sameAsAlone(t, schema, seed) })
	if matched < 1000 {
		t.Errorf("rules matched %d times only", matched)
	}
}

func TestNetVariables(t *testing.T) {
	matched := 0
	soak(t, 100, func(seed uint64) { matched += withVariables(t, seed) })
	if matched < 1000 {
		t.Errorf("rules matched %d times only", matched)
	}
}
