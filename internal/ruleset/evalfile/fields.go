package evalfile

import (
	"net/netip"
	"reflect"
	"slices"

	"github.com/clewsec/clew/internal/event"
)

// A setter puts a value into the member of a T that a field is read from.
type setter[T any] struct {
	typ event.Type
	get event.Getter[T]
	// path leads to the member; nil for a field that is computed from others.
	path []int
}

// setters finds where each field is stored. The getters are the only statement
// of that, so it is found by trying: the member is the one which, once a
// telling value is written to it, the getter returns unchanged.
func setters[T any](getters []event.Getter[T], blank func(event.Getter[T]) *T, at func(*T, event.Getter[T]) (root reflect.Value, prefix []int)) map[string]setter[T] {
	out := make(map[string]setter[T], len(getters))
	for _, g := range getters {
		s := setter[T]{typ: g.Type, get: g}
		x := blank(g)
		root, prefix := at(x, g)
		for _, leaf := range leaves(root.Type(), nil) {
			v := member(root, leaf)
			if probe(g, x, v) {
				s.path = append(slices.Clone(prefix), leaf...)
				break
			}
			v.SetZero()
		}
		out[g.Name] = s
	}
	return out
}

// member finds a member, and makes the objects on the way to it.
func member(v reflect.Value, path []int) reflect.Value {
	for _, i := range path {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	return v
}

// parts are the objects that others refer to as parts of themselves. What else
// is only referred to belongs to somebody else.
var parts = []reflect.Type{reflect.TypeFor[*event.UserSession](), reflect.TypeFor[*event.FileMetadata]()}

// leaves are the members of a struct and of the structs in it.
func leaves(t reflect.Type, prefix []int) [][]int {
	var out [][]int
	for i := range t.NumField() {
		f := t.Field(i)
		path := append(slices.Clone(prefix), i)
		if f.Type.Kind() == reflect.Struct && f.Type != addrType {
			out = append(out, leaves(f.Type, path)...)
			continue
		}
		if slices.Contains(parts, f.Type) {
			out = append(out, leaves(f.Type.Elem(), path)...)
			continue
		}
		out = append(out, path)
	}
	return out
}

var addrType = reflect.TypeFor[netip.Addr]()

// Telling values: no computation of the model returns one unchanged.
const (
	probeInt    = 0x7a5a5a5a
	probeString = "/probe/x.y"
)

var (
	probeAddr = netip.AddrFrom4([4]byte{8, 1, 2, 3})
	probeList = []string{"a", "b"}
	probeInts = []int64{probeInt, 2}
)

func probe[T any](g event.Getter[T], x *T, v reflect.Value) bool {
	switch g.Type {
	case event.TypeBool:
		if v.Kind() != reflect.Bool {
			return false
		}
		v.SetBool(true)
		return g.Bool(x)
	case event.TypeInt:
		if !setInt(v, probeInt) {
			return false
		}
		return g.Int(x) == probeInt
	case event.TypeString:
		if v.Kind() != reflect.String {
			return false
		}
		v.SetString(probeString)
		return g.Str(x) == probeString
	case event.TypeStrings:
		if v.Type() != reflect.TypeFor[[]string]() {
			return false
		}
		v.Set(reflect.ValueOf(probeList))
		return slices.Equal(g.Strs(x), probeList)
	case event.TypeInts:
		if v.Type() != reflect.TypeFor[[]int64]() {
			return false
		}
		v.Set(reflect.ValueOf(probeInts))
		return slices.Equal(g.Ints(x), probeInts)
	case event.TypeIP:
		if v.Type() != addrType {
			return false
		}
		v.Set(reflect.ValueOf(probeAddr))
		return g.IP(x) == probeAddr
	}
	return false
}

// setInt stores an integer in a member of any whole type. What does not fit is
// cut, as the getters cut it.
func setInt(v reflect.Value, n int64) bool {
	switch v.Kind() {
	case reflect.Int64:
		v.SetInt(n)
	case reflect.Uint64:
		v.SetUint(uint64(n))
	case reflect.Uint32:
		v.SetUint(uint64(uint32(n)))
	default:
		return false
	}
	return true
}

// set stores a value; false where the field is computed.
func (s *setter[T]) set(x *T, val value) bool {
	if s.path == nil {
		return false
	}
	v := member(reflect.ValueOf(x).Elem(), s.path)
	switch s.typ {
	case event.TypeBool:
		v.SetBool(val.b)
	case event.TypeInt:
		return setInt(v, val.n)
	case event.TypeString:
		v.SetString(val.s)
	case event.TypeStrings:
		v.Set(reflect.ValueOf(val.list))
	case event.TypeInts:
		v.Set(reflect.ValueOf(val.nums))
	case event.TypeIP:
		v.Set(reflect.ValueOf(val.ip))
	}
	return true
}

// equal tells whether the field has the value by itself.
func (s *setter[T]) equal(x *T, val value) bool {
	switch s.typ {
	case event.TypeBool:
		return s.get.Bool(x) == val.b
	case event.TypeInt:
		return s.get.Int(x) == val.n
	case event.TypeString:
		return s.get.Str(x) == val.s
	case event.TypeStrings:
		return slices.Equal(s.get.Strs(x), val.list)
	case event.TypeInts:
		return slices.Equal(s.get.Ints(x), val.nums)
	case event.TypeIP:
		return s.get.IP(x) == val.ip
	}
	return false
}

// direct is where the members of a plain object are.
func direct[T any](x *T, _ event.Getter[T]) (reflect.Value, []int) {
	return reflect.ValueOf(x).Elem(), nil
}

func blank[T any](event.Getter[T]) *T { return new(T) }

// payloads maps each kind to the member of an event that holds its payload.
func payloads() map[event.Kind]int {
	out := map[event.Kind]int{}
	t := reflect.TypeFor[event.Event]()
	for k := event.Kind(1); int(k) < event.NumKinds; k++ {
		for i := range t.NumField() {
			f := t.Field(i)
			if f.Type.Kind() != reflect.Pointer || f.Type.Elem().Kind() != reflect.Struct {
				continue
			}
			e := &event.Event{Kind: k}
			reflect.ValueOf(e).Elem().Field(i).Set(reflect.New(f.Type.Elem()))
			if e.Complete() {
				out[k] = i
				break
			}
		}
	}
	return out
}
