package ruleset

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/secl"
	"go.yaml.in/yaml/v3"
)

const (
	defaultSetSize = 100
	maxSetSize     = 10_000
	// maxCells bounds how many values the variables of a set have together,
	// over all processes, containers and control groups.
	maxCells = 64 << 10
)

type (
	eventT = event.Event
)

// variable is a variable that some rule sets.
type variable struct {
	name      string
	scope     string
	typ       secl.Type
	list      bool
	size      int
	ttl       time.Duration
	private   bool
	inherited bool
	fallback  cell
	declared  Position
}

// same tells whether values of one declaration can stay under the other.
func (v *variable) same(w *variable) bool {
	return v.name == w.name && v.scope == w.scope && v.typ == w.typ && v.list == w.list && v.inherited == w.inherited
}

// cell is a value. Of lists, written holds when each element was written last.
type cell struct {
	b       bool
	i       int64
	s       string
	ip      netip.Prefix
	ints    []int64
	strs    []string
	ips     []netip.Prefix
	written []int64
}

// scopeKey says whose value it is: a process by the node, a container or a
// control group by name, the agent's by nothing.
type scopeKey struct {
	ref  event.Ref
	name string
}

type cellKey struct {
	v     string
	scope scopeKey
}

// store holds the values of variables. It is used by one goroutine.
type store struct {
	cells map[cellKey]*cell
	// order are the keys by age, so that the oldest can be given up.
	order   []cellKey
	now     int64
	evicted uint64
	drawn   uint64
}

func newStore() *store { return &store{cells: map[cellKey]*cell{}} }

func (st *store) key(v *variable, p *event.Process) (scopeKey, bool) {
	switch v.scope {
	case "":
		return scopeKey{}, true
	case "process":
		return scopeKey{ref: p.ID}, !p.ID.IsZero()
	case "container":
		return scopeKey{name: p.ContainerID}, p.ContainerID != ""
	}
	return scopeKey{name: p.Cgroup}, p.Cgroup != ""
}

// read finds the value that the event's process sees; the declared default
// where there is none.
func (st *store) read(v *variable, e *event.Event) *cell {
	p := e.Proc
	if p == nil {
		p = &noProcess
	}
	for range maxLineage {
		if k, ok := st.key(v, p); ok {
			if c := st.cells[cellKey{v.name, k}]; c != nil && st.live(v, c) {
				return c
			}
		}
		if !v.inherited || p.Parent == nil {
			break
		}
		p = p.Parent
	}
	return &v.fallback
}

var noProcess event.Process

// live drops what has expired and tells whether anything is left.
func (st *store) live(v *variable, c *cell) bool {
	if v.ttl == 0 {
		return true
	}
	limit := st.now - int64(v.ttl)
	if !v.list {
		return len(c.written) > 0 && c.written[0] > limit
	}
	for i := 0; i < len(c.written); {
		if c.written[i] <= limit {
			c.remove(i)
			continue
		}
		i++
	}
	return len(c.written) > 0
}

func (c *cell) remove(i int) {
	c.written = slices.Delete(c.written, i, i+1)
	switch {
	case c.ints != nil:
		c.ints = slices.Delete(c.ints, i, i+1)
	case c.strs != nil:
		c.strs = slices.Delete(c.strs, i, i+1)
	case c.ips != nil:
		c.ips = slices.Delete(c.ips, i, i+1)
	}
}

// write sets a scalar, or adds to a list, which is a set with a limit.
func (st *store) write(v *variable, k scopeKey, src *cell) {
	ck := cellKey{v.name, k}
	c := st.cells[ck]
	if c == nil {
		if len(st.cells) >= maxCells {
			delete(st.cells, st.order[0])
			st.order = st.order[1:]
			st.evicted++
		}
		c = &cell{}
		st.cells[ck] = c
		st.order = append(st.order, ck)
	}
	if !v.list {
		c.b, c.i, c.s, c.ip = src.b, src.i, src.s, src.ip
		c.written = append(c.written[:0], st.now)
		return
	}
	switch v.typ {
	case secl.Int:
		c.ints = addTo(c, c.ints, one(src.ints, src.i), v.size, st.now)
	case secl.String:
		c.strs = addTo(c, c.strs, one(src.strs, src.s), v.size, st.now)
	case secl.IP:
		c.ips = addTo(c, c.ips, one(src.ips, src.ip), v.size, st.now)
	}
}

// one is a list, or a single value as one.
func one[V any](list []V, v V) []V {
	if list != nil {
		return list
	}
	return []V{v}
}

// addTo adds elements to a list without doubles. The element written last is
// at the end, the first one goes when the list is full.
func addTo[V comparable](c *cell, list, add []V, size int, now int64) []V {
	for _, v := range add {
		i := slices.Index(list, v)
		if i < 0 && len(list) >= size {
			i = 0
		}
		if i >= 0 {
			list = slices.Delete(list, i, i+1)
			c.written = slices.Delete(c.written, i, i+1)
		}
		list = append(list, v)
		c.written = append(c.written, now)
	}
	return list
}

// getters shows a variable to the language.
func (st *store) getters(v *variable) secl.Variable[eventT] {
	out := secl.Variable[eventT]{Type: v.typ, List: v.list}
	switch {
	case v.typ == secl.Bool:
		out.Get.Bool = func(e *eventT) bool { return st.read(v, e).b }
	case v.typ == secl.Int && v.list:
		out.Get.Ints = func(e *eventT) []int64 { return st.read(v, e).ints }
	case v.typ == secl.Int:
		out.Get.Int = func(e *eventT) int64 { return st.read(v, e).i }
	case v.typ == secl.String && v.list:
		out.Get.Strs = func(e *eventT) []string { return st.read(v, e).strs }
	case v.typ == secl.String:
		out.Get.Str = func(e *eventT) string { return st.read(v, e).s }
	case v.list:
		out.Get.IPs = func(e *eventT) []netip.Prefix { return st.read(v, e).ips }
	default:
		out.Get.IP = func(e *eventT) netip.Prefix { return st.read(v, e).ip }
	}
	return out
}

// uuids is the built-in variable that reads as another UUID each time. It is a
// function of the event and of how often it was read before, so that the same
// stream gives the same values.
func (st *store) uuids() secl.Variable[eventT] {
	return secl.Variable[eventT]{Type: secl.String, Get: secl.Getters[*eventT]{Str: func(e *eventT) string {
		st.drawn++
		var b [24]byte
		binary.BigEndian.PutUint64(b[:], e.Run)
		binary.BigEndian.PutUint64(b[8:], e.Seq)
		binary.BigEndian.PutUint64(b[16:], st.drawn)
		sum := sha256.Sum256(b[:])
		sum[6] = sum[6]&0x0f | 0x40
		sum[8] = sum[8]&0x3f | 0x80
		return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
	}}}
}

// literal reads a YAML value: an integer, a boolean, a string, or a list of
// integers or strings.
func literal(n *yaml.Node) (c cell, t secl.Type, list bool, err error) {
	if n.Kind == yaml.SequenceNode {
		for i, m := range n.Content {
			m = deref(m)
			if m.Kind != yaml.ScalarNode {
				return c, 0, false, fmt.Errorf("a list has integers or strings")
			}
			e, et, _, err := literal(m)
			if err != nil {
				return c, 0, false, err
			}
			if i > 0 && et != t || et == secl.Bool {
				return c, 0, false, fmt.Errorf("a list has integers or strings, all of one type")
			}
			t = et
			if t == secl.Int {
				c.ints = append(c.ints, e.i)
			} else {
				c.strs = append(c.strs, e.s)
			}
		}
		if len(n.Content) == 0 {
			t = secl.String
		}
		return c, t, true, nil
	}
	if n.Kind != yaml.ScalarNode {
		return c, 0, false, fmt.Errorf("a value is an integer, a boolean, a string or a list")
	}
	switch n.Tag {
	case "!!int":
		if n.Decode(&c.i) != nil {
			return c, 0, false, fmt.Errorf("%s is not an integer of 64 bits", n.Value)
		}
		return c, secl.Int, false, nil
	case "!!bool":
		if n.Decode(&c.b) != nil {
			return c, 0, false, fmt.Errorf("%s is not a boolean", n.Value)
		}
		return c, secl.Bool, false, nil
	}
	c.s = n.Value
	return c, secl.String, false, nil
}

// declare works out the variable that a set action writes. It does not need
// the variables to be known yet.
func (l *loader) declare(a *SetAction, at Position) (*variable, error) {
	v := &variable{
		name: a.Name, scope: a.Scope, size: a.Size, ttl: a.TTL, private: a.Private, inherited: a.Inherited, declared: at,
	}
	if a.Scope != "" {
		v.name = a.Scope + "." + a.Name
	}
	var err error
	switch {
	case a.value != nil:
		a.constant, v.typ, v.list, err = literal(a.value)
	case a.Field != "":
		name, index := element(a.Field)
		f, ok := l.cfg.Schema.Field(name)
		if !ok {
			return nil, fmt.Errorf("set: unknown field %q", a.Field)
		}
		v.typ, v.list = f.Type, f.List && !index
	default:
		_, v.typ, v.list, err = literal(a.fallback)
	}
	if err != nil {
		return nil, fmt.Errorf("set: value: %w", err)
	}
	if a.Append {
		if v.typ == secl.Bool {
			return nil, fmt.Errorf("set: booleans cannot be appended")
		}
		v.list = true
	}
	if a.fallback != nil {
		c, t, list, err := literal(a.fallback)
		if err != nil {
			return nil, fmt.Errorf("set: default_value: %w", err)
		}
		if t != v.typ || list && !v.list {
			return nil, fmt.Errorf("set: default_value has another type than the variable")
		}
		if v.list && !list {
			c.ints, c.strs = one(c.ints, c.i), one(c.strs, c.s)
		}
		v.fallback = c
	}
	if _, taken := l.cfg.Schema.Field(v.name); taken || secl.IsConstant(v.name) || l.env.Macros[v.name] != nil {
		return nil, fmt.Errorf("set: the name %s is taken by a field, a constant or a macro", v.name)
	}
	return v, nil
}

// element takes a literal index off the name of a field.
func element(name string) (base string, index bool) {
	base, ok := strings.CutSuffix(name, "]")
	if i := strings.LastIndexByte(base, '['); ok && i > 0 && digits(base[i+1:]) && i+1 < len(base) {
		return base[:i], true
	}
	return name, false
}

// processOf finds a process by its id among those an event knows: its own, the
// one it is about, and what is above them.
func processOf(e *event.Event, pid int64) *event.Process {
	known := [2]*event.Process{e.Proc, nil}
	if t := e.Target(); t != nil {
		known[1] = t.Proc
	}
	for _, p := range known {
		for i := 0; p != nil && i < maxLineage; p, i = p.Parent, i+1 {
			if int64(p.PID) == pid {
				return p
			}
		}
	}
	return nil
}

// run carries out a set action for an event.
func (st *store) run(a *SetAction, c *evalCtx) {
	p := c.Event.Proc
	if p == nil {
		p = &noProcess
	}
	if a.scope != nil {
		if p = processOf(c.Event, a.scope.Int(c)); p == nil {
			return
		}
	}
	k, ok := st.key(a.variable, p)
	if !ok {
		return
	}
	if a.source == nil {
		st.write(a.variable, k, &a.constant)
		return
	}
	var v cell
	switch s := a.source; {
	case s.Bool != nil:
		v.b = s.Bool(c)
	case s.Int != nil:
		v.i = s.Int(c)
	case s.Str != nil:
		v.s = s.Str(c)
	case s.EachInt != nil:
		v.ints = []int64{}
		s.EachInt(c, func(x int64) bool { v.ints = append(v.ints, x); return len(v.ints) == maxSetSize })
	case s.EachStr != nil:
		v.strs = []string{}
		s.EachStr(c, func(x string) bool { v.strs = append(v.strs, x); return len(v.strs) == maxSetSize })
	case s.EachIP != nil:
		s.EachIP(c, func(x netip.Prefix) bool {
			v.ip = x
			if a.source.List {
				v.ips = append(v.ips, x)
			}
			return len(v.ips) == maxSetSize
		})
	}
	st.write(a.variable, k, &v)
}
