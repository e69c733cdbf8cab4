// Fields as text, by their path, for what is written in words: entities and
// reasons of contexts, sentences, lists.

package event

import (
	"fmt"
	"strconv"
	"strings"
)

// Text returns the field's value as text; lists are joined by commas.
func (g *Getter[T]) Text(x *T) string {
	switch g.Type {
	case TypeBool:
		return strconv.FormatBool(g.Bool(x))
	case TypeInt:
		return strconv.FormatInt(g.Int(x), 10)
	case TypeString:
		return g.Str(x)
	case TypeStrings:
		return strings.Join(g.Strs(x), ",")
	case TypeInts:
		words := make([]string, len(g.Ints(x)))
		for i, n := range g.Ints(x) {
			words[i] = strconv.FormatInt(n, 10)
		}
		return strings.Join(words, ",")
	case TypeIP:
		if ip := g.IP(x); ip.IsValid() {
			return ip.String()
		}
	}
	return ""
}

// TextOf finds a field by its path and returns a function that reads it as
// text from an event. It knows process.*, process.parent.* and the fields of
// kinds; a function for a field of a kind must only be called for that kind.
func TextOf(path string) (func(*Event) string, error) {
	if rest, ok := strings.CutPrefix(path, "process.parent."); ok {
		if g := lookup(ProcessFields, rest); g != nil {
			return func(e *Event) string {
				if e.Proc == nil || e.Proc.Parent == nil {
					return ""
				}
				return g.Text(e.Proc.Parent)
			}, nil
		}
	}
	if rest, ok := strings.CutPrefix(path, "process."); ok {
		if g := lookup(ProcessFields, rest); g != nil {
			return func(e *Event) string {
				if e.Proc == nil {
					return ""
				}
				return g.Text(e.Proc)
			}, nil
		}
	}
	if g := lookup(EventFields, path); g != nil {
		return func(e *Event) string { return g.Text(e) }, nil
	}
	for _, r := range FileRefs {
		if rest, ok := strings.CutPrefix(path, r.Path+"."); ok {
			if g := lookup(FileFields, rest); g != nil {
				return func(e *Event) string { return g.Text(r.Get(e)) }, nil
			}
		}
	}
	for _, r := range AddressRefs {
		if rest, ok := strings.CutPrefix(path, r.Path+"."); ok {
			if g := lookup(AddressFields, rest); g != nil {
				return func(e *Event) string { return g.Text(r.Get(e)) }, nil
			}
		}
	}
	return nil, fmt.Errorf("no field %s", path)
}

func lookup[T any](table []Getter[T], name string) *Getter[T] {
	for i := range table {
		if table[i].Name == name {
			return &table[i]
		}
	}
	return nil
}

// Template compiles text with {field.path} places in it.
func Template(s string) (func(*Event) string, error) {
	var parts []func(*Event) string
	for s != "" {
		i := strings.IndexByte(s, '{')
		if i < 0 {
			i = len(s)
		}
		if i > 0 {
			lit := s[:i]
			parts = append(parts, func(*Event) string { return lit })
			s = s[i:]
			continue
		}
		j := strings.IndexByte(s, '}')
		if j < 0 {
			return nil, fmt.Errorf("no } after %q", s)
		}
		f, err := TextOf(s[1:j])
		if err != nil {
			return nil, err
		}
		parts = append(parts, f)
		s = s[j+1:]
	}
	return func(e *Event) string {
		var b strings.Builder
		for _, f := range parts {
			b.WriteString(f(e))
		}
		return b.String()
	}, nil
}
