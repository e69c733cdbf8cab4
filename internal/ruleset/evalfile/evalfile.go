// Package evalfile reads events as people and programs write them down: one
// JSON object a line, with the fields by the names that rules use.
//
//	{"kind":"exec","at":1700000000000000000,"fields":{"exec.file.path":"/usr/bin/curl","process.uid":0,
//	 "exec.argv":["-s"],"process.ancestors":[{"file.path":"/usr/bin/bash","uid":0}]}}
//
// at is nanoseconds since the epoch or RFC 3339. A field that is absent has
// its zero value. A field that is computed from others, as a file's name from
// its path, is computed unless it is given. file.other_paths of a process are
// the other paths that rules on its path accept. What clew events --json prints
// can be read.
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

// maxObjects bounds a list of objects of one event.
const maxObjects = 4096

// value is a field's value; the member that fits the field's type is set.
type value struct {
	b    bool
	n    int64
	s    string
	ip   netip.Addr
	list []string
	nums []int64
}

// A Decoder makes events out of lines. Its schema reads the events that it
// made, and no others need it. It serves one goroutine.
type Decoder struct {
	schema    *ruleset.Schema
	places    []place
	process   map[string]setter[event.Process]
	file      map[string]setter[event.File]
	address   map[string]setter[event.Address]
	headers   map[string]setter[event.Headers]
	flow      map[string]setter[event.Flow]
	event     map[string]setter[event.Event]
	payload   map[event.Kind]int
	processes map[*event.Process]map[string]value
	events    map[*event.Event]map[string]value
	flows     map[*event.Flow]map[string]value
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
		places:    places(),
		process:   setters(event.ProcessFields, blank, direct),
		file:      setters(event.FileFields, blank, direct),
		address:   setters(event.AddressFields, blank, direct),
		headers:   setters(event.HeadersFields, blank, direct),
		flow:      setters(event.FlowFields, blank, direct),
		processes: map[*event.Process]map[string]value{},
		events:    map[*event.Event]map[string]value{},
		flows:     map[*event.Flow]map[string]value{},
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
	if t := e.Target(); t != nil {
		for p := t.Proc; p != nil; p = p.Parent {
			delete(d.processes, p)
		}
	}
	for _, r := range event.FlowRefs {
		if r.Kind == e.Kind && e.Complete() {
			list := *r.Get(e)
			for i := range list {
				delete(d.flows, &list[i])
			}
		}
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
	if err := d.Set(e, l.Fields); err != nil {
		return nil, err
	}
	return e, nil
}

// Set puts the values of fields into an event, which has its process and the
// part of its kind.
func (d *Decoder) Set(e *event.Event, fields map[string]json.RawMessage) error {
	if err := d.lists(e, fields); err != nil {
		return err
	}
	err := each(fields, func(name string, raw json.RawMessage) (func() error, error) { return d.field(e, name, raw) })
	if err != nil {
		return fmt.Errorf("field %w", err)
	}
	if e.Proc.ID.IsZero() {
		identify(e.Proc)
	}
	e.PID, e.TID, e.ProcID = e.Proc.PID, e.Proc.TID, e.Proc.ID
	if t := e.Target(); t != nil && t.Proc != nil {
		identify(t.Proc)
		t.PID, t.Node = t.Proc.PID, t.Proc.ID
	}
	return nil
}

// Given returns the computed fields of an event that were given another value
// than the computed one, sorted. A schema other than the decoder's knows
// nothing of them.
func (d *Decoder) Given(e *event.Event) []string {
	var out []string
	for name := range d.events[e] {
		out = append(out, name)
	}
	for _, pl := range d.places {
		if pl.kind != 0 && pl.kind != e.Kind {
			continue
		}
		for name := range d.processes[pl.look(e)] {
			out = append(out, pl.path+name)
		}
	}
	sort.Strings(out)
	return slices.Compact(out)
}

// identify gives a process and those above it ids.
func identify(child *event.Process) {
	child.ID = identity(child)
	for p := child.Parent; p != nil; p = p.Parent {
		if p.PID != 0 {
			p.ID = identity(p)
			child.ParentID = p.ID
		}
		child = p
	}
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

// lists makes the processes above others, and the flows.
func (d *Decoder) lists(e *event.Event, fields map[string]json.RawMessage) error {
	for _, pl := range d.places {
		raw, ok := fields[pl.path+ancestors]
		if _, isList := d.schema.Root(pl.path + ancestors); !ok || !isList || pl.kind != 0 && pl.kind != e.Kind {
			continue
		}
		list, err := objects(raw)
		if err != nil {
			return fmt.Errorf("field %s%s: %w", pl.path, ancestors, err)
		}
		child := pl.at(e)
		for i, obj := range list {
			p := &event.Process{}
			child.Parent = p
			child = p
			err := each(obj, func(name string, raw json.RawMessage) (func() error, error) {
				return d.ofProcess(p, name, raw)
			})
			if err != nil {
				return fmt.Errorf("field %s%s[%d].%w", pl.path, ancestors, i, err)
			}
		}
	}
	for _, r := range event.FlowRefs {
		raw, ok := fields[r.Path]
		if !ok || r.Kind != e.Kind {
			continue
		}
		list, err := objects(raw)
		if err != nil {
			return fmt.Errorf("field %s: %w", r.Path, err)
		}
		flows := make([]event.Flow, len(list))
		*r.Get(e) = flows
		for i, obj := range list {
			err := each(obj, func(name string, raw json.RawMessage) (func() error, error) {
				s, ok := d.flow[name]
				if !ok {
					d.unknown[r.Path+"."+name] = true
					return nil, nil
				}
				return store(&s, &flows[i], name, raw, func(v value) { note(d.flows, &flows[i], name, v) })
			})
			if err != nil {
				return fmt.Errorf("field %s[%d].%w", r.Path, i, err)
			}
		}
	}
	return nil
}

func objects(raw json.RawMessage) ([]map[string]json.RawMessage, error) {
	var list []map[string]json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("want a list of objects: %w", err)
	}
	if len(list) > maxObjects {
		return nil, fmt.Errorf("more than %d objects", maxObjects)
	}
	return list, nil
}

// each calls f for every member of an object in the order of their names, and
// what it returned when all were seen: stored members come first, because what
// is computed from them is compared with what is given.
func each(obj map[string]json.RawMessage, f func(string, json.RawMessage) (func() error, error)) error {
	names := make([]string, 0, len(obj))
	for name := range obj {
		names = append(names, name)
	}
	sort.Strings(names)
	var given []func() error
	for _, name := range names {
		later, err := f(name, obj[name])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if later != nil {
			given = append(given, later)
		}
	}
	for _, f := range given {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// field stores one field. What it returns is to be done when all stored
// members are set.
func (d *Decoder) field(e *event.Event, name string, raw json.RawMessage) (func() error, error) {
	if _, list := d.schema.Root(name); list {
		return nil, nil // lists has made it
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
	for _, r := range event.HeadersRefs {
		rest, ok := strings.CutPrefix(name, r.Path+".")
		if s, have := d.headers[rest]; ok && have && r.Kind == e.Kind {
			return store(&s, r.Get(e), name, raw, func(v value) { note(d.events, e, name, v) })
		}
	}
	if pl, rest, ok := d.place(name); ok && (pl.kind == 0 || pl.kind == e.Kind) {
		return d.ofProcess(pl.at(e), rest, raw)
	}
	if f, ok := d.schema.Field(name); ok && f.Iter == "" && (f.Kind == "" || f.Kind == e.Kind.String()) {
		// What no part of the event holds is remembered beside it.
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

func seclType(f *secl.Field[event.Event, ruleset.Element]) event.Type {
	switch {
	case f.Type == secl.Bool:
		return event.TypeBool
	case f.Type == secl.Int && f.List:
		return event.TypeInts
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
	case "file.other_paths":
		return nil, json.Unmarshal(raw, &p.File.OtherPaths)
	case "interpreter.file.other_paths":
		return nil, json.Unmarshal(raw, &p.Interpreter.OtherPaths)
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
	case event.TypeInts:
		var list []json.RawMessage
		if err := json.Unmarshal(raw, &list); err != nil {
			return v, err
		}
		for _, raw := range list {
			n, err := parse(event.TypeInt, raw)
			if err != nil {
				return v, err
			}
			v.nums = append(v.nums, n.n)
		}
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
func (d *Decoder) overridable(f secl.Field[event.Event, ruleset.Element]) secl.Field[event.Event, ruleset.Element] {
	if f.Iter != "" {
		name := strings.TrimPrefix(f.Name, f.Iter+".")
		flow, isFlow := d.flow[name]
		process, isProcess := d.process[name]
		switch {
		case strings.HasSuffix(f.Iter, ancestors) && isProcess && process.path == nil:
			f.All = secl.Lists[event.Event]{}
			f.Elem = wrap(f.Elem, func(el ruleset.Element) (value, bool) {
				v, ok := d.processes[el.Process][name]
				return v, ok
			})
		case !strings.HasSuffix(f.Iter, ancestors) && isFlow && flow.path == nil:
			f.Elem = wrap(f.Elem, func(el ruleset.Element) (value, bool) {
				v, ok := d.flows[el.Flow()][name]
				return v, ok
			})
		}
		return f
	}
	name := f.Name
	if d.stored(name) {
		return f
	}
	pl, rest, ofProcess := d.place(name)
	if s, ok := d.process[rest]; ofProcess && ok && s.path != nil {
		return f
	}
	f.Get = wrap(f.Get, func(e *event.Event) (value, bool) {
		if v, ok := d.events[e][name]; ok || !ofProcess {
			return v, ok
		}
		v, ok := d.processes[pl.look(e)][rest]
		return v, ok
	})
	return f
}

// stored tells whether a field of a kind is a member of its payload, and not
// computed.
func (d *Decoder) stored(name string) bool {
	if s, ok := d.event[name]; ok {
		return s.path != nil
	}
	return storedIn(d.file, event.FileRefs, name) || storedIn(d.address, event.AddressRefs, name) ||
		storedIn(d.headers, event.HeadersRefs, name)
}

func storedIn[T any](fields map[string]setter[T], refs []event.ObjectRef[T], name string) bool {
	for _, r := range refs {
		rest, below := strings.CutPrefix(name, r.Path+".")
		if s, ok := fields[rest]; ok && below && s.path != nil {
			return true
		}
	}
	return false
}

func wrap[T any](g secl.Getters[T], given func(T) (value, bool)) secl.Getters[T] {
	out := g
	if g.Bool != nil {
		out.Bool = func(x T) bool {
			if v, ok := given(x); ok {
				return v.b
			}
			return g.Bool(x)
		}
	}
	if g.Int != nil {
		out.Int = func(x T) int64 {
			if v, ok := given(x); ok {
				return v.n
			}
			return g.Int(x)
		}
	}
	if g.Str != nil {
		out.Str = func(x T) string {
			if v, ok := given(x); ok {
				return v.s
			}
			return g.Str(x)
		}
	}
	if g.Strs != nil {
		out.Strs = func(x T) []string {
			if v, ok := given(x); ok {
				return v.list
			}
			return g.Strs(x)
		}
	}
	if g.Ints != nil {
		out.Ints = func(x T) []int64 {
			if v, ok := given(x); ok {
				return v.nums
			}
			return g.Ints(x)
		}
	}
	if g.IP != nil {
		out.IP = func(x T) netip.Prefix {
			if v, ok := given(x); ok && v.ip.IsValid() {
				return netip.PrefixFrom(v.ip, v.ip.BitLen())
			}
			return g.IP(x)
		}
	}
	if g.Walk != nil {
		out.Walk = func(x T, yield func(string) bool) bool {
			if v, ok := given(x); ok {
				return slices.ContainsFunc(v.list, yield)
			}
			return g.Walk(x, yield)
		}
	}
	return out
}
