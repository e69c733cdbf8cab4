// Package apijson prints messages of the API as JSON: protojson with every
// field, in lowerCamelCase, and with spacing that does not change between
// builds, so that the same value gives the same bytes in the API, in --json
// output and in golden files.
package apijson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Marshal prints m on one line.
func Marshal(m proto.Message) ([]byte, error) {
	raw, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("print %s as JSON: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	// protojson puts spaces in at random, on purpose; they are taken out.
	var b bytes.Buffer
	b.Grow(len(raw))
	if err := json.Compact(&b, raw); err != nil {
		return nil, fmt.Errorf("compact JSON of %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return b.Bytes(), nil
}

// MarshalIndent prints m over several lines, two spaces a level.
func MarshalIndent(m proto.Message) ([]byte, error) {
	raw, err := Marshal(m)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return nil, fmt.Errorf("indent JSON of %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return b.Bytes(), nil
}

// List prints messages as {"items":[…]} on one line.
func List[M proto.Message](items []M) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(`{"items":[`)
	for i, m := range items {
		raw, err := Marshal(m)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(raw)
	}
	b.WriteString("]}")
	return b.Bytes(), nil
}

// Clean makes every string in m valid UTF-8, which the encodings insist on.
// Paths and arguments come from the observed host and may hold any bytes.
func Clean(m proto.Message) { clean(m.ProtoReflect()) }

func clean(m protoreflect.Message) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			cleanMap(fd, v.Map())
		case fd.IsList():
			l := v.List()
			for i := range l.Len() {
				switch fd.Kind() {
				case protoreflect.StringKind:
					if s := l.Get(i).String(); !utf8.ValidString(s) {
						l.Set(i, protoreflect.ValueOfString(valid(s)))
					}
				case protoreflect.MessageKind:
					clean(l.Get(i).Message())
				default:
				}
			}
		case fd.Kind() == protoreflect.StringKind:
			if s := v.String(); !utf8.ValidString(s) {
				m.Set(fd, protoreflect.ValueOfString(valid(s)))
			}
		case fd.Kind() == protoreflect.MessageKind:
			clean(v.Message())
		}
		return true
	})
}

func cleanMap(fd protoreflect.FieldDescriptor, m protoreflect.Map) {
	if fd.MapValue().Kind() != protoreflect.MessageKind {
		return // keys and values of the maps in use are words of ours
	}
	m.Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
		clean(v.Message())
		return true
	})
}

// valid shows each byte that is no UTF-8 as \xNN, so that two names that differ
// still differ.
func valid(s string) string {
	const hex = "0123456789abcdef"
	var b []byte
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			b = append(b, '\\', 'x', hex[s[0]>>4], hex[s[0]&15])
		} else {
			b = append(b, s[:n]...)
		}
		s = s[n:]
	}
	return string(b)
}
