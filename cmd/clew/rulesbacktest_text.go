package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/clewsec/clew/internal/backtest"
	"github.com/clewsec/clew/internal/ruleset"
)

// Bounds of what is shown as text; --json shows all of it.
const (
	shownExamples = 2
	shownDetails  = 6
	shownHosts    = 20
	stripCells    = 56
)

// coverageWords are what is said of a share of the time, best first, and the
// cell that stands for it.
var coverageWords = []struct {
	coverage backtest.Coverage
	words    string
	cell     rune
}{
	{backtest.All, "all", '█'},
	{backtest.Lost, "some lost", '▓'},
	{backtest.Part, "in part", '▒'},
	{backtest.Unknown, "not known", '?'},
	{backtest.None, "not collected", '·'},
	{backtest.Down, "no agent", ' '},
}

func backtestTime(ns int64) string {
	return time.Unix(0, ns).UTC().Format("2006-01-02 15:04:05Z")
}

// percent never makes something of nothing, nor all of less.
func percent(share float64) string {
	switch p := 100 * share; {
	case share > 0 && p < 1:
		return "<1 %"
	case share < 1 && p > 99:
		return ">99 %"
	default:
		return strconv.FormatFloat(p, 'f', 0, 64) + " %"
	}
}

// span is a length of time as a person says it.
func spanWords(ns int64) string {
	d := time.Duration(ns).Round(time.Second)
	if days := d / (24 * time.Hour); days > 0 {
		if d -= days * 24 * time.Hour; d == 0 {
			return fmt.Sprintf("%dd", days)
		}
		return fmt.Sprintf("%dd%s", days, trimZero(d))
	}
	return trimZero(d)
}

func trimZero(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	return strings.TrimSuffix(s, "h0m") + map[bool]string{true: "h"}[strings.HasSuffix(s, "h0m")]
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// matchesText never shows a number where nothing could be seen.
func matchesText(r *backtest.Rule) string {
	n := strconv.FormatUint(r.Matches, 10)
	switch r.Bound {
	case backtest.AtLeast:
		return "≥" + n
	case backtest.Unsure:
		return "≈" + n
	}
	return n
}

func sharesText(r *backtest.Rule) string {
	var parts []string
	for _, w := range coverageWords {
		switch s := r.Shares[w.coverage]; {
		case s == 1 && w.coverage == backtest.All:
			return "all of the time"
		case s > 0:
			parts = append(parts, w.words+" "+percent(s))
		}
	}
	if len(parts) == 0 {
		return "not known"
	}
	return strings.Join(parts, ", ")
}

// writeBacktest shows a result as a table of rules, examples, and what was
// collected when.
func writeBacktest(w io.Writer, res *backtest.Result) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s over %s, %s to %s, on %s: %s", plural(len(res.Rules), "rule"), spanWords(res.To-res.From), backtestTime(res.From), backtestTime(res.To),
		plural(len(res.Hosts), "host"), plural(int(res.Events), "event"))
	if res.NsPerEvent > 0 {
		fmt.Fprintf(&b, ", %s each", time.Duration(res.NsPerEvent).Round(10*time.Nanosecond))
	}
	b.WriteString("\n")
	if res.Incomplete != "" {
		fmt.Fprintf(&b, "INCOMPLETE: %s\n", printable(res.Incomplete))
	}
	if len(res.Hosts) == 0 {
		b.WriteString("No agent has reported in that time.\n")
	}
	if res.UnknownProcesses > 0 {
		fmt.Fprintf(&b, "The processes of %s are not stored: conditions on them were not met.\n", plural(int(res.UnknownProcesses), "event"))
	}
	b.WriteString("\n")
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "RULE\tMATCHES\tSIGNALS\tFIRST\tLAST\tCOST\tCOLLECTED\n")
	for _, r := range sorted(res.Rules) {
		switch {
		case r.Status != ruleset.Loaded:
			why := "not loaded: " + r.Reason
			if r.Status == ruleset.Filtered && strings.Contains(r.Reason, "not observed") {
				why = "not collected then: " + r.Reason
			}
			fmt.Fprintf(t, "%s\t%s\n", r.ID, printable(why))
		case !r.Collected:
			fmt.Fprintf(t, "%s\tnot collected then\n", r.ID)
		default:
			first, last := "-", "-"
			if r.First != 0 {
				first, last = backtestTime(r.First), backtestTime(r.Last)
			}
			fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", r.ID, matchesText(r), r.Signals, first, last, percent(r.CostShare), sharesText(r))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	writeExamples(&b, res)
	writeCoverage(&b, res)
	_, err := io.WriteString(w, b.String())
	return err
}

// sorted puts first what matched most, and last what could not match.
func sorted(list []backtest.Rule) []*backtest.Rule {
	out := make([]*backtest.Rule, len(list))
	for i := range list {
		out[i] = &list[i]
	}
	class := func(r *backtest.Rule) int {
		switch {
		case r.Status != ruleset.Loaded:
			return 2
		case !r.Collected:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(out, func(a, b *backtest.Rule) int {
		return cmp.Or(cmp.Compare(class(a), class(b)), cmp.Compare(b.Matches, a.Matches))
	})
	return out
}

func writeExamples(b *strings.Builder, res *backtest.Result) {
	title := "\nEvents that matched\n"
	for _, r := range sorted(res.Rules) {
		for _, id := range r.Examples[:min(len(r.Examples), shownExamples)] {
			fmt.Fprintf(b, "%s  %s  %s\n", title, r.ID, id)
			title = ""
		}
	}
}

// writeCoverage draws, for each host and kind of event, what was collected, and
// says why where it was not all.
func writeCoverage(b *strings.Builder, res *backtest.Result) {
	if len(res.Coverage) == 0 {
		return
	}
	fmt.Fprintf(b, "\nWhat was collected; a cell is %s:", spanWords((res.To-res.From)/stripCells))
	for _, w := range coverageWords {
		cell := string(w.cell)
		if w.cell == ' ' {
			cell = "blank"
		}
		fmt.Fprintf(b, " %s %s", cell, w.words)
	}
	b.WriteString("\n")
	for i, h := range res.Hosts {
		if i == shownHosts {
			fmt.Fprintf(b, "\n%d other hosts: see --json\n", len(res.Hosts)-i)
			break
		}
		var kinds []string
		width := 0
		byKind := map[string][]backtest.Interval{}
		for _, iv := range res.Coverage {
			if iv.Agent != h.Agent {
				continue
			}
			if byKind[iv.Kind] == nil {
				kinds = append(kinds, iv.Kind)
				width = max(width, len(iv.Kind))
			}
			byKind[iv.Kind] = append(byKind[iv.Kind], iv)
		}
		fmt.Fprintf(b, "\n%s\n", printable(h.Name))
		if len(kinds) > 0 {
			// That no agent ran is the same for every kind.
			writeDetails(b, byKind[kinds[0]], width, func(c backtest.Coverage) bool { return c == backtest.Down })
		}
		for _, k := range kinds {
			fmt.Fprintf(b, "  %-*s ▏%s▕\n", width, k, strip(res, byKind[k]))
			writeDetails(b, byKind[k], width, func(c backtest.Coverage) bool { return c != backtest.All && c != backtest.Down })
		}
	}
}

// strip draws what held for the longest part of each cell's time, the worse of
// two. Where anything was lost in a cell that shows.
func strip(res *backtest.Result, list []backtest.Interval) string {
	length := float64(res.To - res.From)
	var b strings.Builder
	for i := range stripCells {
		from, to := length*float64(i)/stripCells, length*float64(i+1)/stripCells
		best, cell := -1.0, ' '
		lost := false
		for _, w := range coverageWords {
			sum := 0.0
			for _, iv := range list {
				if iv.Coverage != w.coverage {
					continue
				}
				d := min(to, float64(iv.To-res.From)) - max(from, float64(iv.From-res.From))
				if sum += max(0, d); w.coverage == backtest.Lost && d > 0 {
					lost = true
				}
			}
			if w.coverage != backtest.Lost && sum >= best {
				best, cell = sum, w.cell
			}
		}
		if lost && (cell == '█' || cell == '▒') {
			cell = '▓'
		}
		b.WriteRune(cell)
	}
	return b.String()
}

// writeDetails says what was not collected of a kind and why. Where there are
// too many times the longest are shown.
func writeDetails(b *strings.Builder, list []backtest.Interval, indent int, show func(backtest.Coverage) bool) {
	var bad []backtest.Interval
	for _, iv := range list {
		if show(iv.Coverage) {
			bad = append(bad, iv)
		}
	}
	left := 0
	if len(bad) > shownDetails {
		slices.SortStableFunc(bad, func(x, y backtest.Interval) int { return cmp.Compare(y.To-y.From, x.To-x.From) })
		left = len(bad) - shownDetails
		bad = bad[:shownDetails]
		slices.SortStableFunc(bad, func(x, y backtest.Interval) int { return cmp.Compare(x.From, y.From) })
	}
	pad := strings.Repeat(" ", indent+3)
	for _, iv := range bad {
		words := ""
		for _, w := range coverageWords {
			if w.coverage == iv.Coverage {
				words = w.words
			}
		}
		if iv.Coverage == backtest.Lost {
			words = "lost"
			if iv.Lost > 0 {
				words = plural(int(iv.Lost), "event") + " lost"
			}
		}
		fmt.Fprintf(b, "%s%s %s to %s", pad, words, backtestTime(iv.From), backtestTime(iv.To))
		if iv.Why != "" && iv.Coverage != backtest.Down {
			fmt.Fprintf(b, ": %s", printable(iv.Why))
		}
		if len(iv.RuleIDs) > 0 {
			fmt.Fprintf(b, " (%s)", strings.Join(iv.RuleIDs, ", "))
		}
		b.WriteString("\n")
	}
	if left > 0 {
		fmt.Fprintf(b, "%sand %d shorter times: see --json\n", pad, left)
	}
}
