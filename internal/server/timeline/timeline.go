// Package timeline lists what happened in a story in order of time: signals,
// key events, endings, gaps, decisions and, at the end, what to do next. What
// repeats within a minute is one entry. The same input gives the same bytes.
package timeline

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"slices"
	"strconv"
	"strings"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/server/graph"
)

// A Triage is a decision of a person.
type Triage struct {
	At                                       int64
	Actor, State, Verdict, Assignee, Comment string
}

// Input is what a timeline is made from.
type Input struct {
	AsOf        int64
	Items       []graph.Placed // sorted by time
	Procs       map[graph.Key]*event.Process
	Contexts    map[string]*event.Context // by key
	Gaps        []*clewv1.Gap             // sorted by time
	Triage      []Triage                  // sorted by time
	Recommended []*clewv1.RecommendedAction
}

// A Result is a timeline, and which entry tells an item.
type Result struct {
	Timeline *clewv1.Timeline
	EntryOf  map[int]string
}

const (
	maxEntries = 2000 // beyond, events that are no signals are only counted
	maxMembers = 50   // members listed of a folded entry
	minute     = 60 * 1e9
)

type entry struct {
	pb       *clewv1.Entry
	at       int64
	rank     int // order among entries of one time
	event    *event.Event
	template string
	varies   map[int]bool // spans that are not the same in all members
}

// Build makes the timeline.
func Build(in Input) *Result {
	res := &Result{Timeline: &clewv1.Timeline{Counts: map[string]int64{}}, EntryOf: map[int]string{}}
	counts := res.Timeline.Counts
	var all []*entry
	folded := map[string]*entry{}
	plain, unlisted := 0, int64(0)
	for i, it := range in.Items {
		kind := kindOf(it)
		if kind == "" {
			continue
		}
		counts[kind]++
		pb, key := makeEntry(in, it, kind)
		template := templateOf(pb.Text)
		key += "\x00" + template
		if f := folded[key]; f != nil && it.Event.TimeNS-f.at <= minute {
			f.add(pb, it.Event.TimeNS)
			res.EntryOf[i] = f.pb.Id
			continue
		}
		if kind == "event" {
			if plain++; plain > maxEntries {
				unlisted++
				continue
			}
		}
		en := &entry{pb: pb, at: it.Event.TimeNS, rank: 1, event: it.Event, template: template}
		folded[key] = en
		res.EntryOf[i] = pb.Id
		all = append(all, en)
	}
	for _, g := range in.Gaps {
		at := g.From.GetSeconds()*1e9 + int64(g.From.GetNanos())
		counts["gap"]++
		all = append(all, &entry{at: at, pb: &clewv1.Entry{
			Id: id("gap", g.LaneId, strconv.FormatInt(at, 10), g.Reason, strings.Join(g.Kinds, ",")), At: g.From, Until: g.To, Kind: "gap",
			Text: []*clewv1.Span{{T: g.Text}}, Count: 1, LaneId: g.LaneId,
		}})
	}
	for _, t := range in.Triage {
		kind := "triage"
		if t.State == "" && t.Verdict == "" && t.Assignee == "" {
			kind = "note"
		}
		counts[kind]++
		all = append(all, &entry{at: t.At, rank: 2, pb: &clewv1.Entry{
			Id: id("triage", strconv.FormatInt(t.At, 10), t.Actor, t.State, t.Verdict, t.Assignee, t.Comment),
			At: graph.Time(t.At), Kind: kind, Text: triageText(t), Count: 1,
		}})
	}
	slices.SortStableFunc(all, func(x, y *entry) int { return cmp.Or(cmp.Compare(x.at, y.at), cmp.Compare(x.rank, y.rank)) })
	items := make([]*clewv1.Entry, 0, len(all)+len(in.Recommended)+1)
	for _, en := range all {
		en.finish()
		items = append(items, en.pb)
	}
	if unlisted > 0 {
		counts["note"]++
		items = append(items, &clewv1.Entry{Id: id("unlisted"), Kind: "note", Count: unlisted,
			Text: []*clewv1.Span{{T: strconv.FormatInt(unlisted, 10) + " more events are not listed here"}}})
	}
	for _, r := range in.Recommended {
		counts["action"]++
		text := r.Label
		if r.Why != "" {
			text += ": " + r.Why
		}
		var nodes []string
		lane := ""
		for _, t := range r.Targets {
			if strings.HasPrefix(t, "l_") {
				lane = t
			} else {
				nodes = append(nodes, t)
			}
		}
		items = append(items, &clewv1.Entry{Id: id("action", r.Id, r.Label), Kind: "action", Text: []*clewv1.Span{{T: text}}, Count: 1, NodeIds: nodes, LaneId: lane})
	}
	res.Timeline.Items = items
	res.Timeline.Histogram = histogram(in)
	return res
}

// kindOf says what kind of entry an event makes, empty for none: what only
// read something, or ended as most things do, is counted in the graph.
func kindOf(it graph.Placed) string {
	e := it.Event
	switch {
	case len(e.Signals) > 0:
		return "signal"
	case e.Exit != nil:
		if e.Exit.Cause != 0 || it.Actor.Role != "" {
			return "state"
		}
		return ""
	case e.Open != nil:
		if _, changes := graph.Op(e); !changes || graph.IsDevice(&e.Open.File) {
			return ""
		}
	case e.Setgid != nil, e.Kind == event.KindFork:
		return ""
	}
	return "event"
}

func makeEntry(in Input, it graph.Placed, kind string) (pb *clewv1.Entry, key string) {
	e := it.Event
	eventID := graph.EventID(it.Item)
	pb = &clewv1.Entry{
		Id: id(eventID), At: graph.Time(e.TimeNS), Kind: kind, Severity: graph.SeverityName(graph.SeverityOf(e)),
		Text: Describe(it, in.Procs[graph.Key{Agent: it.Agent, Ref: e.ProcID}]), Count: 1, LaneId: it.Actor.Lane, EventIds: []string{eventID},
	}
	for _, n := range []string{it.Actor.ID, it.Parent.ID, it.Object.ID} {
		if n != "" && !slices.Contains(pb.NodeIds, n) && !(n == it.Parent.ID && e.Kind != event.KindExec) {
			pb.NodeIds = append(pb.NodeIds, n)
		}
	}
	if it.Edge != "" {
		pb.EdgeIds = []string{it.Edge}
	}
	if s := Worst(e); s != nil {
		pb.Rule = &clewv1.EntryRule{Id: s.RuleID, Name: cmp.Or(s.Title, s.RuleID), Version: s.Version}
		seen := map[string]bool{}
		for i := range e.Signals {
			for _, t := range graph.Techniques(&e.Signals[i]) {
				if !seen[t.Id] {
					seen[t.Id] = true
					pb.Techniques = append(pb.Techniques, t)
				}
			}
		}
	}
	if len(e.ContextKeys) > 0 {
		pb.Context = &clewv1.EntryContext{Key: e.ContextKeys[0]}
		if c := in.Contexts[e.ContextKeys[0]]; c != nil {
			pb.Context.Layer, pb.Context.Entity = c.Layer, c.Entity
		}
	}
	who := it.Actor.ID
	if e.Kind == event.KindExec && it.Became == "" {
		who = it.Parent.ID
	}
	rules := make([]string, 0, len(e.Signals))
	for i := range e.Signals {
		rules = append(rules, e.Signals[i].RuleID)
	}
	return pb, strings.Join([]string{kind, who, strings.Join(rules, ",")}, "\x00")
}

// Worst is the signal of an event that counts most; nil when it has none.
func Worst(e *event.Event) *event.Signal {
	var worst *event.Signal
	for i := range e.Signals {
		s := &e.Signals[i]
		if worst == nil || cmp.Or(cmp.Compare(graph.SeverityRank(s.Severity), graph.SeverityRank(worst.Severity)), strings.Compare(worst.RuleID, s.RuleID)) > 0 {
			worst = s
		}
	}
	return worst
}

func templateOf(text []*clewv1.Span) string {
	var b strings.Builder
	for _, s := range text {
		b.WriteString(graph.Template(s.T))
	}
	return b.String()
}

func plainText(text []*clewv1.Span) string {
	var b strings.Builder
	for _, s := range text {
		b.WriteString(s.T)
	}
	return b.String()
}

// add folds a repeat in.
func (en *entry) add(pb *clewv1.Entry, at int64) {
	f := en.pb
	if f.Count == 1 {
		first := &clewv1.Entry{Id: f.Id + "_1", At: f.At, Kind: f.Kind, Severity: f.Severity, Text: f.Text, Count: 1, NodeIds: slices.Clone(f.NodeIds), EventIds: f.EventIds}
		f.Members = append(f.Members, first)
	}
	f.Count++
	f.Until = graph.Time(at)
	for i, s := range pb.Text {
		if i < len(f.Text) && s.T != f.Text[i].T {
			if en.varies == nil {
				en.varies = map[int]bool{}
			}
			en.varies[i] = true
		}
	}
	if len(f.Members) < maxMembers {
		f.Members = append(f.Members, &clewv1.Entry{Id: pb.Id, At: pb.At, Kind: pb.Kind, Severity: pb.Severity, Text: pb.Text, Count: 1, NodeIds: pb.NodeIds, EventIds: pb.EventIds})
	}
	for _, n := range pb.NodeIds {
		if len(f.NodeIds) < maxMembers && !slices.Contains(f.NodeIds, n) {
			f.NodeIds = append(f.NodeIds, n)
		}
	}
	for _, n := range pb.EdgeIds {
		if len(f.EdgeIds) < maxMembers && !slices.Contains(f.EdgeIds, n) {
			f.EdgeIds = append(f.EdgeIds, n)
		}
	}
	if len(f.EventIds) < 5 {
		f.EventIds = append(slices.Clone(f.EventIds), pb.EventIds...)
	}
}

// finish gives a folded entry the text that all its members share.
func (en *entry) finish() {
	if en.pb.Count < 2 {
		return
	}
	en.pb.Group = en.pb.Id
	if len(en.varies) == 0 {
		return
	}
	text := make([]*clewv1.Span, len(en.pb.Text))
	for i, s := range en.pb.Text {
		text[i] = s
		if en.varies[i] {
			text[i] = &clewv1.Span{T: graph.Template(s.T), Node: s.Node, Lane: s.Lane}
		}
	}
	en.pb.Text = text
}

func triageText(t Triage) []*clewv1.Span {
	var did []string
	if t.State != "" {
		did = append(did, "set "+strings.ReplaceAll(t.State, "_", " "))
	}
	if t.Verdict != "" {
		did = append(did, "verdict "+strings.ReplaceAll(t.Verdict, "_", " "))
	}
	switch t.Assignee {
	case "":
	case "-":
		did = append(did, "took the assignee away")
	default:
		did = append(did, "assigned "+t.Assignee)
	}
	text := t.Actor + " " + strings.Join(did, ", ")
	if len(did) == 0 {
		text = t.Actor + " wrote"
	}
	if t.Comment != "" {
		text += ": " + t.Comment
	}
	return []*clewv1.Span{{T: text}}
}

var base32hex = base32.HexEncoding.WithPadding(base32.NoPadding)

func id(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return "tl_" + strings.ToLower(base32hex.EncodeToString(sum[:]))[:12]
}

// widths of histogram buckets, in ms.
var widths = [...]int64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 15000, 30000, 60000, 120000, 300000, 600000, 1800000,
	3600000, 7200000, 21600000, 43200000, 86400000}

const maxBuckets = 60

// histogram counts events, signals and losses in at most 60 buckets.
func histogram(in Input) *clewv1.Histogram {
	if len(in.Items) == 0 {
		return &clewv1.Histogram{}
	}
	from, to := in.Items[0].Event.TimeNS, in.Items[len(in.Items)-1].Event.TimeNS
	width := int64(0)
	for _, w := range widths {
		if width = w * 1e6; (to-floor(from, width))/width < maxBuckets {
			break
		}
	}
	for (to-floor(from, width))/width >= maxBuckets {
		width *= 2
	}
	start := floor(from, width)
	n := (to-start)/width + 1
	h := &clewv1.Histogram{BucketMs: width / 1e6}
	for i := range n {
		h.Buckets = append(h.Buckets, &clewv1.Bucket{At: graph.Time(start + i*width), Signals: map[string]int64{}})
	}
	for _, it := range in.Items {
		b := h.Buckets[(it.Event.TimeNS-start)/width]
		b.Events++
		if s := graph.SeverityName(graph.SeverityOf(it.Event)); s != "" {
			b.Signals[s]++
		}
	}
	for _, g := range in.Gaps {
		lo := g.From.GetSeconds()*1e9 + int64(g.From.GetNanos())
		hi := g.To.GetSeconds()*1e9 + int64(g.To.GetNanos())
		a := min(max((lo-start)/width, 0), n-1)
		z := min(max((hi-start)/width, a), n-1)
		for i := a; i <= z; i++ {
			h.Buckets[i].Gap = true
			// Spread evenly: when in the gap each was lost is not known.
			h.Buckets[i].Lost += g.Lost / (z - a + 1)
			if i-a < g.Lost%(z-a+1) {
				h.Buckets[i].Lost++
			}
		}
	}
	return h
}

func floor(a, b int64) int64 {
	if m := a % b; m < 0 {
		return a - m - b
	} else {
		return a - m
	}
}
