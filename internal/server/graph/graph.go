// Package graph draws the events of a story as a tree of processes with the
// files and addresses they touched. What has identity and a life is a node;
// events are counted on nodes and edges. Repetition is folded, and a budget of
// nodes is kept whatever the size of the story. The same input gives the same
// bytes, and a growing story only adds at ends.
package graph

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/server/story/attack"
)

// An Agent is what is known of the host that events come from.
type Agent struct {
	ID           string // UUID
	Hostname     string
	Kernel       string
	Distribution string
	Mode         string
	BootID       string            // of the newest run
	Boots        map[uint64]string // boot id of each run
	Recording    bool
	Last         int64 // time of its newest record, ns since the epoch
}

// Name is the host's name, or the agent's id when it is not known.
func (a *Agent) Name() string { return cmp.Or(a.Hostname, a.ID) }

// SilentAfter is how long an agent may say nothing before what is known of its
// processes is in doubt, in ns; three canaries.
const SilentAfter = 180 * 1e9

// An Item is a stored event of an agent.
type Item struct {
	Agent string
	Event *event.Event
}

// CompareItems orders items by time, agent and reference.
func CompareItems(x, y Item) int {
	a, b := x.Event, y.Event
	return cmp.Or(cmp.Compare(a.TimeNS, b.TimeNS), strings.Compare(x.Agent, y.Agent), cmp.Compare(a.Run, b.Run), cmp.Compare(a.Seq, b.Seq))
}

// A Key names a record of an agent.
type Key struct {
	Agent string
	Ref   event.Ref
}

// A Link is evidence that two contexts belong together, from an agent.
type Link struct {
	Agent string
	*event.ContextLink
}

// Input is what a graph is drawn from.
type Input struct {
	StoryID, Version string
	AsOf             int64 // ns since the epoch
	Agents           map[string]*Agent
	Items            []Item                 // sorted by CompareItems
	Procs            map[Key]*event.Process // with their ancestors
	Links            []Link                 // sorted
	Whole            map[string]bool        // keys of contexts all of whose events are among the items
	Budget           int                    // nodes shown at most: 150 when 0, 20 to 500
	Open             []string               // expand tokens of folds to open
}

// A Name is a node as a text names it. After folding it may be the group that
// holds what is meant; the label stays that of the thing itself.
type Name struct {
	ID, Label, Lane string
	Severity        int    // of the thing itself
	Role            string // entry, spine, impact or empty
}

// A Placed is an item with the nodes it is about.
type Placed struct {
	Item
	Actor  Name
	Parent Name // who started the actor; zero when not known
	Object Name // file, endpoint or peer; zero for none
	Edge   string
	Became string // what an exec replaced in the same process; empty for a new process
}

// A Result is a graph and what is needed to speak about it.
type Result struct {
	Graph *clewv1.Graph
	Items []Placed // as the input's
	// Ran names, by the item that wrote a file, the process that later ran it
	// or was scheduled by it.
	Ran map[int]Run
	// Users of the processes and ids of the containers that are in the story.
	Users, Containers []string
	Processes         int
	Alive             bool // a process of the story still runs
}

// A Run says that a file that was written was run.
type Run struct {
	Proc      Name
	By        string // who ran it, when that was a scheduler
	Scheduled bool
}

type procKey struct {
	agent, boot string
	pid         uint32
	start       uint64
	ref         event.Ref // when the start is not known
}

type proc struct {
	node   *node
	key    procKey
	images []*event.Process
	parent *proc
	looked bool // the parent has been looked for
	exit   *event.Event
	own    bool // an event of the story is its own
	whole  bool // its end would be among the items
	sorted bool // images are, oldest first
}

type lane struct {
	pb    *clewv1.Lane
	agent string
	first int64
	procs []*proc
	named bool // a container's, by its runtime
}

type node struct {
	id, kind    string
	lane        *lane
	label, sub  string
	first, last int64
	severity    int
	signals     int
	tactic      int // how grave the gravest of its signals' tactics is
	did         map[string]int64
	flags       map[string]bool
	contexts    map[string]bool
	state       string
	stateAt     int64
	ref         *clewv1.ObjectId
	why         []whyLine
	file        *event.File
	oldPaths    []string
	addr        *event.Address
	proc        *proc
	written     int // item that first wrote it, -1 for none
	parent      *node
	children    []*node
	role        string
	linked      bool // a link or the running of a written file ends here
	path        []string

	// folding
	rep     *node // the fold it is inside of
	members []*node
	reason  string
	token   string
	sig     string
	treesig string
	leaves  int
	safe    bool
	opened  bool
	size    int
}

type whyLine struct {
	severity int
	at       int64
	text     string
}

type edgeKey struct {
	kind     string
	src, dst *node
	refused  bool
	link     string
}

type edge struct {
	edgeKey
	id          string
	tree        bool
	role        string
	severity    int
	count       int64
	ops         map[string]int64
	first, last int64
	events      []string
	link        *clewv1.EdgeLink
	label       string
	shown       string // id of the edge that stands for it after folding
}

type builder struct {
	in      Input
	agents  map[string]*Agent
	procs   map[procKey]*proc
	byRef   map[Key]*proc
	lanes   map[string]*lane
	files   map[string]*node // by lane and path, as it is now
	gens    map[string]int   // how many nodes had this lane and path first
	peers   map[string]*node
	nodes   []*node
	edges   map[edgeKey]*edge
	order   []*edge
	refs    map[Key]int // item of a reference
	actor   []*node
	object  []*node
	parents []*node
	edgeOf  []*edge
	became  []string
	actedBy []*event.Process
	off     int64 // nodes of files that were only read as everybody reads them
	forked  int64 // processes that are drawn as part of who forked them
}

// Build draws the graph.
func Build(in Input) *Result {
	if in.Budget == 0 {
		in.Budget = 150
	}
	in.Budget = min(max(in.Budget, 20), 500)
	n := len(in.Items)
	b := &builder{
		in: in, agents: in.Agents, procs: map[procKey]*proc{}, byRef: map[Key]*proc{}, lanes: map[string]*lane{},
		files: map[string]*node{}, gens: map[string]int{}, peers: map[string]*node{}, edges: map[edgeKey]*edge{}, refs: map[Key]int{},
		actor: make([]*node, n), object: make([]*node, n), parents: make([]*node, n), edgeOf: make([]*edge, n), became: make([]string, n),
		actedBy: make([]*event.Process, n),
	}
	for i, it := range in.Items {
		b.refs[Key{it.Agent, it.Event.Ref()}] = i
		b.add(i, it)
	}
	runs := b.link()
	b.finishProcs()
	b.forks()
	b.tree()
	entry := b.entry()
	b.spine(entry)
	b.plumbing()
	b.why()
	totals := &clewv1.GraphTotals{Events: int64(n), Nodes: int64(len(b.nodes)) + b.off + b.forked, Edges: int64(len(b.order))}
	impacts := b.impacts()
	b.fold()
	res := b.emit(totals, entry, impacts)
	res.Ran = map[int]Run{}
	for i, r := range runs {
		res.Ran[i] = Run{Proc: b.name(r.node), By: r.by, Scheduled: r.scheduled}
	}
	return res
}

func (b *builder) agent(id string) *Agent {
	a := b.agents[id]
	if a == nil {
		a = &Agent{ID: id}
		b.agents[id] = a
	}
	return a
}

// LaneID is the id of a host's lane.
func LaneID(agent string) string { return hashID("l_", "host", agent) }

func (b *builder) hostLane(agent string) *lane {
	id := LaneID(agent)
	l := b.lanes[id]
	if l == nil {
		a := b.agent(agent)
		l = &lane{agent: agent, pb: &clewv1.Lane{Id: id, Kind: "host", Label: Short(a.Name(), 60), Sublabel: a.Distribution,
			Ref: &clewv1.ObjectId{Type: "host", Id: agent}}}
		b.lanes[id] = l
	}
	return l
}

func (b *builder) laneOf(agent string, p *event.Process) *lane {
	host := b.hostLane(agent)
	if p == nil || p.ContainerID == "" {
		return host
	}
	id := ContainerLaneID(agent, p.ContainerID)
	l := b.lanes[id]
	if l == nil {
		l = &lane{agent: agent, first: p.ContainerCreatedAt, pb: &clewv1.Lane{Id: id, ParentId: host.pb.Id, Kind: "container",
			Label: ContainerName(p), Sublabel: p.CgroupManager, Ref: &clewv1.ObjectId{Type: "container", Id: p.ContainerID}}}
		b.lanes[id] = l
	}
	if image := ContainerImage(p); image != "" && !l.named {
		// A runtime has said what it is, perhaps after the first of its
		// processes was stored.
		l.pb.Label, l.pb.Sublabel, l.named = ContainerName(p), Short(image, 60), true
	}
	return l
}

func (b *builder) internet() *lane {
	const id = "l_internet"
	l := b.lanes[id]
	if l == nil {
		l = &lane{pb: &clewv1.Lane{Id: id, Kind: "internet", Label: "internet"}}
		b.lanes[id] = l
	}
	return l
}

func (b *builder) newNode(id, kind string, l *lane) *node {
	n := &node{id: id, kind: kind, lane: l, severity: None, tactic: -1, written: -1,
		did: map[string]int64{}, flags: map[string]bool{}, contexts: map[string]bool{}}
	b.nodes = append(b.nodes, n)
	return n
}

func (n *node) seen(at int64) {
	if at == 0 {
		return
	}
	if n.first == 0 || at < n.first {
		n.first = at
	}
	n.last = max(n.last, at)
}

func (b *builder) procKey(agent string, ref event.Ref, p *event.Process) procKey {
	if p.StartNS == 0 && p.PID == 0 {
		return procKey{agent: agent, ref: ref}
	}
	boot := b.agent(agent).Boots[ref.Run]
	return procKey{agent: agent, boot: boot, pid: p.PID, start: p.StartNS}
}

// procFor finds or makes the process that an image belongs to, and its
// ancestors as far as they are known.
func (b *builder) procFor(agent string, ref event.Ref, depth int) *proc {
	k := Key{agent, ref}
	if p := b.byRef[k]; p != nil {
		return p
	}
	image := b.in.Procs[k]
	if image == nil {
		return nil
	}
	p := b.procOf(agent, ref, image)
	p.images = append(p.images, image)
	if l := b.laneOf(agent, image); image.ContainerID != "" && p.node.lane.pb.Kind == "host" {
		// A runtime's own program becomes the first of the container.
		p.node.lane.procs = slices.DeleteFunc(p.node.lane.procs, func(q *proc) bool { return q == p })
		l.procs = append(l.procs, p)
		p.node.lane = l
	}
	b.byRef[k] = p
	if !image.ParentID.IsZero() && image.ParentID != ref && depth < maxDepth {
		if parent := b.procFor(agent, image.ParentID, depth+1); parent != nil && parent != p && p.parent == nil && !descendsFrom(parent, p) {
			p.parent = parent
		}
	}
	return p
}

// maxDepth bounds how far up a lineage is followed: a process may put one image
// in place of another as often as it likes.
const maxDepth = 512

// descendsFrom guards against records that contradict each other.
func descendsFrom(p, of *proc) bool {
	for ; p != nil; p = p.parent {
		if p == of {
			return true
		}
	}
	return false
}

func (b *builder) procOf(agent string, ref event.Ref, image *event.Process) *proc {
	key := b.procKey(agent, ref, image)
	p := b.procs[key]
	if p == nil {
		start := strconv.FormatUint(key.start, 10)
		pid := strconv.FormatUint(uint64(key.pid), 10)
		n := b.newNode(hashID("p_", agent, key.boot, pid, start, key.ref.String()), "process", b.laneOf(agent, image))
		n.ref = &clewv1.ObjectId{Type: "process", Id: strings.Join([]string{agent, key.boot, pid, start}, "/")}
		p = &proc{node: n, key: key}
		n.proc = p
		b.procs[key] = p
		n.lane.procs = append(n.lane.procs, p)
	}
	return p
}

// add puts one event into the graph.
func (b *builder) add(i int, it Item) {
	e := it.Event
	p := b.procFor(it.Agent, e.ProcID, 0)
	if p == nil {
		p = b.procOf(it.Agent, e.ProcID, &event.Process{PID: e.PID, StartNS: e.StartNS})
		if len(p.images) == 0 {
			p.node.flags["not_recorded"] = true
		}
	}
	p.own = true
	p.whole = p.whole || len(e.ContextKeys) > 0 && b.in.Whole[e.ContextKeys[0]]
	n := p.node
	n.seen(e.TimeNS)
	for _, k := range e.ContextKeys {
		n.contexts[k] = true
	}
	b.actor[i] = n
	b.actedBy[i] = b.in.Procs[Key{it.Agent, e.ProcID}]
	b.signal(n, it)
	if p.parent != nil {
		b.parents[i] = p.parent.node
	}

	switch {
	case e.Kind == event.KindExec:
		b.exec(i, it, p)
	case e.Exit != nil:
		p.exit = e
		n.state, n.stateAt = "ended", e.TimeNS
	case e.Connect != nil:
		n.did["network"]++
		b.endpoint(i, it, n, &e.Connect.Addr, e.Connect.Protocol)
	case e.Bind != nil:
		n.did["network"]++
		b.endpoint(i, it, n, &e.Bind.Addr, e.Bind.Protocol)
	case e.Accept != nil:
		n.did["network"]++
		b.peer(i, it, n)
	case e.Setuid != nil:
		n.did["identity"]++
		if img := b.actedBy[i]; img != nil && img.UID != e.Setuid.UID {
			n.flags["user_changed"] = true
			n.why = append(n.why, whyLine{Low, e.TimeNS, "became " + userName(e.Setuid.User, e.Setuid.UID) + ", was " + userName(img.User, img.UID)})
		}
	case e.Setgid != nil, e.Capset != nil:
		n.did["identity"]++
	case e.Target() != nil:
		n.did["process"]++
		b.target(i, it, n)
	case e.DNS != nil:
		n.did["dns"]++
		if e.DNS.QuestionName != "" {
			b.endpoint(i, it, n, &event.Address{Hostname: []string{e.DNS.QuestionName}}, 0)
		}
	case e.IMDS != nil:
		n.did["network"]++
		b.endpoint(i, it, n, &event.Address{Hostname: []string{"instance metadata"}}, 0)
	case e.NetworkFlowMonitor != nil:
		// A sum over connections that have edges of their own.
	default:
		if what, ok := kernelObject(e); ok {
			n.did["kernel"]++
			b.kernel(i, it, n, what)
			break
		}
		if f := FileOf(e); f != nil && f.Path != "" {
			n.did["file"]++
			if len(e.Signals) == 0 && (IsDevice(f) || e.Open != nil && readsItself(b.actedBy[i], e)) {
				break
			}
			b.fileEvent(i, it, n, f)
		}
	}
}

// readsItself tells whether a program reads its own image or script.
func readsItself(image *event.Process, e *event.Event) bool {
	_, changes := Op(e)
	return !changes && image != nil && (e.Open.File.Path == image.File.Path || e.Open.File.Path == image.Interpreter.Path)
}

func userName(name string, id uint32) string {
	if name != "" {
		return name
	}
	return "uid " + strconv.FormatUint(uint64(id), 10)
}

// signal counts an event's signals on a node.
func (b *builder) signal(n *node, it Item) {
	e := it.Event
	if len(e.Signals) == 0 {
		return
	}
	n.signals++
	n.severity = max(n.severity, SeverityOf(e))
	for i := range e.Signals {
		s := &e.Signals[i]
		for _, t := range Tactics(s) {
			n.tactic = max(n.tactic, attack.Gravity(t))
		}
		text := cmp.Or(s.Title, s.RuleID)
		if len(s.Techniques) > 0 {
			text += " (" + strings.Join(s.Techniques, ", ") + ")"
		}
		n.why = append(n.why, whyLine{SeverityRank(s.Severity), e.TimeNS, text})
	}
}

// Tactics are the ids of a signal's tactics: those it names, else those of its
// techniques.
func Tactics(s *event.Signal) (ids []string) {
	for _, t := range s.Tactics {
		if tac, _, ok := attack.Lookup(t); ok && !slices.Contains(ids, tac.ID) {
			ids = append(ids, tac.ID)
		}
	}
	if len(ids) > 0 {
		return ids
	}
	for _, id := range s.Techniques {
		if _, tactics, ok := attack.Technique(id); ok && !slices.Contains(ids, tactics[0]) {
			ids = append(ids, tactics[0])
		}
	}
	return ids
}

// Techniques are a signal's techniques by name, each with the tactic it serves.
func Techniques(s *event.Signal) (out []*clewv1.Technique) {
	tactics := Tactics(s)
	for _, id := range s.Techniques {
		name, of, _ := attack.Technique(id)
		t := &clewv1.Technique{Id: id, Name: name}
		for _, x := range tactics {
			if t.Tactic == "" && (slices.Contains(of, x) || len(of) == 0) {
				tac, _, _ := attack.Lookup(x)
				t.Tactic = tac.Slug
			}
		}
		if t.Tactic == "" && len(of) > 0 {
			tac, _, _ := attack.Lookup(of[0])
			t.Tactic = tac.Slug
		}
		out = append(out, t)
	}
	return out
}

func (b *builder) exec(i int, it Item, p *proc) {
	e := it.Event
	image := b.actedBy[i]
	if image != nil {
		// An image whose predecessor was executed too, in the same process,
		// took its place; else the parent started it.
		if prev := b.in.Procs[Key{it.Agent, image.ParentID}]; prev != nil && prev.IsExec && b.byRef[Key{it.Agent, image.ParentID}] == p {
			b.became[i] = Short(ProgramName(prev), 48)
			if prev.UID != image.UID || prev.EUID != image.EUID {
				p.node.flags["user_changed"] = true
			}
		}
	}
	if p.parent == nil || b.became[i] != "" {
		return
	}
	p.parent.node.did["child"]++
	p.parent.node.seen(e.TimeNS)
	b.edgeOf[i] = b.edge("spawn", p.parent.node, p.node, it, "exec", false)
}

// edge counts an event on an edge.
func (b *builder) edge(kind string, src, dst *node, it Item, op string, refused bool) *edge {
	e := b.edgeFor(edgeKey{kind: kind, src: src, dst: dst, refused: refused}, it.Event.TimeNS)
	e.count++
	if failed(it.Event.Retval()) {
		op += failedOp
	}
	e.ops[op]++
	e.severity = max(e.severity, SeverityOf(it.Event))
	if len(e.events) < 5 {
		e.events = append(e.events, EventID(it))
	}
	return e
}

func edgeID(k edgeKey) string {
	return strings.Join([]string{k.kind, k.src.id, k.dst.id, strconv.FormatBool(k.refused), k.link}, " ")
}

func (b *builder) edgeFor(k edgeKey, at int64) *edge {
	e := b.edges[k]
	if e == nil {
		e = &edge{edgeKey: k, id: edgeID(k), severity: None, ops: map[string]int64{}}
		b.edges[k] = e
		b.order = append(b.order, e)
	}
	if e.first == 0 || at < e.first {
		e.first = at
	}
	e.last = max(e.last, at)
	return e
}

// EventID is the global id of an item's event.
func EventID(it Item) string {
	return event.EventID(AgentBytes(it.Agent), it.Event.Ref())
}

// AgentBytes are the 16 bytes of an agent id, a UUID. Other ids are hashed.
func AgentBytes(id string) (out [16]byte) {
	j := 0
	for i := 0; i < len(id); i++ {
		c := id[i]
		var v byte
		switch {
		case c >= '0' && c <= '9':
			v = c - '0'
		case c >= 'a' && c <= 'f':
			v = c - 'a' + 10
		case c == '-':
			continue
		default:
			j = 33
		}
		if j >= 32 {
			return hashed(id)
		}
		out[j/2] = out[j/2]<<4 | v
		j++
	}
	if j != 32 {
		return hashed(id)
	}
	return out
}

func (b *builder) fileNode(l *lane, path string, at int64) *node {
	k := l.pb.Id + "\x00" + path
	n := b.files[k]
	if n == nil {
		gen := b.gens[k]
		b.gens[k]++
		n = b.newNode(hashID("f_", l.pb.Id, path, strconv.Itoa(gen)), "file", l)
		n.ref = &clewv1.ObjectId{Type: "file", Id: l.pb.Ref.Id + ":" + path}
		n.file = &event.File{Path: path}
		b.files[k] = n
	}
	n.seen(at)
	return n
}

func (b *builder) fileEvent(i int, it Item, actor *node, f *event.File) {
	e := it.Event
	l := actor.lane
	n := b.fileNode(l, f.Path, e.TimeNS)
	op, changes := Op(e)
	res := e.Retval()
	if !failed(res) {
		switch {
		case op == "rename" && e.Rename.Destination.Path != "":
			to := e.Rename.Destination.Path
			delete(b.files, l.pb.Id+"\x00"+f.Path)
			n.oldPaths = append(n.oldPaths, f.Path)
			b.files[l.pb.Id+"\x00"+to] = n
			d := e.Rename.Destination
			if d.Inode == 0 {
				d.Inode, d.Dev = f.Inode, f.Dev
			}
			d.Path = to
			n.file = &d
			n.flags["renamed"] = true
		case op == "remove":
			n.flags["deleted"] = true
			n.state, n.stateAt = "ended", e.TimeNS
			b.keepFile(n, f, false)
		default:
			b.keepFile(n, f, changes)
			if n.state == "ended" && changes {
				n.state, n.stateAt = "", 0
				delete(n.flags, "deleted")
			}
		}
		if e.Chmod != nil {
			n.file.Mode = n.file.Mode&^0o7777 | uint32(e.Chmod.DestinationMode)&0o7777
			u, g := SetsID(e.Chmod)
			n.flags["setuid"], n.flags["setgid"] = u, g
		}
		if changes && n.written < 0 && (e.Open != nil || e.Link != nil || e.Symlink != nil || e.Rename != nil) {
			n.written = i
		}
		if e.Mkdir != nil || e.Rmdir != nil {
			n.flags["directory"] = true
		}
	}
	if e.Flags&(event.FlagPathChanged|event.FlagPathCut) != 0 {
		n.flags["path_in_doubt"] = true
	}
	b.signal(n, it)
	kind := "read"
	if changes {
		kind = "write"
	}
	b.object[i] = n
	b.edgeOf[i] = b.edge(kind, actor, n, it, op, Refused(res))
}

// target draws what a process did to another one.
func (b *builder) target(i int, it Item, actor *node) {
	t := it.Event.Target()
	p := b.procFor(it.Agent, t.Node, 0)
	if p == nil {
		if t.PID == 0 {
			return
		}
		p = b.procOf(it.Agent, t.Node, &event.Process{PID: t.PID, StartNS: t.StartNS})
	}
	if p.node == actor {
		return
	}
	p.node.seen(it.Event.TimeNS)
	kind := "signal"
	if it.Event.Ptrace != nil {
		kind = "inject"
	}
	op, _ := Op(it.Event)
	b.object[i] = p.node
	b.edgeOf[i] = b.edge(kind, actor, p.node, it, op, Refused(it.Event.Retval()))
}

// kernel draws what a process did to a part of the kernel.
func (b *builder) kernel(i int, it Item, actor *node, what string) {
	l := b.hostLane(it.Agent)
	id := hashID("n_", "kernel", l.pb.Id, what)
	n := b.peers[id]
	if n == nil {
		n = b.newNode(id, "kernel", l)
		n.label = Short(what, 255)
		n.ref = &clewv1.ObjectId{Type: "kernel", Id: l.pb.Ref.Id + ":" + what}
		b.peers[id] = n
	}
	n.seen(it.Event.TimeNS)
	b.signal(n, it)
	op, kind := it.Event.Kind.String(), "write"
	if s := it.Event.Sysctl; s != nil {
		if s.Action == sysctlWrite {
			op = "sysctl_write"
		} else {
			kind = "read"
		}
	}
	b.object[i] = n
	b.edgeOf[i] = b.edge(kind, actor, n, it, op, Refused(it.Event.Retval()))
}

// keepFile takes over what the newest event knows of a file.
// keepFile notes what an event says of a file. What was found out about it by
// reading it holds until something changes it.
func (b *builder) keepFile(n *node, f *event.File, changes bool) {
	c := *f
	if old := n.file; old != nil && !changes && len(c.Hashes) == 0 && c.HashState == "" && (old.Inode == c.Inode || old.Inode == 0 || c.Inode == 0) {
		c.Hashes, c.HashState, c.Metadata, c.Before, c.Diff = old.Hashes, old.HashState, old.Metadata, old.Before, old.Diff
	}
	n.file = &c
}

func (b *builder) endpoint(i int, it Item, actor *node, a *event.Address, proto int64) {
	if !a.IP.IsValid() && a.UnixPath == "" && len(a.Hostname) == 0 {
		return
	}
	l := actor.lane
	if a.UnixPath == "" && a.IsPublic() {
		l = b.internet()
	}
	name := ProtocolName(proto)
	id := hashID("n_", "endpoint", l.pb.Id, AddrText(a), name)
	n := b.peers[id]
	if n == nil {
		n = b.newNode(id, "endpoint", l)
		n.label, n.sub = Short(AddrText(a), 255), name
		n.addr = a
		n.ref = &clewv1.ObjectId{Type: "endpoint", Id: AddrText(a) + "/" + name}
		b.peers[id] = n
	}
	n.seen(it.Event.TimeNS)
	b.signal(n, it)
	op, _ := Op(it.Event)
	b.object[i] = n
	b.edgeOf[i] = b.edge("network", actor, n, it, op, Refused(it.Event.Retval()))
}

func (b *builder) peer(i int, it Item, server *node) {
	a := &it.Event.Accept.Addr
	if !a.IP.IsValid() {
		return
	}
	l := b.hostLane(it.Agent)
	if a.IsPublic() {
		l = b.internet()
	}
	who := event.Address{IP: a.IP, Hostname: a.Hostname, Family: a.Family}
	id := hashID("n_", "actor", l.pb.Id, AddrText(&who))
	n := b.peers[id]
	if n == nil {
		n = b.newNode(id, "actor", l)
		n.label = Short(AddrText(&who), 255)
		n.addr = &who
		n.ref = &clewv1.ObjectId{Type: "address", Id: AddrText(&who)}
		b.peers[id] = n
	}
	n.seen(it.Event.TimeNS)
	b.signal(n, it)
	b.object[i] = n
	b.edgeOf[i] = b.edge("network", n, server, it, "accept", Refused(it.Event.Retval()))
}

// ProtocolName names an IP protocol.
func ProtocolName(p int64) string {
	switch p {
	case 0:
		return ""
	case 1, 58:
		return "icmp"
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 132:
		return "sctp"
	case 262:
		return "mptcp"
	}
	return "protocol " + strconv.FormatInt(p, 10)
}

type ran struct {
	node      *node
	by        string
	scheduled bool
}

// link draws what joins contexts, and the running of files the story wrote.
// The answer is by the item that wrote the file.
func (b *builder) link() map[int]ran {
	runs := map[int]ran{}
	linked := map[[2]*node]bool{} // files and who ran them, as links say
	for _, l := range b.in.Links {
		at, ok := b.refs[Key{l.Agent, l.Event}]
		if !ok {
			continue
		}
		dst := b.actor[at]
		cause, known := b.refs[Key{l.Agent, l.Cause}]
		pl := &clewv1.EdgeLink{Type: l.Type, Weight: l.Weight, Reason: Short(l.Reason, 200)}
		if l.Expires != 0 {
			pl.Expires = Time(l.Expires)
		}
		var src *node
		kind := "context"
		switch {
		case l.Path != "":
			kind = "execute_file"
			if known && b.object[cause] != nil && b.object[cause].kind == "file" {
				src = b.object[cause]
			} else {
				// A rename may have moved the node away from this path.
				src = b.fileNode(dst.lane, l.Path, l.At)
			}
			linked[[2]*node{src, dst}] = true
			r := ran{node: dst}
			if strings.Contains(l.Type, "schedul") && dst.proc != nil {
				r = b.scheduled(l, src, dst, at, runs)
			}
			if _, there := runs[src.written]; src.written >= 0 && !there {
				runs[src.written] = r
			}
		case known:
			src = b.actor[cause]
		}
		if src == nil || src == dst || kind == "context" && l.Type == "parent" {
			continue
		}
		e := b.edgeFor(edgeKey{kind: kind, src: src, dst: dst, link: l.Type}, l.At)
		e.count++
		e.ops[l.Type]++
		e.link = pl
		e.severity = max(e.severity, dst.severity)
		if len(e.events) < 5 {
			e.events = append(e.events, EventID(b.in.Items[at]))
		}
		src.linked, dst.linked = true, true
		dst.why = append(dst.why, whyLine{Medium, l.At, Short(l.Reason, 200)})
	}
	for i, it := range b.in.Items {
		image := b.actedBy[i]
		if it.Event.Kind != event.KindExec || image == nil || image.File.Path == "" {
			continue
		}
		dst := b.actor[i]
		src := b.files[dst.lane.pb.Id+"\x00"+image.File.Path]
		if src == nil || src.written < 0 || b.in.Items[src.written].Event.TimeNS > it.Event.TimeNS {
			continue
		}
		if _, there := runs[src.written]; !there {
			runs[src.written] = ran{node: dst}
		}
		if linked[[2]*node{src, dst}] {
			continue
		}
		b.edge("execute_file", src, dst, it, "exec", false)
		src.linked, dst.linked = true, true
	}
	return runs
}

// schedules tells whether a process is one that runs jobs.
func schedules(p *proc) bool {
	if len(p.images) == 0 {
		return false
	}
	switch ProgramName(p.latest()) {
	case "cron", "crond", "anacron", "atd", "fcron", "busybox-crond", "systemd":
		return true
	}
	return false
}

// scheduled tells who ran a job. The file that says so, when the link's reason
// names it, is drawn as what led to the job.
func (b *builder) scheduled(l Link, src, dst *node, at int, runs map[int]ran) ran {
	job := dst.proc
	for job.parent != nil && job.parent.own && !schedules(job.parent) {
		job = job.parent
	}
	r := ran{node: dst}
	by := "a scheduler"
	if job.parent != nil && len(job.parent.images) > 0 {
		by = ProgramName(job.parent.latest())
	}
	var entry *node
	for _, n := range b.nodes {
		if n.kind == "file" && n != src && n.written >= 0 && strings.Contains(l.Reason, n.file.Path) && (entry == nil || len(n.file.Path) > len(entry.file.Path)) {
			entry = n
		}
	}
	if entry == nil {
		r.by, r.scheduled = by, true
		return r
	}
	runs[entry.written] = ran{node: job.node, by: by, scheduled: true}
	e := b.edgeFor(edgeKey{kind: "execute_file", src: entry, dst: job.node, link: l.Type}, l.At)
	e.count++
	e.ops[l.Type]++
	e.label = "scheduled"
	e.link = &clewv1.EdgeLink{Type: l.Type, Weight: l.Weight, Reason: Short(l.Reason, 200), Expires: Time(l.Expires)}
	e.severity = max(e.severity, dst.severity)
	e.events = append(e.events, EventID(b.in.Items[at]))
	entry.linked, job.node.linked = true, true
	return r
}

// latest is the image that a process has last. It has one.
func (p *proc) latest() *event.Process {
	if p.sorted {
		return p.images[len(p.images)-1]
	}
	best := p.images[0]
	for _, img := range p.images[1:] {
		if compareImages(img, best) > 0 {
			best = img
		}
	}
	return best
}

func compareImages(x, y *event.Process) int {
	return cmp.Or(cmp.Compare(x.CreatedAt, y.CreatedAt), cmp.Compare(x.ID.Run, y.ID.Run), cmp.Compare(x.ID.Seq, y.ID.Seq))
}

// finishProcs labels processes and says whether they live.
func (b *builder) finishProcs() {
	for _, n := range b.nodes {
		switch n.kind {
		case "file":
			n.label = Short(n.file.Path, 400)
			if n.file.Mode&0o7777 != 0 {
				n.sub = fmt.Sprintf("%04o", n.file.Mode&0o7777)
			}
			if n.state == "" {
				n.state, n.stateAt = "alive", n.last
			}
			continue
		case "process":
		default:
			n.state, n.stateAt = "unknown", n.last
			continue
		}
		p := n.proc
		slices.SortFunc(p.images, compareImages)
		p.sorted = true
		for _, img := range p.images {
			if img.CreatedAt > 0 && (n.first == 0 || img.CreatedAt < n.first) {
				n.first = img.CreatedAt
				n.last = max(n.last, n.first)
			}
			if img.Source == "inferred" || img.Source == "placeholder" {
				n.flags["inferred"] = true
			}
			if img.ArgsTruncated {
				n.flags["truncated"] = true
			}
		}
		if len(p.images) == 0 {
			n.label = "process " + strconv.FormatUint(uint64(p.key.pid), 10)
		} else {
			img := p.latest()
			n.label = commandLabel(img, 120)
			// What it was before it became this, when that was executed here.
			was := ""
			for _, o := range p.images {
				if name := Short(ProgramName(o), 32); o.IsExec && o != img && name != was {
					was = name
				}
			}
			if was != "" && was != Short(ProgramName(img), 32) {
				n.label = was + " › " + n.label
			}
			n.sub = strconv.FormatUint(uint64(img.PID), 10) + " · " + Short(userName(img.User, img.UID), 32)
		}
		a := b.agent(p.key.agent)
		switch {
		case p.exit != nil:
			n.state, n.stateAt = "ended", p.exit.TimeNS
		case p.key.boot != "" && a.BootID != "" && p.key.boot != a.BootID:
			n.state, n.stateAt = "ended", n.last
			n.flags["rebooted"] = true
		case !p.whole || b.in.AsOf-a.Last > SilentAfter:
			n.state, n.stateAt = "unknown", n.last
			if p.whole {
				n.stateAt = max(a.Last, n.last)
			}
		default:
			n.state, n.stateAt = "alive", max(a.Last, n.last)
		}
	}
}

// forks takes processes that ended without having executed anything, and
// without an act of their own, for part of who forked them: subshells, as a
// rule. They are counted.
func (b *builder) forks() {
	into := map[*node]*proc{}
	for _, n := range b.nodes {
		if n.kind != "process" {
			continue
		}
		p := n.proc
		acts := int64(0)
		for class, count := range n.did {
			if class != "child" {
				acts += count
			}
		}
		if p.parent == nil || p.exit == nil || acts > 0 || n.signals > 0 || n.linked || len(p.images) == 0 || p.parent.node.lane != n.lane ||
			slices.ContainsFunc(p.images, func(i *event.Process) bool { return !i.IsThread }) {
			continue
		}
		into[n] = p.parent
	}
	if len(into) == 0 {
		return
	}
	b.forked = int64(len(into))
	stands := func(n *node) *node {
		for n != nil && into[n] != nil {
			n = into[n].node
		}
		return n
	}
	for n := range into {
		stands(n).proc.own = stands(n).proc.own || n.proc.own
	}
	for _, n := range b.nodes {
		if n.kind == "process" && into[n] == nil {
			for n.proc.parent != nil && into[n.proc.parent.node] != nil {
				n.proc.parent = n.proc.parent.parent
			}
		}
	}
	b.nodes = slices.DeleteFunc(b.nodes, func(n *node) bool { return into[n] != nil })
	old := b.order
	b.order, b.edges = nil, map[edgeKey]*edge{}
	for _, e := range old {
		if into[e.dst] != nil {
			continue
		}
		e.src = stands(e.src)
		e.id = edgeID(e.edgeKey)
		b.edges[e.edgeKey] = e
		b.order = append(b.order, e)
	}
	for i := range b.actor {
		b.actor[i], b.parents[i] = stands(b.actor[i]), stands(b.parents[i])
		if b.parents[i] == b.actor[i] {
			b.parents[i] = nil
		}
	}
}

// tree gives each node its place: processes below who started them, files and
// endpoints below who touched them first, an entry below the address it came
// from.
func (b *builder) tree() {
	for _, n := range b.nodes {
		if n.kind == "process" && n.proc.parent != nil {
			p := n.proc.parent.node
			n.parent = p
			p.seen(n.first)
			e := b.edgeFor(edgeKey{kind: "spawn", src: p, dst: n}, n.first)
			if e.count == 0 {
				e.count = 1
				e.ops["exec"] = 1
				if len(n.proc.images) > 0 && n.proc.images[len(n.proc.images)-1].IsThread {
					e.ops = map[string]int64{"fork": 1}
				}
			}
			e.tree = true
		}
	}
	// The first to change a file owns it; else the first to read it.
	best := map[*node]*edge{}
	for _, e := range b.order {
		d := e.dst
		if d.kind != "file" && d.kind != "endpoint" || e.src.kind != "process" {
			continue
		}
		if o := best[d]; o == nil || e.kind == "write" && o.kind != "write" || e.kind == o.kind && e.first < o.first {
			best[d] = e
		}
	}
	for d, e := range best {
		d.parent = e.src
		e.tree = true
	}
}

// plumbing takes out the files that were only read as every program reads
// them. They are counted.
func (b *builder) plumbing() {
	off := map[*node]bool{}
	for _, n := range b.nodes {
		if n.kind == "file" && n.signals == 0 && !n.linked && n.role == "" && n.written < 0 && IsPlumbing(n.file.Path) {
			off[n] = true
		}
	}
	for _, e := range b.order {
		if off[e.dst] && (e.kind != "read" || e.severity > None) {
			delete(off, e.dst)
		}
	}
	if len(off) == 0 {
		return
	}
	b.off = int64(len(off))
	b.nodes = slices.DeleteFunc(b.nodes, func(n *node) bool { return off[n] })
	b.order = slices.DeleteFunc(b.order, func(e *edge) bool { return off[e.dst] })
	for i, n := range b.object {
		if off[n] {
			b.object[i], b.edgeOf[i] = nil, nil
		}
	}
}

func compareNodes(x, y *node) int {
	return cmp.Or(cmp.Compare(x.first, y.first), strings.Compare(x.id, y.id))
}

// weighty is how much it says that a story begins with a node.
func weighty(n *node) int { return min(n.severity, Medium) }

// entry is where the story begins: the first process with a signal of weight,
// from there up to the last with events of its own, or the address that
// connected to that one before.
func (b *builder) entry() *node {
	var first *node
	for _, n := range b.nodes {
		if n.kind != "process" || !n.proc.own {
			continue
		}
		if first == nil || cmp.Or(cmp.Compare(weighty(first), weighty(n)), compareNodes(n, first)) < 0 {
			first = n
		}
	}
	if first == nil {
		return nil
	}
	// Climb to the topmost process that the story is about.
	for first.parent != nil && first.parent.kind == "process" && first.parent.proc.own {
		first = first.parent
	}
	var from *edge
	for _, e := range b.order {
		if e.kind == "network" && e.dst == first && e.src.kind == "actor" && (from == nil || e.first < from.first) {
			from = e
		}
	}
	if from == nil {
		// Who started it belongs to the picture even when it did nothing else.
		if p := first.parent; p != nil && p.kind == "process" {
			return p
		}
		return first
	}
	if first.parent != nil {
		b.edges[edgeKey{kind: "spawn", src: first.parent, dst: first}].tree = false
	}
	first.parent = from.src
	from.tree = true
	return from.src
}

// impacts are the worst things that happened, the worst first: at most three.
func (b *builder) impacts() (out []*node) {
	var all []*node
	for _, n := range b.nodes {
		if n.signals > 0 && n.severity >= Medium {
			all = append(all, n)
		}
	}
	slices.SortFunc(all, func(x, y *node) int {
		return cmp.Or(cmp.Compare(y.severity, x.severity), cmp.Compare(y.tactic, x.tactic), cmp.Compare(isThing(y), isThing(x)), compareNodes(x, y))
	})
	for _, n := range all {
		if len(out) < 3 && n.severity == all[0].severity {
			out = append(out, n)
		}
	}
	return out
}

// isThing prefers what was done to over who did it.
func isThing(n *node) int {
	if n.kind == "process" {
		return 0
	}
	return 1
}

// spine marks the way from the entry to the worst impact.
func (b *builder) spine(entry *node) {
	imp := b.impacts()
	for _, n := range imp {
		n.role = "impact"
	}
	if entry == nil {
		return
	}
	if entry.role == "" {
		entry.role = "entry"
	}
	if len(imp) == 0 || imp[0] == entry {
		return
	}
	out := map[*node][]*edge{}
	for _, e := range b.order {
		out[e.src] = append(out[e.src], e)
	}
	for _, list := range out {
		slices.SortFunc(list, compareEdges)
	}
	came := map[*node]*edge{}
	queue := []*node{entry}
	for len(queue) > 0 && came[imp[0]] == nil {
		n := queue[0]
		queue = queue[1:]
		for _, e := range out[n] {
			if e.dst != entry && came[e.dst] == nil {
				came[e.dst] = e
				queue = append(queue, e.dst)
			}
		}
	}
	for n := imp[0]; n != entry && came[n] != nil; n = came[n].src {
		came[n].role = "spine"
		if n.role == "" {
			n.role = "spine"
		}
	}
}

func compareEdges(x, y *edge) int {
	return cmp.Or(cmp.Compare(x.first, y.first), strings.Compare(x.id, y.id))
}

// why sorts and shortens the reasons of each node.
func (b *builder) why() {
	for _, n := range b.nodes {
		slices.SortFunc(n.why, func(x, y whyLine) int {
			return cmp.Or(cmp.Compare(y.severity, x.severity), cmp.Compare(x.at, y.at), strings.Compare(x.text, y.text))
		})
		seen := map[string]bool{}
		n.why = slices.DeleteFunc(n.why, func(w whyLine) bool {
			dup := seen[w.text]
			seen[w.text] = true
			return dup
		})
		if len(n.why) > 8 {
			n.why = n.why[:8]
		}
	}
}

// Time is a time in ns since the epoch as the API has it.
func Time(ns int64) *timestamppb.Timestamp {
	if ns == 0 {
		return nil
	}
	return timestamppb.New(time.Unix(0, ns))
}
