package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
	"github.com/clewsec/clew/internal/policies"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/format"
	"github.com/clewsec/clew/internal/ruleset/lint"
	"github.com/clewsec/clew/internal/ruleset/ruletest"
	"github.com/clewsec/clew/internal/sensor"
)

// compileRules loads the rules at paths and says on stderr what is wrong.
func compileRules(cmd *cobra.Command, paths []string) (*ruleset.Set, *ruleset.Report, []ruleset.File, error) {
	files, err := policies.Read(paths...)
	if err != nil {
		return nil, nil, nil, err
	}
	set, report, err := policies.Compile(policies.HostFacts(), files)
	if err == nil && report.Failed() {
		err = report.WriteText(cmd.ErrOrStderr())
	}
	return set, report, files, err
}

// printItems prints {"items":[…]}.
func printItems[T any](w io.Writer, items []T) error {
	if items == nil {
		items = []T{}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(map[string][]T{"items": items})
}

// failIf ends a command that found something.
func failIf(failed bool) error {
	if failed {
		return &exitError{code: exitFailure}
	}
	return nil
}

// A caseResult is one case that was run.
type caseResult struct {
	Rule   string `json:"rule"`
	Case   string `json:"case"`
	Passed bool   `json:"passed"`
	Reason string `json:"reason"`
}

func newRulesTestCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "test PATH…",
		Short: "Run the cases beside rules",
		Args:  args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, paths []string) error {
			set, report, files, err := compileRules(cmd, paths)
			if err != nil {
				return err
			}
			var results []caseResult
			passed, without := 0, 0
			for _, r := range set.Rules() {
				cases, err := policies.Cases(r)
				if err != nil {
					return err
				}
				if len(cases) == 0 {
					without++
				}
				for i := range cases {
					// A set of its own for each case: rates and variables
					// are part of it.
					fresh, _, err := policies.Compile(policies.HostFacts(), files)
					if err != nil {
						return err
					}
					res := caseResult{Rule: r.ID, Case: cases[i].Name}
					if err := ruletest.Run(fresh, r.ID, &cases[i]); err != nil {
						res.Reason = err.Error()
					} else {
						res.Passed = true
						passed++
					}
					results = append(results, res)
				}
			}
			out := cmd.OutOrStdout()
			if asJSON {
				err = printItems(out, results)
			} else {
				var b strings.Builder
				for _, r := range results {
					if !r.Passed {
						fmt.Fprintf(&b, "rule %s: %s\n", r.Rule, r.Reason)
					}
				}
				fmt.Fprintf(&b, "%d cases passed, %d failed, %d rules have none\n", passed, len(results)-passed, without)
				_, err = io.WriteString(out, b.String())
			}
			if err != nil {
				return err
			}
			return failIf(report.Failed() || passed < len(results))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newRulesLintCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "lint PATH…",
		Short: "Find what is most likely not meant in rules that load",
		Args:  args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, paths []string) error {
			set, report, _, err := compileRules(cmd, paths)
			if err != nil {
				return err
			}
			report.Unproduced(set, sensor.Produces)
			findings, err := lint.Run(set, report, policies.Cases)
			if err != nil {
				return err
			}
			if asJSON {
				err = printItems(cmd.OutOrStdout(), findings)
			} else {
				for _, f := range findings {
					if _, err = fmt.Fprintln(cmd.OutOrStdout(), f); err != nil {
						break
					}
				}
			}
			if err != nil {
				return err
			}
			return failIf(report.Failed() || len(findings) > 0)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newRulesFmtCmd() *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "fmt PATH…",
		Short: "Write the expressions of policy files in one way, with parentheses",
		Long: `Write the expressions of policy files in one way: parentheses where && and ||
meet, symbols for operators. The files are rewritten; the names of those that
changed are printed. Expressions that differ by white space alone, those in
flow mappings and those that cannot be parsed stay as they are.`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, paths []string) error {
			files, err := policies.Read(paths...)
			if err != nil {
				return err
			}
			changed := false
			for _, f := range files {
				data, err := format.File(f)
				if err != nil {
					return err
				}
				if bytes.Equal(data, f.Data) {
					continue
				}
				changed = true
				if !check {
					if err := os.WriteFile(f.Name, data, 0o644); err != nil {
						return err
					}
				}
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), f.Name); err != nil {
					return err
				}
			}
			return failIf(check && changed)
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "change nothing; exit status 1 if a file would change")
	return cmd
}

// An explanation says how a rule is evaluated.
type explanation struct {
	ID         string                 `json:"id"`
	Pattern    string                 `json:"pattern,omitempty"`
	Text       []string               `json:"text"` // macros expanded, with parentheses; the steps of a sequence
	Fields     []string               `json:"fields"`
	Silent     string                 `json:"silent,omitempty"` // why it can never fire on this host, when that was asked
	Actions    []explanationAction    `json:"actions,omitempty"`
	Conditions []explanationCondition `json:"conditions"`
}

type explanationAction struct {
	Name string `json:"name"`
	Done bool   `json:"done"` // this version carries it out
}

type explanationCondition struct {
	Step       int      `json:"step"`
	Kind       string   `json:"kind"`
	Index      string   `json:"index"` // field it is found by; empty: tried for every event
	Values     int      `json:"values"`
	Dirs       bool     `json:"dirs"`
	Cost       int      `json:"cost"`
	FilterMode string   `json:"filterMode"` // what the kernel must let through: filtered or all
	FlagsAny   uint64   `json:"flagsAny"`
	Names      []string `json:"names"`
}

func explain(set *ruleset.Set, r *ruleset.Rule) explanation {
	x := explanation{ID: r.ID, Pattern: set.Pattern(r), Text: set.Normal(r), Fields: set.Fields(r)}
	for i := range r.Actions {
		a := &r.Actions[i]
		x.Actions = append(x.Actions, explanationAction{a.Name(), a.CarriedOut()})
	}
	for _, c := range set.Conditions(r) {
		x.Conditions = append(x.Conditions, explanationCondition{
			Step: c.Step, Kind: c.Kind.String(), Index: c.Index, Values: c.Values, Dirs: c.Dirs, Cost: c.Cost,
			FilterMode: c.Filter.Mode.String(), FlagsAny: c.Filter.FlagsAny, Names: c.Filter.Names,
		})
	}
	return x
}

func (x explanation) write(b *strings.Builder) {
	fmt.Fprintf(b, "%s\n", x.ID)
	for _, t := range x.Text {
		fmt.Fprintf(b, "  %s\n", t)
	}
	if x.Pattern != "" {
		fmt.Fprintf(b, "  joins events: %s\n", x.Pattern)
	}
	fmt.Fprintf(b, "  reads %s\n", strings.Join(x.Fields, ", "))
	if x.Silent != "" {
		fmt.Fprintf(b, "  cannot fire here: %s\n", x.Silent)
	}
	for _, a := range x.Actions {
		if a.Done {
			fmt.Fprintf(b, "  action %s\n", a.Name)
		} else {
			fmt.Fprintf(b, "  action %s, which is not carried out by this version\n", a.Name)
		}
	}
	for _, c := range x.Conditions {
		fmt.Fprintf(b, "  %s", c.Kind)
		if x.Pattern != "" {
			fmt.Fprintf(b, ", condition %d", c.Step+1)
		}
		switch {
		case c.Index == "":
			b.WriteString(": tried for every event")
		case c.Dirs:
			fmt.Fprintf(b, ": found by %s and its directories, %d values", c.Index, c.Values)
		default:
			fmt.Fprintf(b, ": found by %s, %d values", c.Index, c.Values)
		}
		fmt.Fprintf(b, "; cost %d; kernel lets through ", c.Cost)
		switch {
		case c.FilterMode == kfilter.All.String():
			b.WriteString("everything")
		case len(c.Names) > 0 && c.FlagsAny != 0:
			fmt.Fprintf(b, "files named %s, or flags %#x", strings.Join(c.Names, ", "), c.FlagsAny)
		case len(c.Names) > 0:
			fmt.Fprintf(b, "files named %s", strings.Join(c.Names, ", "))
		case c.FlagsAny != 0:
			fmt.Fprintf(b, "flags %#x", c.FlagsAny)
		default:
			b.WriteString("nothing: it can never hold")
		}
		b.WriteString("\n")
	}
}

func newRulesExplainCmd() *cobra.Command {
	var (
		asJSON, here bool
		only         []string
	)
	cmd := &cobra.Command{
		Use:   "explain PATH…",
		Short: "Say how rules are evaluated: nesting, index, kernel filter, cost",
		Long: `Say how rules are evaluated: the condition with its macros expanded and with
parentheses, the fields it reads, how it is found among others, what it costs,
and what the kernel has to let through for it.

With --here also whether it can fire on this host at all, which is found out by
trying and needs the rights to watch it.`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, paths []string) error {
			set, report, _, err := compileRules(cmd, paths)
			if err != nil {
				return err
			}
			want := map[string]bool{}
			for _, id := range only {
				want[id] = true
			}
			silent := func(event.Kind) string { return "" }
			if here {
				probed := sensor.Probe()
				silent = missingKinds(&probed)
			}
			var items []explanation
			var b strings.Builder
			for _, r := range set.Rules() {
				if len(only) > 0 && !want[r.ID] {
					continue
				}
				delete(want, r.ID)
				x := explain(set, r)
				x.Silent = set.CannotFire(r, silent)
				items = append(items, x)
				x.write(&b)
			}
			for _, id := range only {
				if want[id] {
					return fmt.Errorf("no rule %s is loaded", id)
				}
			}
			if asJSON {
				err = printItems(cmd.OutOrStdout(), items)
			} else {
				_, err = io.WriteString(cmd.OutOrStdout(), b.String())
			}
			if err != nil {
				return err
			}
			return failIf(report.Failed())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&here, "here", false, "say also which rules cannot fire on this host")
	cmd.Flags().StringArrayVar(&only, "rule", nil, "only the rule of this id (may be repeated)")
	return cmd
}
