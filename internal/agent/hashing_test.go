package agent

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/filehash"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/wire/wiretest"
)

// A slowReader answers some questions at once and others later.
type slowReader struct {
	asks   chan filehash.Ask
	answer func(*event.FileFacts) error
}

func (r *slowReader) Ask(a filehash.Ask) *event.FileFacts {
	if strings.HasSuffix(a.Path, "passwd") {
		r.asks <- a
		return nil
	}
	return &event.FileFacts{Event: a.Event, Field: a.Field, Reason: string(filehash.ReasonRate)}
}

func (r *slowReader) Run(ctx context.Context) error {
	for {
		select {
		case a := <-r.asks:
			if a.Event.IsZero() {
				continue
			}
			facts := &event.FileFacts{Event: a.Event, Field: a.Field, Hashes: []string{fmt.Sprintf("%s %d %v %d", a.Path, a.ID.Inode, a.PIDs, a.MntNS)}}
			if err := r.answer(facts); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *slowReader) Stats() filehash.Stats { return filehash.Stats{} }

// TestEngineAnswersAboutFiles: the answers reach the server as records that name
// the event, those that are known at once among them.
func TestEngineAnswersAboutFiles(t *testing.T) {
	srv, src := wiretest.New(t), newFake(1)
	_, end := begin(t, t.TempDir(), src, srv, func(cfg *engineConfig) {
		cfg.hasher = func(answer func(*event.FileFacts) error) hasher {
			return &slowReader{make(chan filehash.Ask, 100), answer}
		}
	})
	// Shipped rules have an eye on both files.
	for i, path := range []string{"/etc/ld.so.preload", "/etc/passwd"} {
		src.in <- &event.StreamRecord{BootNS: 3e9 + uint64(i), Event: &event.Event{
			Kind: event.KindOpen, PID: 1, TID: 1, StartNS: 1,
			Open: &event.Open{Flags: 0o1101, File: event.File{Path: path, Inode: 42, Filesystem: "ext4", Mode: 0o100644}},
		}}
	}
	st := srv.Until("two answers", func(s wiretest.State) bool { return len(answers(s.Records)) == 2 })
	refs := map[event.Ref]string{}
	for _, r := range st.Records {
		if r.Event != nil && r.Event.Open != nil {
			refs[r.Event.Ref()] = r.Event.Open.File.Path
		}
	}
	got := map[string]string{}
	for _, f := range answers(st.Records) {
		got[refs[f.Event]] = fmt.Sprint(f.Field, " ", f.Reason, f.Hashes)
	}
	want := map[string]string{"/etc/passwd": "open.file [/etc/passwd 42 [1] 0]", "/etc/ld.so.preload": "open.file rate[]"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
}

func answers(recs []*event.SpoolRecord) []*event.FileFacts {
	var out []*event.FileFacts
	for _, r := range recs {
		if r.FileFacts != nil {
			out = append(out, r.FileFacts)
		}
	}
	return out
}

func TestNamedFiles(t *testing.T) {
	watch := func(recursive bool, paths ...string) *ruleset.Rule {
		return &ruleset.Rule{Watch: &ruleset.Watch{Paths: paths, Recursive: recursive}}
	}
	got := namedFiles([]*ruleset.Rule{{}, watch(false, "/etc/passwd", "/etc/cron.d/", "/home/*/.bashrc"), watch(true, "/srv")})
	if len(got) != 1 || !got["/etc/passwd"] {
		t.Errorf("named %v", got)
	}
}
