package story

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/server/apijson"
	"github.com/clewsec/clew/internal/server/graph"
	"github.com/clewsec/clew/internal/server/story/attack"
)

// A Head is a story as a list shows it: without signals, graph, timeline,
// sentence and what else needs stored events. It must not be changed.
type Head struct {
	Story       *clewv1.Story
	Agent       string
	First, Last int64 // ns since the epoch
	parts       []scorePart
}

// ID is the story's id.
func (h *Head) ID() string { return h.Story.Id }

// A scorePart is a reason for points, with the signals it rests on.
type scorePart struct {
	points int
	text   string
	items  []graph.Item
}

// Heads lists all stories: highest score first, then the last seen, then by
// id. asOf is the present in ns since the epoch; 0 stands for the time of the
// newest record.
func (f *Fold) Heads(asOf int64) []Head {
	heads := make([]Head, 0, len(f.stories))
	for _, s := range f.stories {
		heads = append(heads, *f.headOf(s, asOf))
	}
	slices.SortFunc(heads, func(x, y Head) int {
		return cmp.Or(cmp.Compare(y.Story.Score, x.Story.Score), cmp.Compare(y.Last, x.Last), strings.Compare(x.Story.Id, y.Story.Id))
	})
	return heads
}

// Find returns the story with an id, also when the id is one from before it
// was joined with others, as of the newest record.
func (f *Fold) Find(id string) (Head, bool) {
	s := f.resolve(id)
	if s == nil {
		return Head{}, false
	}
	return *f.headOf(s, 0), true
}

// FindAt is Find with the score as of a time.
func (f *Fold) FindAt(id string, asOf int64) (Head, bool) {
	s := f.resolve(id)
	if s == nil {
		return Head{}, false
	}
	return *f.headOf(s, asOf), true
}

// Len is how many stories there are.
func (f *Fold) Len() int { return len(f.stories) }

func (f *Fold) headOf(s *storyState, asOf int64) *Head {
	s.sort()
	if s.head == nil {
		s.head = f.makeHead(s)
	}
	if asOf == 0 {
		asOf = f.last
	}
	// What is long past counts less. Decay is applied on reading, so that it
	// does not depend on when the story was last folded.
	const day = 24 * 3600 * 1e9
	days := (asOf - s.head.Last) / day
	if days < 1 {
		return s.head
	}
	if s.faded != nil && s.fadedDays == days && s.fadedFrom == s.head {
		return s.faded
	}
	text := fmt.Sprintf("quiet for %d days", days)
	if days == 1 {
		text = "quiet for a day"
	}
	h := *s.head
	h.parts = append(slices.Clone(h.parts), scorePart{points: -int(min(20, 2*days, int64(h.Story.Score)-1)), text: text})
	h.Story = proto.CloneOf(h.Story)
	h.Story.Score, h.Story.ScoreParts = total(h.parts)
	s.faded, s.fadedDays, s.fadedFrom = &h, days, s.head
	return &h
}

func total(parts []scorePart) (score int32, out []*clewv1.ScorePart) {
	for _, p := range parts {
		if p.points != 0 {
			score += int32(p.points)
			out = append(out, &clewv1.ScorePart{Points: int32(p.points), Text: p.text})
		}
	}
	return score, out
}

func (f *Fold) makeHead(s *storyState) *Head {
	signals := s.signals()
	first, _ := s.span()
	last := s.units[0].last
	count := 0
	for _, u := range s.units {
		last = max(last, u.last)
		count += u.count
	}
	agent := f.describe(s.agent())
	st := &clewv1.Story{
		Id: s.id, Title: titleOf(signals), State: "open", Verdict: "unset", FirstSeen: graph.Time(first), LastSeen: graph.Time(last),
		Recording: agent.Recording, Version: s.version(f), Redirects: s.earlier(),
		Counts: &clewv1.StoryCounts{Signals: int64(count), Hosts: 1}, Where: &clewv1.StoryWhere{Hosts: []string{agent.Name()}},
		Contexts: s.contextViews(), Links: s.linkViews(), Tactics: tacticsOf(signals), Spark: spark(signals, first, last),
	}
	worst := graph.None
	for _, it := range signals {
		worst = max(worst, graph.SeverityOf(it.Event))
	}
	st.Severity = graph.SeverityName(worst)
	for _, g := range f.gaps(s) {
		st.Counts.Lost += g.Lost
	}
	s.applyTriage(st)
	h := &Head{Story: st, Agent: s.agent(), First: first, Last: last, parts: scoreOf(s, signals, st.Tactics)}
	st.Score, st.ScoreParts = total(h.parts)
	apijson.Clean(st)
	return h
}

// version changes whenever a record that concerns the story is added, and is
// the same for the same records.
func (s *storyState) version(f *Fold) string {
	n := len(s.links)
	last := int64(0)
	for _, u := range s.units {
		n += u.count
		last = max(last, u.last)
	}
	for _, c := range s.contexts {
		if c.episodic() {
			last = max(last, c.lastEvent)
		}
		n++
		if c.rec != nil {
			n++
		}
	}
	n += len(s.decisions())
	a := f.agents[s.agent()]
	n += len(a.runs)
	first, end := s.span()
	for _, l := range a.lost {
		if l.From <= end+gapAfter && l.To >= first {
			n++
		}
	}
	return strconv.Itoa(n) + "." + strconv.FormatInt(last, 36)
}

// earlier lists the ids that the story's parts had of their own.
func (s *storyState) earlier() (ids []string) {
	for _, u := range s.units[1:] {
		ids = append(ids, storyID(u.first, u.ctx.id.key))
	}
	slices.Sort(ids)
	return ids[:min(len(ids), 100)]
}

func (s *storyState) contextViews() (out []*clewv1.StoryContext) {
	signals := map[*contextState]int{}
	for _, u := range s.units {
		signals[u.ctx] += u.count
	}
	for _, c := range s.contexts {
		if c.id.key == "" {
			continue
		}
		v := &clewv1.StoryContext{Key: c.id.key, Signals: int32(signals[c])}
		if r := c.rec; r != nil {
			v.Layer, v.Priority, v.Entity, v.ParentKey, v.Reason, v.At = r.Layer, int32(r.Priority), r.Entity, r.ParentKey, r.Reason, graph.Time(r.At)
			if !r.OpenedBy.IsZero() {
				v.OpenedBy = event.EventID(graph.AgentBytes(c.id.agent), r.OpenedBy)
			}
		}
		out = append(out, v)
	}
	byTime := func(x, y *clewv1.StoryContext) int {
		return cmp.Or(cmp.Compare(x.At.GetSeconds(), y.At.GetSeconds()), cmp.Compare(x.At.GetNanos(), y.At.GetNanos()))
	}
	if len(out) > maxListed {
		// Those with the most signals are listed.
		slices.SortStableFunc(out, func(x, y *clewv1.StoryContext) int { return cmp.Or(cmp.Compare(y.Signals, x.Signals), byTime(x, y)) })
		out = out[:maxListed]
	}
	slices.SortStableFunc(out, byTime)
	return out
}

// maxListed bounds the contexts and the links that a story lists.
const maxListed = 200

func (s *storyState) linkViews() (out []*clewv1.StoryLink) {
	for _, l := range s.links[:min(len(s.links), maxListed)] {
		v := &clewv1.StoryLink{FromContext: l.rec.FromContext, ToContext: l.rec.ToContext, Type: l.rec.Type, Weight: l.rec.Weight,
			Reason: l.rec.Reason, At: graph.Time(l.rec.At)}
		if !l.rec.Event.IsZero() {
			v.EventId = event.EventID(graph.AgentBytes(l.from.id.agent), l.rec.Event)
		}
		out = append(out, v)
	}
	return out
}

// decisions are the story's triage, sorted by time, then by actor.
func (s *storyState) decisions() (out []Triage) {
	for _, c := range s.contexts {
		for _, t := range c.triage {
			if u := c.unitAt(t.at); u != nil && u.story == s {
				out = append(out, t.Triage)
			}
		}
	}
	slices.SortFunc(out, func(x, y Triage) int {
		return cmp.Or(cmp.Compare(x.At, y.At), strings.Compare(x.Actor, y.Actor), strings.Compare(x.StoryID, y.StoryID), strings.Compare(x.State, y.State),
			strings.Compare(x.Verdict, y.Verdict), strings.Compare(x.Assignee, y.Assignee), strings.Compare(x.Comment, y.Comment))
	})
	return out
}

// applyTriage sets state, verdict and assignee, and the history of both. A
// signal on an archived story opens it again, unless it was expected.
func (s *storyState) applyTriage(st *clewv1.Story) {
	archived := int64(0)
	for _, t := range s.decisions() {
		note := func(kind, from, to string) {
			st.Activity = append(st.Activity, &clewv1.Activity{At: graph.Time(t.At), By: t.Actor, Kind: kind, From: from, To: to, Comment: t.Comment})
		}
		n := len(st.Activity)
		if t.State != "" {
			note("state", st.State, t.State)
			st.State, archived = t.State, t.At
		}
		if t.Verdict != "" {
			note("verdict", st.Verdict, t.Verdict)
			st.Verdict = t.Verdict
		}
		if t.Assignee != "" {
			to := strings.TrimPrefix(t.Assignee, "-")
			note("assignee", st.Assignee, to)
			st.Assignee = to
		}
		if t.Comment != "" && len(st.Activity) == n {
			note("comment", "", "")
		}
	}
	if st.State != "archived" || st.Verdict == "expected_activity" || st.Verdict == "false_positive" {
		return
	}
	for _, u := range s.units {
		if u.last > archived {
			st.Activity = append(st.Activity, &clewv1.Activity{At: graph.Time(u.last), Kind: "state", From: st.State, To: "open", Comment: "a signal came after it was archived"})
			st.State = "open"
			return
		}
	}
}

// tacticsOf lists the tactics in order of their first signal.
func tacticsOf(signals []graph.Item) (out []*clewv1.Tactic) {
	seen := map[string]bool{}
	for _, it := range signals {
		for i := range it.Event.Signals {
			for _, id := range graph.Tactics(&it.Event.Signals[i]) {
				if t, _, ok := attack.Lookup(id); ok && !seen[id] {
					seen[id] = true
					out = append(out, &clewv1.Tactic{Id: t.ID, Name: t.Name, At: graph.Time(it.Event.TimeNS)})
				}
			}
		}
	}
	return out
}

// spark counts signals in twelve equal parts of the story's time.
func spark(signals []graph.Item, first, last int64) []int32 {
	out := make([]int32, 12)
	width := (last-first)/12 + 1
	for _, it := range signals {
		out[min(max((it.Event.TimeNS-first)/width, 0), 11)]++
	}
	return out
}

// scoreOf weighs a story. The parts' limits add up to 100.
func scoreOf(s *storyState, signals []graph.Item, tactics []*clewv1.Tactic) []scorePart {
	var parts []scorePart

	// The worst signal, at most 40, and the other rules that matched, at most 18.
	type rule struct {
		id, title string
		rank      int
		item      graph.Item
	}
	var rules []rule
	at := map[string]int{}
	types := map[string]graph.Item{}
	var typeOrder []string
	for _, it := range signals {
		for i := range it.Event.Signals {
			sig := &it.Event.Signals[i]
			rank := graph.SeverityRank(sig.Severity)
			if j, ok := at[sig.RuleID]; !ok {
				at[sig.RuleID] = len(rules)
				rules = append(rules, rule{sig.RuleID, cmp.Or(sig.Title, sig.RuleID), rank, it})
			} else if rank > rules[j].rank {
				rules[j].rank, rules[j].item = rank, it
			}
			if _, ok := types[sig.Type]; !ok && sig.Type != "" {
				types[sig.Type] = it
				typeOrder = append(typeOrder, sig.Type)
			}
		}
	}
	slices.SortStableFunc(rules, func(x, y rule) int { return cmp.Compare(y.rank, x.rank) })
	worst := rules[0]
	base := map[int]int{graph.Critical: 40, graph.High: 30, graph.Medium: 18, graph.Low: 6, graph.Info: 1}
	parts = append(parts, scorePart{base[worst.rank], "worst signal is " + graph.SeverityName(worst.rank) + ": " + worst.title, []graph.Item{worst.item}})
	more := scorePart{}
	each := map[int]int{graph.Critical: 6, graph.High: 4, graph.Medium: 2, graph.Low: 1}
	for _, r := range rules[1:] {
		more.points += each[r.rank]
		more.items = append(more.items, r.item)
	}
	more.points = min(more.points, 18)
	more.text = plural(len(rules)-1, "more rule", "more rules") + " matched"
	parts = append(parts, more)

	// How far it went: each tactic after the first, at most 24.
	if len(tactics) > 1 {
		p := scorePart{points: min(4*(len(tactics)-1), 24)}
		var names []string
		for _, t := range tactics {
			names = append(names, t.Name)
			at := t.At.AsTime().UnixNano()
			i, _ := slices.BinarySearchFunc(signals, at, func(it graph.Item, at int64) int { return cmp.Compare(it.Event.TimeNS, at) })
			p.items = append(p.items, signals[i])
		}
		p.text = plural(len(tactics), "tactic", "tactics") + ": " + strings.Join(names, " → ")
		parts = append(parts, p)
	}

	// Evidence that the contexts belong together, at most 8.
	var best *linkState
	for _, l := range s.links {
		if l.rec.Path != "" && (best == nil || l.rec.Weight > best.rec.Weight) {
			best = l
		}
	}
	if best == nil {
		for _, l := range s.links {
			if best == nil || l.rec.Weight > best.rec.Weight {
				best = l
			}
		}
	}
	if best != nil {
		points := int(min(best.rec.Weight, 1)*8 + 0.5)
		if best.rec.Path == "" {
			points /= 2 // opened inside another is less than a file that was written and run
		}
		parts = append(parts, scorePart{points: points, text: "linked: " + cmp.Or(best.rec.Reason, best.rec.Type)})
	}

	// Breadth, at most 10: contexts with signals, and kinds of activity.
	told := 0
	for _, c := range s.contexts {
		if len(c.units) > 0 {
			told++
		}
	}
	if told > 1 {
		parts = append(parts, scorePart{points: min(2*(told-1), 6), text: plural(told, "context", "contexts") + " with signals"})
	}
	if len(typeOrder) > 1 {
		p := scorePart{points: min(2*(len(typeOrder)-1), 4), text: "signals of " + plural(len(typeOrder), "type", "types") + ": " + strings.Join(typeOrder, ", ")}
		for _, t := range typeOrder {
			p.items = append(p.items, types[t])
		}
		parts = append(parts, p)
	}
	return parts
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// titleOf names a story after how it began and the worst that followed.
func titleOf(signals []graph.Item) string {
	type told struct {
		rule, title  string
		rank, tactic int
	}
	var all []told
	seen := map[string]bool{}
	for _, it := range signals {
		for i := range it.Event.Signals {
			s := &it.Event.Signals[i]
			if seen[s.RuleID] {
				continue
			}
			seen[s.RuleID] = true
			t := told{s.RuleID, strings.TrimSuffix(cmp.Or(s.Title, s.RuleID), "."), graph.SeverityRank(s.Severity), -1}
			for _, id := range graph.Tactics(s) {
				t.tactic = max(t.tactic, attack.Gravity(id))
			}
			all = append(all, t)
		}
	}
	first := all[0]
	for _, t := range all {
		if t.rank >= graph.Medium {
			first = t
			break
		}
	}
	worst := -1
	for i, t := range all {
		if t.rule == first.rule || t.title == first.title || t.rank < graph.Medium {
			continue
		}
		if worst < 0 || cmp.Or(cmp.Compare(t.rank, all[worst].rank), cmp.Compare(t.tactic, all[worst].tactic)) > 0 {
			worst = i
		}
	}
	if worst < 0 {
		return graph.Short(first.title, 120)
	}
	return graph.Short(first.title, 70) + ", then " + graph.Short(lowerFirst(all[worst].title), 70)
}

// lowerFirst makes a title's first letter small, unless it is an acronym.
func lowerFirst(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if next, _ := utf8.DecodeRuneInString(s[n:]); unicode.IsUpper(next) {
		return s
	}
	return string(unicode.ToLower(r)) + s[n:]
}

// gaps are the losses of the story's agent while it went on. Losses that
// touch are one gap.
func (f *Fold) gaps(s *storyState) []*clewv1.Gap {
	first, last := s.span()
	if a := f.agents[s.agent()]; a != nil {
		return gapsIn(a.id, a.lost, first, last)
	}
	return nil
}

// gapAfter is how long after the last event of a story a loss still concerns
// it: what came next may be among what is missing.
const gapAfter = 60 * 1e9

func gapsIn(agent string, lost []event.Lost, first, last int64) (out []*clewv1.Gap) {
	const near = 2 * 1e9
	last += gapAfter
	type gap struct {
		from, to int64
		lost     uint64
		kinds    map[string]bool
		reason   string
	}
	var gaps []*gap
	open := map[string]*gap{}
	list := slices.Clone(lost)
	slices.SortFunc(list, func(x, y event.Lost) int { return cmp.Or(cmp.Compare(x.From, y.From), compareLost(x, y)) })
	for _, l := range list {
		if l.From > last || l.To < first {
			continue
		}
		g := open[l.Reason]
		if g == nil || l.From > g.to+near {
			g = &gap{from: l.From, to: l.To, kinds: map[string]bool{}, reason: l.Reason}
			gaps = append(gaps, g)
			open[l.Reason] = g
		}
		g.to = max(g.to, l.To)
		g.lost += l.Count
		if l.Kind != 0 {
			g.kinds[l.Kind.String()] = true
		}
	}
	for _, g := range gaps {
		v := &clewv1.Gap{LaneId: graph.LaneID(agent), From: graph.Time(g.from), To: graph.Time(g.to), Lost: int64(min(g.lost, 1<<62)), Reason: g.reason}
		for k := range g.kinds {
			v.Kinds = append(v.Kinds, k)
		}
		slices.Sort(v.Kinds)
		v.Text = gapText(v)
		out = append(out, v)
	}
	return out
}

func gapText(g *clewv1.Gap) string {
	if g.Reason == "agent_down" {
		return "no agent ran on this host: what happened meanwhile is not known"
	}
	what := "events"
	if n := len(g.Kinds); n > 0 && n <= 3 {
		what = strings.Join(g.Kinds, ", ") + " events"
	}
	why := map[string]string{
		"ring_full_bulk": "the bulk ring was full", "ring_full_critical": "the critical ring was full", "shaped": "a flood was held back in the kernel", "shaped_cgroup": "a flood of a control group was held back in the kernel",
		"spool_full": "the agent's spool was full", "limit": "the story is larger than what is drawn",
	}[g.Reason]
	if why == "" {
		why = strings.ReplaceAll(g.Reason, "_", " ")
	}
	if g.Lost == 0 {
		return "an unknown number of " + what + " lost: " + why
	}
	if g.Lost == 1 {
		what = strings.TrimSuffix(what, "s")
	}
	return strconv.FormatInt(g.Lost, 10) + " " + what + " lost: " + why
}
