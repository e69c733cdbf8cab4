// Package storytext shows a story in a terminal, or as Markdown: what
// happened in one sentence, why it matters, the tree of processes with what
// they did, the timeline, what is missing and what to do.
package storytext

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"google.golang.org/protobuf/types/known/timestamppb"

	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
)

// Options say how a story is shown. Times are in UTC unless Zone is set.
type Options struct {
	Zone    *time.Location
	Entries int // timeline entries shown at most; 40 when 0, all when negative
}

// marks are the shapes of severities: colour is never needed to tell them apart.
func mark(severity string) string {
	switch severity {
	case "critical":
		return "◆"
	case "high":
		return "▲"
	case "medium":
		return "■"
	case "low":
		return "●"
	case "info":
		return "○"
	}
	return "·"
}

func icon(n *clewv1.Node) string {
	switch n.Kind {
	case "file":
		return "▤"
	case "endpoint":
		return "◇"
	case "actor":
		return "◎"
	case "group":
		return "▣"
	case "ancestors":
		return "⋯"
	}
	return "⚙"
}

// safe takes out what would move a cursor, ring a bell, change colours or hide
// other text: names and arguments are the attacker's to choose.
func safe(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t', r == '\n', r == '\r':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == unicode.ReplacementChar:
			return '?'
		}
		return r
	}, s)
}

// short cuts s to n characters, keeping head and tail.
func short(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	head := (n - 1) * 2 / 3
	return string(r[:head]) + "…" + string(r[len(r)-(n-1-head):])
}

func spans(list []*clewv1.Span) string {
	var b strings.Builder
	for _, s := range list {
		b.WriteString(s.T)
	}
	return safe(b.String())
}

type printer struct {
	strings.Builder
	opt      Options
	markdown bool
}

func (p *printer) line(format string, args ...any) {
	fmt.Fprintf(p, format, args...)
	p.WriteByte('\n')
}

func (p *printer) clock(t *timestamppb.Timestamp) string {
	if t == nil {
		return "            "
	}
	return t.AsTime().In(p.opt.Zone).Format("15:04:05.000")
}

func (p *printer) day(t *timestamppb.Timestamp) string {
	return t.AsTime().In(p.opt.Zone).Format("2006-01-02 15:04:05 MST")
}

func newPrinter(opt Options, markdown bool) *printer {
	if opt.Zone == nil {
		opt.Zone = time.UTC
	}
	if opt.Entries == 0 {
		opt.Entries = 40
	}
	return &printer{opt: opt, markdown: markdown}
}

// List shows stories one a line, as they come.
func List(stories []*clewv1.Story, opt Options) string {
	p := newPrinter(opt, false)
	if len(stories) == 0 {
		return "No stories.\n"
	}
	for _, s := range stories {
		rec := ""
		if s.Recording {
			rec = "  (recording)"
		}
		p.line("%s %-8s %3d  %s  %s  %-12s  %s%s", mark(s.Severity), s.Severity, s.Score, s.Id, p.day(s.LastSeen), strings.ReplaceAll(s.State, "_", " "), safe(s.Title), rec)
	}
	return p.String()
}

// Text shows a story for a terminal.
func Text(s *clewv1.Story, opt Options) string {
	p := newPrinter(opt, false)
	p.line("%s %s %d  %s", mark(s.Severity), strings.ToUpper(s.Severity), s.Score, safe(s.Title))
	if t := spans(s.Sentence); t != "" {
		p.line("%s", wrap(t, 100, "  "))
	}
	p.line("")
	p.facts(s, "  ")
	p.line("")
	p.line("Why %d?", s.Score)
	for _, part := range s.ScoreParts {
		p.line("  %+4d  %s", part.Points, safe(part.Text))
	}
	if len(s.Contexts) > 0 {
		p.line("")
		p.line("Contexts")
		silent := 0
		for _, c := range s.Contexts {
			if c.Signals == 0 {
				silent++
				continue
			}
			p.line("  %s", safe(contextLine(c)))
		}
		if silent > 0 {
			p.line("  and %d without a signal of their own", silent)
		}
		opened := 0
		for _, l := range s.Links {
			if l.Type == "parent" {
				opened++
				continue
			}
			p.line("  └ %s: %s (weight %.2g)", safe(strings.ReplaceAll(l.Type, "_", " ")), safe(l.Reason), l.Weight)
		}
		if opened > 0 {
			p.line("  └ %d opened inside another", opened)
		}
	}
	if s.Graph != nil {
		p.line("")
		p.line("What happened")
		p.tree(s.Graph)
	}
	if s.Timeline != nil {
		p.line("")
		p.timeline(s.Timeline)
	}
	if len(s.Gaps) > 0 {
		p.line("")
		p.line("Missing")
		for _, g := range s.Gaps {
			p.line("  ░ %s – %s  %s", p.clock(g.From), p.clock(g.To), safe(g.Text))
		}
	}
	if len(s.Recommended) > 0 {
		p.line("")
		p.line("Next")
		for _, r := range s.Recommended {
			p.line("  ➜ %s", action(s.Graph, r))
		}
	}
	return p.String()
}

func contextLine(c *clewv1.StoryContext) string {
	line := cmp.Or(c.Layer, "context")
	if c.Entity != "" {
		line += " " + c.Entity
	}
	if c.Reason != "" {
		line += ": " + c.Reason
	}
	if c.Signals == 1 {
		return line + " (1 signal)"
	}
	return line + fmt.Sprintf(" (%d signals)", c.Signals)
}

func action(g *clewv1.Graph, r *clewv1.RecommendedAction) string {
	text := r.Label
	var names []string
	for _, t := range r.Targets {
		for _, n := range g.GetNodes() {
			if n.Id == t {
				names = append(names, short(n.Label, 60))
			}
		}
		for _, l := range g.GetLanes() {
			if l.Id == t {
				names = append(names, l.Label)
			}
		}
	}
	if n := len(names); n > 3 {
		names = append(names[:3], fmt.Sprintf("and %d more", n-3))
	}
	if len(names) > 0 {
		text += " [" + strings.Join(names, ", ") + "]"
	}
	if r.Why != "" {
		text += ": " + r.Why
	}
	return safe(text)
}

func (p *printer) facts(s *clewv1.Story, indent string) {
	p.line("%s%s · %s – %s", indent, s.Id, p.day(s.FirstSeen), p.day(s.LastSeen))
	where := append([]string(nil), s.GetWhere().GetHosts()...)
	for _, c := range s.GetWhere().GetContainers() {
		where = append(where, "container "+c)
	}
	users := ""
	if u := s.GetWhere().GetUsers(); len(u) > 0 {
		users = " · as " + strings.Join(u, ", ")
	}
	c := s.GetCounts()
	p.line("%s%s%s · %s · %d signals, %d events, %d processes", indent, safe(strings.Join(where, ", ")), safe(users), strings.ReplaceAll(s.State, "_", " "), c.GetSignals(), c.GetEvents(), c.GetProcesses())
	if len(s.Tactics) > 0 {
		var names []string
		for _, t := range s.Tactics {
			names = append(names, t.Name)
		}
		p.line("%s%s", indent, safe(strings.Join(names, " → ")))
	}
	if s.Recording {
		p.line("%sFrom a recording, not from this host.", indent)
	}
	if c.GetLost() > 0 {
		if c.GetLost() == 1 {
			p.line("%sAn event of this time is missing.", indent)
		} else {
			p.line("%s%d events of this time are missing.", indent, c.GetLost())
		}
	}
}

// A tree finds what a graph's tree is made of.
type tree struct {
	children map[string][]*clewv1.Node
	nodes    map[string]*clewv1.Node
	in       map[string]*clewv1.Edge   // tree edge that leads to a node
	cross    map[string][]*clewv1.Edge // other edges, by source
	lanes    map[string]*clewv1.Lane
	weight   map[string]int // how much at and below a node has a signal or a part in the way to it
	large    bool           // what has no signal is told in short
}

const (
	largeTree = 60 // nodes
	maxQuiet  = 5  // children without a signal that are shown in a large tree
)

// begins is 1 when the story's entry is at or below n, else 0.
func (t *tree) begins(n *clewv1.Node) int {
	if n.Role == "entry" {
		return 1
	}
	for _, c := range t.children[n.Id] {
		if t.begins(c) == 1 {
			return 1
		}
	}
	return 0
}

// below counts the nodes below n.
func (t *tree) below(n *clewv1.Node) int {
	total := 0
	for _, c := range t.children[n.Id] {
		total += 1 + t.below(c)
	}
	return total
}

// weigh counts what is worth showing at and below n.
func (t *tree) weigh(n *clewv1.Node) int {
	w := 0
	if n.Severity != "" || n.Role != "" {
		w = 1
	}
	for _, c := range t.children[n.Id] {
		w += t.weigh(c)
	}
	t.weight[n.Id] = w
	return w
}

func newTree(g *clewv1.Graph) *tree {
	t := &tree{map[string][]*clewv1.Node{}, map[string]*clewv1.Node{}, map[string]*clewv1.Edge{}, map[string][]*clewv1.Edge{}, map[string]*clewv1.Lane{}, map[string]int{}, len(g.Nodes) > largeTree}
	for _, n := range g.Nodes {
		t.nodes[n.Id] = n
		t.children[n.TreeParentId] = append(t.children[n.TreeParentId], n)
	}
	for _, list := range t.children {
		slices.SortStableFunc(list, func(x, y *clewv1.Node) int { return cmp.Compare(x.Order, y.Order) })
	}
	for _, e := range g.Edges {
		switch {
		case !e.Tree:
			t.cross[e.Source] = append(t.cross[e.Source], e)
		case t.in[e.Target] == nil:
			t.in[e.Target] = e
		}
	}
	for _, l := range g.Lanes {
		t.lanes[l.Id] = l
	}
	for _, n := range t.children[""] {
		t.weigh(n)
	}
	return t
}

// tree prints the graph's tree. Edges that are not part of it are told at
// their source.
func (p *printer) tree(g *clewv1.Graph) {
	t := newTree(g)
	// Where the story begins comes first, what was there before it last.
	roots := slices.Clone(t.children[""])
	slices.SortStableFunc(roots, func(x, y *clewv1.Node) int { return cmp.Compare(t.begins(y), t.begins(x)) })
	for i, n := range roots {
		p.node(t, n, "  ", i == len(roots)-1, true)
	}
	var hidden []string
	for _, h := range g.Hidden {
		reason := h.Reason
		switch reason {
		case "budget":
			reason = "left out"
		case "layer_off":
			reason = "only read, as every program reads them"
		}
		hidden = append(hidden, fmt.Sprintf("%d %s %s", h.Nodes, plural(h.Kind, h.Nodes), reason))
	}
	if len(hidden) > 0 {
		p.line("  (%s)", strings.Join(hidden, ", "))
	}
}

func plural(word string, n int64) string {
	switch {
	case n == 1:
		return word
	case word == "process":
		return "processes"
	}
	return word + "s"
}

func (p *printer) node(t *tree, n *clewv1.Node, indent string, last, root bool) {
	branch, bar := "├─ ", "│  "
	if last {
		branch, bar = "└─ ", "   "
	}
	if root {
		branch, bar = "", "  "
	}
	text := n.Label
	switch n.Kind {
	case "process":
		text = short(text, 100) + "  " + n.Sublabel
	case "file":
		if e := t.in[n.Id]; e != nil {
			text = e.Label + " " + text
		}
		if n.Sublabel != "" && slices.Contains(n.Flags, "setuid") {
			text += "  mode " + n.Sublabel
		}
	case "endpoint":
		if e := t.in[n.Id]; e != nil {
			text = e.Label + " " + text
		}
		if n.Sublabel != "" {
			text += "/" + n.Sublabel
		}
	case "group":
		if e := t.in[n.Id]; e != nil && n.Of != "process" {
			text = e.Label + " " + text
		}
		text += " ×" + strconv.FormatInt(n.Count, 10)
		if n.Severity == "" || n.FoldReason == "budget" {
			if names := sampleNames(n); names != "" && n.Of == "file" {
				text += "  " + names
			}
		}
	case "ancestors":
		text = strings.Join(n.Path, " › ")
	}
	if l := t.lanes[n.LaneId]; l != nil && l.Kind == "container" && (root || t.nodes[n.TreeParentId] == nil || t.nodes[n.TreeParentId].LaneId != n.LaneId) {
		text += "  in container " + l.Label
	}
	p.line("%s%s%s %s %s%s", indent, branch, mark(n.Severity), icon(n), safe(text), flags(n))
	inner := indent + bar
	// What a file or an address below says is not said twice.
	below := map[string]bool{}
	for _, c := range t.children[n.Id] {
		if c.Kind != "process" {
			for _, w := range c.Why {
				below[w] = true
			}
		}
	}
	for _, w := range n.Why {
		if below[w] {
			continue
		}
		p.line("%s     %s", inner, safe(w))
	}
	reads := 0
	for _, e := range t.cross[n.Id] {
		if e.Kind == "read" && e.Severity == "" {
			if reads++; reads > 3 {
				continue
			}
		}
		if to := t.nodes[e.Target]; to != nil {
			reason := ""
			if e.Link != nil && e.Link.Reason != "" {
				reason = "  (" + e.Link.Reason + ")"
			}
			p.line("%s     → %s %s%s", inner, safe(e.Label), safe(short(to.Label, 60)), safe(reason))
		}
	}
	if reads > 3 {
		p.line("%s     → and read %d more", inner, reads-3)
	}
	list := t.children[n.Id]
	if t.large && t.weight[n.Id] == 0 && !root {
		if below := t.below(n); below > 0 {
			p.line("%s     … and %d below, without a signal", inner, below)
		}
		return
	}
	quiet := 0
	if t.large {
		list = slices.DeleteFunc(slices.Clone(list), func(c *clewv1.Node) bool {
			if t.weight[c.Id] > 0 {
				return false
			}
			quiet++
			return quiet > maxQuiet
		})
	}
	for i, c := range list {
		p.node(t, c, inner, i == len(list)-1 && quiet <= maxQuiet, false)
	}
	if quiet > maxQuiet {
		p.line("%s└─ … and %d more without a signal", inner, quiet-maxQuiet)
	}
}

func sampleNames(n *clewv1.Node) string {
	var names []string
	for _, m := range n.Members {
		if len(names) < 3 {
			names = append(names, m.Label[strings.LastIndexByte(m.Label, '/')+1:])
		}
	}
	return strings.Join(names, ", ")
}

func flags(n *clewv1.Node) string {
	var words []string
	for _, f := range n.Flags {
		switch f {
		case "user_changed", "deleted", "setuid", "setgid", "inferred", "renamed", "path_in_doubt", "not_recorded":
			words = append(words, strings.ReplaceAll(f, "_", " "))
		}
	}
	if n.Kind == "process" && n.State == "alive" {
		words = append(words, "still runs")
	}
	if len(words) == 0 {
		return ""
	}
	return "  [" + strings.Join(words, ", ") + "]"
}

func (p *printer) timeline(t *clewv1.Timeline) {
	p.line("Timeline")
	var items []*clewv1.Entry
	for _, e := range t.Items {
		if e.Kind != "action" {
			items = append(items, e)
		}
	}
	if len(items) > 0 {
		p.line("  %s", p.day(items[0].At)[:10])
	}
	left := 0
	flush := func() {
		if left > 0 {
			p.line("  … %d more", left)
		}
		left = 0
	}
	show := p.chosen(items)
	for i, e := range items {
		if !show[i] {
			left++
			continue
		}
		flush()
		p.line("  %s", p.entry(e))
	}
	flush()
}

// chosen says which entries are shown: all that are no plain events, and those
// nearest to them until there are enough.
func (p *printer) chosen(items []*clewv1.Entry) []bool {
	show := make([]bool, len(items))
	n := p.opt.Entries
	if n < 0 || len(items) <= n {
		for i := range show {
			show[i] = true
		}
		return show
	}
	const far = 1 << 30
	distance := make([]int, len(items))
	last := -far
	for i, e := range items {
		if e.Kind != "event" {
			last, show[i] = i, true
			n--
		}
		distance[i] = i - last
	}
	last = far
	var rest []int
	for i := len(items) - 1; i >= 0; i-- {
		if show[i] {
			last = i
			continue
		}
		distance[i] = min(distance[i], last-i)
		rest = append(rest, i)
	}
	slices.SortFunc(rest, func(x, y int) int { return cmp.Or(cmp.Compare(distance[x], distance[y]), cmp.Compare(x, y)) })
	for _, i := range rest[:max(0, min(n, len(rest)))] {
		show[i] = true
	}
	return show
}

func (p *printer) entry(e *clewv1.Entry) string {
	m := mark(e.Severity)
	switch e.Kind {
	case "gap":
		m = "░"
	case "state":
		if e.Severity == "" {
			m = "◐"
		}
	case "triage", "note":
		m = "✎"
	}
	text := p.clock(e.At) + " " + m + " " + short(spans(e.Text), 160)
	if e.Count > 1 {
		text += " ×" + strconv.FormatInt(e.Count, 10)
	}
	var ids []string
	for _, t := range e.Techniques {
		ids = append(ids, t.Id)
	}
	if e.Rule != nil {
		text += "  — " + safe(e.Rule.Name)
	}
	if len(ids) > 3 {
		ids = append(ids[:3], "…")
	}
	if len(ids) > 0 {
		text += " " + safe(strings.Join(ids, " "))
	}
	return text
}

// wrap breaks a text at spaces so that no line is longer than width.
func wrap(text string, width int, indent string) string {
	var b strings.Builder
	col := 0
	for i, w := range strings.Fields(text) {
		n := len([]rune(w))
		switch {
		case i == 0:
			b.WriteString(indent)
			col = len(indent)
		case col+1+n > width:
			b.WriteString("\n" + indent)
			col = len(indent)
		default:
			b.WriteByte(' ')
			col++
		}
		b.WriteString(w)
		col += n
	}
	return b.String()
}

// Markdown shows a story for a ticket or a chat.
func Markdown(s *clewv1.Story, opt Options) string {
	p := newPrinter(opt, true)
	p.line("# %s", escape(s.Title))
	p.line("")
	p.line("**%s %s, score %d.** %s", mark(s.Severity), s.Severity, s.Score, escape(spans(s.Sentence)))
	p.line("")
	p.line("| | |")
	p.line("| --- | --- |")
	row := func(k, v string) {
		if v != "" {
			p.line("| %s | %s |", k, escape(v))
		}
	}
	row("Story", s.Id)
	row("When", p.day(s.FirstSeen)+" – "+p.day(s.LastSeen))
	row("Where", strings.Join(append(append([]string(nil), s.GetWhere().GetHosts()...), s.GetWhere().GetContainers()...), ", "))
	row("As", strings.Join(s.GetWhere().GetUsers(), ", "))
	row("State", strings.ReplaceAll(s.State, "_", " "))
	row("Verdict", strings.ReplaceAll(s.Verdict, "_", " "))
	var tactics []string
	for _, t := range s.Tactics {
		tactics = append(tactics, t.Name)
	}
	row("Tactics", strings.Join(tactics, " → "))
	if s.Recording {
		row("Source", "a recording")
	}
	if n := s.GetCounts().GetLost(); n > 0 {
		row("Missing", strconv.FormatInt(n, 10)+" events")
	}
	p.line("")
	p.line("## Why %d", s.Score)
	p.line("")
	for _, part := range s.ScoreParts {
		p.line("- %+d %s", part.Points, escape(part.Text))
	}
	if s.Graph != nil {
		p.line("")
		p.line("## What happened")
		p.line("")
		t := newPrinter(opt, true)
		t.tree(s.Graph)
		fence := "```"
		for strings.Contains(t.String(), fence) {
			fence += "`"
		}
		p.line("%s text", fence)
		p.WriteString(t.String())
		p.line("%s", fence)
	}
	if s.Timeline != nil {
		p.line("")
		p.line("## Timeline")
		p.line("")
		p.line("| Time | | What | Rule |")
		p.line("| --- | --- | --- | --- |")
		for _, e := range s.Timeline.Items {
			if e.Kind != "signal" && e.Kind != "gap" && e.Kind != "triage" && e.Kind != "note" {
				continue
			}
			rule := ""
			if e.Rule != nil {
				rule = e.Rule.Name
				for _, t := range e.Techniques {
					rule += " " + t.Id
				}
			}
			what := spans(e.Text)
			if e.Count > 1 {
				what += " ×" + strconv.FormatInt(e.Count, 10)
			}
			m := mark(e.Severity)
			if e.Kind == "gap" {
				m = "░"
			}
			p.line("| %s | %s | %s | %s |", p.clock(e.At), m, escape(what), escape(rule))
		}
	}
	if len(s.Recommended) > 0 {
		p.line("")
		p.line("## Next")
		p.line("")
		for _, r := range s.Recommended {
			p.line("- %s", escape(action(s.Graph, r)))
		}
	}
	return p.String()
}

// escape keeps text from being read as Markdown or HTML.
func escape(s string) string {
	var b strings.Builder
	for _, r := range safe(s) {
		switch r {
		case '\\', '`', '*', '_', '[', ']', '<', '>', '|', '#', '~', '!', '&':
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
