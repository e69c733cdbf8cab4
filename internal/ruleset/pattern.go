package ruleset

import (
	"cmp"
	"container/heap"
	"container/list"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/secl"
	"github.com/clewsec/clew/internal/secl/parse"
	"go.yaml.in/yaml/v3"
)

// Bounds of rules over several events: what one key may have, how many keys
// there are, and what all keys of a threshold may remember together.
const (
	maxSteps      = 16
	maxThreshold  = 10_000
	maxDistinct   = 1_000
	maxKeys       = 4096
	minKeys       = 64
	maxRemembered = 1 << 20
	maxWithin     = 30 * 24 * time.Hour
)

// By are the things that events of one pattern can have in common.
var By = []string{"context", "process", "container", "host"}

// patternKind tells the rules over several events apart.
type patternKind uint8

const (
	sequenceOf patternKind = iota + 1
	thresholdOf
	absenceOf
)

// patternDef is a sequence, threshold or absence as a file defines it.
type patternDef struct {
	kind     patternKind
	key      text // the key of the file, for problems
	by       string
	within   time.Duration
	steps    []text // of a sequence
	count    int64
	distinct text
	of       text // of an absence: what must not be missing
}

// pattern is the state of a rule over several events. Like all state of a set
// it belongs to one goroutine, and its time is that of the events.
type pattern struct {
	def    *patternDef
	rule   *Rule
	states map[patternKey]*list.Element
	// order has the states by when they were touched last, newest first.
	order list.List
	// due has those of an absence that wait.
	due      queue
	evicted  *uint64
	distinct *secl.Value[eventT, Element]
	seen     uint64 // the evaluation that was counted last
}

// patternKey says what the events have in common.
type patternKey struct {
	name string
	pid  uint32
	at   uint64
}

func (k patternKey) compare(o patternKey) int {
	return cmp.Or(cmp.Compare(k.name, o.name), cmp.Compare(k.pid, o.pid), cmp.Compare(k.at, o.at))
}

type patternState struct {
	key patternKey
	// starts has, for each step that was reached, when the latest chain that
	// reached it began; 0 where there is none.
	starts []int64
	// times are those of the latest events that count, a ring from head on;
	// with distinct values, hashes are the values in the same places.
	times  []int64
	head   int
	hashes []uint64
	// Of an absence: opened is the event that is to be followed by another,
	// deadline when it is certain that it was not, place where the state stands
	// in the queue.
	opened   *event.Event
	deadline int64
	place    int
}

// queue are the states of an absence, the first that runs out in front.
type queue []*patternState

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(q[i].deadline, q[j].deadline), q[i].key.compare(q[j].key)) < 0
}

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

func (q *queue) Push(x any) {
	st := x.(*patternState)
	st.place = len(*q)
	*q = append(*q, st)
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	st := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return st
}

// keyOf finds what an event has in common with others; false where it has no
// such thing.
func (d *patternDef) keyOf(e *event.Event) (patternKey, bool) {
	switch d.by {
	case "context":
		if len(e.Contexts) > 0 {
			return patternKey{name: e.Contexts[0].Key}, true
		}
		// An event of no context is one of its process.
	case "container":
		if e.Proc == nil || e.Proc.ContainerID == "" {
			return patternKey{}, false
		}
		return patternKey{name: e.Proc.ContainerID}, true
	case "host":
		return patternKey{}, true
	}
	if e.Proc == nil {
		return patternKey{}, false
	}
	return patternKey{pid: e.Proc.PID, at: e.Proc.StartNS}, true
}

func (p *pattern) state(k patternKey) *patternState {
	if el := p.states[k]; el != nil {
		p.order.MoveToFront(el)
		return el.Value.(*patternState)
	}
	if len(p.states) >= p.def.keys() {
		p.forget(p.order.Back().Value.(*patternState).key)
		*p.evicted++
	}
	st := &patternState{key: k}
	p.states[k] = p.order.PushFront(st)
	return st
}

// keys is how many keys the rule tells apart at a time: the fewer, the more it
// has to remember of each.
func (d *patternDef) keys() int {
	return min(maxKeys, max(minKeys, maxRemembered/int(max(d.count, 1))))
}

func (p *pattern) forget(k patternKey) {
	el := p.states[k]
	if el == nil {
		return
	}
	if st := el.Value.(*patternState); st.deadline != 0 {
		heap.Remove(&p.due, st.place)
	}
	p.order.Remove(el)
	delete(p.states, k)
}

// await notes that something must follow an event in time.
func (p *pattern) await(st *patternState, e *event.Event) {
	st.opened, st.deadline = e, max(e.TimeNS+int64(p.def.within), 1)
	heap.Push(&p.due, st)
}

// observe takes an event that fulfils a step, and tells whether the pattern is
// complete with it. eval numbers the evaluations.
func (p *pattern) observe(step int, c *evalCtx, eval uint64) bool {
	k, ok := p.def.keyOf(c.Event)
	if !ok {
		return false
	}
	switch p.def.kind {
	case sequenceOf:
		return p.sequence(step, k, c.Now)
	case thresholdOf:
		// An event counts once, however many ways it fulfils the condition.
		if p.seen == eval {
			return false
		}
		p.seen = eval
		return p.threshold(k, c)
	}
	if step == 1 {
		p.forget(k)
	} else if st := p.state(k); st.deadline == 0 {
		p.await(st, c.Event)
	}
	return false
}

// sequence notes a step. The steps of one event are evaluated last one first,
// so that no event is two steps of one chain.
func (p *pattern) sequence(step int, k patternKey, now int64) bool {
	if step > 0 {
		el := p.states[k]
		if el == nil {
			return false
		}
		st := el.Value.(*patternState)
		if st.starts[step-1] == 0 || now-st.starts[step-1] > int64(p.def.within) {
			return false
		}
		if step == len(p.def.steps)-1 {
			p.forget(k)
			return true
		}
		p.order.MoveToFront(el)
		st.starts[step] = st.starts[step-1]
		return false
	}
	st := p.state(k)
	if st.starts == nil {
		st.starts = make([]int64, len(p.def.steps)-1)
	}
	st.starts[0] = max(now, 1)
	return false
}

// threshold counts an event, or the value it has.
func (p *pattern) threshold(k patternKey, c *evalCtx) bool {
	st, oldest := p.state(k), c.Now-int64(p.def.within)
	if p.distinct != nil {
		h := fnv.New64a()
		// A hash never fails to write.
		_, _ = h.Write([]byte(p.distinct.Text(c)))
		sum, kept := h.Sum64(), 0
		for i, t := range st.times {
			if t >= oldest && st.hashes[i] != sum {
				st.times[kept], st.hashes[kept] = t, st.hashes[i]
				kept++
			}
		}
		st.times, st.hashes = append(st.times[:kept], c.Now), append(st.hashes[:kept], sum)
		if int64(len(st.times)) < p.def.count {
			return false
		}
		p.forget(k)
		return true
	}
	if int64(len(st.times)) < p.def.count {
		st.times = append(st.times, c.Now)
	} else {
		st.times[st.head] = c.Now
		st.head = (st.head + 1) % len(st.times)
	}
	if int64(len(st.times)) < p.def.count || st.times[st.head] < oldest {
		return false
	}
	p.forget(k)
	return true
}

// same tells whether the state of another set's pattern can be taken over.
func (d *patternDef) same(o *patternDef) bool {
	return d.kind == o.kind && d.by == o.by && d.within == o.within && d.count == o.count && d.distinct.s == o.distinct.s &&
		d.of.s == o.of.s && slices.EqualFunc(d.steps, o.steps, func(a, b text) bool { return a.s == b.s })
}

// patternKeys are the keys of the three forms.
var patternKeys = map[string][]string{
	"sequence":  {"by", "within", "steps"},
	"threshold": {"by", "within", "count", "distinct"},
	"absence":   {"by", "within", "of"},
}

// pattern reads a sequence, threshold or absence.
func (d *ruleDef) readPattern(r *reader, key string, n *yaml.Node) {
	at := text{s: key, at: r.pf.pos(n), node: n}
	if d.pattern != nil {
		r.note(n, false, "a rule has one of sequence, threshold and absence, not two")
		return
	}
	p := &patternDef{key: at, by: "context"}
	switch key {
	case "sequence":
		p.kind = sequenceOf
	case "threshold":
		p.kind = thresholdOf
	default:
		p.kind = absenceOf
	}
	d.pattern = p
	r.keys(n, key, patternKeys[key], func(k string, v *yaml.Node) {
		switch k {
		case "by":
			t := r.text(v, k)
			if p.by = t.s; !slices.Contains(By, p.by) {
				r.closed(t, "way to group events by", By)
			}
		case "within":
			p.within = r.duration(v, k)
		case "steps":
			p.steps = r.texts(v, k)
		case "count":
			p.count = r.int(v, k)
		case "distinct":
			p.distinct = r.text(v, k)
		case "of":
			p.of = r.text(v, k)
		}
	})
	if p.within <= 0 || p.within > maxWithin {
		r.note(n, false, "%s needs within: a duration up to %s", key, maxWithin)
	}
	limit := int64(maxThreshold)
	if p.distinct.s != "" {
		limit = maxDistinct
	}
	switch {
	case p.kind == sequenceOf && (len(p.steps) < 2 || len(p.steps) > maxSteps):
		r.note(n, false, "sequence needs 2 to %d steps", maxSteps)
	case p.kind == thresholdOf && (p.count < 2 || p.count > limit):
		r.note(n, false, "threshold needs a count from 2 to %d", limit)
	case p.kind == absenceOf && strings.TrimSpace(p.of.s) == "":
		r.note(n, false, "absence needs of: the condition that is to be met in time")
	}
}

// conditions are the texts that a rule's events must fulfil, by step. A
// sequence has steps in place of an expression.
func (d *ruleDef) conditions() ([]text, *Problem) {
	p := d.pattern
	switch {
	case d.watch != nil:
		return d.watch.conditions, nil
	case p != nil && p.kind == sequenceOf:
		if strings.TrimSpace(d.expression.s) != "" {
			return nil, &Problem{At: d.expression.at, Rule: d.ID, Msg: "a rule with a sequence has its conditions in the steps, not in expression"}
		}
		for i, s := range p.steps {
			if strings.TrimSpace(s.s) == "" {
				return nil, &Problem{At: s.at, Rule: d.ID, Msg: fmt.Sprintf("step %d of the sequence is empty", i+1)}
			}
		}
		return p.steps, nil
	case strings.TrimSpace(d.expression.s) == "":
		return nil, &Problem{At: d.At, Rule: d.ID, Msg: "rule has no expression"}
	case p != nil && p.kind == absenceOf:
		return []text{d.expression, p.of}, nil
	}
	return []text{d.expression}, nil
}

// stepPrograms are the compiled forms of one step.
type stepPrograms struct {
	step     int
	programs []*program
}

// compile compiles the condition of one step. filtered says why the rule is
// not loaded though it is not wrong.
func (l *loader) compile(d *ruleDef, t text, step int) (s stepPrograms, filtered string, ok bool) {
	s.step = step
	n, problems := parse.Expression(t.s)
	if n == nil {
		d.problems = append(d.problems, d.file.expressionProblems(d.ID, t, problems)...)
		return s, "", false
	}
	if why, missing := l.unobserved(n, 0); missing {
		return s, why, false
	}
	variants, err := l.expand(n, d.own)
	if err != nil {
		d.problems = append(d.problems, Problem{At: t.at, Rule: d.ID, Msg: err.Error()})
		return s, "", false
	}
	for _, v := range variants {
		p, more := secl.CompileNode(l.ruleEnv(d), v, secl.Options{})
		for _, q := range more {
			// The variants of one rule mostly have the same problems.
			if !slices.Contains(problems, q) {
				problems = append(problems, q)
			}
		}
		if p != nil {
			s.programs = append(s.programs, p)
		}
	}
	d.problems = append(d.problems, d.file.expressionProblems(d.ID, t, problems)...)
	if problems.Failed() {
		return s, "", false
	}
	for _, p := range s.programs {
		k, known := event.KindByName(p.Kind)
		if !known || k.Info().Hidden {
			d.problems = append(d.problems, Problem{At: t.at, Rule: d.ID, Msg: fmt.Sprintf("%s is not a kind of event", p.Kind)})
			return s, "", false
		}
		if !slices.Contains(d.Kinds, k) {
			d.Kinds = append(d.Kinds, k)
		}
	}
	return s, "", true
}

// firing is the step whose events carry the signal of the rule: its last one,
// or the only one. The signal of an absence is carried by the event that was
// not followed.
func (d *patternDef) firing() int {
	if d.kind == sequenceOf {
		return len(d.steps) - 1
	}
	return 0
}
