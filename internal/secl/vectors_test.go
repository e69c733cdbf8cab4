package secl

import (
	"bufio"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/secl/ast"
	"github.com/clewsec/clew/internal/secl/check"
)

// record is the event of these tests: values by field name.
type record struct {
	vals  map[string]string
	first *node
}

type node struct {
	comm  string
	uid   int64
	paths []string
	next  *node
}

const testNow = 1_700_000_000_000_000_000

func (r *record) int(name string) int64 {
	v, _ := strconv.ParseInt(r.vals[name], 10, 64)
	return v
}

func (r *record) paths() []string { return strings.Split(r.vals["process.file.path"], ";") }

// testSchema describes the fields that the vectors name.
func testSchema(t testing.TB) *Schema[record, *node] {
	t.Helper()
	type row struct {
		name string
		typ  Type
		list bool
	}
	rows := []row{
		{"open.file.name", String, false}, {"open.file.path", String, false}, {"open.file.in_upper_layer", Bool, false},
		{"open.file.change_time", Int, false}, {"open.flags", Int, false}, {"open.retval", Int, false},
		{"process.file.name", String, false}, {"process.file.path", String, false}, {"process.comm", String, false}, {"process.is_thread", Bool, false},
		{"process.is_kworker", Bool, false}, {"process.uid", Int, false}, {"process.pid", Int, false},
		{"process.created_at", Int, false},
		{"exec.argv", String, true}, {"exec.comm", String, false}, {"exec.uid", Int, false}, {"exec.gid", Int, false},
		{"exec.is_thread", Bool, false}, {"exec.is_kworker", Bool, false}, {"exec.file.path", String, false},
		{"exec.file.name", String, false}, {"exec.file.rights", Int, false}, {"exec.file.mode", Int, false},
		{"exec.cap_effective", Int, false}, {"dns.question.name", String, false}, {"network.destination.ip", IP, false},
		{"bpf.map.name", String, false},
	}
	var fields []Field[record, *node]
	for _, r := range rows {
		name := r.name
		f := Field[record, *node]{Field: check.Field{Name: name, Type: r.typ, List: r.list}}
		switch kind, _, _ := strings.Cut(name, "."); kind {
		case "process":
		case "network":
			f.Kinds = []string{"dns", "imds"}
		default:
			f.Kind = kind
		}
		switch {
		case name == "dns.question.name":
			f.Fold = true
		case name == "bpf.map.name":
			f.MaxLen = 16
		}
		switch {
		case r.typ == Bool:
			f.Get.Bool = func(r *record) bool { return r.vals[name] == "true" }
		case r.typ == Int:
			f.Get.Int = func(r *record) int64 { return r.int(name) }
		case r.typ == IP:
			f.Get.IP = func(r *record) netip.Prefix {
				a, err := netip.ParseAddr(r.vals[name])
				if err != nil {
					return netip.Prefix{}
				}
				return netip.PrefixFrom(a, a.BitLen())
			}
		case r.list:
			f.Get.Strs = func(r *record) []string {
				if r.vals[name] == "" {
					return nil
				}
				return strings.Split(r.vals[name], ";")
			}
		default:
			f.Get.Str = func(r *record) string { return r.vals[name] }
		}
		if name == "process.file.path" {
			// A file with several paths: the first one is its own.
			f.Get.Str = func(r *record) string { return r.paths()[0] }
			f.Get.Others = func(r *record) int { return len(r.paths()) - 1 }
			f.Get.Other = func(r *record, i int) string { return r.paths()[i+1] }
		}
		fields = append(fields, f)
	}
	anc := func(name string, typ Type, g Getters[*node]) Field[record, *node] {
		return Field[record, *node]{
			Field: check.Field{Name: "process.ancestors." + name, Type: typ, List: true, Iter: "process.ancestors"},
			Elem:  g,
		}
	}
	fields = append(fields,
		anc("comm", String, Getters[*node]{Str: func(n *node) string { return n.comm }}),
		anc("uid", Int, Getters[*node]{Int: func(n *node) int64 { return n.uid }}),
		anc("file.path", String, Getters[*node]{
			Str:    func(n *node) string { return n.paths[0] },
			Others: func(n *node) int { return len(n.paths) - 1 },
			Other:  func(n *node, i int) string { return n.paths[i+1] },
		}),
	)
	roots := []Root[record, *node]{{
		Path:  "process.ancestors",
		First: func(r *record) *node { return r.first },
		Next:  func(n *node) *node { return n.next },
	}}
	s, err := NewSchema(fields, roots, map[string]string{"open.filename": "open.file.path"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func testEnv(t testing.TB) *Env[record, *node] {
	return &Env[record, *node]{
		Schema: testSchema(t),
		Variables: map[string]Variable[record]{
			"process.pid": {Type: Int, Get: Getters[*record]{Int: func(r *record) int64 { return r.int("process.pid") }}},
		},
	}
}

// newRecord reads "field=value, field=a;b".
func newRecord(s *Schema[record, *node], text string) *record {
	r := &record{vals: map[string]string{}}
	if text == "-" {
		return r
	}
	for kv := range strings.SplitSeq(text, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(kv), "=")
		r.vals[s.Canonical(k)] = v
	}
	comms := strings.Split(r.vals["process.ancestors.comm"], ";")
	uids := strings.Split(r.vals["process.ancestors.uid"], ";")
	paths := strings.Split(r.vals["process.ancestors.file.path"], ";")
	n := max(len(comms), len(uids), len(paths))
	if comms[0] == "" && uids[0] == "" && paths[0] == "" {
		n = 0
	}
	for i := n - 1; i >= 0; i-- {
		a := &node{next: r.first, paths: []string{""}}
		if i < len(paths) {
			a.paths = strings.Split(paths[i], ":")
		}
		if i < len(comms) {
			a.comm = comms[i]
		}
		if i < len(uids) {
			a.uid, _ = strconv.ParseInt(uids[i], 10, 64)
		}
		r.first = a
	}
	return r
}

// evaluate compiles and runs one expression: "true", "false" or ERR(class).
func evaluate(env *Env[record, *node], r *record, expr string) (string, ast.Problems) {
	p, problems := Compile(env, expr, Options{})
	if p == nil {
		for _, q := range problems {
			if !q.Warning {
				return "ERR(" + string(q.Code) + ")", problems
			}
		}
		return "ERR()", problems
	}
	return strconv.FormatBool(p.Match(&Ctx[record, *node]{Event: r, Now: testNow})), problems
}

func TestVectors(t *testing.T) {
	f, err := os.Open(filepath.Join("testdata", "vectors.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	env := testEnv(t)
	sc := bufio.NewScanner(f)
	n := 0
	for line := 1; sc.Scan(); line++ {
		if text := sc.Text(); text == "" || text[0] == '#' {
			continue
		}
		parts := strings.SplitN(sc.Text(), "|", 4)
		if len(parts) != 4 {
			t.Fatalf("vectors.txt:%d: want four columns", line)
		}
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		n++
		got, problems := evaluate(env, newRecord(env.Schema, parts[2]), parts[3])
		if got != parts[0] {
			t.Errorf("vectors.txt:%d: %s\n  on %s\n  got %s, want %s\n%s", line, parts[3], parts[2], got, parts[0], problems.Format(parts[3]))
		}
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	if n < 150 {
		t.Errorf("only %d vectors were read", n)
	}
}
