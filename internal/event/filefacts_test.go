package event

import (
	"reflect"
	"testing"
)

// TestCompleted holds, for each file that an event of each kind has, that facts
// arrive in it, and that the event itself is not changed: it may be shared.
func TestCompleted(t *testing.T) {
	for _, r := range FileRefs {
		e := withFile(r)
		if e == nil {
			t.Errorf("%s: no part of an event has it", r.Path)
			continue
		}
		x := &FileFacts{Field: r.Path, Hashes: []string{"sha256:00"}, Reason: "r", Metadata: &FileMetadata{Size: 1}, Before: &FileState{Size: 2}, Diff: "d"}
		got := r.Get(Completed(e, x))
		if len(got.Hashes) != 1 || got.HashState != "r" || got.Metadata != x.Metadata || got.Before != x.Before || got.Diff != "d" {
			t.Errorf("%s: %+v", r.Path, got)
		}
		if f := r.Get(e); f.Hashes != nil || f.HashState != "" || f.Metadata != nil {
			t.Errorf("%s: the event was changed: %+v", r.Path, f)
		}
		if Completed(e, &FileFacts{Field: "no.file"}) != e {
			t.Errorf("%s: facts about no file changed the event", r.Path)
		}
	}
}

// withFile is an event with the part that has a file.
func withFile(r ObjectRef[File]) (found *Event) {
	for i := range reflect.TypeFor[Event]().NumField() {
		e := &Event{Kind: r.Kind}
		f := reflect.ValueOf(e).Elem().Field(i)
		if f.Kind() != reflect.Pointer || f.Type().Elem().Kind() != reflect.Struct || !f.CanSet() {
			continue
		}
		f.Set(reflect.New(f.Type().Elem()))
		func() {
			defer func() { _ = recover() }()
			if r.Get(e) != nil {
				found = e
			}
		}()
		if found != nil {
			return found
		}
	}
	return nil
}
