// Package story tells what belongs together. A Fold takes stored records
// (signals, contexts, links, losses, triage) in any order, any number of
// times, and says which stories there are; Build draws one of them whole, with
// graph, timeline and the sentence that sums it up. Both are functions of the
// records alone.
package story

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/server/graph"
)

// An Agent is what the records say about the host a story happened on.
type Agent = graph.Agent

// Config bounds a fold. The zero Config has the defaults.
type Config struct {
	// EpisodeGap is the longest quiet time between two signals of one episode
	// of a context with a derived key, in ns of event time; 30 minutes.
	EpisodeGap int64
	// Keep is how many signals of one rule are held in memory for each context
	// and EpisodeGap of time; 64. The others are counted.
	Keep int
	// KeepLost is how many loss records are held for each agent; 4096.
	KeepLost int
}

// A Triage is what a person decided about a story. Empty fields leave what is.
type Triage struct {
	StoryID  string
	At       int64 // ns since the epoch
	Actor    string
	State    string // open, under_review, archived
	Verdict  string
	Assignee string // "-" takes it away
	Comment  string
}

// A Fold is the set of stories that the records added so far make. The order
// of the records, and how often each is added, make no difference. It is not
// safe for concurrent use.
type Fold struct {
	cfg      Config
	agents   map[string]*agentState
	contexts map[contextID]*contextState
	stories  map[string]*storyState
	anchors  map[string]anchor // ids given out, and where they lead
	triage   map[Triage]bool
	wanted   map[string][]Triage // triage of stories not seen yet
	last     int64               // time of the newest record
	refused  uint64

	// What the record being added has done so far.
	touched map[*storyState]bool
	gone    map[string]bool // ids that were, and perhaps still are
}

type contextID struct{ agent, key string }

// An anchor is where a story's id comes from: a signal's time and context.
type anchor struct {
	ctx *contextState
	at  int64
}

type agentState struct {
	id    string
	runs  map[uint64]*event.RunStart
	lost  []event.Lost // sorted, the newest KeepLost
	seen  map[seenKey]uint64
	first int64
	last  int64
}

// seenKey names 64 neighbouring numbers of one run.
type seenKey struct{ run, block uint64 }

type contextState struct {
	id        contextID
	rec       *event.Context // nil until its record is seen
	units     []*unit        // sorted by time; one if the key is episodic
	links     map[*linkState]bool
	made      map[event.ContextLink]bool // links that lead away from here
	children  map[*contextState]bool
	triage    []anchoredTriage
	lastEvent int64
	story     *storyState // of an episodic context, signals of its own or not
	touched   bool        // it has a signal, or an end of a link that joins
	reached   bool        // a link that joins leads here,
	reachedAt int64       // the first at this time
}

type anchoredTriage struct {
	at int64 // the anchor's time
	Triage
}

type linkState struct {
	from, to *contextState
	rec      event.ContextLink
	joined   bool // it has been followed
}

// A unit is what joins and parts as one: an episodic context, or an episode of
// a context with a derived key.
type unit struct {
	ctx         *contextState
	first, last int64
	count       int
	suppressed  uint64
	kept        map[keptKey][]*event.Event // sorted by time and reference
	story       *storyState
}

type keptKey struct {
	rule   string
	bucket int64
}

// A storyState is contexts that belong together. It is a story once it has an
// id: contexts without signals have none.
type storyState struct {
	id       string
	contexts []*contextState
	units    []*unit
	links    []*linkState
	anchor   *unit // the unit with the smallest anchor
	sorted   bool  // the lists are
	head     *Head // nil when it must be made anew

	// The head after some days without signals, and which head it was made of.
	faded, fadedFrom *Head
	fadedDays        int64
}

// NewFold returns a fold without records.
func NewFold(cfg Config) *Fold {
	if cfg.EpisodeGap <= 0 {
		cfg.EpisodeGap = 30 * 60 * 1e9
	}
	if cfg.Keep < 2 {
		cfg.Keep = 64
	}
	if cfg.KeepLost <= 0 {
		cfg.KeepLost = 4096
	}
	return &Fold{
		cfg:      cfg,
		agents:   map[string]*agentState{},
		contexts: map[contextID]*contextState{},
		stories:  map[string]*storyState{},
		anchors:  map[string]anchor{},
		triage:   map[Triage]bool{},
		wanted:   map[string][]Triage{},
		touched:  map[*storyState]bool{},
		gone:     map[string]bool{},
	}
}

func (f *Fold) agent(id string) *agentState {
	a := f.agents[id]
	if a == nil {
		a = &agentState{id: id, runs: map[uint64]*event.RunStart{}, seen: map[seenKey]uint64{}}
		f.agents[id] = a
	}
	return a
}

func (f *Fold) context(agent, key string) *contextState {
	id := contextID{agent, key}
	c := f.contexts[id]
	if c == nil {
		c = &contextState{id: id, links: map[*linkState]bool{}, children: map[*contextState]bool{}}
		f.contexts[id] = c
	}
	return c
}

func (f *Fold) saw(a *agentState, at int64) {
	if at == 0 {
		return
	}
	if a.first == 0 || at < a.first {
		a.first = at
	}
	a.last = max(a.last, at)
	f.last = max(f.last, at)
}

// LastRecord is the time of the newest record, in ns since the epoch; what a
// replay takes as its present.
func (f *Fold) LastRecord() int64 { return f.last }

// Add folds one stored record in and returns the ids of the stories that
// changed by it. The first is the one that is; those it took in follow. The
// record is not kept, parts of it are.
//
// A record whose times cannot be is left out and counted.
func (f *Fold) Add(agentID string, rec *event.SpoolRecord) (changed []string) {
	if !possible(rec) {
		f.refused++
		return nil
	}
	a := f.agent(agentID)
	switch {
	case rec.RunStart != nil:
		return f.addRun(a, rec.RunStart)
	case rec.Event != nil:
		return f.addEvent(a, rec.Event)
	case rec.Context != nil:
		return f.addContext(a, rec.Context)
	case rec.Link != nil:
		return f.addLink(a, rec.Link)
	case rec.Lost != nil:
		return f.addLost(a, rec.Lost)
	case rec.ContextHot != nil:
		f.saw(a, rec.ContextHot.At)
	case rec.FilterPlan != nil:
		f.saw(a, rec.FilterPlan.At)
	case rec.Canary != nil:
		f.saw(a, rec.Canary.At)
	}
	return nil
}

// Refused is how many records were left out because their times cannot be.
func (f *Fold) Refused() uint64 { return f.refused }

// latestTime is as late as a time may be: differences of two still fit.
const latestTime = 1 << 62

func possible(rec *event.SpoolRecord) bool {
	in := func(times ...int64) bool {
		for _, t := range times {
			if t < 0 || t > latestTime {
				return false
			}
		}
		return true
	}
	switch {
	case rec.RunStart != nil:
		return in(rec.RunStart.At)
	case rec.Event != nil:
		return in(rec.Event.TimeNS)
	case rec.Context != nil:
		return in(rec.Context.At)
	case rec.ContextHot != nil:
		return in(rec.ContextHot.At)
	case rec.Link != nil:
		return in(rec.Link.At, rec.Link.Expires)
	case rec.Lost != nil:
		return in(rec.Lost.From, rec.Lost.To) && rec.Lost.From <= rec.Lost.To
	case rec.Canary != nil:
		return in(rec.Canary.At)
	case rec.FilterPlan != nil:
		return in(rec.FilterPlan.At)
	}
	return true
}

func (f *Fold) addRun(a *agentState, r *event.RunStart) (changed []string) {
	f.saw(a, r.At)
	if old := a.runs[r.Run]; old != nil && compareRuns(old, r) >= 0 {
		return nil
	}
	c := *r
	c.Seed = nil // the seed of context keys is nobody else's business
	a.runs[r.Run] = &c
	for _, s := range f.stories {
		if s.agent() == a.id {
			changed = append(changed, s.id)
			s.head = nil
		}
	}
	slices.Sort(changed)
	return changed
}

func compareRuns(x, y *event.RunStart) int {
	return cmp.Or(cmp.Compare(x.At, y.At), strings.Compare(x.HostID, y.HostID), strings.Compare(x.BootID, y.BootID),
		strings.Compare(x.Hostname, y.Hostname), strings.Compare(x.Mode, y.Mode), strings.Compare(x.Version, y.Version))
}

// newest is the run that began last; nil when none is known.
func (a *agentState) newest() *event.RunStart {
	var best *event.RunStart
	for _, r := range a.runs {
		if best == nil || cmp.Or(compareRuns(r, best), cmp.Compare(r.Run, best.Run)) > 0 {
			best = r
		}
	}
	return best
}

func (f *Fold) addEvent(a *agentState, e *event.Event) []string {
	f.saw(a, e.TimeNS)
	key := "" // of an actor that nothing is known about
	if len(e.ContextKeys) > 0 {
		key = e.ContextKeys[0]
	} else if len(e.Signals) == 0 {
		return nil
	}
	c := f.context(a.id, key)
	if len(e.Signals) == 0 {
		if e.TimeNS <= c.lastEvent {
			return nil
		}
		c.lastEvent = e.TimeNS
		if c.story == nil {
			return nil
		}
		c.story.head = nil
		return []string{c.story.id}
	}
	block := seenKey{e.Run, e.Seq / 64}
	bit := uint64(1) << (e.Seq % 64)
	if a.seen[block]&bit != 0 {
		return nil
	}
	a.seen[block] |= bit
	c.lastEvent = max(c.lastEvent, e.TimeNS)
	if len(f.wanted) > 0 {
		f.answer(c, e.TimeNS)
	}

	kept := *e // what the process table hung onto it would keep whole lineages alive
	kept.Proc, kept.Contexts, kept.Host = nil, nil, nil
	u := &unit{ctx: c, first: e.TimeNS, last: e.TimeNS, count: 1, kept: map[keptKey][]*event.Event{}}
	for i := range e.Signals {
		u.suppressed += e.Signals[i].Suppressed
		k := keptKey{e.Signals[i].RuleID, floorDiv(e.TimeNS, f.cfg.EpisodeGap)}
		u.kept[k] = append(u.kept[k], &kept)
	}
	return f.place(c, u)
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// place puts a unit of one signal where it belongs in its context.
func (f *Fold) place(c *contextState, u *unit) []string {
	i, _ := slices.BinarySearchFunc(c.units, u, func(x, y *unit) int { return cmp.Compare(x.first, y.first) })
	// The unit before it and those after it may be near enough to be one.
	lo, hi := i, i
	if c.episodic() {
		lo, hi = 0, len(c.units)
	} else {
		for lo > 0 && u.first-c.units[lo-1].last <= f.cfg.EpisodeGap {
			lo--
		}
		for hi < len(c.units) && c.units[hi].first-u.last <= f.cfg.EpisodeGap {
			hi++
		}
	}
	if lo == hi {
		c.units = slices.Insert(c.units, i, u)
	} else {
		into := c.units[lo]
		f.merge(into, u)
		for _, n := range c.units[lo+1 : hi] {
			f.merge(into, n)
			f.drop(n.story)
		}
		c.units = slices.Delete(c.units, lo+1, hi)
		u = into
	}
	f.anchors[storyID(u.first, c.id.key)] = anchor{c, u.first}
	if !c.episodic() {
		f.episode(c, u)
		return f.settle()
	}
	s := f.storyOf(c)
	if u.story == nil {
		u.story = s
		s.units = append(s.units, u)
	}
	if s.anchor == nil || compareAnchors(u, s.anchor) < 0 {
		s.anchor = u
	}
	f.touched[s] = true
	f.touch(c) // s may go into another
	return f.settle()
}

// episode makes the unit of a context with a derived key a story, if it is one.
func (f *Fold) episode(c *contextState, u *unit) {
	if u.story == nil {
		if !tells(u) {
			return
		}
		u.story = &storyState{contexts: []*contextState{c}, units: []*unit{u}, anchor: u}
	}
	f.touched[u.story] = true
}

// merge adds what src has to dst.
func (f *Fold) merge(dst, src *unit) {
	dst.first, dst.last = min(dst.first, src.first), max(dst.last, src.last)
	dst.count += src.count
	dst.suppressed += src.suppressed
	for k, list := range src.kept {
		dst.kept[k] = f.keep(dst.kept[k], list)
	}
}

// keep joins two lists and leaves the first Keep-1 and the last: which ones
// stay does not depend on the order they came in.
func (f *Fold) keep(a, b []*event.Event) []*event.Event {
	if len(b) == 1 {
		i, _ := slices.BinarySearchFunc(a, b[0], compareEvents)
		a = slices.Insert(a, i, b[0])
	} else {
		a = append(slices.Clone(a), b...)
		slices.SortFunc(a, compareEvents)
	}
	if n := len(a); n > f.cfg.Keep {
		a[f.cfg.Keep-1] = a[n-1]
		clear(a[f.cfg.Keep:])
		a = a[:f.cfg.Keep]
	}
	return a
}

func compareEvents(x, y *event.Event) int {
	return cmp.Or(cmp.Compare(x.TimeNS, y.TimeNS), cmp.Compare(x.Run, y.Run), cmp.Compare(x.Seq, y.Seq))
}

func (c *contextState) episodic() bool { return c.rec != nil && c.rec.Episodic }

func (f *Fold) addContext(a *agentState, r *event.Context) []string {
	f.saw(a, r.At)
	c := f.context(a.id, r.Key)
	if c.rec != nil && compareContexts(c.rec, r) <= 0 {
		return nil
	}
	if c.rec != nil && c.rec.ParentKey != "" {
		delete(f.context(a.id, c.rec.ParentKey).children, c)
	}
	rec := *r
	c.rec = &rec
	if rec.ParentKey != "" && rec.ParentKey != rec.Key {
		f.context(a.id, rec.ParentKey).children[c] = true
	}
	if !c.episodic() {
		for _, u := range c.units {
			f.episode(c, u)
		}
		return f.settle()
	}
	for _, u := range c.units {
		if u.story != c.story {
			f.drop(u.story) // it was an episode's as long as the key might be shared
			u.story = nil
		}
	}
	if len(c.units) > 1 {
		for _, n := range c.units[1:] {
			f.merge(c.units[0], n)
		}
		c.units = c.units[:1]
	}
	st := f.storyOf(c)
	for _, u := range c.units {
		if u.story == nil {
			u.story = st
			st.units = append(st.units, u)
			if st.anchor == nil || compareAnchors(u, st.anchor) < 0 {
				st.anchor = u
			}
		}
	}
	f.touched[st] = true
	for l := range c.links {
		f.follow(l)
	}
	if len(c.units) > 0 {
		f.touch(c)
	}
	f.descend(f.contexts[contextID{a.id, rec.ParentKey}], c)
	for child := range c.children {
		f.descend(c, child)
	}
	return f.settle()
}

// compareContexts orders different records of one key, so that it does not
// matter which came first.
func compareContexts(x, y *event.Context) int {
	b := func(v bool) int {
		if v {
			return 0 // episodic first
		}
		return 1
	}
	return cmp.Or(cmp.Compare(b(x.Episodic), b(y.Episodic)), cmp.Compare(x.At, y.At), cmp.Compare(x.Priority, y.Priority),
		strings.Compare(x.Layer, y.Layer), strings.Compare(x.Entity, y.Entity), strings.Compare(x.ParentKey, y.ParentKey),
		compareRefs(x.OpenedBy, y.OpenedBy), strings.Compare(x.Reason, y.Reason))
}

func compareRefs(x, y event.Ref) int {
	return cmp.Or(cmp.Compare(x.Run, y.Run), cmp.Compare(x.Seq, y.Seq))
}

func (f *Fold) addLink(a *agentState, r *event.ContextLink) []string {
	f.saw(a, r.At)
	if r.FromContext == "" || r.ToContext == "" || r.FromContext == r.ToContext {
		return nil
	}
	from, to := f.context(a.id, r.FromContext), f.context(a.id, r.ToContext)
	if from.made[*r] {
		return nil
	}
	if from.made == nil {
		from.made = map[event.ContextLink]bool{}
	}
	from.made[*r] = true
	l := &linkState{from: from, to: to, rec: *r}
	from.links[l], to.links[l] = true, true
	f.follow(l)
	return f.settle()
}

// joins tells whether the link may carry a story: both ends are known to be
// opened once, and it was still good when it was seen. A key that is derived
// from attributes is shared by too much to join anything.
func (l *linkState) joins() bool {
	return l.from.episodic() && l.to.episodic() && l.rec.Weight > 0 && (l.rec.Expires == 0 || l.rec.At <= l.rec.Expires)
}

func (f *Fold) addLost(a *agentState, r *event.Lost) (changed []string) {
	f.saw(a, r.To)
	i, found := slices.BinarySearchFunc(a.lost, *r, compareLost)
	if found {
		return nil
	}
	a.lost = slices.Insert(a.lost, i, *r)
	if n := len(a.lost) - f.cfg.KeepLost; n > 0 {
		a.lost = slices.Delete(a.lost, 0, n)
	}
	for _, s := range f.stories {
		if first, last := s.span(); s.agent() == a.id && r.From <= last+gapAfter && r.To >= first {
			s.head = nil
			changed = append(changed, s.id)
		}
	}
	slices.Sort(changed)
	return changed
}

func compareLost(x, y event.Lost) int {
	return cmp.Or(cmp.Compare(x.To, y.To), cmp.Compare(x.From, y.From), cmp.Compare(x.Kind, y.Kind),
		strings.Compare(x.Reason, y.Reason), strings.Compare(x.Where, y.Where), cmp.Compare(x.Count, y.Count))
}

// agent is where the story happened: links of one agent join only its contexts.
func (s *storyState) agent() string { return s.contexts[0].id.agent }

// span is the time of a story's signals and of what its contexts did since.
func (s *storyState) span() (first, last int64) {
	first, last = s.units[0].first, s.units[0].last
	for _, u := range s.units {
		first, last = min(first, u.first), max(last, u.last)
		if u.ctx.episodic() {
			last = max(last, u.ctx.lastEvent)
		}
	}
	for _, c := range s.contexts {
		if c.episodic() {
			last = max(last, c.lastEvent)
		}
	}
	return first, last
}

// storyOf is what an episodic context belongs to.
func (f *Fold) storyOf(c *contextState) *storyState {
	if c.story == nil {
		c.story = &storyState{contexts: []*contextState{c}}
	}
	return c.story
}

// follow joins the ends of a link, if it may join them.
func (f *Fold) follow(l *linkState) {
	if l.joined || !l.joins() {
		return
	}
	l.joined = true
	s := f.join(l.from, l.to)
	s.links = append(s.links, l)
	f.touch(l.from)
	f.touch(l.to)
	if to := l.to; !to.reached || l.rec.At < to.reachedAt {
		to.reached, to.reachedAt = true, l.rec.At
		for child := range to.children {
			f.descend(to, child)
		}
	}
}

// touch notes that a context has a signal or an end of a link.
func (f *Fold) touch(c *contextState) {
	if c.touched {
		return
	}
	c.touched = true
	if c.rec != nil {
		f.descend(f.contexts[contextID{c.id.agent, c.rec.ParentKey}], c)
	}
}

// descend joins a context to its parent when it was opened after a link had
// led there. What opens inside a context that is hot is linked by a record; one
// that was only reached need not be hot.
func (f *Fold) descend(parent, child *contextState) {
	if parent == nil || !parent.episodic() || !child.episodic() || child.rec.ParentKey != parent.id.key ||
		!child.touched || !parent.reached || parent.reachedAt > child.rec.At {
		return
	}
	f.join(parent, child)
}

// join makes what two contexts belong to one. The smaller part moves: however
// many contexts there are, each moves a few times only.
func (f *Fold) join(x, y *contextState) *storyState {
	a, b := f.storyOf(x), f.storyOf(y)
	if a == b {
		f.touched[a] = true
		return a
	}
	if len(a.contexts) < len(b.contexts) {
		a, b = b, a
	}
	for _, c := range b.contexts {
		c.story = a
	}
	for _, u := range b.units {
		u.story = a
	}
	a.contexts = append(a.contexts, b.contexts...)
	a.units = append(a.units, b.units...)
	a.links = append(a.links, b.links...)
	if a.anchor == nil || b.anchor != nil && compareAnchors(b.anchor, a.anchor) < 0 {
		a.anchor = b.anchor
	}
	f.drop(b)
	f.touched[a] = true
	return a
}

// drop takes a story away that went into another.
func (f *Fold) drop(s *storyState) {
	if s == nil {
		return
	}
	delete(f.touched, s)
	if s.id != "" {
		f.gone[s.id] = true
		delete(f.stories, s.id)
		s.id = ""
	}
}

// settle gives what has changed its id, and says what it is: first the ids of
// stories that are, then of those that went into them.
func (f *Fold) settle() (changed []string) {
	for s := range f.touched {
		s.head, s.sorted = nil, false
		if s.anchor == nil {
			continue // no signal
		}
		id := storyID(s.anchor.first, s.anchor.ctx.id.key)
		if s.id != id {
			if s.id != "" {
				f.gone[s.id] = true
				delete(f.stories, s.id)
			}
			s.id = id
			f.stories[id] = s
			f.anchors[id] = anchor{s.anchor.ctx, s.anchor.first}
		}
		changed = append(changed, id)
	}
	slices.Sort(changed)
	n := len(changed)
	for id := range f.gone {
		if !slices.Contains(changed[:n], id) {
			changed = append(changed, id)
		}
	}
	slices.Sort(changed[n:])
	clear(f.touched)
	clear(f.gone)
	return changed
}

func compareAnchors(x, y *unit) int {
	return cmp.Or(cmp.Compare(x.first, y.first), strings.Compare(x.ctx.id.key, y.ctx.id.key), strings.Compare(x.ctx.id.agent, y.ctx.id.agent))
}

// sort puts the story's parts in an order that does not depend on that of the
// records.
func (s *storyState) sort() {
	if s.sorted {
		return
	}
	s.sorted = true
	slices.SortFunc(s.contexts, func(x, y *contextState) int {
		return cmp.Or(strings.Compare(x.id.agent, y.id.agent), strings.Compare(x.id.key, y.id.key))
	})
	slices.SortFunc(s.units, compareAnchors)
	slices.SortFunc(s.links, compareLinks)
}

func compareLinks(x, y *linkState) int {
	a, b := &x.rec, &y.rec
	return cmp.Or(cmp.Compare(a.At, b.At), strings.Compare(a.FromContext, b.FromContext), strings.Compare(a.ToContext, b.ToContext),
		strings.Compare(a.Type, b.Type), strings.Compare(a.Path, b.Path), compareRefs(a.Event, b.Event), compareRefs(a.Cause, b.Cause),
		strings.Compare(a.Reason, b.Reason), cmp.Compare(a.Weight, b.Weight), cmp.Compare(a.Expires, b.Expires))
}

// tells says whether an episode of a context with a derived key is worth a
// story. What is not: signals of one rule of low severity, in what only stands
// for a whole host or service.
func tells(u *unit) bool {
	rules := map[string]bool{}
	for k, list := range u.kept {
		rules[k.rule] = true
		for _, e := range list {
			if graph.SeverityOf(e) >= graph.Medium {
				return true
			}
		}
	}
	return len(rules) > 1
}

var base32hex = base32.HexEncoding.WithPadding(base32.NoPadding)

// storyID names a story by its smallest anchor: the time of a signal as eight
// bytes, big-endian, then the context's key.
func storyID(at int64, key string) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(at))
	sum := sha256.Sum256(append(b, key...))
	return "st_" + strings.ToLower(base32hex.EncodeToString(sum[:]))[:12]
}

// resolve finds the story with an id, or the one that a story with this id
// went into.
func (f *Fold) resolve(id string) *storyState {
	if s := f.stories[id]; s != nil {
		return s
	}
	a, ok := f.anchor(id)
	if !ok {
		return nil
	}
	if u := a.ctx.unitAt(a.at); u != nil {
		return u.story
	}
	return nil
}

func (c *contextState) unitAt(at int64) *unit {
	for _, u := range c.units {
		if u.first <= at && at <= u.last {
			return u
		}
	}
	return nil
}

// anchor finds the signal an id was made from. Another server may have seen
// the records in another order and given out ids that this one never did: then
// every signal is asked.
func (f *Fold) anchor(id string) (anchor, bool) {
	if a, ok := f.anchors[id]; ok {
		return a, true
	}
	if len(id) != len("st_")+12 || !strings.HasPrefix(id, "st_") {
		return anchor{}, false
	}
	for _, c := range f.contexts {
		for _, u := range c.units {
			for _, list := range u.kept {
				for _, e := range list {
					if storyID(e.TimeNS, c.id.key) == id {
						a := anchor{c, e.TimeNS}
						f.anchors[id] = a
						return a, true
					}
				}
			}
		}
	}
	return anchor{}, false
}

// answer gives triage that waited for this signal to its context.
func (f *Fold) answer(c *contextState, at int64) {
	id := storyID(at, c.id.key)
	for _, t := range f.wanted[id] {
		c.triage = append(c.triage, anchoredTriage{at, t})
	}
	delete(f.wanted, id)
}

// AddTriage folds a decision in. It is kept even when its story is not known
// yet. The last one by time, then by actor, counts.
func (f *Fold) AddTriage(t Triage) (changed []string) {
	if f.triage[t] {
		return nil
	}
	f.triage[t] = true
	a, ok := f.anchor(t.StoryID)
	if !ok {
		f.wanted[t.StoryID] = append(f.wanted[t.StoryID], t)
		return nil
	}
	a.ctx.triage = append(a.ctx.triage, anchoredTriage{a.at, t})
	s := f.resolve(t.StoryID)
	if s == nil {
		return nil
	}
	s.head = nil
	return []string{s.id}
}

// signals lists the kept signals of a story by time, each once.
func (s *storyState) signals() []graph.Item {
	var items []graph.Item
	for _, u := range s.units {
		for _, list := range u.kept {
			for _, e := range list {
				items = append(items, graph.Item{Agent: u.ctx.id.agent, Event: e})
			}
		}
	}
	slices.SortFunc(items, graph.CompareItems)
	return slices.CompactFunc(items, func(x, y graph.Item) bool { return graph.CompareItems(x, y) == 0 })
}

func (f *Fold) describe(id string) *Agent {
	out := &Agent{ID: id, Boots: map[uint64]string{}}
	a := f.agents[id]
	if a == nil {
		return out
	}
	out.Last = a.last
	for run, r := range a.runs {
		out.Boots[run] = r.BootID
		out.Recording = out.Recording || r.Recording
	}
	if r := a.newest(); r != nil {
		out.Hostname, out.Kernel, out.Distribution, out.Mode, out.BootID = r.Hostname, r.Kernel, r.Distribution, r.Mode, r.BootID
	}
	return out
}

// Forget drops the stories and contexts of which nothing has been seen since a
// time: what the store no longer holds cannot be drawn. It returns how many
// stories went.
func (f *Fold) Forget(beforeNS int64) (stories int) {
	for id, s := range f.stories {
		if _, last := s.span(); last < beforeNS {
			delete(f.stories, id)
			stories++
			for _, u := range s.units {
				u.story = nil
			}
			for _, c := range s.contexts {
				c.story = nil
			}
		}
	}
	lastOf := func(c *contextState) int64 {
		last := c.lastEvent
		if c.rec != nil {
			last = max(last, c.rec.At)
		}
		for l := range c.links {
			last = max(last, l.rec.At)
		}
		return last
	}
	// What belongs together without being a story goes together.
	together := map[*storyState]int64{}
	for _, c := range f.contexts {
		if c.story != nil {
			together[c.story] = max(together[c.story], lastOf(c))
		}
	}
	gone := map[*contextState]bool{}
	for id, c := range f.contexts {
		if !c.episodic() {
			c.units = slices.DeleteFunc(c.units, func(u *unit) bool { return u.last < beforeNS })
		}
		last := lastOf(c)
		if c.story != nil {
			last = together[c.story]
			if c.story.id != "" {
				continue
			}
		}
		if last < beforeNS && len(c.children) == 0 {
			delete(f.contexts, id)
			gone[c] = true
		}
	}
	for c := range gone {
		for l := range c.links {
			delete(l.from.links, l)
			delete(l.to.links, l)
		}
		if c.rec != nil {
			if p := f.contexts[contextID{c.id.agent, c.rec.ParentKey}]; p != nil {
				delete(p.children, c)
			}
		}
	}
	for id, a := range f.anchors {
		if gone[a.ctx] {
			delete(f.anchors, id)
		}
	}
	return stories
}
