package arrows

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/clewsec/clew/"

// never lists the arrows that must not exist, each with its reason. A package
// stands for itself and everything below it; except lists exceptions of to.
var never = []struct {
	from, to string
	except   []string
	why      string
}{
	{"internal/schema", "internal", nil, "the schema is data that everything else is derived from"},
	{"internal/event", "internal", []string{"internal/schema"}, "the model is the floor: it knows nobody"},
	{"internal/secl", "internal", []string{"internal/secl"}, "the language works on any schema"},
	{"internal/kfilter", "internal", []string{"internal/event", "internal/schema"}, "a plan is plain data that rules and sensor share"},
	{"internal/proctable", "internal/sensor", nil, "the process table is fed, it does not ask"},
	{"internal/proctable", "internal/secl", nil, "lineage knows no rules"},
	{"internal/execctx", "internal/secl", nil, "contexts are handed compiled predicates"},
	{"internal/execctx", "internal/ruleset", nil, "contexts are handed compiled predicates"},
	{"internal/pipeline", "internal/sensor", []string{"internal/sensor/replay"}, "the pipeline is pure: a stream goes in, records come out"},
	{"internal/pipeline", "internal/store", nil, "the pipeline is pure: a stream goes in, records come out"},
	{"internal/pipeline", "internal/wire", nil, "the pipeline is pure: a stream goes in, records come out"},
	{"internal/pipeline", "internal/server", nil, "agent, replay and back-test compose the pipeline, it composes nobody"},
	{"internal/sensor", "internal/ruleset", nil, "rules reach the kernel as a plan"},
	{"internal/sensor", "internal/secl", nil, "rules reach the kernel as a plan"},
	{"internal/metrics", "internal", nil, "what is counted is declared for both sides"},
	{"internal/agent", "internal/server", nil, "an agent runs where there is no server"},
	{"internal/agent", "internal/store", nil, "what an agent keeps is its spool"},
	{"internal/agent", "web", nil, "an agent serves nothing"},
	{"internal/server", "internal/agent", nil, "a server runs where there is nothing to watch"},
	{"internal/server", "internal/sensor", nil, "a server runs where there is no kernel to watch"},
	{"internal/server/story", "internal/store", nil, "a story is a function of records, wherever they lie"},
	{"internal/server/graph", "internal/store", nil, "a graph is a function of records, wherever they lie"},
	{"internal/server/timeline", "internal/store", nil, "a timeline is a function of records, wherever they lie"},
	{"internal/store", "internal/server", nil, "the store is asked by the server"},
	{"internal/store", "internal/wire", nil, "what is stored outlives how it came"},
	{"internal/wire", "internal/server", nil, "both ends of the wire use it"},
	{"internal/wire", "internal/agent", nil, "both ends of the wire use it"},
	{"cmd", "internal/testkit", nil, "the test kit is for tests"},
	{"internal/agent", "internal/testkit", nil, "the test kit is for tests"},
	{"internal/server", "internal/testkit", nil, "the test kit is for tests"},
	{"internal/sensor", "internal/testkit", nil, "the test kit is for tests"},
	{"internal/store", "internal/testkit", nil, "the test kit is for tests"},
	{"internal/stream", "internal/agent", nil, "a recording is read without an agent"},
	{"internal/replay", "internal/agent", nil, "a replay needs no agent"},
	{"internal/replay", "internal/sensor", nil, "a replay needs no kernel"},
	{"internal/replay", "internal/store", nil, "a replay folds in memory"},
	{"internal/client", "internal/agent", nil, "a client asks the server"},
	{"internal/client", "internal/server", nil, "a client knows the API, not its maker"},
	{"internal", "cmd", nil, "commands are the roof"},
	{"internal", "tools", nil, "what is built does not need what built it"},
	{"web", "internal", nil, "the page is data for whoever serves it"},
}

// ebpfUsers are the only packages that talk to the kernel's BPF.
var ebpfUsers = []string{"internal/sensor", "internal/bench", "internal/testkit"}

// A pkg is what go list says about a package.
type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
	Deps       []string
}

// name is the package's path in this repository.
func (p pkg) name() string { return strings.TrimPrefix(p.ImportPath, module) }

// list returns the packages of this repository.
func list(t *testing.T) []pkg {
	t.Helper()
	pkgs, err := goList()
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) < 10 {
		t.Fatalf("go list names %d packages", len(pkgs))
	}
	return pkgs
}

// goList asks once for all tests, because it takes seconds.
var goList = sync.OnceValues(func() ([]pkg, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports,Deps", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return nil, fmt.Errorf("go list: %w", err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		pkgs = append(pkgs, p)
	}
})

// within reports whether name is dir or below it.
func within(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, dir+"/")
}

func withinAny(name string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return within(name, d) })
}

func TestArrows(t *testing.T) {
	for _, p := range list(t) {
		for _, msg := range forbidden(p.name(), p.Imports, p.Deps) {
			t.Error(msg)
		}
	}
}

// forbidden returns a sentence for each arrow of a package that must not be.
func forbidden(name string, imports, deps []string) []string {
	var msgs []string
	for _, rule := range never {
		if !within(name, rule.from) {
			continue
		}
		for _, dep := range deps {
			dep, ours := strings.CutPrefix(dep, module)
			if ours && within(dep, rule.to) && !withinAny(dep, rule.except) && dep != name {
				msgs = append(msgs, fmt.Sprintf("%s depends on %s: %s", name, dep, rule.why))
			}
		}
	}
	for _, imp := range imports {
		if within(imp, "github.com/cilium/ebpf") && !withinAny(name, ebpfUsers) {
			msgs = append(msgs, fmt.Sprintf("%s imports %s: only the sensor talks to the kernel's BPF", name, imp))
		}
		if imp == "net/http/pprof" || imp == "expvar" {
			msgs = append(msgs, fmt.Sprintf("%s imports %s, which registers itself with a global", name, imp))
		}
	}
	return msgs
}

// deterministic lists the packages between decode and story: what they say is
// a function of the stream, so that a replay says it again.
var deterministic = []string{
	"internal/event", "internal/secl", "internal/ruleset", "internal/kfilter", "internal/proctable",
	"internal/execctx", "internal/enrich", "internal/dnscache", "internal/pipeline",
	"internal/server/story", "internal/server/graph", "internal/server/timeline",
}

// impure lists what a deterministic package must not import, or not call.
var impure = map[string][]string{
	"os": nil, "net": nil, "os/exec": nil, "syscall": nil, "golang.org/x/sys/unix": nil,
	"math/rand": nil, "math/rand/v2": nil, "crypto/rand": nil,
	"time":                   {"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep", "Local", "LoadLocation"},
	"github.com/google/uuid": {"New", "NewString", "NewRandom", "NewUUID", "NewV6", "NewV7"},
}

func TestDeterministic(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range list(t) {
		name := p.name()
		if !withinAny(name, deterministic) {
			continue
		}
		seen[name] = true
		for _, file := range p.GoFiles {
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, msg := range impurities(fset, f) {
				t.Errorf("%s: %s", name, msg)
			}
		}
	}
	for _, must := range []string{"internal/event", "internal/proctable", "internal/execctx"} {
		if !seen[must] {
			t.Errorf("%s was not looked at", must)
		}
	}
}

// impurities returns what a file does that its input does not decide: look-ups
// and clocks, randomness, and goroutines, whose order nobody fixes.
func impurities(fset *token.FileSet, f *ast.File) []string {
	var msgs []string
	say := func(pos token.Pos, format string, args ...any) {
		p := fset.Position(pos)
		msgs = append(msgs, fmt.Sprintf("%s:%d: ", filepath.Base(p.Filename), p.Line)+fmt.Sprintf(format, args...))
	}
	calls := map[string][]string{} // by the name the file uses
	for _, imp := range f.Imports {
		path, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			continue
		}
		names, ok := impure[path]
		switch {
		case !ok:
		case names == nil:
			say(imp.Pos(), "imports %s", path)
		case imp.Name != nil:
			calls[imp.Name.Name] = names
		default:
			calls[path[strings.LastIndexByte(path, '/')+1:]] = names
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			say(n.Pos(), "starts a goroutine")
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && slices.Contains(calls[x.Name], n.Sel.Name) {
				say(n.Pos(), "uses %s.%s", x.Name, n.Sel.Name)
			}
		}
		return true
	})
	return msgs
}

// TestFound shows that the checks above find what they are there for.
func TestFound(t *testing.T) {
	for _, tt := range []struct{ from, to, why string }{
		{"internal/event", "internal/secl", "the floor"},
		{"internal/secl/eval", "internal/event", "any schema"},
		{"internal/server/api", "internal/sensor/replay", "no kernel to watch"},
		{"internal/agent", "internal/server/story", "no server"},
	} {
		msgs := forbidden(tt.from, nil, []string{"fmt", module + tt.to})
		if len(msgs) == 0 || !strings.Contains(msgs[0], tt.why) {
			t.Errorf("%s → %s: %q, want %q", tt.from, tt.to, msgs, tt.why)
		}
	}
	if msgs := forbidden("internal/secl", nil, []string{module + "internal/secl/ast", module + "internal/secl"}); len(msgs) > 0 {
		t.Errorf("below itself: %q", msgs)
	}
	if msgs := forbidden("internal/store", []string{"github.com/cilium/ebpf/link"}, nil); len(msgs) != 1 {
		t.Errorf("BPF in the store: %q", msgs)
	}
	const src = `package p
import (
	"net"
	clock "time"
	"net/netip"
)
var a netip.Addr
func f() { go f(); _ = clock.Now(); _ = clock.Second; now := clock.Since; _ = net.IP{} }
`
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "p.go", src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	got := impurities(fset, f)
	want := []string{"p.go:3: imports net", "p.go:8: starts a goroutine", "p.go:8: uses clock.Now", "p.go:8: uses clock.Since"}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("impurities: %q, want %q", got, want)
	}
}
