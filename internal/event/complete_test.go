package event

import (
	"reflect"
	"testing"
)

// TestComplete holds the list of kinds to the schema: an event has the part of
// its kind, and a kind that the list does not know is never complete.
func TestComplete(t *testing.T) {
	parts := 0
	typ := reflect.TypeFor[Event]()
	for k := Kind(1); k < NumKinds; k++ {
		if (&Event{Kind: k}).Complete() {
			t.Errorf("%s without its part is complete", k)
		}
		found := 0
		for i := range typ.NumField() {
			f := typ.Field(i)
			if f.Type.Kind() != reflect.Pointer || f.Type.Elem().PkgPath() != typ.PkgPath() || f.Name == "Proc" || f.Name == "Host" {
				continue
			}
			e := &Event{Kind: k}
			reflect.ValueOf(e).Elem().Field(i).Set(reflect.New(f.Type.Elem()))
			if e.Complete() {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%s is complete with %d different parts", k, found)
		}
		parts += found
	}
	if parts != NumKinds-1 {
		t.Errorf("%d parts for %d kinds", parts, NumKinds-1)
	}
	if (&Event{Kind: 0}).Complete() || (&Event{Kind: 255}).Complete() {
		t.Error("an unknown kind is complete")
	}
}
