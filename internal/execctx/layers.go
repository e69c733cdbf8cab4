// Layers as data: the YAML that declares them and how it becomes predicates.

package execctx

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/clewsec/clew/internal/event"
)

//go:embed layers.yaml
var shipped []byte

// A Compiler turns a condition in the rule language over events of one kind
// into a predicate.
type Compiler func(kind event.Kind, expression string) (func(*event.Event) bool, error)

type spec struct {
	Name       string            `yaml:"name"`
	Priority   int               `yaml:"priority"`
	Key        string            `yaml:"key"`
	Nested     bool              `yaml:"nested"`
	Opens      map[string]string `yaml:"opens"`
	Attributes []string          `yaml:"attributes"`
	Entity     string            `yaml:"entity"`
	Reason     string            `yaml:"reason"`
}

// Shipped compiles the layers that clew comes with.
func Shipped(compile Compiler) ([]Layer, error) { return Parse(shipped, compile) }

// Parse compiles layers from YAML.
func Parse(data []byte, compile Compiler) ([]Layer, error) {
	var doc struct {
		Layers []spec `yaml:"layers"`
	}
	d := yaml.NewDecoder(strings.NewReader(string(data)))
	d.KnownFields(true)
	if err := d.Decode(&doc); err != nil {
		return nil, fmt.Errorf("layers: %w", err)
	}
	var out []Layer
	for _, s := range doc.Layers {
		l, err := s.compile(compile)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", s.Name, err)
		}
		out = append(out, l)
	}
	return out, nil
}

func (s *spec) compile(compile Compiler) (Layer, error) {
	l := Layer{Name: s.Name, Priority: s.Priority, Nested: s.Nested}
	switch s.Key {
	case "episodic":
		l.Episodic = true
	case "derived":
	default:
		return l, fmt.Errorf("key is %q, not episodic or derived", s.Key)
	}
	var err error
	if l.Entity, err = template(s.Entity); err != nil {
		return l, fmt.Errorf("entity: %w", err)
	}
	if l.Reason, err = template(s.Reason); err != nil {
		return l, fmt.Errorf("reason: %w", err)
	}
	var attrs []func(*event.Event) string
	for _, a := range s.Attributes {
		f, err := template("{" + a + "}")
		if err != nil {
			return l, fmt.Errorf("attributes: %w", err)
		}
		attrs = append(attrs, f)
	}
	l.Attributes = func(e *event.Event) []string {
		out := make([]string, len(attrs))
		for i, f := range attrs {
			out[i] = f(e)
		}
		return out
	}
	kinds := make([]string, 0, len(s.Opens))
	for k := range s.Opens {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	preds := map[event.Kind]func(*event.Event) bool{}
	for _, name := range kinds {
		k, ok := event.KindByName(name)
		if !ok {
			return l, fmt.Errorf("opens: no kind of event is called %s", name)
		}
		if preds[k], err = compile(k, s.Opens[name]); err != nil {
			return l, fmt.Errorf("opens: %w", err)
		}
		l.Kinds = append(l.Kinds, k)
	}
	switch len(l.Kinds) {
	case 0:
	case 1:
		opens, kind := preds[l.Kinds[0]], l.Kinds[0]
		l.Opens = func(e *event.Event) bool { return e.Kind == kind && opens(e) }
	default:
		l.Opens = func(e *event.Event) bool {
			p := preds[e.Kind]
			return p != nil && p(e)
		}
	}
	return l, nil
}

// template adds to the fields of events the service name, which is derived.
func template(s string) (func(*event.Event) string, error) {
	before, after, ok := strings.Cut(s, "{event.service}")
	if !ok {
		return event.Template(s)
	}
	a, err := template(before)
	if err != nil {
		return nil, err
	}
	b, err := template(after)
	if err != nil {
		return nil, err
	}
	return func(e *event.Event) string { return a(e) + e.Proc.Service() + b(e) }, nil
}
