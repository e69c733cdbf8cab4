package event_test

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
)

// fill sets every field that goes over the wire.
func fill(r *rand.Rand, v reflect.Value, depth int) {
	switch v.Interface().(type) {
	case netip.Addr:
		if r.IntN(2) == 0 {
			v.Set(reflect.ValueOf(netip.AddrFrom4([4]byte{10, byte(r.Uint32()), 2, 3})))
		} else {
			v.Set(reflect.ValueOf(netip.MustParseAddr("2001:db8::1")))
		}
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int64:
		v.SetInt(int64(r.Uint64()))
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(r.Uint64())
	case reflect.Float64:
		v.SetFloat(r.Float64())
	case reflect.String:
		v.SetString([]string{"", "/etc/passwd", "ключ", "x"}[r.IntN(4)])
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte{1, 2, 3})
			return
		}
		n := r.IntN(3)
		if n == 0 {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(r, v.Index(i), depth+1)
		}
	case reflect.Pointer:
		if depth > 6 {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		fill(r, v.Elem(), depth+1)
	case reflect.Struct:
		payload := r.IntN(64)
		for i := range v.NumField() {
			f := v.Type().Field(i)
			switch {
			case local[v.Type().Name()+"."+f.Name]:
			case v.Type().Name() == "Event" && f.Type.Kind() == reflect.Pointer && i%64 != payload%v.NumField():
				// One payload at most, as in a oneof.
			default:
				fill(r, v.Field(i), depth+1)
			}
		}
	}
}

// local are fields that never leave the process.
var local = map[string]bool{
	"Event.Proc": true, "Event.Contexts": true, "Event.Host": true,
	"Process.Parent": true, "Process.Contexts": true, "Process.ExitNS": true, "Process.Depth": true, "Process.Sent": true,
	"Context.Sent": true, "Target.Proc": true,
}

// The hand-made codec and protobuf's own agree on every message, in both
// directions.
func TestCodecIsProtobuf(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		var x event.StreamRecord
		fill(r, reflect.ValueOf(&x).Elem(), 0)
		ours := event.AppendStreamRecord(nil, &x)

		var m clewv1.StreamRecord
		if err := proto.Unmarshal(ours, &m); err != nil {
			t.Fatalf("protobuf cannot read what we write: %v", err)
		}
		theirs, err := proto.MarshalOptions{Deterministic: true}.Marshal(&m)
		if err != nil {
			t.Fatal(err)
		}
		if u := m.ProtoReflect().GetUnknown(); len(u) > 0 {
			t.Fatalf("protobuf does not know fields we write: %x", u)
		}
		var y event.StreamRecord
		if err := event.ConsumeStreamRecord(theirs, &y); err != nil {
			t.Fatalf("we cannot read what protobuf writes: %v", err)
		}
		if !reflect.DeepEqual(x, y) {
			t.Fatalf("round trip changed the record:\n%+v\n%+v", x, y)
		}
	}
}

func FuzzConsume(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 4 {
		var x event.StreamRecord
		fill(r, reflect.ValueOf(&x).Elem(), 0)
		f.Add(event.AppendStreamRecord(nil, &x))
	}
	f.Add([]byte{0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		var x event.StreamRecord
		if event.ConsumeStreamRecord(b, &x) != nil {
			return
		}
		// What was read can be written and read again.
		var y event.StreamRecord
		if err := event.ConsumeStreamRecord(event.AppendStreamRecord(nil, &x), &y); err != nil {
			t.Fatal(err)
		}
	})
}

func TestArgs(t *testing.T) {
	p := event.Process{AllArgs: []string{"tar", "-la", "--all", "--x", "-o=1", "-a-b", "--file", "x", "--out=y"}}
	if got, want := p.ArgsFlags(), []string{"l", "a", "la", "all", "a-b", "file"}; !reflect.DeepEqual(got, want) {
		t.Errorf("flags are %q, want %q", got, want)
	}
	if got, want := p.ArgsOptions(), []string{"o=1", "file=x", "out=y"}; !reflect.DeepEqual(got, want) {
		t.Errorf("options are %q, want %q", got, want)
	}
}

func TestRef(t *testing.T) {
	r := event.Ref{Run: 0xdeadbeef01020304, Seq: 42}
	got, ok := event.ParseRef(r.String())
	if !ok || got != r {
		t.Errorf("%v became %v (%v)", r, got, ok)
	}
	if _, ok := event.ParseRef("no reference"); ok {
		t.Error("nonsense was read as a reference")
	}
}
