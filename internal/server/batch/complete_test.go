package batch

import (
	"reflect"
	"testing"

	"github.com/clewsec/clew/internal/event"
)

// TestComplete holds the list of kinds to the schema: an event has the part of
// its kind, and a kind that the list does not know is never complete.
func TestComplete(t *testing.T) {
	parts := 0
	typ := reflect.TypeFor[event.Event]()
	for k := event.Kind(1); k < event.NumKinds; k++ {
		if complete(&event.Event{Kind: k}) {
			t.Errorf("%s without its part is complete", k)
		}
		found := 0
		for i := range typ.NumField() {
			f := typ.Field(i)
			if f.Type.Kind() != reflect.Pointer || f.Type.Elem().PkgPath() != typ.PkgPath() || f.Name == "Proc" || f.Name == "Host" {
				continue
			}
			e := &event.Event{Kind: k}
			reflect.ValueOf(e).Elem().Field(i).Set(reflect.New(f.Type.Elem()))
			if complete(e) {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%s is complete with %d different parts", k, found)
		}
		parts += found
	}
	if parts != event.NumKinds-1 {
		t.Errorf("%d parts for %d kinds", parts, event.NumKinds-1)
	}
	if complete(&event.Event{Kind: 0}) || complete(&event.Event{Kind: 255}) {
		t.Error("an unknown kind is complete")
	}
}
