package pipeline

import (
	"strconv"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/ruleset"
)

// QuestionHash is the question of an Answer about a file: key is the number of
// the event that asked, File the reply.
const QuestionHash = "hash"

// maxAsked bounds the questions that an answer is awaited for; beyond it the
// oldest are given up, and answers to them are not taken.
const maxAsked = 65536

// An askKey names a question: which file of which event.
type askKey struct {
	seq   uint64
	field string
}

// An awaited question.
type awaited struct {
	kept bool           // so is the event
	proc *event.Process // whose file it is; nil for a file of the event itself
}

// asked are the questions about files that have not been answered.
type asked struct {
	open  map[askKey]*awaited
	order []askKey // oldest first, answered ones among them
	last  []askKey // of the event at hand
}

// begin turns to the next event.
func (a *asked) begin() { a.last = a.last[:0] }

// kept notes that an event is kept, and so are answers to what it asked.
func (a *asked) kept(seq uint64) {
	for _, k := range a.last {
		if w := a.open[k]; w != nil && k.seq == seq {
			w.kept = true
		}
	}
}

// add notes a question. It is false when it has been asked already.
func (a *asked) add(k askKey, w *awaited) bool {
	if a.open[k] != nil {
		return false
	}
	if a.open == nil {
		a.open = map[askKey]*awaited{}
	}
	if len(a.order) >= 2*maxAsked {
		// Most have been answered.
		left := a.order[:0]
		for _, k := range a.order {
			if a.open[k] != nil {
				left = append(left, k)
			}
		}
		for len(left) > maxAsked {
			delete(a.open, left[0])
			left = left[1:]
		}
		a.order = append(a.order[:0], left...)
	}
	a.open[k] = w
	a.order = append(a.order, k)
	a.last = append(a.last, k)
	return true
}

// ask notes a question and hands it on. late is a question of an event that was
// evaluated before.
func (p *Pipeline) ask(x ruleset.Effect, late bool) {
	w := &awaited{kept: late}
	for n := x.Event.Proc; n != nil && w.proc == nil; n = n.Parent {
		if x.Hash.File == &n.File || x.Hash.File == &n.Interpreter {
			w.proc = n
		}
	}
	if t := x.Event.Target(); t != nil && w.proc == nil {
		for n := t.Proc; n != nil && w.proc == nil; n = n.Parent {
			if x.Hash.File == &n.File || x.Hash.File == &n.Interpreter {
				w.proc = n
			}
		}
	}
	if !p.asked.add(askKey{x.Event.Seq, x.Hash.Field}, w) {
		return
	}
	p.stats.Hashes++
	if p.cfg.Effect != nil {
		p.cfg.Effect(x)
	}
}

// fileFacts joins an answer to what asked. A file of the event has most often
// left already: the answer follows it as a record of its own. A process'
// executable is known from then on to all that looks at the process, rules among
// them, and the process is sent again: the younger one counts.
func (p *Pipeline) fileFacts(a *event.Answer, emit Emit) error {
	seq, err := strconv.ParseUint(a.Key, 10, 64)
	if err != nil || a.File == nil {
		p.stats.BadRecord++
		return nil
	}
	k := askKey{seq, a.File.Field}
	w := p.asked.open[k]
	delete(p.asked.open, k)
	if w == nil || !w.kept && w.proc == nil {
		p.stats.NoFacts++
		return nil
	}
	p.stats.Facts++
	if w.proc == nil {
		f := *a.File
		f.Event = event.Ref{Run: p.run, Seq: seq}
		return p.send(emit, event.SpoolRecord{FileFacts: &f})
	}
	file := &w.proc.File
	if isInterpreter(a.File.Field) {
		file = &w.proc.Interpreter
	}
	event.Complete(file, a.File)
	if w.proc.Sent != p.sent {
		return nil // it goes out with the first event that needs it
	}
	return p.send(emit, event.SpoolRecord{ProcessNode: w.proc})
}

func isInterpreter(field string) bool {
	const suffix = ".interpreter.file"
	return len(field) > len(suffix) && field[len(field)-len(suffix):] == suffix
}
