package secl

import (
	"fmt"
	"net/netip"
	"sort"
	"strings"

	"github.com/clewsec/clew/internal/secl/check"
)

// Getters read a value out of a T. The one that fits the field's type is set,
// the others are nil. What they return belongs to the T; none of them may
// keep, change or allocate anything per call, save where a field's weight
// says that it does.
type Getters[T any] struct {
	Bool func(T) bool
	Int  func(T) int64
	Str  func(T) string
	IP   func(T) netip.Prefix
	Ints func(T) []int64
	Strs func(T) []string
	IPs  func(T) []netip.Prefix
	// Walk gives a list of strings one at a time, until yield says true; it
	// returns what yield returned last, false for an empty list. It may
	// stand in for Strs where the strings are computed.
	Walk func(t T, yield func(string) bool) bool
	// Others is how many further strings a field stands for in comparisons,
	// Other one of them: a file has several paths. A comparison holds where
	// any of them fits, a negative one where none does. Everything else, as
	// the length, is about the field's own value. Nil for all but such
	// fields.
	Others func(T) int
	Other  func(t T, i int) string
	// Append builds a string that is no value of the T but made of some, for
	// those who have memory for it. It may stand beside Str.
	Append func(t T, buf []byte) []byte
}

// any tells whether the value or any other one the field stands for fits.
func (g *Getters[T]) any(t T, fits func(string) bool) bool {
	if fits(g.Str(t)) {
		return true
	}
	for i := range g.Others(t) {
		if fits(g.Other(t, i)) {
			return true
		}
	}
	return false
}

// Type aliases the checker's types for those who describe a schema.
type Type = check.Type

// The types of fields and variables.
const (
	Bool   = check.Bool
	Int    = check.Int
	String = check.String
	IP     = check.IP
)

// Field describes a field and says how to read it. E is the event, N the
// element of a list of objects.
type Field[E any, N comparable] struct {
	check.Field
	// Get reads the field of an event. For a field below a list of objects
	// it is empty.
	Get Getters[*E]
	// Elem reads the field of one object of the list named Iter.
	Elem Getters[N]
	// All reads it of all objects at once.
	All Lists[E]
}

// Lists append what comparisons with a field look at, of all objects of its
// list: what Elem gives for one after the other, Others with it, of at most
// MaxElements objects; what is the same as the one before may be left out.
// They are nil where nothing is quicker than that.
type Lists[E any] struct {
	Strs func(*E, []string) []string
	Ints func(*E, []int64) []int64
}

// Root is a list of objects that fields can be below, as process.ancestors.
// First and Next return nil at the end.
type Root[E any, N comparable] struct {
	Path string
	// Kind is the kind of event that has it, empty for all.
	Kind  string
	First func(*E) N
	Next  func(N) N
}

// MaxElements is how many objects of a list are visited at most. The chain of
// a process's ancestors is as long as an attacker cares to make it, so the
// bound is far above what an honest one has.
const MaxElements = 4096

// Schema is the set of fields that rules can name. It is immutable and safe
// for use by several goroutines.
type Schema[E any, N comparable] struct {
	fields  map[string]*Field[E, N]
	roots   map[string]*Root[E, N]
	aliases map[string]string
	names   []string
}

// NewSchema makes a schema. Aliases are old names of fields; a field that has
// no name in the schema may be an alias's target only if the alias is to be
// unknown, too. It refuses fields that are described twice, that lack the
// getter of their type, or that are below a list that does not exist.
func NewSchema[E any, N comparable](fields []Field[E, N], roots []Root[E, N], aliases map[string]string) (*Schema[E, N], error) {
	s := &Schema[E, N]{
		fields:  make(map[string]*Field[E, N], len(fields)),
		roots:   make(map[string]*Root[E, N], len(roots)),
		aliases: aliases,
	}
	for i := range roots {
		s.roots[roots[i].Path] = &roots[i]
	}
	for i := range fields {
		f := &fields[i]
		if _, ok := s.fields[f.Name]; ok {
			return nil, fmt.Errorf("field %s is described twice", f.Name)
		}
		ok := false
		if f.Iter == "" {
			ok = complete(f.Type, f.List, &f.Get)
		} else {
			if s.roots[f.Iter] == nil {
				return nil, fmt.Errorf("field %s is below %s, which is no list", f.Name, f.Iter)
			}
			if !f.List {
				return nil, fmt.Errorf("field %s is below a list and must be a list", f.Name)
			}
			ok = complete(f.Type, f.Many, &f.Elem)
		}
		if !ok {
			return nil, fmt.Errorf("field %s lacks the getter of its type", f.Name)
		}
		s.fields[f.Name] = f
		s.names = append(s.names, f.Name)
	}
	sort.Strings(s.names)
	return s, nil
}

func complete[T any](t Type, list bool, g *Getters[T]) bool {
	switch {
	case t == Bool:
		return !list && g.Bool != nil
	case t == Int && list:
		return g.Ints != nil
	case t == Int:
		return g.Int != nil
	case t == String && list:
		return g.Strs != nil || g.Walk != nil
	case t == String:
		return g.Str != nil
	case t == IP && list:
		return g.IPs != nil
	case t == IP:
		return g.IP != nil
	}
	return false
}

// Map returns a schema with the same names, each field passed through f, which
// must keep its description and may replace how it is read.
func (s *Schema[E, N]) Map(f func(Field[E, N]) Field[E, N]) *Schema[E, N] {
	out := *s
	out.fields = make(map[string]*Field[E, N], len(s.fields))
	for name, old := range s.fields {
		n := f(*old)
		out.fields[name] = &n
	}
	return &out
}

// Names returns the names of all fields, sorted. The slice must not be
// changed.
func (s *Schema[E, N]) Names() []string { return s.names }

// Canonical returns the name a field has today.
func (s *Schema[E, N]) Canonical(path string) string {
	if to, ok := s.aliases[path]; ok {
		return to
	}
	return path
}

// Field finds a field by its name or an old name. The caller must not change
// what it points at.
func (s *Schema[E, N]) Field(path string) (*Field[E, N], bool) {
	f, ok := s.fields[s.Canonical(path)]
	return f, ok
}

// Root finds a list of objects.
func (s *Schema[E, N]) Root(path string) (*Root[E, N], bool) {
	r, ok := s.roots[path]
	return r, ok
}

// Under returns the names of the fields below a prefix, sorted.
func (s *Schema[E, N]) Under(prefix string) []string {
	i := sort.SearchStrings(s.names, prefix+".")
	j := i
	for j < len(s.names) && strings.HasPrefix(s.names[j], prefix+".") {
		j++
	}
	return s.names[i:j]
}
