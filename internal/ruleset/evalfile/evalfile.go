// Package evalfile reads events as people and programs write them down: one
// JSON object a line, with the fields by the names that rules use.
//
//	{"kind":"exec","at":1700000000000000000,"fields":{"exec.file.path":"/usr/bin/curl","process.uid":0,
//	 "exec.argv":["-s"],"process.ancestors":[{"file.path":"/usr/bin/bash","uid":0}]}}
//
// at is nanoseconds since the epoch or RFC 3339. A field that is absent has
// its zero value. A field that is computed from others, as a file's name from
// its path, is computed unless it is given. What clew events --json prints can
// be read.
package evalfile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/netip"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/secl"
)

// MaxLine is the longest line that is read, in bytes.
const MaxLine = 16 << 20

// maxAncestors bounds the lineage of one event.
const maxAncestors = 4096

const ancestors = "process.ancestors"

// value is a field's value; the member that fits the field's type is set.
type value struct {
	b    bool
	n    int64
	s    string
	ip   netip.Addr
	list []string
}

// A Decoder makes events out of lines. Its schema reads the events that it
// made, and no others need it. It serves one goroutine.
type Decoder struct {
	schema    *ruleset.Schema
	process   map[string]setter[event.Process]
	file      map[string]setter[event.File]
	address   map[string]setter[event.Address]
	event     map[string]setter[event.Event]
	payload   map[event.Kind]int
	processes map[*event.Process]map[string]value
	events    map[*event.Event]map[string]value
	unknown   map[string]bool
}

// New returns a decoder.
func New() (*Decoder, error) {
	base, err := ruleset.NewSchema()
	if err != nil {
		return nil, err
	}
	d := &Decoder{
		payload:   payloads(),
		process:   setters(event.ProcessFields, blank, direct),
		file:      setters(event.FileFields, blank, direct),
		address:   setters(event.AddressFields, blank, direct),
		processes: map[*event.Process]map[string]value{},
		events:    map[*event.Event]map[string]value{},
		unknown:   map[string]bool{},
	}
	d.event = setters(event.EventFields, func(g event.Getter[event.Event]) *event.Event {
		e := &event.Event{Kind: g.Kind}
		d.allocate(e)
		return e
	}, func(e *event.Event, g event.Getter[event.Event]) (reflect.Value, []int) {
		i := d.payload[g.Kind]
		return reflect.ValueOf(e).Elem().Field(i).Elem(), []int{i}
	})
	d.schema = base.Map(d.overridable)
	return d, nil
}

func (d *Decoder) allocate(e *event.Event) {
	i := d.payload[e.Kind]
	v := reflect.ValueOf(e).Elem().Field(i)
	v.Set(reflect.New(v.Type().Elem()))
}

// Schema is what rules are to be loaded with: it knows the computed fields
// that a line gave.
func (d *Decoder) Schema() *ruleset.Schema { return d.schema }

// Unknown returns the names of fields and kinds that no rule can name and that
// were left out, sorted.
func (d *Decoder) Unknown() []string {
	out := make([]string, 0, len(d.unknown))
	for n := range d.unknown {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}

type line struct {
	Kind       string                     `json:"kind"`
	At         json.RawMessage            `json:"at"`
	Host       string                     `json:"host"`
	ContextKey string                     `json:"contextKey"`
	Fields     map[string]json.RawMessage `json:"fields"`
}

// A LineError says which line is no event.
type LineError struct {
	Line int // from 1
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

func (e *LineError) Unwrap() error { return e.Err }

// Read calls f for every event of r, numbered from 0. Empty lines are left
// out. The event is f's to keep.
func (d *Decoder) Read(r io.Reader, f func(n int, e *event.Event) error) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, 64<<10), MaxLine)
	n, lines := 0, 0
	for sc.Scan() {
		lines++
		if len(bytes.TrimSpace(sc.Bytes())) == 0 {
			continue
		}
		e, err := d.Decode(sc.Bytes())
		if err != nil {
			return &LineError{Line: lines, Err: err}
		}
		if err := f(n, e); err != nil {
			return err
		}
		n++
	}
	if err := sc.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("longer than %d bytes", MaxLine)
		}
		return &LineError{Line: lines + 1, Err: err}
	}
	return nil
}

// Forget gives up what was noted about an event that is not needed any more.
func (d *Decoder) Forget(e *event.Event) {
	delete(d.events, e)
	for p := e.Proc; p != nil; p = p.Parent {
		delete(d.processes, p)
	}
}

// Decode makes the event of one line. One of a kind that no rule can be about
// has kind 0, which matches nothing.
func (d *Decoder) Decode(data []byte) (*event.Event, error) {
	var l line
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, fmt.Errorf("not an event: %w", err)
	}
	if l.Kind == "" {
		return nil, errors.New("event has no kind")
	}
	at, err := when(l.At)
	if err != nil {
		return nil, err
	}
	e := &event.Event{TimeNS: at, Proc: &event.Process{}, Host: &event.Host{Name: l.Host}}
	k, ok := event.KindByName(l.Kind)
	if !ok || k.Info().Hidden {
		d.unknown["kind "+l.Kind] = true
		return e, nil
	}
	e.Kind = k
	d.allocate(e)
	if l.ContextKey != "" {
		e.Contexts = []*event.Context{{Key: l.ContextKey}}
	}
	if err := d.lineage(e, l.Fields); err != nil {
		return nil, err
	}
	// Stored members come first: what is computed from them is compared with
	// what is given.
	names := make([]string, 0, len(l.Fields))
	for name := range l.Fields {
		names = append(names, name)
	}
	sort.Strings(names)
	var given []func() error
	for _, name := range names {
		later, err := d.field(e, name, l.Fields[name])
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", name, err)
		}
		if later != nil {
			given = append(given, later)
		}
	}
	for _, f := range given {
		if err := f(); err != nil {
			return nil, err
		}
	}
	e.Proc.ID = identity(e.Proc)
	e.PID, e.TID, e.ProcID = e.Proc.PID, e.Proc.TID, e.Proc.ID
	child := e.Proc
	for p := child.Parent; p != nil; p = p.Parent {
		if p.PID != 0 {
			p.ID = identity(p)
			child.ParentID = p.ID
		}
		child = p
	}
	return e, nil
}

// identity names a process image by what two lines about it have in common.
func identity(p *event.Process) event.Ref {
	h := fnv.New64a()
	// A hash never fails to write.
	_, _ = fmt.Fprintf(h, "%d %d", p.PID, p.CreatedAt)
	return event.Ref{Run: 1, Seq: h.Sum64() | 1}
}

// when reads nanoseconds or RFC 3339.
func when(raw json.RawMessage) (int64, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return 0, nil
	}
	s := string(raw)
	if raw[0] == '"' {
		if err := json.Unmarshal(raw, &s); err != nil {
			return 0, fmt.Errorf("at: %w", err)
		}
		if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
			return t.UnixNano(), nil
		}
	}
	n, err := integer(s)
	if err != nil {
		return 0, fmt.Errorf("at: %q is neither nanoseconds nor RFC 3339", s)
	}
	return n, nil
}

// integer reads a whole number, however JSON has it.
func integer(s string) (int64, error) {
	if n, err := strconv.ParseInt(s, 0, 64); err == nil {
		return n, nil
	}
	if n, err := strconv.ParseUint(s, 0, 64); err == nil {
		return int64(n), nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != float64(int64(f)) {
		return 0, fmt.Errorf("%q is no integer", s)
	}
	return int64(f), nil
}

// lineage makes the processes above the actor.
func (d *Decoder) lineage(e *event.Event, fields map[string]json.RawMessage) error {
	raw, ok := fields[ancestors]
	if !ok {
		return nil
	}
	var list []map[string]json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return fmt.Errorf("field %s: want a list of objects: %w", ancestors, err)
	}
	if len(list) > maxAncestors {
		return fmt.Errorf("field %s: more than %d", ancestors, maxAncestors)
	}
	child := e.Proc
	for i, obj := range list {
		p := &event.Process{}
		child.Parent = p
		child = p
		names := make([]string, 0, len(obj))
		for name := range obj {
			names = append(names, name)
		}
		sort.Strings(names)
		var given []func() error
		for _, name := range names {
			later, err := d.ofProcess(p, name, obj[name])
			if err != nil {
				return fmt.Errorf("field %s[%d].%s: %w", ancestors, i, name, err)
			}
			given = append(given, later)
		}
		for _, f := range given {
			if f == nil {
				continue
			}
			if err := f(); err != nil {
				return err
			}
		}
	}
	return nil
}

// field stores one field. What it returns is to be done when all stored
// members are set.
func (d *Decoder) field(e *event.Event, name string, raw json.RawMessage) (func() error, error) {
	if name == ancestors {
		return nil, nil
	}
	name = d.schema.Canonical(name)
	switch name {
	case "event.timestamp":
		return nil, nil // at is the time
	case "event.hostname":
		return nil, json.Unmarshal(raw, &e.Host.Name)
	case "event.async":
		var async bool
		if err := json.Unmarshal(raw, &async); err != nil {
			return nil, err
		}
		if async {
			e.Flags |= event.FlagAsync
		}
		return nil, nil
	case "process.correlation_key":
		var key string
		if err := json.Unmarshal(raw, &key); err != nil {
			return nil, err
		}
		if key != "" {
			e.Contexts = []*event.Context{{Key: key}}
		}
		return nil, nil
	}
	if s, ok := d.event[name]; ok && s.get.Kind == e.Kind {
		return store(&s, e, name, raw, func(v value) { note(d.events, e, name, v) })
	}
	for _, r := range event.FileRefs {
		rest, ok := strings.CutPrefix(name, r.Path+".")
		if s, have := d.file[rest]; ok && have && r.Kind == e.Kind {
			return store(&s, r.Get(e), name, raw, func(v value) { note(d.events, e, name, v) })
		}
	}
	for _, r := range event.AddressRefs {
		rest, ok := strings.CutPrefix(name, r.Path+".")
		if s, have := d.address[rest]; ok && have && r.Kind == e.Kind {
			return store(&s, r.Get(e), name, raw, func(v value) { note(d.events, e, name, v) })
		}
	}
	for _, r := range event.ProcessRefs {
		if rest, ok := strings.CutPrefix(name, r.Path+"."); ok && r.Kind == e.Kind {
			return d.ofProcess(e.Proc, rest, raw)
		}
	}
	if rest, ok := strings.CutPrefix(name, "process.parent."); ok {
		if e.Proc.Parent == nil {
			e.Proc.Parent = &event.Process{}
		}
		return d.ofProcess(e.Proc.Parent, rest, raw)
	}
	if strings.HasPrefix(name, "container.") || strings.HasPrefix(name, "cgroup.") {
		return d.ofProcess(e.Proc, name, raw)
	}
	if rest, ok := strings.CutPrefix(name, "process."); ok {
		return d.ofProcess(e.Proc, rest, raw)
	}
	if f, ok := d.schema.Field(name); ok && f.Kind == "" && f.Iter == "" {
		v, err := parse(seclType(f), raw)
		if err != nil {
			return nil, err
		}
		note(d.events, e, name, v)
		return nil, nil
	}
	d.unknown[name] = true
	return nil, nil
}

func seclType(f *secl.Field[event.Event, event.Process]) event.Type {
	switch {
	case f.Type == secl.Bool:
		return event.TypeBool
	case f.Type == secl.Int:
		return event.TypeInt
	case f.Type == secl.IP:
		return event.TypeIP
	case f.List:
		return event.TypeStrings
	}
	return event.TypeString
}

// ofProcess stores a field of a process. The arguments are two fields of one
// member: the first one, and the others.
func (d *Decoder) ofProcess(p *event.Process, name string, raw json.RawMessage) (func() error, error) {
	switch name {
	case "argv":
		var argv []string
		if err := json.Unmarshal(raw, &argv); err != nil {
			return nil, err
		}
		p.AllArgs = append([]string{p.Argv0()}, argv...)
		return nil, nil
	case "argv0":
		var argv0 string
		if err := json.Unmarshal(raw, &argv0); err != nil {
			return nil, err
		}
		p.AllArgs = append([]string{argv0}, p.Argv()...)
		return nil, nil
	}
	s, ok := d.process[name]
	if !ok {
		d.unknown["process."+name] = true
		return nil, nil
	}
	return store(&s, p, name, raw, func(v value) { note(d.processes, p, name, v) })
}

// store sets a member; for a computed field it returns what notes the value
// that was given, where it is another than the computed one.
func store[T any](s *setter[T], x *T, name string, raw json.RawMessage, note func(value)) (func() error, error) {
	v, err := parse(s.typ, raw)
	if err != nil {
		return nil, err
	}
	if s.set(x, v) {
		return nil, nil
	}
	return func() error {
		if !s.equal(x, v) {
			note(v)
		}
		return nil
	}, nil
}

func note[T any](m map[*T]map[string]value, x *T, name string, v value) {
	if m[x] == nil {
		m[x] = map[string]value{}
	}
	m[x][name] = v
}

func parse(t event.Type, raw json.RawMessage) (v value, err error) {
	if string(raw) == "null" {
		return v, nil
	}
	switch t {
	case event.TypeBool:
		err = json.Unmarshal(raw, &v.b)
	case event.TypeInt:
		s := string(raw)
		if len(raw) > 0 && raw[0] == '"' {
			if err := json.Unmarshal(raw, &s); err != nil {
				return v, err
			}
		}
		v.n, err = integer(s)
	case event.TypeString:
		err = json.Unmarshal(raw, &v.s)
	case event.TypeStrings:
		err = json.Unmarshal(raw, &v.list)
	case event.TypeIP:
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return v, err
		}
		if s == "" {
			return v, nil
		}
		if p, perr := netip.ParsePrefix(s); perr == nil {
			v.ip = p.Addr()
			return v, nil
		}
		v.ip, err = netip.ParseAddr(s)
	}
	return v, err
}

// overridable lets a field be read from what a line gave, where it gave
// something else than what is computed.
func (d *Decoder) overridable(f secl.Field[event.Event, event.Process]) secl.Field[event.Event, event.Process] {
	if f.Iter != "" {
		name := strings.TrimPrefix(f.Name, f.Iter+".")
		if s, ok := d.process[name]; ok && s.path == nil {
			f.Elem = wrap(f.Elem, func(p *event.Process) (value, bool) {
				v, ok := d.processes[p][name]
				return v, ok
			})
		}
		return f
	}
	name, process := f.Name, func(*event.Event) *event.Process { return nil }
	own := func(e *event.Event) *event.Process { return e.Proc }
	switch {
	case strings.HasPrefix(name, "process.parent."):
		name = strings.TrimPrefix(name, "process.parent.")
		process = func(e *event.Event) *event.Process {
			if e.Proc == nil {
				return nil
			}
			return e.Proc.Parent
		}
	case strings.HasPrefix(name, "process."):
		name, process = strings.TrimPrefix(name, "process."), own
	default:
		for _, r := range event.ProcessRefs {
			_, isEvent := d.event[name]
			if rest, ok := strings.CutPrefix(name, r.Path+"."); ok && !isEvent {
				name, process = rest, own
			}
		}
	}
	full := f.Name
	if s, ok := d.event[full]; ok && s.path != nil {
		return f
	}
	for _, r := range event.FileRefs {
		rest, below := strings.CutPrefix(full, r.Path+".")
		if s, ok := d.file[rest]; ok && below && s.path != nil {
			return f
		}
	}
	for _, r := range event.AddressRefs {
		rest, below := strings.CutPrefix(full, r.Path+".")
		if s, ok := d.address[rest]; ok && below && s.path != nil {
			return f
		}
	}
	if s, ok := d.process[name]; ok && s.path != nil && name != full {
		return f
	}
	f.Get = wrap(f.Get, func(e *event.Event) (value, bool) {
		if v, ok := d.events[e][full]; ok {
			return v, true
		}
		if p := process(e); p != nil {
			v, ok := d.processes[p][name]
			return v, ok
		}
		return value{}, false
	})
	return f
}

func wrap[T any](g secl.Getters[T], given func(*T) (value, bool)) secl.Getters[T] {
	out := g
	if g.Bool != nil {
		out.Bool = func(x *T) bool {
			if v, ok := given(x); ok {
				return v.b
			}
			return g.Bool(x)
		}
	}
	if g.Int != nil {
		out.Int = func(x *T) int64 {
			if v, ok := given(x); ok {
				return v.n
			}
			return g.Int(x)
		}
	}
	if g.Str != nil {
		out.Str = func(x *T) string {
			if v, ok := given(x); ok {
				return v.s
			}
			return g.Str(x)
		}
	}
	if g.Strs != nil {
		out.Strs = func(x *T) []string {
			if v, ok := given(x); ok {
				return v.list
			}
			return g.Strs(x)
		}
	}
	if g.Walk != nil {
		out.Walk = func(x *T, yield func(string) bool) bool {
			if v, ok := given(x); ok {
				return slices.ContainsFunc(v.list, yield)
			}
			return g.Walk(x, yield)
		}
	}
	return out
}
