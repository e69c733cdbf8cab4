// Package schema describes every event kind, object and record of clew once.
// Go structs, codecs, accessors, the protobuf definition, the reference page
// and the labels of the page are generated from it (see tools/schemagen).
package schema

import (
	"embed"
	"fmt"
	"io/fs"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Version is the version of the schema. It rises when a reader of an older
// version could misunderstand what it reads; additions do not raise it.
const Version = 1

//go:embed *.yaml
var files embed.FS

// A Field is one field of a message or of an event kind.
type Field struct {
	N            int    `yaml:"n"`    // protobuf number; 0 for derived fields
	Name         string `yaml:"name"` // name in SECL, below the message's prefix
	Go           string `yaml:"go"`   // Go name, when it does not follow from Name
	Type         string `yaml:"type"`
	Derived      string `yaml:"derived"` // Go method that computes it
	Doc          string `yaml:"doc"`
	Label        string `yaml:"label"`
	Internal     bool   `yaml:"internal"` // no field of the rule language
	Path         bool   `yaml:"path"`     // compared as a path: globs
	Length       bool   `yaml:"length"`   // has a .length companion
	Time         bool   `yaml:"time"`     // ns since the epoch
	Weight       int    `yaml:"weight"`
	KernelFilter string `yaml:"kernel_filter"`
	At           string `yaml:"at"`   // full path of an object that does not follow from kind and name
	Fold         bool   `yaml:"fold"` // compared without regard to case
	Max          int    `yaml:"max"`  // longest literal that can match, bytes; 0 for any
}

// A Message is an object (process, file, address) or a record.
type Message struct {
	Name   string  `yaml:"message"`
	Doc    string  `yaml:"doc"`
	Kinds  int     `yaml:"kinds"` // for Event: payload of kind k is field Kinds+k
	Fields []Field `yaml:"fields"`
	Object bool    `yaml:"-"` // an object that SECL can name
}

// A Kind is one kind of event.
type Kind struct {
	Name     string  `yaml:"kind"`
	ID       int     `yaml:"id"`
	Category string  `yaml:"category"`
	Doc      string  `yaml:"doc"`
	Hidden   bool    `yaml:"hidden"` // no kind of the rule language
	Go       string  `yaml:"go"`     // Go and protobuf name of the payload, when the kind's own is taken
	Object   string  `yaml:"object"` // the object whose fields are also fields of the kind
	Fields   []Field `yaml:"fields"`
}

// A Schema is everything the YAML files say.
type Schema struct {
	Messages []Message
	Kinds    []Kind
}

// Load reads the embedded files. The order is that of the files' names and of
// the entries within them; kinds are sorted by id.
func Load() (*Schema, error) {
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return nil, err
	}
	var s Schema
	for _, name := range names {
		data, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var f struct {
			Message  `yaml:",inline"`
			Messages []Message `yaml:"messages"`
			Kinds    []Kind    `yaml:"-"`
		}
		var k struct {
			Kinds []Kind `yaml:"kinds"`
		}
		if name == "kinds.yaml" {
			if err := strict(data, &k); err != nil {
				return nil, fmt.Errorf("schema %s: %w", name, err)
			}
			s.Kinds = append(s.Kinds, k.Kinds...)
			continue
		}
		if err := strict(data, &f); err != nil {
			return nil, fmt.Errorf("schema %s: %w", name, err)
		}
		if f.Name != "" {
			f.Message.Object = true
			s.Messages = append(s.Messages, f.Message)
		}
		s.Messages = append(s.Messages, f.Messages...)
	}
	sort.Slice(s.Kinds, func(i, j int) bool { return s.Kinds[i].ID < s.Kinds[j].ID })
	return &s, s.check()
}

func strict(data []byte, v any) error {
	d := yaml.NewDecoder(strings.NewReader(string(data)))
	d.KnownFields(true)
	return d.Decode(v)
}

// check refuses numbers and names used twice.
func (s *Schema) check() error {
	once := func(where string, fields []Field) error {
		n := map[int]string{}
		names := map[string]bool{}
		for _, f := range fields {
			if f.Derived == "" && f.N == 0 {
				return fmt.Errorf("schema: %s.%s has no number", where, f.Name)
			}
			if f.N != 0 && n[f.N] != "" {
				return fmt.Errorf("schema: %s: %s and %s share number %d", where, n[f.N], f.Name, f.N)
			}
			if names[f.Name] {
				return fmt.Errorf("schema: %s.%s is there twice", where, f.Name)
			}
			n[f.N], names[f.Name] = f.Name, true
		}
		return nil
	}
	for _, m := range s.Messages {
		if err := once(m.Name, m.Fields); err != nil {
			return err
		}
	}
	ids := map[int]string{}
	for _, k := range s.Kinds {
		if ids[k.ID] != "" {
			return fmt.Errorf("schema: kinds %s and %s share id %d", ids[k.ID], k.Name, k.ID)
		}
		ids[k.ID] = k.Name
		if err := once(k.Name, k.Fields); err != nil {
			return err
		}
	}
	return nil
}
