package ruleset

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/clewsec/clew/internal/secl"
	"github.com/clewsec/clew/internal/secl/ast"
	"github.com/clewsec/clew/internal/secl/check"
)

// DefaultAgentVersion is the level of the rule language that policies are
// judged by where they ask for an agent's version.
const DefaultAgentVersion = "7.83.0"

// Facts are what the filters of rules can ask about a host.
type Facts struct {
	// OSID, PlatformID and VersionID are ID, PLATFORM_ID and VERSION_ID of
	// /etc/os-release; OSLike is ID_LIKE.
	OSID, OSLike, PlatformID, VersionID string
	// Kernel is the release as uname gives it, 6.1.0-18-amd64.
	Kernel   string
	Hostname string
	// Env are NAME=value of the agent's own environment.
	Env []string
	// CORE tells that the kernel describes its types (BTF).
	CORE bool
	// AgentPID is the process id of the agent that runs the rules, 0 for none;
	// AgentFiles are globs of its files, beside those that packages install.
	AgentPID   uint32
	AgentFiles []string
}

// release takes a kernel's release apart.
func (f *Facts) release() (v [3]int64, abi, flavor string) {
	base, rest, _ := strings.Cut(f.Kernel, "-")
	for i, part := range strings.SplitN(base, ".", 3) {
		part, _, _ = strings.Cut(part, "+")
		n, err := strconv.ParseInt(part, 10, 32)
		if err == nil {
			v[i] = n
		}
	}
	parts := strings.Split(rest, "-")
	abi, flavor = parts[0], parts[len(parts)-1]
	if len(parts) == 1 {
		flavor = ""
	}
	return v, abi, flavor
}

type filterEnv = secl.Env[Facts, struct{}]

func newFilterEnv() (*filterEnv, error) {
	var fields []secl.Field[Facts, struct{}]
	add := func(name string, t secl.Type, list bool, g secl.Getters[*Facts]) {
		fields = append(fields, secl.Field[Facts, struct{}]{Field: check.Field{Name: name, Type: t, List: list}, Get: g})
	}
	str := func(name string, get func(*Facts) string) {
		add(name, secl.String, false, secl.Getters[*Facts]{Str: get})
	}
	is := func(name string, get func(*Facts) bool) {
		add(name, secl.Bool, false, secl.Getters[*Facts]{Bool: get})
	}
	number := func(name string, get func(*Facts) int64) {
		add(name, secl.Int, false, secl.Getters[*Facts]{Int: get})
	}
	str("os", func(*Facts) string { return "linux" })
	str("os.id", func(f *Facts) string { return f.OSID })
	str("os.platform_id", func(f *Facts) string { return f.PlatformID })
	str("os.version_id", func(f *Facts) string { return f.VersionID })
	str("hostname", func(f *Facts) string { return f.Hostname })
	str("origin", func(*Facts) string { return "ebpf" })
	add("envs", secl.String, true, secl.Getters[*Facts]{Strs: func(f *Facts) []string { return f.Env }})
	for name, ids := range map[string][]string{
		"os.is_amazon_linux": {"amzn"}, "os.is_cos": {"cos"}, "os.is_debian": {"debian"}, "os.is_oracle": {"ol"},
		"os.is_rhel": {"rhel", "centos", "rocky", "almalinux"}, "os.is_sles": {"sles"},
	} {
		is(name, func(f *Facts) bool { return contains(ids, f.OSID) })
	}
	major := func(name, id string, version string) {
		is(name, func(f *Facts) bool {
			v, _, _ := strings.Cut(f.VersionID, ".")
			return v == version && (f.OSID == id || contains(strings.Fields(f.OSLike), id))
		})
	}
	major("os.is_rhel7", "rhel", "7")
	major("os.is_rhel8", "rhel", "8")
	major("os.is_sles12", "sles", "12")
	major("os.is_sles15", "sles", "15")
	for i, name := range []string{"kernel.version.major", "kernel.version.minor", "kernel.version.patch"} {
		number(name, func(f *Facts) int64 { v, _, _ := f.release(); return v[i] })
	}
	str("kernel.version.abi", func(f *Facts) string { _, abi, _ := f.release(); return abi })
	str("kernel.version.flavor", func(f *Facts) string { _, _, flavor := f.release(); return flavor })
	is("kernel.core.enabled", func(f *Facts) bool { return f.CORE })
	s, err := secl.NewSchema(fields, []secl.Root[Facts, struct{}]{}, nil)
	if err != nil {
		return nil, fmt.Errorf("compose filter fields: %w", err)
	}
	return &filterEnv{Schema: s}, nil
}

// judge decides whether a rule or macro is meant for this host at all. It is
// done before the names in its expression are looked at. A reason means no.
func (l *loader) judge(rule string, pf *policyFile, version text, filters []text) (reason string, problems []Problem) {
	if version.s != "" {
		ok, err := satisfies(l.agent, version.s)
		if err != nil {
			return "", []Problem{{At: version.at, Rule: rule, Msg: err.Error()}}
		}
		if !ok {
			return fmt.Sprintf("wants agent version %s, the level here is %s", version.s, l.cfg.AgentVersion), nil
		}
	}
	if len(filters) == 0 {
		return "", nil
	}
	pass := false
	for _, f := range filters {
		p, ps := secl.Compile(l.filters, f.s, secl.Options{AnyKind: true})
		var hard ast.Problems
		for _, q := range ps {
			if !q.Warning {
				hard = append(hard, q)
			}
		}
		problems = append(problems, pf.expressionProblems(rule, f, hard)...)
		if p != nil && p.Match(&secl.Ctx[Facts, struct{}]{Event: &l.cfg.Facts}) {
			pass = true
		}
	}
	if len(problems) > 0 {
		return "", problems
	}
	if !pass {
		return "no filter of the rule fits this host", nil
	}
	return "", nil
}

type version [3]int64

func (v version) compare(w version) int {
	for i := range v {
		switch {
		case v[i] < w[i]:
			return -1
		case v[i] > w[i]:
			return 1
		}
	}
	return 0
}

// parseVersion reads 7, 7.68 or 7.68.1; what follows a - is left out. parts
// is how many numbers were given.
func parseVersion(s string) (v version, parts int, err error) {
	s = strings.TrimPrefix(strings.TrimSpace(s), "v")
	s, _, _ = strings.Cut(s, "-")
	s, _, _ = strings.Cut(s, "+")
	fields := strings.Split(s, ".")
	if len(fields) > 3 {
		return v, 0, fmt.Errorf("%q is not a version", s)
	}
	for i, f := range fields {
		if i > 0 && (f == "x" || f == "X" || f == "*") {
			break
		}
		n, perr := strconv.ParseInt(f, 10, 32)
		if perr != nil || n < 0 {
			return v, 0, fmt.Errorf("%q is not a version", s)
		}
		v[i] = n
		parts++
	}
	return v, parts, nil
}

// satisfies judges a version constraint such as ">=7.68", ">= 7.40 < 7.71" or
// "~7.40 || >=7.60": alternatives by ||, conditions that all hold by commas or
// white space.
func satisfies(have version, constraint string) (bool, error) {
	result := false
	for alt := range strings.SplitSeq(constraint, "||") {
		ok, some := true, false
		rest := strings.TrimSpace(strings.ReplaceAll(alt, ",", " "))
		for rest != "" {
			n := 0
			for n < len(rest) && strings.IndexByte("<>=!~^", rest[n]) >= 0 {
				n++
			}
			op := rest[:n]
			rest = strings.TrimLeft(rest[n:], " ")
			word, more, _ := strings.Cut(rest, " ")
			rest = strings.TrimSpace(more)
			v, parts, err := parseVersion(word)
			if err != nil {
				return false, fmt.Errorf("version constraint %q: %w", constraint, err)
			}
			some = true
			cmp := have.compare(v)
			switch op {
			case ">=", "=>":
				ok = ok && cmp >= 0
			case ">":
				ok = ok && cmp > 0
			case "<=", "=<":
				ok = ok && cmp <= 0
			case "<":
				ok = ok && cmp < 0
			case "!=":
				ok = ok && cmp != 0
			case "", "=", "==":
				ok = ok && samePrefix(have, v, parts)
			case "~":
				ok = ok && cmp >= 0 && samePrefix(have, v, min(parts, 2))
			case "^":
				ok = ok && cmp >= 0 && samePrefix(have, v, 1)
			default:
				return false, fmt.Errorf("version constraint %q: unknown operator %q", constraint, op)
			}
		}
		if !some {
			return false, fmt.Errorf("version constraint %q is not complete", constraint)
		}
		result = result || ok
	}
	return result, nil
}

func samePrefix(a, b version, n int) bool {
	for i := range n {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
