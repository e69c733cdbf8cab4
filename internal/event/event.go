// Package event is clew's model: events, processes, contexts, links and the
// records that carry them, with their binary form. It is pure data. Most of
// it is generated from internal/schema; this file holds what is not.
package event

import (
	"encoding/base32"
	"encoding/binary"
	"net/netip"
)

// A Kind is a kind of event.
type Kind uint8

// KindInfo says what a kind is.
type KindInfo struct {
	Name     string
	Category string
	Doc      string
	Hidden   bool // no kind of the rule language
}

// Info describes the kind; an unknown kind has an empty name.
func (k Kind) Info() KindInfo {
	if int(k) >= len(kindInfos) {
		return KindInfo{}
	}
	return kindInfos[k]
}

// String is the kind's name in rules.
func (k Kind) String() string {
	if n := k.Info().Name; n != "" {
		return n
	}
	return "unknown"
}

// KindByName finds a kind by its name in rules.
func KindByName(name string) (Kind, bool) {
	for k := range kindInfos {
		if kindInfos[k].Name == name && name != "" {
			return Kind(k), true
		}
	}
	return 0, false
}

// Event flags.
const (
	FlagPathUser     uint32 = 1 << iota // a path was read from the caller's memory
	FlagPathChanged                     // that memory changed during the call
	FlagPathCut                         // a path was longer than what was captured
	FlagAsync                           // done through an asynchronous interface
	FlagPathUnknown                     // no path could be read
	FlagLate                            // arrived after younger events had been passed on
	FlagNoProcess                       // no process record for the actor was seen
	FlagCompat32Bits                    // a 32-bit system call
	FlagRecorded                        // from the sensor's flight recorder: it happened before its context was hot
)

// A Ref names a record by the run of the agent that made it and its number in
// that run's stream. The zero Ref names nothing.
type Ref struct{ Run, Seq uint64 }

// IsZero tells whether r names nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

var base32hex = base32.HexEncoding.WithPadding(base32.NoPadding)

// String is the short form of a reference, unique per agent.
func (r Ref) String() string {
	if r.IsZero() {
		return ""
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], r.Run)
	binary.BigEndian.PutUint64(b[8:], r.Seq)
	return lower(base32hex.EncodeToString(b[:]))
}

// ParseRef reads what String wrote.
func ParseRef(s string) (Ref, bool) {
	b, err := base32hex.DecodeString(upper(s))
	if err != nil || len(b) != 16 {
		return Ref{}, false
	}
	return Ref{Run: binary.BigEndian.Uint64(b[:8]), Seq: binary.BigEndian.Uint64(b[8:])}, true
}

// EventID is the global id of a record: agent (16 bytes), run and number.
func EventID(agent [16]byte, r Ref) string {
	var b [32]byte
	copy(b[:], agent[:])
	binary.BigEndian.PutUint64(b[16:24], r.Run)
	binary.BigEndian.PutUint64(b[24:], r.Seq)
	return "ev_" + lower(base32hex.EncodeToString(b[:]))
}

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

func upper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'a' && c <= 'z' {
			b[i] = c - ('a' - 'A')
		}
	}
	return string(b)
}

// Ref is the event's own reference.
func (e *Event) Ref() Ref { return Ref{Run: e.Run, Seq: e.Seq} }

// Host holds the facts that all events of a run share.
type Host struct {
	ID       string
	Name     string
	BootID   string
	Mode     string
	OffsetNS int64
}

// A Type is the type of a field in the rule language.
type Type uint8

// The types of fields.
const (
	TypeBool Type = iota + 1
	TypeInt
	TypeString
	TypeStrings
	TypeIP
	TypeInts
)

// A Getter reads one field of a T. Exactly one of the functions is set, the
// one of Type. What a getter returns belongs to the event.
type Getter[T any] struct {
	Name         string
	Type         Type
	Label, Doc   string
	Kind         Kind // 0: of every kind
	Path         bool // compared as a path
	Length       bool // has a .length companion
	Time         bool // ns since the epoch
	Weight       int  // cost of reading it; 0: a plain read
	Fold         bool // compared without regard to case
	Max          int  // longest literal that can match, bytes; 0 for any
	KernelFilter string

	Bool func(*T) bool
	Int  func(*T) int64
	Str  func(*T) string
	Strs func(*T) []string
	Ints func(*T) []int64
	IP   func(*T) netip.Addr
}

// An ObjectRef is a place where events of a kind have an object of type T.
// Several kinds may have one at the same path.
type ObjectRef[T any] struct {
	Path    string
	Kind    Kind
	Doc     string
	Context bool // a process: its parent and ancestors can be named, too
	Get     func(*Event) *T
}

// A ListRef is a place where events of a kind have a list of Ts.
type ListRef[T any] struct {
	Path string
	Kind Kind
	Doc  string
	Get  func(*Event) *[]T
}
