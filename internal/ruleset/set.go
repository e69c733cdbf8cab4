package ruleset

import (
	"cmp"
	"container/heap"
	"container/list"
	"fmt"
	"slices"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/secl"
)

// Set is a compiled rule set. Evaluation keeps state (variables, rates), so
// that one goroutine evaluates with a set; everything else may be called from
// anywhere.
type Set struct {
	cfg     Config
	env     *env
	vars    map[string]*variable
	store   *store
	rules   []*Rule
	buckets [event.NumKinds]bucket
	// places are where the conditions of a rule are, by kind.
	places map[*Rule][]entryAt
	ctx    evalCtx
	// panics counts conditions that panicked. Each turned its rule off.
	panics uint64
	// evals numbers the evaluations.
	evals uint64
	// patterns are the rules over several events, absences those that wait
	// for what does not come.
	patterns []*pattern
	absences []*entry
	evicted  uint64
	// effects are what the matches of the last evaluation ask for.
	effects []Effect
}

// entry is one condition of a rule, for one kind of event.
type entry struct {
	rule    *Rule
	program *program
	limit   *limiter
	off     bool
	// pattern is set where the rule is about several events, and step is the
	// place of the condition in it.
	pattern *pattern
	step    int
	tried   uint64
	matched uint64
}

// entryAt is where a condition is.
type entryAt struct {
	kind  event.Kind
	entry int
}

// bucket holds the conditions for one kind of event, in the order they are
// evaluated.
type bucket struct {
	entries []*entry
	group   *secl.Group[event.Event, Element]
	// plain tells that finding conditions panicked: each is tried, then.
	plain bool
}

func newSet(l *loader) *Set {
	return &Set{cfg: l.cfg, env: l.env, vars: l.vars, store: l.store}
}

// Rules returns the loaded rules in load order. The slice must not be changed.
func (s *Set) Rules() []*Rule { return s.rules }

// Panics returns how many rules were turned off because their condition
// panicked.
func (s *Set) Panics() uint64 { return s.panics }

// Evicted returns how many values of variables, and keys of rules over several
// events, were given up for lack of room.
func (s *Set) Evicted() uint64 { return s.store.evicted + s.evicted }

func (s *Set) add(d *ruleDef, steps []stepPrograms) {
	rule := &d.Rule
	s.rules = append(s.rules, rule)
	limit := newLimiter(rule)
	limit.free = s.cfg.OwnRatesOnly && rule.Every == 0
	var pat *pattern
	if d.pattern != nil {
		pat = &pattern{def: d.pattern, rule: rule, states: map[patternKey]*list.Element{}, evicted: &s.evicted, distinct: d.distinct}
		s.patterns = append(s.patterns, pat)
		if d.pattern.kind == absenceOf {
			s.absences = append(s.absences, &entry{rule: rule, limit: limit, pattern: pat})
		}
	}
	// The last step comes first, see pattern.sequence.
	for _, st := range slices.Backward(steps) {
		for _, p := range st.programs {
			if k, ok := event.KindByName(p.Kind); ok {
				s.buckets[k].entries = append(s.buckets[k].entries, &entry{rule: rule, program: p, limit: limit, pattern: pat, step: st.step})
			}
		}
	}
}

// build orders the buckets and compiles each as one.
func (s *Set) build() {
	s.places = make(map[*Rule][]entryAt, len(s.rules))
	for k := range s.buckets {
		b := &s.buckets[k]
		if len(b.entries) == 0 {
			continue
		}
		slices.SortStableFunc(b.entries, func(x, y *entry) int {
			return cmp.Or(cmp.Compare(executionContext(y.rule), executionContext(x.rule)), cmp.Compare(y.rule.Priority, x.rule.Priority))
		})
		programs := make([]*program, len(b.entries))
		for i, e := range b.entries {
			programs[i] = e.program
			s.places[e.rule] = append(s.places[e.rule], entryAt{event.Kind(k), i})
		}
		b.group = secl.NewGroup(programs)
	}
}

// executionContext is 1 for rules that say that others build on what they set.
func executionContext(r *Rule) int {
	if slices.Contains(r.Tags, Tag{"execution_context", "true"}) {
		return 1
	}
	return 0
}

// Match is a rule that an event matched.
type Match struct {
	Rule *Rule
	// Event is the event that the signal belongs to: the one that was
	// evaluated or, for the absence of another, the one that was not followed.
	Event *event.Event
	// Suppressed is how many matches the rate limit left out before this one.
	Suppressed uint64
}

// Signal makes the signal an event carries for the match.
func (m Match) Signal() event.Signal { return m.Rule.Signal(m.Suppressed) }

// Eval evaluates every rule of the event's kind, carries out the set actions
// of those that match, and appends to out those that raise a signal: not the
// silent ones, and not those above their rate. The order is that of evaluation
// and always the same. Time is the event's. Where nothing matches nothing is
// allocated. The event is kept only where another one must follow it in time.
func (s *Set) Eval(ev *event.Event, out []Match) []Match {
	s.effects = s.effects[:0]
	if int(ev.Kind) >= len(s.buckets) || !ev.Complete() {
		return out
	}
	b := &s.buckets[ev.Kind]
	if len(b.entries) == 0 && len(s.absences) == 0 {
		return out
	}
	// What is overdue is found before the event can be what was awaited.
	out = s.overdue(ev.TimeNS, out)
	s.ctx.Event, s.ctx.Now, s.store.now = ev, ev.TimeNS, ev.TimeNS
	s.evals++
	if len(b.entries) > 0 {
		b.group.Next()
		for found := false; ; found = true {
			var done bool
			if out, done = s.evaluate(b, found, out); done {
				break
			}
		}
	}
	s.ctx.Event = nil
	return out
}

// evaluate finds the conditions that may hold, unless they are found already,
// evaluates them, and does what follows. A panic, which would be a fault of the
// compiler, costs the rule, not the agent: evaluate is called again for what is
// left. Where finding panics, each condition is tried from then on: those at
// fault will turn themselves off.
func (s *Set) evaluate(b *bucket, found bool, out []Match) (res []Match, done bool) {
	var e *entry
	res = out
	defer func() {
		if done || recover() == nil {
			return
		}
		b.group.Next()
		if e == nil {
			b.plain = true
			b.group.FindAll()
			return
		}
		s.panics++
		e.off = true
	}()
	switch {
	case found:
	case b.plain:
		b.group.FindAll()
	default:
		b.group.Find(&s.ctx)
	}
	for i := b.group.Take(); i >= 0; i = b.group.Take() {
		if e = b.entries[i]; e.off {
			continue
		}
		e.tried++
		if b.group.Match(&s.ctx) {
			res = s.matched(e, res)
		}
	}
	return res, true
}

// matched does what follows from a condition that holds.
func (s *Set) matched(e *entry, out []Match) []Match {
	e.matched++
	if e.pattern != nil && !e.pattern.observe(e.step, &s.ctx, s.evals) {
		return out
	}
	return s.fire(e, out)
}

// fire carries out what follows from a match.
func (s *Set) fire(e *entry, out []Match) []Match {
	for i := range e.rule.Actions {
		a := &e.rule.Actions[i]
		if a.Set == nil || a.Set.variable == nil {
			continue
		}
		if a.program == nil || a.program.Match(&s.ctx) {
			s.store.run(a.Set, &s.ctx)
		}
	}
	acts := e.rule.acts()
	if e.rule.Silent && !acts {
		return out
	}
	// A rule that stands for several kinds raises one signal per event.
	if n := len(out); n > 0 && out[n-1].Rule == e.rule && out[n-1].Event == s.ctx.Event {
		return out
	}
	if n := len(s.effects); n > 0 && s.effects[n-1].Rule == e.rule && s.effects[n-1].Event == s.ctx.Event {
		return out
	}
	suppressed, ok := e.limit.allow(&s.ctx)
	if !ok {
		return out
	}
	if acts {
		s.act(e)
	}
	if e.rule.Silent {
		return out
	}
	return append(out, Match{Rule: e.rule, Event: s.ctx.Event, Suppressed: suppressed})
}

// Overdue appends to out the matches of rules about an absence whose time ran
// out before now: those that no event shows, as on a host where nothing
// happens. Eval does the same for the time of its event.
func (s *Set) Overdue(now int64, out []Match) []Match {
	s.effects = s.effects[:0]
	return s.overdue(now, out)
}

func (s *Set) overdue(now int64, out []Match) []Match {
	for {
		var next *entry
		for _, e := range s.absences {
			if q := e.pattern.due; len(q) > 0 && q[0].deadline < now && (next == nil || q[0].deadline < next.pattern.due[0].deadline) {
				next = e
			}
		}
		if next == nil {
			return out
		}
		st := next.pattern.due[0]
		next.pattern.forget(st.key)
		s.ctx.Event, s.ctx.Now, s.store.now = st.opened, st.deadline, st.deadline
		s.evals++
		out = s.fire(next, out)
		s.ctx.Event = nil
	}
}

// Part is a comparison of a rule's expression that contributed to a match.
type Part = secl.Part

// Explain tells why a rule matches an event: the comparisons that hold, with
// their place in the rule's expression and what the fields were. It returns
// nil where the rule does not match.
func (s *Set) Explain(ev *event.Event, r *Rule) []Part {
	if int(ev.Kind) >= len(s.buckets) || !ev.Complete() {
		return nil
	}
	ctx := evalCtx{Event: ev, Now: ev.TimeNS}
	for _, at := range s.places[r] {
		if at.kind != ev.Kind {
			continue
		}
		e := s.buckets[at.kind].entries[at.entry]
		if e.off || e.pattern != nil && e.step != e.pattern.def.firing() {
			continue
		}
		if parts := e.program.Explain(&ctx); parts != nil {
			return parts
		}
	}
	return nil
}

// Adopt takes over the values of the variables whose declarations did not
// change, and what rules over several events have seen, from the set that this
// one replaces. The old one must not be
// evaluated any more.
func (s *Set) Adopt(old *Set) {
	for _, p := range s.patterns {
		for _, o := range old.patterns {
			if o.rule.ID == p.rule.ID && o.rule.Expression == p.rule.Expression && p.def.same(o.def) {
				for el := o.order.Back(); el != nil; el = el.Prev() {
					st := el.Value.(*patternState)
					p.states[st.key] = p.order.PushFront(st)
					if st.deadline != 0 {
						heap.Push(&p.due, st)
					}
				}
			}
		}
	}
	for _, k := range old.store.order {
		c, ok := old.store.cells[k]
		a, b := old.vars[k.v], s.vars[k.v]
		if !ok || a == nil || b == nil || !a.same(b) {
			continue
		}
		if _, have := s.store.cells[k]; !have && len(s.store.cells) < maxCells {
			s.store.cells[k] = c
			s.store.order = append(s.store.order, k)
		}
	}
}

// Predicate is a condition on events of one kind. It serves one goroutine.
type Predicate func(*event.Event) bool

// CompilePredicate compiles a condition on events of a kind, with the macros
// of the set but without its variables. Events of other kinds do not match.
func (s *Set) CompilePredicate(kind event.Kind, expr string) (Predicate, error) {
	return compilePredicate(&env{Schema: s.cfg.Schema, Macros: s.env.Macros}, kind, expr)
}

// CompilePredicate compiles a condition on events of a kind, without macros.
func CompilePredicate(schema *Schema, kind event.Kind, expr string) (Predicate, error) {
	return compilePredicate(&env{Schema: schema}, kind, expr)
}

func compilePredicate(e *env, kind event.Kind, expr string) (Predicate, error) {
	p, problems := secl.Compile(e, expr, secl.Options{Kind: kind.String(), AnyKind: true})
	if err := problems.Err(); err != nil {
		return nil, fmt.Errorf("compile condition for %s events: %w\n%s", kind, err, problems.Format(expr))
	}
	var ctx evalCtx
	return func(ev *event.Event) bool {
		if ev.Kind != kind || !ev.Complete() {
			return false
		}
		ctx.Event, ctx.Now = ev, ev.TimeNS
		ok := p.Match(&ctx)
		ctx.Event = nil
		return ok
	}, nil
}
