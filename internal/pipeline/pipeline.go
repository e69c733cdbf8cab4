// Package pipeline turns the records of a stream into the records of a spool:
// process table, names, execution contexts, rules, and the choice of what is
// kept. It is a pure function of the stream and of its configuration: the
// agent, a replay and a back-test run the same code and get the same answer.
package pipeline

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/clewsec/clew/internal/dnscache"
	"github.com/clewsec/clew/internal/enrich"
	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/execctx"
	"github.com/clewsec/clew/internal/kfilter"
	"github.com/clewsec/clew/internal/proctable"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/schema"
)

// maxPeers bounds the remembered connections; beyond it the memory starts
// anew and a repeated connection is kept once more.
const maxPeers = 16384

// Why an event is kept.
const (
	KeptSignal   = "signal"   // a rule matched
	KeptHot      = "hot"      // its context had a signal before
	KeptBaseline = "baseline" // its kind is always kept
	KeptRecorded = "recorded" // its context turned hot after it
)

// Rules finds the rules that an event matches. It appends to out and returns
// it.
type Rules interface {
	Eval(ev *event.Event, out []event.Signal) []event.Signal
}

// Waiting is implemented by Rules that find, as time goes on, that something
// did not follow an event. The slice is valid until the next call.
type Waiting interface {
	Overdue(now int64) []Late
}

// Late is a signal of an event that was evaluated before.
type Late struct {
	Event  *event.Event
	Signal event.Signal
}

// Acting is implemented by Rules that ask for more than signals. Effects are
// those of the last call of Eval or Overdue, valid until the next one.
type Acting interface {
	Effects() []ruleset.Effect
}

// Config is what a pipeline runs with.
type Config struct {
	Rules  Rules           // none when nil
	Layers []execctx.Layer // kinds of execution context
	// WatchedRoots are the directories below which creates and changes are
	// always kept; DefaultRoots when nil.
	WatchedRoots []string
	// Effect takes what rules ask for beside signals, and the question about the
	// file that an event with a signal changed, in the order of the stream; it is
	// called while a record is pushed and must not block. The pipeline counts what
	// was asked for, also where nobody takes it. A hash is answered by an Answer
	// record of the stream.
	Effect func(ruleset.Effect)
}

// DefaultRoots are the directories whose changes are always kept.
func DefaultRoots() []string {
	return []string{"/bin/", "/boot/", "/etc/", "/lib/", "/lib32/", "/lib64/", "/opt/", "/root/", "/sbin/", "/usr/", "/var/spool/cron/", "/var/spool/at/"}
}

// Stats counts what went in and out.
type Stats struct {
	Records   uint64 // of the stream
	Events    uint64
	Kept      [event.NumKinds]uint64
	NotKept   [event.NumKinds]uint64 // no rule, hot context or baseline wanted it
	Signals   uint64
	Late      uint64 // of them, those that came with an event of their own
	Logs      uint64 // lines that rules asked to be logged
	Hashes    uint64 // files that were to be hashed
	Facts     uint64 // answers about files that reached the event that asked
	NoFacts   uint64 // answers about files of events that were not kept, or that nobody asked
	Recorded  uint64 // events of the flight recorder that were kept
	Strangers uint64 // events of the flight recorder whose process is not known any more
	Table     proctable.Stats
	Contexts  execctx.Stats
	BadRecord uint64 // records without content, events without the part of their kind
	GivenUp   uint64 // events of hot contexts that were not kept because memory is short
}

type peer struct {
	pid   uint32
	start uint64
	addr  netip.AddrPort
}

// A Pipeline is one run. It is not safe for concurrent use.
type Pipeline struct {
	cfg      Config
	table    *proctable.Table
	contexts *execctx.Tracker
	names    *enrich.Names
	hosts    *dnscache.Cache
	host     event.Host
	run      uint64
	started  bool
	lastNS   int64
	nextSeq  uint64
	sent     uint32 // generation of what the receiver has
	peers    map[peer]struct{}
	restored map[event.Ref][]*event.Context
	signals  []event.Signal
	result   execctx.Result
	out      event.SpoolRecord   // what emit is given
	keysOf   []*event.Context    // contexts of the last event
	lastKeys []string            // and their keys
	reasons  map[string][]string // the list of each reason
	chain    []*event.Process
	press    pressure
	asked    asked
	depth    bool // other processes are hot than Depth has told
	stats    Stats
}

// New returns a pipeline that waits for the first record of a stream.
func New(cfg Config) (*Pipeline, error) {
	if cfg.WatchedRoots == nil {
		cfg.WatchedRoots = DefaultRoots()
	}
	for _, r := range cfg.WatchedRoots {
		if !strings.HasPrefix(r, "/") || !strings.HasSuffix(r, "/") {
			return nil, fmt.Errorf("watched root %q does not begin and end with /", r)
		}
	}
	return &Pipeline{
		cfg: cfg, table: proctable.New(), contexts: execctx.New(cfg.Layers), names: enrich.New(),
		hosts: dnscache.New(),
		sent:  1, peers: map[peer]struct{}{}, reasons: map[string][]string{},
	}, nil
}

// SetRules takes a new rule set from the next event on.
func (p *Pipeline) SetRules(r Rules) { p.cfg.Rules = r }

// Resend makes nodes and contexts go out again: the receiver knows none.
func (p *Pipeline) Resend() { p.sent++ }

// Stats returns the counters.
func (p *Pipeline) Stats() Stats {
	s := p.stats
	s.Table, s.Contexts = p.table.Stats(), p.contexts.Stats()
	return s
}

// LastNS is the time of the last record, ns since the epoch.
func (p *Pipeline) LastNS() int64 { return p.lastNS }

// Emit takes a record for the spool. It is valid during the call only.
type Emit func(*event.SpoolRecord) error

// ErrNoRunStart means that a stream does not begin as it must.
var ErrNoRunStart = errors.New("stream does not begin with a run start")

// Push takes the next record of the stream. It may change the record and keeps
// parts of it. Only errors of emit and of the stream's form are returned.
func (p *Pipeline) Push(rec *event.StreamRecord, emit Emit) error {
	p.stats.Records++
	if !p.started && rec.RunStart == nil {
		return ErrNoRunStart
	}
	switch {
	case rec.RunStart != nil:
		return p.start(rec.RunStart, emit)
	case rec.Clock != nil:
		p.host.OffsetNS = rec.Clock.OffsetNS
		p.table.SetOffset(rec.Clock.OffsetNS)
		p.at(rec, 0)
		return p.overdue(emit)
	case rec.FilterPlan != nil:
		rec.FilterPlan.At = p.at(rec, rec.FilterPlan.At)
		return p.send(emit, event.SpoolRecord{FilterPlan: rec.FilterPlan})
	case rec.RestoredState != nil:
		p.restore(rec.RestoredState)
		return nil
	case rec.Snapshot != nil:
		if rec.Snapshot.CreatedAt == 0 {
			rec.Snapshot.CreatedAt = int64(rec.Snapshot.StartNS) + p.host.OffsetNS
		}
		p.names.Process(rec.Snapshot)
		p.table.Snapshot(rec.Seq, rec.Snapshot)
		return nil
	case rec.SnapshotEnd != nil:
		return p.endSnapshot(rec, emit)
	case rec.Answer != nil && rec.Answer.Question == QuestionHash:
		return p.fileFacts(rec.Answer, emit)
	case rec.Answer != nil:
		p.names.Answer(rec.Answer)
		if rec.Answer.Question == enrich.QuestionContainer {
			return p.contained(rec.Answer.Key, emit)
		}
		return nil
	case rec.Lost != nil:
		rec.Lost.To = p.at(rec, rec.Lost.To)
		if rec.Lost.From == 0 {
			rec.Lost.From = rec.Lost.To
		}
		return p.send(emit, event.SpoolRecord{Lost: rec.Lost})
	case rec.Depth != nil:
		p.at(rec, rec.Depth.At)
		return nil
	case rec.Canary != nil:
		rec.Canary.At = p.at(rec, rec.Canary.At)
		if err := p.overdue(emit); err != nil {
			return err
		}
		return p.send(emit, event.SpoolRecord{Canary: rec.Canary})
	case rec.Pressure != nil:
		return p.pressed(rec, emit)
	case rec.Event != nil:
		rec.Event.Seq = rec.Seq
		return p.event(rec.Event, emit)
	}
	p.stats.BadRecord++
	return nil
}

// at is the time of a record, unless it says one itself.
func (p *Pipeline) at(rec *event.StreamRecord, own int64) int64 {
	if own == 0 && rec.BootNS != 0 {
		own = int64(rec.BootNS) + p.host.OffsetNS
	}
	if own == 0 {
		own = p.lastNS
	}
	p.lastNS = max(p.lastNS, own)
	return own
}

func (p *Pipeline) send(emit Emit, rec event.SpoolRecord) error {
	p.nextSeq++
	// One record for all: it is emit's during the call only.
	p.out = rec
	p.out.Seq = p.nextSeq
	return emit(&p.out)
}

func (p *Pipeline) start(r *event.RunStart, emit Emit) error {
	if r.Schema > schema.Version {
		return fmt.Errorf("stream has event schema %d, this clew reads up to %d: use a newer clew", r.Schema, schema.Version)
	}
	if p.started {
		return errors.New("stream has a second run start")
	}
	p.started = true
	p.run = r.Run
	p.lastNS = r.At
	p.host = event.Host{ID: r.HostID, Name: r.Hostname, BootID: r.BootID, Mode: r.Mode, OffsetNS: r.OffsetNS}
	p.table.Start(r.Run, r.OffsetNS)
	p.contexts.Start(r.Seed, r.HostID, r.BootID)
	// The seed decides keys that are not guessable; it stays on the host.
	out := *r
	out.Seed = nil
	return p.send(emit, event.SpoolRecord{RunStart: &out})
}

func (p *Pipeline) restore(s *event.RestoredState) {
	carried := p.contexts.Restore(s)
	if s.BootID != p.host.BootID {
		return // the processes of another boot are gone
	}
	p.table.Restore(s.Processes)
	p.restored = carried
}

// endSnapshot gives the processes that were there already their contexts, in
// the order of their lineage.
func (p *Pipeline) endSnapshot(rec *event.StreamRecord, emit Emit) error {
	at := p.at(rec, 0)
	for _, n := range p.table.EndSnapshot() {
		if cs, ok := p.restored[n.ID]; ok {
			n.Contexts = cs
			continue
		}
		if n.Parent != nil {
			n.Contexts = n.Parent.Contexts
		}
		// What opens a context at exec had opened it before the stream began.
		ev := event.Event{Kind: event.KindExec, Seq: n.ID.Seq, Run: n.ID.Run, TimeNS: at, PID: n.PID, TID: n.TID, StartNS: n.StartNS, Proc: n, Exec: &event.Exec{}, Host: &p.host}
		p.contexts.Enter(&ev, &p.result)
		if err := p.sendLinks(emit); err != nil {
			return err
		}
	}
	p.restored = nil
	p.depth = p.contexts.Stats().Hot > 0
	return nil
}

// Depth returns the processes of hot contexts, oldest first, with those that
// ended a moment ago; ok is false while they are those that the last call
// returned, or their children. There are none while memory is short.
func (p *Pipeline) Depth() (tasks []kfilter.Task, ok bool) {
	if !p.depth {
		return nil, false
	}
	p.depth = false
	if p.press.level > 0 {
		return nil, true
	}
	for _, n := range p.table.Known() {
		if p.contexts.Hot(n) {
			tasks = append(tasks, kfilter.Task{PID: n.PID, StartNS: n.StartNS, Session: n.SID, Ended: n.ExitNS != 0})
		}
	}
	return tasks, true
}

// recorded takes an event that the kernel refused and remembered for a while.
// No rule wanted it then; it is kept for the context that has turned hot since.
func (p *Pipeline) recorded(ev *event.Event, emit Emit) error {
	n := p.table.Process(ev.PID, ev.StartNS)
	if n == nil {
		p.stats.Strangers++
		return nil
	}
	if !p.contexts.Hot(n) {
		p.stats.NotKept[ev.Kind]++
		return nil
	}
	ev.Proc, ev.ProcID, ev.Contexts = n, n.ID, n.Contexts
	ev.UID, ev.GID, ev.EUID, ev.CgroupID = n.UID, n.GID, n.EUID, n.CgroupID
	ev.Signals, ev.Reasons, ev.ContextKeys = nil, []string{KeptRecorded}, p.keys(ev.Contexts)
	p.stats.Kept[ev.Kind]++
	p.stats.Recorded++
	p.result = execctx.Result{}
	return p.sendEvent(ev, emit)
}

func (p *Pipeline) event(ev *event.Event, emit Emit) error {
	p.stats.Events++
	if !ev.Complete() {
		p.stats.BadRecord++
		return nil
	}
	ev.Run = p.run
	ev.Host = &p.host
	if ev.TimeNS == 0 {
		ev.TimeNS = int64(ev.BootNS) + p.host.OffsetNS
	}
	p.lastNS = max(p.lastNS, ev.TimeNS)
	if ev.Flags&event.FlagRecorded != 0 {
		return p.recorded(ev, emit)
	}
	if err := p.overdue(emit); err != nil {
		return err
	}
	p.table.Apply(ev)
	p.names.Event(ev)
	p.hosts.Event(ev)
	switch ev.Kind {
	case event.KindFork:
		if c := ev.Fork.Child; c != nil && c.ContainerID != ev.Proc.ContainerID {
			p.names.Contained(c) // born into another control group
		}
		return nil // lives on in the table
	case event.KindExec:
		p.names.Process(ev.Proc)
	case event.KindSetuid, event.KindSetgid:
		if ev.Proc.ContainerID == "" {
			p.names.Credentials(ev.Proc)
		}
	case event.KindCgroupWrite:
		if m := p.table.Moved(ev.CgroupWrite); m != nil {
			m.ContainerID, m.CgroupManager = enrich.Container(m.Cgroup)
			p.names.Contained(m)
		}
	}
	p.contexts.Enter(ev, &p.result)
	ev.Signals = nil
	if p.cfg.Rules != nil {
		p.signals = p.cfg.Rules.Eval(ev, p.signals[:0])
		if len(p.signals) > 0 {
			ev.Signals = slices.Clone(p.signals)
			p.stats.Signals += uint64(len(p.signals))
		}
		p.effects(ev)
	}
	p.contexts.Observe(ev, &p.result)
	reason := p.keep(ev)
	if reason == "" && len(p.result.Opened) == 0 {
		p.stats.NotKept[ev.Kind]++
		return p.sendLinks(emit)
	}
	if reason == "" {
		// A context without the event that opened it would name nothing.
		reason = KeptBaseline
	}
	p.stats.Kept[ev.Kind]++
	p.asked.kept(ev.Seq)
	ev.Reasons = p.reason(reason)
	ev.ContextKeys = p.keys(ev.Contexts)
	return p.sendEvent(ev, emit)
}

// sendEvent sends an event after what it refers to, and then what it did to
// contexts.
func (p *Pipeline) sendEvent(ev *event.Event, emit Emit) error {
	if err := p.sendNode(emit, ev.Proc); err != nil {
		return err
	}
	if t := ev.Target(); t != nil {
		if err := p.sendNode(emit, t.Proc); err != nil {
			return err
		}
	}
	if err := p.sendContexts(emit, ev.Contexts); err != nil {
		return err
	}
	if err := p.send(emit, event.SpoolRecord{Event: ev}); err != nil {
		return err
	}
	return p.sendLinks(emit)
}

// lateSeq begins the numbers of events that are sent once more, with a signal
// that came late: no stream is that long.
const lateSeq = 1 << 62

// SentBefore tells whether an event is one that happened, and was perhaps sent,
// under another number before: it is here once more for a signal that came
// late.
func SentBefore(ev *event.Event) bool { return ev.Seq >= lateSeq }

// overdue sends the signals of what did not follow in time, each with the event
// that it was to follow, under a number of its own: the event itself may have
// been sent long ago.
func (p *Pipeline) overdue(emit Emit) error {
	w, ok := p.cfg.Rules.(Waiting)
	if !ok {
		return nil
	}
	for _, l := range w.Overdue(p.lastNS) {
		p.stats.Signals++
		p.stats.Late++
		ev := *l.Event
		ev.Run, ev.Seq = p.run, lateSeq|p.stats.Late
		ev.Signals = []event.Signal{l.Signal}
		ev.Reasons = p.reason(KeptSignal)
		ev.ContextKeys = p.keys(ev.Contexts)
		// Contexts learn of the signal now, and of what the event did they
		// have learnt before.
		p.result = execctx.Result{}
		p.contexts.Observe(&event.Event{
			Run: ev.Run, Seq: ev.Seq, TimeNS: p.lastNS, Proc: ev.Proc, Contexts: ev.Contexts, Signals: ev.Signals,
		}, &p.result)
		if err := p.sendEvent(&ev, emit); err != nil {
			return err
		}
	}
	p.effects(nil)
	return nil
}

// effects hands on what rules ask for, and asks for the file that an event with
// a signal changed; ev is nil for signals that came late.
func (p *Pipeline) effects(ev *event.Event) {
	a, ok := p.cfg.Rules.(Acting)
	if !ok {
		return
	}
	p.asked.begin()
	for _, x := range a.Effects() {
		if x.Hash != nil {
			p.ask(x, ev == nil)
			continue
		}
		p.stats.Logs++
		if p.cfg.Effect != nil {
			p.cfg.Effect(x)
		}
	}
	if ev == nil || len(ev.Signals) == 0 {
		return
	}
	if field, file := ruleset.Changed(ev); file != nil {
		p.ask(ruleset.Effect{Event: ev, Hash: &ruleset.HashEffect{Field: field, File: file}}, false)
	}
}

// keys are the keys of contexts. Most events have those of the event before;
// neither slice is ever changed in place.
func (p *Pipeline) keys(cs []*event.Context) []string {
	if len(cs) == 0 {
		return nil
	}
	if len(cs) == len(p.keysOf) && &cs[0] == &p.keysOf[0] {
		return p.lastKeys
	}
	out := make([]string, len(cs))
	for i, c := range cs {
		out[i] = c.Key
	}
	p.keysOf, p.lastKeys = cs, out
	return out
}

// reason is the list of one reason, the same for all events kept for it.
func (p *Pipeline) reason(why string) []string {
	list, ok := p.reasons[why]
	if !ok {
		list = []string{why}
		p.reasons[why] = list
	}
	return list
}

// keep decides why an event is kept; empty when nobody wants it.
func (p *Pipeline) keep(ev *event.Event) string {
	if len(ev.Signals) > 0 {
		return KeptSignal
	}
	if !p.contexts.Hot(ev.Proc) {
		return p.baseline(ev)
	}
	if p.press.level > 0 && p.baseline(ev) == "" {
		p.press.gaveUp[ev.Kind]++
		return ""
	}
	return KeptHot
}

// baseline decides whether an event is kept whatever its context is.
func (p *Pipeline) baseline(ev *event.Event) string {
	switch ev.Kind {
	case event.KindExec, event.KindExit, event.KindSetuid, event.KindSetgid, event.KindCgroupWrite, event.KindBind,
		event.KindMount, event.KindUmount, event.KindLoadModule, event.KindUnloadModule:
		return KeptBaseline
	case event.KindPtrace:
		if kfilter.TakesHold(ev.Ptrace.Request) {
			return KeptBaseline
		}
	case event.KindSetxattr:
		return securityAttribute(ev.Setxattr.DestinationName)
	case event.KindRemovexattr:
		return securityAttribute(ev.Removexattr.DestinationName)
	case event.KindConnect:
		return p.firstPeer(ev, &ev.Connect.Addr)
	case event.KindAccept:
		return p.firstPeer(ev, &ev.Accept.Addr)
	case event.KindOpen:
		if ev.Open.Flags&0o1103 == 0 {
			return ""
		}
		return p.watched(ev.Open.File.Path)
	case event.KindUnlink:
		return p.watched(ev.Unlink.File.Path)
	case event.KindRename:
		return p.watched(ev.Rename.File.Path, ev.Rename.Destination.Path)
	case event.KindChmod:
		return p.watched(ev.Chmod.File.Path)
	case event.KindChown:
		return p.watched(ev.Chown.File.Path)
	case event.KindLink:
		return p.watched(ev.Link.File.Path, ev.Link.Destination.Path)
	case event.KindSymlink:
		return p.watched(ev.Symlink.File.Path)
	case event.KindMkdir:
		return p.watched(ev.Mkdir.File.Path)
	case event.KindRmdir:
		return p.watched(ev.Rmdir.File.Path)
	}
	return ""
}

// securityAttribute keeps changes of what the kernel decides rights by: file
// capabilities, labels, signatures.
func securityAttribute(name string) string {
	if strings.HasPrefix(name, "security.") {
		return KeptBaseline
	}
	return ""
}

func (p *Pipeline) watched(paths ...string) string {
	for _, path := range paths {
		for _, r := range p.cfg.WatchedRoots {
			if strings.HasPrefix(path, r) {
				return KeptBaseline
			}
		}
	}
	return ""
}

// firstPeer keeps the first connection of a process with a peer.
func (p *Pipeline) firstPeer(ev *event.Event, a *event.Address) string {
	if !a.IP.IsValid() {
		return ""
	}
	port := uint16(a.Port)
	if ev.Kind == event.KindAccept {
		port = 0 // the peer's port is new each time
	}
	k := peer{ev.PID, ev.StartNS, netip.AddrPortFrom(a.IP, port)}
	if _, ok := p.peers[k]; ok {
		return ""
	}
	if len(p.peers) >= maxPeers {
		clear(p.peers)
	}
	p.peers[k] = struct{}{}
	return KeptBaseline
}

// contained gives the processes of a container what its runtime said, and sends
// those again that were sent without it: the younger one counts.
func (p *Pipeline) contained(id string, emit Emit) error {
	for _, n := range p.table.InContainer(id) {
		if !p.names.Contained(n) || n.Sent != p.sent {
			continue
		}
		if err := p.send(emit, event.SpoolRecord{ProcessNode: n}); err != nil {
			return err
		}
	}
	return nil
}

// sendNode sends a process and the ancestors that have not been sent.
func (p *Pipeline) sendNode(emit Emit, n *event.Process) error {
	p.chain = p.chain[:0]
	for ; n != nil && n.Sent != p.sent; n = n.Parent {
		p.chain = append(p.chain, n)
	}
	for i := len(p.chain) - 1; i >= 0; i-- {
		n := p.chain[i]
		if err := p.send(emit, event.SpoolRecord{ProcessNode: n}); err != nil {
			return err
		}
		n.Sent = p.sent
	}
	return nil
}

func (p *Pipeline) sendContexts(emit Emit, cs []*event.Context) error {
	// Lowest priority first: a context's parent is of a lower one mostly.
	for i := len(cs) - 1; i >= 0; i-- {
		c := cs[i]
		if c.Sent == p.sent {
			continue
		}
		if err := p.send(emit, event.SpoolRecord{Context: c}); err != nil {
			return err
		}
		c.Sent = p.sent
	}
	return nil
}

// sendLinks sends what the last event did to contexts.
func (p *Pipeline) sendLinks(emit Emit) error {
	p.depth = p.depth || len(p.result.Hot) > 0
	for i := range p.result.Hot {
		if err := p.send(emit, event.SpoolRecord{ContextHot: &p.result.Hot[i]}); err != nil {
			return err
		}
	}
	for i := range p.result.Links {
		if err := p.send(emit, event.SpoolRecord{Link: &p.result.Links[i]}); err != nil {
			return err
		}
	}
	return nil
}

// Save returns what the next run needs to go on where this one stops: the
// living processes with their lineage, contexts, heat and remembered files.
func (p *Pipeline) Save() *event.RestoredState {
	s := &event.RestoredState{Run: p.run, At: p.lastNS, BootID: p.host.BootID}
	living := p.table.Living()
	seen := map[event.Ref]bool{}
	for _, n := range living {
		var chain []*event.Process
		for a := n; a != nil && !seen[a.ID]; a = a.Parent {
			seen[a.ID] = true
			chain = append(chain, a)
		}
		for i := len(chain) - 1; i >= 0; i-- {
			s.Processes = append(s.Processes, *chain[i])
		}
	}
	p.contexts.Save(s, living)
	return s
}
