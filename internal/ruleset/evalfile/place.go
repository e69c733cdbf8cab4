package evalfile

import (
	"strings"

	"github.com/clewsec/clew/internal/event"
)

// ancestors is the list below a process, after the process's own path.
const ancestors = ".ancestors"

// A place is a path at which events, or those of one kind, have a process.
type place struct {
	path string // empty for the process's own fields that stand alone, as container.id
	kind event.Kind
	// look finds the process; nil where there is none.
	look func(*event.Event) *event.Process
	// at finds it, and makes it where there is none.
	at func(*event.Event) *event.Process
}

// places are all of them, those whose path begins with another's before it.
func places() []place {
	parentOf := func(of place) place {
		return place{
			path: of.path + ".parent", kind: of.kind,
			look: func(e *event.Event) *event.Process {
				if p := of.look(e); p != nil {
					return p.Parent
				}
				return nil
			},
			at: func(e *event.Event) *event.Process {
				p := of.at(e)
				if p.Parent == nil {
					p.Parent = &event.Process{}
				}
				return p.Parent
			},
		}
	}
	own := func(e *event.Event) *event.Process { return e.Proc }
	actor := place{path: "process", look: own, at: own}
	out := []place{parentOf(actor), actor}
	for _, r := range event.ProcessRefs {
		pl := place{path: r.Path, kind: r.Kind, look: r.Get, at: own}
		if r.Context {
			pl.at = func(e *event.Event) *event.Process {
				t := e.Target()
				if t.Proc == nil {
					t.Proc = &event.Process{}
				}
				return t.Proc
			}
			out = append(out, parentOf(pl))
		}
		out = append(out, pl)
	}
	return out
}

// place finds the process that a field belongs to, and the field's name below
// it. A field of a kind's own is not among them.
func (d *Decoder) place(name string) (pl place, rest string, ok bool) {
	if _, own := d.event[name]; own {
		return place{}, "", false
	}
	for _, pl := range d.places {
		if rest, ok := strings.CutPrefix(name, pl.path+"."); ok {
			return pl, rest, true
		}
	}
	if strings.HasPrefix(name, "container.") || strings.HasPrefix(name, "cgroup.") {
		own := func(e *event.Event) *event.Process { return e.Proc }
		return place{look: own, at: own}, name, true
	}
	return place{}, "", false
}
