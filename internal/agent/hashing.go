package agent

import (
	"context"
	"strconv"
	"strings"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/filehash"
	"github.com/clewsec/clew/internal/pipeline"
	"github.com/clewsec/clew/internal/ruleset"
)

// What is in a file that an event was about is found out beside the stream. The
// pipeline asks while a record is pushed; the answer, a hash or the reason why
// there is none, joins the stream whenever it comes, and a recording has it
// where it came.

// A hasher answers what is in files; a filehash.Service.
type hasher interface {
	// Ask does not wait. An answer that is known at once is returned.
	Ask(a filehash.Ask) *event.FileFacts
	// Run answers everything that is asked, until ctx ends.
	Run(ctx context.Context) error
	Stats() filehash.Stats
}

// newHasher makes a hasher that gives its answers to answer.
type newHasher func(answer func(*event.FileFacts) error) hasher

// maxRoots bounds the processes that are tried for a way into the mount
// namespace of a file.
const maxRoots = 8

// askFile is called by the pipeline, with the engine's lock held.
func (e *engine) askFile(x ruleset.Effect) {
	f := x.Hash.File
	a := filehash.Ask{
		Event: x.Event.Ref(), Field: x.Hash.Field, Path: f.Path, Mode: f.Mode, MaxSize: x.Hash.MaxFileSize,
		ID:   filehash.ID{Dev: f.Dev, Inode: f.Inode, MountID: f.MountID, Filesystem: f.Filesystem},
		Text: e.cfg.rules.named[f.Path],
	}
	if x.Event.Flags&event.FlagPathUnknown != 0 {
		a.Path = ""
	}
	if p := x.Event.Proc; p != nil {
		a.MntNS = p.MntNS
		for n := p; n != nil && len(a.PIDs) < maxRoots; n = n.Parent {
			// Images of one process share its id.
			if n.MntNS == p.MntNS && (len(a.PIDs) == 0 || a.PIDs[len(a.PIDs)-1] != n.PID) {
				a.PIDs = append(a.PIDs, n.PID)
			}
		}
	}
	if facts := e.hasher.Ask(a); facts != nil {
		e.refused = append(e.refused, facts)
	}
}

// tellRefused puts the answers into the stream that were known at once.
func (e *engine) tellRefused() error {
	for len(e.refused) > 0 {
		facts := e.refused[0]
		e.refused = e.refused[1:]
		if err := e.pushLocked(hashAnswer(facts)); err != nil {
			return err
		}
	}
	e.refused = nil
	return nil
}

// answerFile puts an answer into the stream.
func (e *engine) answerFile(facts *event.FileFacts) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pushLocked(hashAnswer(facts))
}

func hashAnswer(facts *event.FileFacts) *event.StreamRecord {
	return &event.StreamRecord{Answer: &event.Answer{
		Question: pipeline.QuestionHash, Key: strconv.FormatUint(facts.Event.Seq, 10), File: facts,
	}}
}

// answerFiles works until ctx ends.
func (e *engine) answerFiles(ctx context.Context) error {
	select {
	case <-e.begun:
	case <-ctx.Done():
		return nil
	}
	// What a file was before its first change is known only from having looked.
	for path := range e.cfg.rules.named {
		e.hasher.Ask(filehash.Ask{Path: path, Text: true})
	}
	return e.hasher.Run(ctx)
}

// namedFiles are the files that rules watch by their full path: of them a
// difference of the text may be told, and they are looked at beforehand.
func namedFiles(rules []*ruleset.Rule) map[string]bool {
	named := map[string]bool{}
	for _, r := range rules {
		if r.Watch == nil {
			continue
		}
		for _, p := range r.Watch.Paths {
			if !r.Watch.Recursive && !strings.HasSuffix(p, "/") && !strings.ContainsAny(p, "*?[") {
				named[p] = true
			}
		}
	}
	return named
}
