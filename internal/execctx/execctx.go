// Package execctx finds the execution contexts that events belong to: chains
// of activity with one cause, such as a login session, a service, a shell that
// a web server started.
//
// A context is opened by an event that a layer's condition matches. Children
// inherit contexts by copy at fork, so a process forked before its parent
// entered a context is not in it. A process carries at most one context per
// layer; the one of the highest priority names its correlation key. Where
// lineage ends, links carry on: a file written in a hot context and executed
// in another one joins the two.
//
// The package is handed predicates and knows no rule language. Everything here
// is a function of the stream: keys come from a pseudo-random function over
// the run's seed and the opening event.
package execctx

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/clewsec/clew/internal/event"
)

const (
	// quietNS is how long a context stays hot after its last signal.
	quietNS = 30 * 60 * 1e9
	// writeTTL is how long a file written in an episodic context is remembered.
	writeTTL = 24 * 3600 * 1e9
	// maxWrites bounds the remembered files; the oldest goes first, counted.
	maxWrites = 16384
	// linkTTL is how long a link may join contexts.
	linkTTL = 7 * 24 * 3600 * 1e9
	// maxPending bounds the links that wait for a context to turn hot.
	maxPending = 64
)

// A Layer is one kind of context.
type Layer struct {
	Name     string
	Priority int
	Episodic bool // a key of its own each time; else derived from Attributes
	Nested   bool // may open again inside itself
	Opens    func(*event.Event) bool
	Kinds    []event.Kind // kinds of event that can open it
	// Entity is who or what the context is about, Attributes what a derived
	// key is made of, Reason why it opened, in words.
	Entity     func(*event.Event) string
	Attributes func(*event.Event) []string
	Reason     func(*event.Event) string
}

// Tainted is the layer opened by a link alone.
const Tainted = "tainted"

// Result is what an event did to contexts. Its slices are reused by the next
// call.
type Result struct {
	Opened []*event.Context
	Hot    []event.ContextHot
	Links  []event.ContextLink
}

func (r *Result) reset() {
	r.Opened, r.Hot, r.Links = r.Opened[:0], r.Hot[:0], r.Links[:0]
}

// Stats counts what did not fit.
type Stats struct {
	Contexts      int
	Hot           int
	Writes        int
	WritesDropped uint64 // remembered files that went because there were too many
	LinksDropped  uint64 // waiting links that went because there were too many
}

type heat struct{ since, last int64 }

type fileID struct {
	dev   uint32
	inode uint64
}

type write struct {
	event.HotWrite
	schedules bool // lies where a scheduler looks for jobs
}

// A Tracker holds contexts, heat and remembered files of one host. It is not
// safe for concurrent use.
type Tracker struct {
	layers  []Layer
	opening [event.NumKinds][]*Layer // those that an event of a kind can open
	seed    []byte
	host    string // part of derived keys
	boot    string

	derived map[string]*event.Context // open contexts with derived keys
	hot     map[string]heat
	writes  map[string]*write // by path
	inodes  map[fileID]*write
	order   []*write // oldest first
	pending map[string][]event.ContextLink
	made    map[[2]string]int64 // links that exist, by their ends and path
	swept   int64
	stats   Stats
}

// New returns a tracker for these layers.
func New(layers []Layer) *Tracker {
	t := &Tracker{
		layers:  layers,
		derived: map[string]*event.Context{},
		hot:     map[string]heat{},
		writes:  map[string]*write{},
		inodes:  map[fileID]*write{},
		pending: map[string][]event.ContextLink{},
		made:    map[[2]string]int64{},
	}
	for i := range layers {
		l := &layers[i]
		if l.Opens == nil {
			continue
		}
		for _, k := range l.Kinds {
			if !slices.Contains(t.opening[k], l) {
				t.opening[k] = append(t.opening[k], l)
			}
		}
	}
	return t
}

// Start begins a run. Derived keys depend on host and boot, so that they are
// the same after a restart of the agent and on no other host.
func (t *Tracker) Start(seed []byte, hostID, bootID string) {
	t.seed, t.host, t.boot = slices.Clone(seed), hostID, bootID
}

// Stats returns the counters.
func (t *Tracker) Stats() Stats {
	s := t.stats
	s.Contexts, s.Hot, s.Writes = len(t.derived), len(t.hot), len(t.order)
	return s
}

// Enter opens the contexts that the event opens, before rules run, and finds
// the links that it shows.
func (t *Tracker) Enter(ev *event.Event, res *Result) {
	res.reset()
	t.sweep(ev.TimeNS, res)
	p := ev.Proc
	for _, l := range t.opening[ev.Kind] {
		if !l.Opens(ev) {
			continue
		}
		if !l.Nested && l.Episodic && carried(p, l.Name) != nil {
			continue
		}
		t.openContext(ev, p, l, l.Entity(ev), l.Reason(ev), res)
	}
	if ev.Kind == event.KindExec {
		t.executed(ev, res)
	}
	ev.Contexts = p.Contexts
}

// Observe remembers what the event may lead to, after rules ran: heat when it
// is a signal of weight, files that it wrote.
func (t *Tracker) Observe(ev *event.Event, res *Result) {
	if heats(ev.Signals) {
		t.heatUp(ev, res)
	}
	t.trace(ev)
}

// heats tells whether signals make a context hot. A low one does not: it is
// part of many people's day, and a hot context is kept whole and joined with
// what opens inside it.
func heats(signals []event.Signal) bool {
	return slices.ContainsFunc(signals, func(s event.Signal) bool {
		return s.Severity == "medium" || s.Severity == "high" || s.Severity == "critical"
	})
}

// Hot tells whether an episodic context of the process is hot. A derived one
// does not count: what it covers would be most of the host.
func (t *Tracker) Hot(p *event.Process) bool {
	for _, c := range p.Contexts {
		if !c.Episodic {
			continue
		}
		if _, ok := t.hot[c.Key]; ok {
			return true
		}
	}
	return false
}

func carried(p *event.Process, layer string) *event.Context {
	for _, c := range p.Contexts {
		if c.Layer == layer {
			return c
		}
	}
	return nil
}

func key(p *event.Process) string {
	if len(p.Contexts) == 0 {
		return ""
	}
	return p.Contexts[0].Key
}

func (t *Tracker) openContext(ev *event.Event, p *event.Process, l *Layer, entity, reason string, res *Result) *event.Context {
	var k string
	if l.Episodic {
		k = l.Name + "_" + t.prf(l.Name, ev.Ref())
	} else {
		k = l.Name + "_" + t.derive(l.Name, l.Attributes(ev))
		if old := carried(p, l.Name); old != nil && old.Key == k {
			return old
		}
		if c := t.derived[k]; c != nil {
			p.Contexts = with(p.Contexts, c)
			return c
		}
	}
	c := &event.Context{
		Key: k, Layer: l.Name, Priority: int64(l.Priority), Entity: entity, ParentKey: key(p),
		OpenedBy: ev.Ref(), Reason: reason, At: ev.TimeNS, Episodic: l.Episodic,
	}
	parent := episodic(p)
	p.Contexts = with(p.Contexts, c)
	if !l.Episodic {
		t.derived[k] = c
	}
	res.Opened = append(res.Opened, c)
	if parent != nil && l.Episodic {
		if _, hot := t.hot[parent.Key]; hot {
			t.link(res, event.ContextLink{
				FromContext: parent.Key, ToContext: k, Type: "parent", Weight: 0.9, At: ev.TimeNS, Event: ev.Ref(),
				Expires: ev.TimeNS + linkTTL,
				Reason:  fmt.Sprintf("%s was opened inside %s (%s)", words(l.Name), words(parent.Layer), parent.Entity),
			})
		}
	}
	return c
}

// episodic is the process's own episodic context of the highest priority, if
// its correlation key is one.
func episodic(p *event.Process) *event.Context {
	if len(p.Contexts) > 0 && p.Contexts[0].Episodic {
		return p.Contexts[0]
	}
	return nil
}

func words(layer string) string { return strings.ReplaceAll(layer, "_", " ") }

// with returns the contexts with c in its layer's place, highest priority
// first. The slice is new: the old one is shared with other processes.
func with(cs []*event.Context, c *event.Context) []*event.Context {
	out := make([]*event.Context, 0, len(cs)+1)
	placed := false
	for _, o := range cs {
		if o.Layer == c.Layer {
			continue
		}
		if !placed && c.Priority > o.Priority {
			out = append(out, c)
			placed = true
		}
		out = append(out, o)
	}
	if !placed {
		out = append(out, c)
	}
	return out
}

func (t *Tracker) prf(layer string, r event.Ref) string {
	m := hmac.New(sha256.New, t.seed)
	m.Write([]byte(layer))
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], r.Run)
	binary.BigEndian.PutUint64(b[8:], r.Seq)
	m.Write(b[:])
	return uuid(m.Sum(nil), 4)
}

// contextSpace is the UUIDv5 name space of derived keys (RFC 9562, 5.5).
var contextSpace = []byte{0x6b, 0x1d, 0x0c, 0x5e, 0x4f, 0x0e, 0x5c, 0x0b, 0x9a, 0x70, 0x3b, 0x5d, 0x2e, 0x61, 0x8c, 0x17}

func (t *Tracker) derive(layer string, attrs []string) string {
	h := sha1.New()
	h.Write(contextSpace)
	for _, s := range append([]string{t.host, t.boot, layer}, attrs...) {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	return uuid(h.Sum(nil), 5)
}

func uuid(b []byte, version byte) string {
	var u [16]byte
	copy(u[:], b)
	u[6] = u[6]&0x0f | version<<4
	u[8] = u[8]&0x3f | 0x80
	s := hex.EncodeToString(u[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// heatUp makes the correlation key's context hot.
func (t *Tracker) heatUp(ev *event.Event, res *Result) {
	if len(ev.Contexts) == 0 {
		return
	}
	c := ev.Contexts[0]
	h, was := t.hot[c.Key]
	if !was {
		h.since = ev.TimeNS
		res.Hot = append(res.Hot, event.ContextHot{Key: c.Key, At: ev.TimeNS, Hot: true, By: ev.Ref()})
	}
	h.last = max(h.last, ev.TimeNS)
	t.hot[c.Key] = h
	if was {
		return
	}
	// Links that waited for it.
	for _, l := range t.pending[c.Key] {
		t.link(res, l)
	}
	delete(t.pending, c.Key)
}

// sweep cools contexts that have been quiet and forgets old traces, about once
// a minute of event time.
func (t *Tracker) sweep(now int64, res *Result) {
	if now < t.swept+60e9 {
		return
	}
	t.swept = now
	var cold []string
	for k, h := range t.hot {
		if h.last+quietNS < now {
			cold = append(cold, k)
		}
	}
	slices.Sort(cold)
	for _, k := range cold {
		delete(t.hot, k)
		res.Hot = append(res.Hot, event.ContextHot{Key: k, At: now})
	}
	n := 0
	for n < len(t.order) && t.order[n].At+writeTTL < now {
		t.drop(t.order[n])
		n++
	}
	t.order = slices.Delete(t.order, 0, n)
	for k, at := range t.made {
		if at+linkTTL < now {
			delete(t.made, k)
		}
	}
	for k, ls := range t.pending {
		if ls[len(ls)-1].At+writeTTL < now {
			delete(t.pending, k)
		}
	}
}

func (t *Tracker) link(res *Result, l event.ContextLink) {
	id := [2]string{l.FromContext + " " + l.ToContext, l.Type + " " + l.Path}
	if _, ok := t.made[id]; ok {
		return
	}
	t.made[id] = l.At
	res.Links = append(res.Links, l)
}

// linkWhenHot makes the link now if its cause is hot, else once it is.
func (t *Tracker) linkWhenHot(res *Result, l event.ContextLink) {
	if _, hot := t.hot[l.FromContext]; hot {
		t.link(res, l)
		return
	}
	if len(t.pending[l.FromContext]) >= maxPending {
		t.stats.LinksDropped++
		return
	}
	t.pending[l.FromContext] = append(t.pending[l.FromContext], l)
}

// executed looks whether the image, or a script among its arguments, was
// written in another episodic context.
func (t *Tracker) executed(ev *event.Event, res *Result) {
	p := ev.Proc
	w, via := t.find(&p.File), ""
	if w == nil && p.Script != nil {
		// Its inode is known, also when the name that it was asked for by is another.
		w = t.find(p.Script)
	}
	if w == nil && p.Interpreter.Path != "" {
		w = t.find(&p.Interpreter)
	}
	if w == nil && interprets(p.File.Name()) {
		for i, a := range p.Argv() {
			if i == 8 {
				break
			}
			if len(a) < 2 || a[0] == '-' {
				continue
			}
			if a[0] != '/' {
				a = path.Join(p.CWD, a)
			}
			if x := t.writes[a]; x != nil {
				w, via = x, " by "+p.File.Name()
				break
			}
		}
	}
	if w == nil {
		return
	}
	if key(p) == w.Key {
		return
	}
	typ, weight := "file_executed", 0.9
	reason := fmt.Sprintf("%s, written by %s, was executed%s", w.Path, w.Writer, via)
	if s := t.schedule(w.Key); s != nil {
		if c := carried(p, "cron_job"); c != nil {
			typ, weight = "file_scheduled", 0.95
			reason = fmt.Sprintf("%s, written by %s, was run as a job after %s was written by %s", w.Path, w.Writer, s.Path, s.Writer)
		}
	}
	to := episodic(p)
	if to == nil {
		if _, hot := t.hot[w.Key]; !hot {
			return
		}
		for i := range t.layers {
			if t.layers[i].Name == Tainted {
				to = t.openContext(ev, p, &t.layers[i], w.Path, reason, res)
			}
		}
		if to == nil {
			return
		}
	}
	t.linkWhenHot(res, event.ContextLink{
		FromContext: w.Key, ToContext: to.Key, Type: typ, Weight: weight, Reason: reason,
		At: ev.TimeNS, Expires: ev.TimeNS + linkTTL, Event: ev.Ref(), Cause: w.Event, Path: w.Path,
	})
}

// interpreters execute a file that is named among their arguments. Version
// numbers at the end of a name do not count.
var interpreters = []string{
	"sh", "bash", "dash", "zsh", "ksh", "ash", "mksh", "fish", "tcsh", "csh", "busybox",
	"python", "perl", "ruby", "node", "nodejs", "php", "lua", "tclsh", "awk", "gawk", "java", "deno", "bun",
}

func interprets(name string) bool {
	return slices.Contains(interpreters, strings.TrimRight(name, "0123456789.-"))
}

func (t *Tracker) find(f *event.File) *write {
	if f.Inode != 0 {
		if w := t.inodes[fileID{f.Dev, f.Inode}]; w != nil {
			return w
		}
	}
	return t.writes[f.Path]
}

// schedule is the newest remembered job file of a context.
func (t *Tracker) schedule(key string) *write {
	for i := len(t.order) - 1; i >= 0; i-- {
		if w := t.order[i]; w.Key == key && w.schedules {
			return w
		}
	}
	return nil
}

// trace remembers files that a process with an episodic context wrote, and
// follows them when they are renamed or linked.
func (t *Tracker) trace(ev *event.Event) {
	switch {
	case ev.Kind == event.KindOpen && ev.Open != nil && ev.Open.Retval >= 0 && ev.Open.Flags&0o1103 != 0:
		t.remember(ev, &ev.Open.File)
	case ev.Kind == event.KindRename && ev.Rename != nil && ev.Rename.Retval == 0:
		if w := t.find(&ev.Rename.File); w != nil {
			delete(t.writes, w.Path)
			w.Path = ev.Rename.Destination.Path
			w.schedules = schedules(w.Path)
			t.writes[w.Path] = w
		} else if schedules(ev.Rename.Destination.Path) {
			t.remember(ev, &ev.Rename.Destination)
		}
	case ev.Kind == event.KindLink && ev.Link != nil && ev.Link.Retval == 0:
		if w := t.find(&ev.Link.File); w != nil && ev.Link.Destination.Path != "" {
			t.writes[ev.Link.Destination.Path] = w
		}
	case ev.Kind == event.KindUnlink && ev.Unlink != nil && ev.Unlink.Retval == 0:
		// The name is free again; who runs the inode still runs what was written.
		if w := t.writes[ev.Unlink.File.Path]; w != nil {
			delete(t.writes, ev.Unlink.File.Path)
		}
	}
}

func (t *Tracker) remember(ev *event.Event, f *event.File) {
	c := episodic(ev.Proc)
	if c == nil || f.Path == "" || f.Mode&0o170000 != 0o100000 && f.Mode != 0 {
		return
	}
	if w := t.find(f); w != nil && w.Key == c.Key {
		w.At = ev.TimeNS
		return
	}
	w := &write{HotWrite: event.HotWrite{
		Path: f.Path, Inode: f.Inode, Dev: f.Dev, Key: c.Key, Event: ev.Ref(), At: ev.TimeNS,
		Writer: fmt.Sprintf("%s %d", ev.Proc.File.Name(), ev.Proc.PID),
	}}
	t.add(w)
}

func (t *Tracker) add(w *write) {
	if len(t.order) >= maxWrites {
		t.drop(t.order[0])
		t.order = slices.Delete(t.order, 0, 1)
		t.stats.WritesDropped++
	}
	w.schedules = schedules(w.Path)
	t.order = append(t.order, w)
	t.writes[w.Path] = w
	if w.Inode != 0 {
		t.inodes[fileID{w.Dev, w.Inode}] = w
	}
}

func (t *Tracker) drop(w *write) {
	if t.writes[w.Path] == w {
		delete(t.writes, w.Path)
	}
	id := fileID{w.Dev, w.Inode}
	if t.inodes[id] == w {
		delete(t.inodes, id)
	}
}

// schedules tells whether a scheduler looks for jobs where the file lies.
func schedules(path string) bool {
	for _, part := range []string{"/cron.d/", "/crontabs/", "/cron.hourly/", "/cron.daily/", "/cron.weekly/", "/cron.monthly/", "/systemd/system/", "/spool/cron/", "/spool/at/"} {
		if strings.Contains(path, part) {
			return true
		}
	}
	return strings.HasSuffix(path, "/etc/crontab") || strings.HasSuffix(path, "/etc/anacrontab")
}

// Save adds the tracker's state to s. living are the processes whose contexts
// are kept.
func (t *Tracker) Save(s *event.RestoredState, living []*event.Process) {
	seen := map[string]bool{}
	for _, p := range living {
		if len(p.Contexts) == 0 {
			continue
		}
		c := event.Carried{Process: p.ID}
		for _, x := range p.Contexts {
			c.Keys = append(c.Keys, x.Key)
			if !seen[x.Key] {
				seen[x.Key] = true
				s.Contexts = append(s.Contexts, *x)
			}
		}
		s.Carried = append(s.Carried, c)
	}
	keys := make([]string, 0, len(t.hot))
	for k := range t.hot {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		s.Hot = append(s.Hot, event.ContextHot{Key: k, At: t.hot[k].last, Hot: true})
	}
	for _, w := range t.order {
		s.Writes = append(s.Writes, w.HotWrite)
	}
}

// Restore takes what Save kept. It returns the contexts of each process by
// the reference of its node.
func (t *Tracker) Restore(s *event.RestoredState) map[event.Ref][]*event.Context {
	byKey := map[string]*event.Context{}
	for i := range s.Contexts {
		c := s.Contexts[i]
		c.Sent = 0
		byKey[c.Key] = &c
		if !c.Episodic {
			t.derived[c.Key] = &c
		}
	}
	for _, h := range s.Hot {
		t.hot[h.Key] = heat{since: h.At, last: h.At}
	}
	for _, w := range s.Writes {
		t.add(&write{HotWrite: w})
	}
	out := make(map[event.Ref][]*event.Context, len(s.Carried))
	for _, c := range s.Carried {
		var cs []*event.Context
		for _, k := range c.Keys {
			if x := byKey[k]; x != nil {
				cs = append(cs, x)
			}
		}
		out[c.Process] = cs
	}
	return out
}
