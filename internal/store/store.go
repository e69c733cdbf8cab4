// Package store says what is stored of what agents send and how it is asked
// for. Engines answer: internal/store/sqlite on one machine. What an engine
// must hold is the contract in storetest, which every engine passes.
//
// It is not for control data (triage, sessions, tokens): internal/control
// holds those.
package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/clewsec/clew/internal/event"
)

// A Batch is what an agent hands over at once. It never changes: a batch that
// comes again with the same agent and id is the same batch.
type Batch struct {
	ID       string // at most MaxIDLen bytes
	Agent    string // UUID of the agent whose records these are
	Run      uint64 // run of the agent the records belong to
	FirstSeq uint64 // numbers of the first and the last record in the run's spool
	LastSeq  uint64
	Records  []*event.SpoolRecord
}

// MaxIDLen bounds the length of a batch id.
const MaxIDLen = 256

// A Store keeps records. Its methods may be called from several goroutines.
// What they return belongs to the caller.
type Store interface {
	// Append stores b whole or not at all. When it returns without an error, b
	// survives a loss of power. It tells whether b had been stored before; then
	// nothing is stored again. It does not keep b.
	Append(ctx context.Context, b *Batch) (duplicate bool, err error)

	// Search returns events by time, then in an order of the store's own that
	// does not change.
	Search(ctx context.Context, q Query) (Page, error)

	// Nodes returns the process nodes that refs name, as they were sent last.
	// Unknown ones are missing from the map.
	Nodes(ctx context.Context, agent string, refs []event.Ref) (map[event.Ref]*event.Process, error)

	// FileFacts returns what was found out about files of an agent's events, as it
	// was sent last. An event without is missing from the map.
	FileFacts(ctx context.Context, agent string, refs []event.Ref) (map[event.Ref][]*event.FileFacts, error)

	// Replay calls fn for every record that stories are made of: all but
	// process nodes, facts about files, filter plans and canaries, and of the events those with a
	// signal and the youngest of each list of contexts. An event may come twice.
	// The order is not defined. fn must not call the store and may keep the
	// record.
	Replay(ctx context.Context, fn func(agent string, rec *event.SpoolRecord) error) error

	// Collected calls fn for the filter plans and losses that are stored, which
	// say what could be seen when. The order is not defined. fn must not call the
	// store and may keep the record.
	Collected(ctx context.Context, fn func(agent string, run uint64, rec *event.SpoolRecord) error) error

	// Runs returns the runs that the store knows, by agent and start.
	Runs(ctx context.Context) ([]Run, error)

	// Stats tells how much there is.
	Stats(ctx context.Context) (Stats, error)

	// Expire removes what arrived before a time (ns since the epoch), as far as
	// that is possible without rewriting files, and returns how many events went.
	// What later events lean on stays: starts of runs, filter plans in force,
	// contexts, process nodes.
	Expire(ctx context.Context, before int64) (int64, error)

	// Check reads everything and returns one error for each inconsistency.
	Check(ctx context.Context) []error

	Close() error
}

// A Query says which events are wanted. Zero fields do not restrict.
type Query struct {
	From, To    int64 // ns since the epoch; To itself is out
	Agent       string
	Kinds       []event.Kind
	ContextKeys []string  // events with at least one of these among their contexts
	Correlation []string  // events whose correlation key, the first of their contexts, is one of these
	Rule        string    // events that matched the rule
	Text        string    // substring of any text in the event or its process node
	Signals     bool      // only events with a signal
	IDs         []EventID // only these events, at most MaxLimit; no other field is looked at
	After       string    // Page.Next of the page before
	Limit       int       // DefaultLimit when 0, MaxLimit at most
	Count       bool      // fill Page.Total
}

// Limits of one page, and of what is counted for a total.
const (
	DefaultLimit = 100
	MaxLimit     = 10000
	MaxCount     = 10000
)

// An EventID names an event.
type EventID struct {
	Agent string
	Ref   event.Ref
}

// Found is an event and the agent it came from.
type Found struct {
	Agent string
	Event *event.Event
}

// A Page is a part of an answer.
type Page struct {
	Items []Found
	Next  string // empty on the last page
	Total int64  // how many there are on all pages, when asked for
	Exact bool   // false: there are at least Total
}

// A Run is one start of an agent, as far as it is known.
type Run struct {
	Agent    string
	Run      uint64
	Start    *event.RunStart // nil when its record was never seen
	FirstSeq uint64          // of the spool records that are stored
	LastSeq  uint64
	CanaryAt int64  // when the youngest stored canary was sent, ns; 0: none
	Lost     uint64 // sum of its lost records
	LastTime int64  // time of its youngest event, ns
}

// Stats are sizes.
type Stats struct {
	Events   int64
	Nodes    int64
	Bytes    int64
	Segments int
	FirstNS  int64 // time of the oldest event
	LastNS   int64 // time of the youngest event
}

// Errors of every engine.
var (
	// ErrCursor means that a cursor is not one that this store gave out.
	ErrCursor = errors.New("unknown cursor")
	// ErrClosed means that the store has been closed.
	ErrClosed = errors.New("store is closed")
	// ErrFull means that there is no room left on the disk.
	ErrFull = errors.New("the disk is full")
	// ErrBatch means that a batch cannot be stored because of what it says.
	ErrBatch = errors.New("invalid batch")
)

// A VersionError says that stored data has a format that this program does
// not know yet.
type VersionError struct {
	Path string
	Have int // version found
	Max  int // newest version known here
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s has format version %d, this program knows versions up to %d: use a newer clew", e.Path, e.Have, e.Max)
}

// A CorruptError says where stored bytes stopped making sense.
type CorruptError struct {
	Path   string
	Object string
	Reason string
}

func (e *CorruptError) Error() string { return e.Path + ": " + e.Object + ": " + e.Reason }
