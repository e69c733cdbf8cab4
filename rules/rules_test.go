package rules_test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/ruletest"
	"github.com/clewsec/clew/rules"
)

var update = flag.Bool("update", false, "rewrite README.md")

func load(t testing.TB, schema *ruleset.Schema, files []ruleset.File) *ruleset.Set {
	t.Helper()
	set, report, err := ruleset.Load(ruleset.Config{Schema: schema}, files)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Problems) > 0 || report.Count(ruleset.Loaded) != len(report.Rules) {
		var b strings.Builder
		if err := report.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		t.Fatal(b.String())
	}
	return set
}

func shipped(t testing.TB) (*ruleset.Schema, []ruleset.File) {
	t.Helper()
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	files, err := ruleset.ReadFiles(rules.FS, ".", "rules")
	if err != nil {
		t.Fatal(err)
	}
	return schema, files
}

// TestShipped holds that every shipped rule loads without so much as a
// warning, says what has to be said, and passes its cases.
func TestShipped(t *testing.T) {
	schema, files := shipped(t)
	set := load(t, schema, files)
	folders, err := filepath.Glob("*/rule.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Rules()) != len(folders) || len(folders) < 20 {
		t.Fatalf("%d rules in %d folders", len(set.Rules()), len(folders))
	}
	for _, r := range set.Rules() {
		t.Run(r.ID, func(t *testing.T) {
			if r.Version == "" || r.Title == "" || len(r.Techniques) == 0 || len(r.Tactics) == 0 || len(r.Recommended) == 0 || r.Sees == "" || r.Misses == "" {
				t.Error("rule lacks a version, description, technique, tactic, recommendation, sees or misses")
			}
			seen := map[string]bool{}
			for _, rec := range r.Recommended {
				if seen[rec.ID] {
					t.Errorf("two recommendations %s", rec.ID)
				}
				seen[rec.ID] = true
			}
			if _, err := fs.Stat(os.DirFS(r.ID), "README.md"); err != nil {
				t.Error(err)
			}
			data, err := os.ReadFile(filepath.Join(r.ID, "cases", "cases.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			cases, err := ruletest.Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			fires := 0
			for i := range cases {
				if cases[i].Fires {
					fires++
				}
				// A set of its own for each case, since rates are part of it.
				if err := ruletest.Run(load(t, schema, files), r.ID, &cases[i]); err != nil {
					t.Error(err)
				}
			}
			if fires == 0 || fires == len(cases) {
				t.Errorf("%d of %d cases fire, want some that do and some that do not", fires, len(cases))
			}
		})
	}
}

// TestIndex holds that README.md lists the rules as they are.
func TestIndex(t *testing.T) {
	schema, files := shipped(t)
	var b strings.Builder
	b.WriteString("# Shipped rules\n\nA folder per rule: the rule, a page about it, and cases that must and must not fire it. docs/rules.md says how\n")
	b.WriteString("rules are written. This list is made by `go test ./rules -update`.\n\n| Rule | Severity | ATT&CK | |\n| --- | --- | --- | --- |\n")
	for _, r := range load(t, schema, files).Rules() {
		fmt.Fprintf(&b, "| [%s](%s/README.md) | %s | %s | %s |\n", r.ID, r.ID, r.Severity, strings.Join(r.Techniques, ", "), r.Title)
	}
	if *update {
		if err := os.WriteFile("README.md", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != b.String() {
		t.Error("README.md is not up to date, run go test ./rules -update")
	}
}

// TestPlan holds that the shipped rules leave the kernel's filter on: no rule
// makes every open of the host leave the kernel.
func TestPlan(t *testing.T) {
	schema, files := shipped(t)
	plan := ruleset.DerivePlan(load(t, schema, files))
	if k := plan.Kinds[event.KindOpen]; k.Mode != kfilter.Filtered {
		t.Errorf("opens are %v", k.Mode)
	}
}

// TestUsualWork holds that work of every day raises nothing above low.
func TestUsualWork(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "usual.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	cases, err := ruletest.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	schema, files := shipped(t)
	for i := range cases {
		c := &cases[i]
		e, err := c.Build()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range load(t, schema, files).Eval(e, nil) {
			if m.Rule.Severity != "info" && m.Rule.Severity != "low" {
				t.Errorf("%s: %s raises a signal of severity %s", c.Name, m.Rule.ID, m.Rule.Severity)
			}
		}
	}
}

func BenchmarkShipped(b *testing.B) {
	schema, files := shipped(b)
	set := load(b, schema, files)
	for name, text := range map[string]string{
		"open": `- event: {kind: open, file: {path: /usr/lib/x86_64-linux-gnu/libc.so.6}, flags: [O_CLOEXEC], lineage: [{exec: /usr/bin/cc1}, {exec: /usr/bin/make}, {exec: /usr/bin/bash}]}`,
		"exec": `- event: {kind: exec, lineage: [{exec: /usr/bin/cc1, args: [cc1, -quiet, x.c]}, {exec: /usr/bin/make}, {exec: /usr/bin/bash}, {exec: /usr/sbin/sshd}]}`,
	} {
		cases, err := ruletest.Parse([]byte(text))
		if err != nil {
			b.Fatal(err)
		}
		e, err := cases[0].Build()
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			var out []ruleset.Match
			b.ReportAllocs()
			for b.Loop() {
				out = set.Eval(e, out[:0])
			}
		})
	}
}
