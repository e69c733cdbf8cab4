package graph

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
)

// emit turns the folded graph into its message.
func (b *builder) emit(totals *clewv1.GraphTotals, entry *node, impacts []*node) *Result {
	g := &clewv1.Graph{
		StoryId: b.in.StoryID, Version: b.in.Version, AsOf: Time(b.in.AsOf), Totals: totals,
		Legend: &clewv1.Legend{Nodes: map[string]int32{}, Edges: map[string]int32{}},
	}
	if n := len(b.in.Items); n > 0 {
		g.Range = &clewv1.TimeRange{From: Time(b.in.Items[0].Event.TimeNS), To: Time(b.in.Items[n-1].Event.TimeNS)}
	}
	if entry != nil {
		g.EntryId = visible(entry).id
	}
	for _, n := range impacts {
		if id := visible(n).id; !slices.Contains(g.ImpactIds, id) {
			g.ImpactIds = append(g.ImpactIds, id)
		}
	}
	res := &Result{Graph: g}

	var shown []*node
	children := map[*node]int{}
	type why struct{ reason, kind string }
	hidden := map[why]int64{}
	for _, n := range b.nodes {
		switch {
		case n.rep == nil:
			shown = append(shown, n)
		case n.kind == "group" || n.kind == "ancestors":
			// counted by its members
		default:
			r := visible(n).reason
			if r != reasonBudget {
				r = "folded"
			}
			hidden[why{r, n.kind}]++
		}
	}
	slices.SortFunc(shown, compareNodes)
	for _, n := range shown {
		if n.parent != nil {
			n.parent = visible(n.parent)
			children[n.parent]++
		}
	}
	if b.off > 0 {
		hidden[why{"layer_off", "file"}] = b.off
	}
	if b.forked > 0 {
		hidden[why{"folded", "process"}] += b.forked
	}
	for k, v := range hidden {
		g.Hidden = append(g.Hidden, &clewv1.Hidden{Reason: k.reason, Kind: k.kind, Nodes: v})
	}
	slices.SortFunc(g.Hidden, func(x, y *clewv1.Hidden) int {
		return cmp.Or(strings.Compare(x.Reason, y.Reason), strings.Compare(x.Kind, y.Kind))
	})

	lanes := map[*lane]bool{}
	place := map[*node]int32{}
	for _, n := range shown {
		lanes[n.lane] = true
		pb := b.emitNode(n)
		pb.Order = place[n.parent]
		place[n.parent]++
		if n.parent != nil {
			pb.TreeParentId = n.parent.id
		}
		pb.Children = &clewv1.NodeChildren{Total: int64(b.childrenOf(n)), Shown: int64(children[n])}
		g.Nodes = append(g.Nodes, pb)
		kind := n.kind
		if kind == "group" {
			kind = kindOf(n)
		}
		g.Legend.Nodes[kind]++
	}
	b.emitEdges(g)
	b.emitLanes(g, lanes)
	g.Shown = &clewv1.GraphTotals{Events: totals.Events, Nodes: int64(len(g.Nodes)), Edges: int64(len(g.Edges))}

	res.Processes = int(b.forked)
	users, containers := map[string]bool{}, map[*lane]bool{}
	for _, n := range b.nodes {
		if n.kind != "process" || !n.proc.own {
			continue
		}
		res.Processes++
		res.Alive = res.Alive || n.state == "alive" && n.severity >= Low
		for _, img := range n.proc.images {
			users[userName(img.User, img.UID)] = true
			if img.ContainerID != "" {
				containers[b.laneOf(n.lane.agent, img)] = true
			}
		}
	}
	res.Users = sortedKeys(users)
	for l := range containers {
		res.Containers = append(res.Containers, l.pb.Label)
	}
	slices.Sort(res.Containers)

	res.Items = make([]Placed, len(b.in.Items))
	for i, it := range b.in.Items {
		p := Placed{Item: it, Actor: b.name(b.actor[i]), Parent: b.name(b.parents[i]), Object: b.name(b.object[i]), Became: b.became[i]}
		if e := b.edgeOf[i]; e != nil {
			p.Edge = b.mergedID(e)
		}
		if image := b.actedBy[i]; image != nil {
			// The image at the time, not what the process became later.
			p.Actor.Label = commandLabel(image, 120)
		}
		res.Items[i] = p
	}
	return res
}

func (b *builder) name(n *node) Name {
	if n == nil {
		return Name{}
	}
	label := n.label
	if n.kind == "process" && len(n.proc.images) > 0 {
		label = procName(n)
	}
	v := visible(n)
	return Name{ID: v.id, Label: label, Lane: n.lane.pb.Id, Severity: n.severity, Role: n.role}
}

// childrenOf counts what is below a node in the tree, folded or not.
func (b *builder) childrenOf(n *node) int {
	total := 0
	for _, c := range n.children {
		if c.kind == "group" {
			total += len(c.members)
		} else {
			total++
		}
	}
	return total
}

func (b *builder) emitNode(n *node) *clewv1.Node {
	pb := &clewv1.Node{
		Id: n.id, Kind: n.kind, LaneId: n.lane.pb.Id, Label: n.label, Sublabel: n.sub, Severity: SeverityName(n.severity), Role: n.role,
		State: n.state, StateAt: Time(n.stateAt), Count: 1, FirstSeen: Time(n.first), LastSeen: Time(n.last),
		Signals: &clewv1.NodeSignals{Count: int32(n.signals), Max: SeverityName(n.severity)}, Did: n.did, Ref: n.ref, ContextKeys: sortedKeys(n.contexts),
	}
	for _, f := range sortedKeys(n.flags) {
		if n.flags[f] {
			pb.Flags = append(pb.Flags, f)
		}
	}
	for _, w := range n.why {
		pb.Why = append(pb.Why, w.text)
	}
	switch n.kind {
	case "process":
		b.processFacts(pb, n)
	case "file":
		pb.Attributes = fileFacts(nil, "", n.file)
		for _, p := range n.oldPaths {
			pb.Attributes = append(pb.Attributes, &clewv1.Attribute{Field: "rename.file.path", Label: "Path before", Value: Short(p, 400)})
		}
	case "endpoint", "actor":
		pb.Attributes = facts(pb.Attributes, "network.", event.AddressFields, n.addr, "ip", "port", "is_public", "hostname")
	case "group", "ancestors":
		b.groupFacts(pb, n)
	}
	return pb
}

func (b *builder) processFacts(pb *clewv1.Node, n *node) {
	for _, img := range n.proc.images {
		if !img.IsExec && len(n.proc.images) > 1 {
			continue
		}
		pb.Images = append(pb.Images, &clewv1.Image{At: Time(cmp.Or(img.ExecTime, img.CreatedAt)), Path: img.File.Path,
			CommandLine: Short(img.CommandLine(), 1000), User: userName(img.User, img.UID)})
	}
	if len(n.proc.images) == 0 {
		return
	}
	img := n.proc.latest()
	pb.Attributes = facts(pb.Attributes, "process.", event.ProcessFields, img,
		"pid", "ppid", "tty_name", "args", "user", "uid", "euser", "euid", "group", "auid", "container.id", "container.tags", "cgroup.id", "cgroup.manager", "sid", "envs")
	pb.Attributes = fileFacts(pb.Attributes, "process.", &img.File)
	if img.Interpreter.Path != "" {
		pb.Attributes = append(pb.Attributes, &clewv1.Attribute{Field: "process.interpreter.file.path", Label: "Interpreter", Value: Short(img.Interpreter.Path, 400)})
	}
	if img.CWD != "" {
		pb.Attributes = append(pb.Attributes, &clewv1.Attribute{Field: "process.cwd", Label: "Working directory", Value: Short(img.CWD, 400)})
	}
	if e := n.proc.exit; e != nil && e.Exit != nil {
		pb.Attributes = append(pb.Attributes, &clewv1.Attribute{Field: "exit.code", Label: "Exit code", Value: strconv.FormatInt(e.Exit.Code, 10)})
	}
}

func fileFacts(out []*clewv1.Attribute, prefix string, f *event.File) []*clewv1.Attribute {
	out = facts(out, prefix+"file.", event.FileFields, f, "path", "filesystem", "inode", "user", "uid", "group", "hashes", "package.name", "package.version")
	if r := f.Rights(); r != 0 {
		out = append(out, &clewv1.Attribute{Field: prefix + "file.rights", Label: "Permissions", Value: fmt.Sprintf("%04o", r)})
	}
	return found(out, prefix, f)
}

// found are the facts that were found out by reading a file, or why it was not
// read.
func found(out []*clewv1.Attribute, prefix string, f *event.File) []*clewv1.Attribute {
	add := func(field, label, value string) {
		if value != "" {
			out = append(out, &clewv1.Attribute{Field: prefix + "file." + field, Label: label, Value: value})
		}
	}
	add("hash_state", "Not hashed because", f.HashState)
	if m := f.Metadata; m != nil && m.Type == event.FileELF {
		var what []string
		what = append(what, "ELF")
		for _, x := range []struct {
			holds bool
			word  string
		}{
			{m.Linkage == event.LinkageStatic, "static"}, {m.Linkage == event.LinkageDynamic, "dynamic"}, {m.IsStripped, "stripped"},
			{m.IsUPXPacked, "packed with UPX"}, {m.IsPacked && !m.IsUPXPacked, "packed"}, {m.IsGarbleObfuscated, "obfuscated"},
		} {
			if x.holds {
				what = append(what, x.word)
			}
		}
		add("metadata.type", "Kind of file", strings.Join(what, ", "))
		add("metadata.build_id", "Build id", m.BuildID)
	}
	if b := f.Before; b != nil {
		what := []string{fmt.Sprintf("mode %04o", b.Mode&0o7777), fmt.Sprintf("owner %d:%d", b.UID, b.GID), fmt.Sprintf("%d bytes", b.Size)}
		add("before", "Before", strings.Join(append(what, b.Hashes...), ", "))
	}
	var diff []string
	for line := range strings.Lines(f.Diff) {
		diff = append(diff, Short(strings.TrimSuffix(line, "\n"), 500))
	}
	add("diff", "Difference", strings.Join(diff, "\n"))
	return out
}

// facts reads fields by name, with the labels of the schema. Empty ones are
// left out, except user ids, where 0 says a lot.
func facts[T any](out []*clewv1.Attribute, prefix string, fields []event.Getter[T], x *T, names ...string) []*clewv1.Attribute {
	for _, name := range names {
		i := slices.IndexFunc(fields, func(g event.Getter[T]) bool { return g.Name == name })
		if i < 0 {
			continue
		}
		g := &fields[i]
		v := ""
		switch {
		case g.Str != nil:
			v = g.Str(x)
		case g.Strs != nil:
			v = strings.Join(g.Strs(x), " ")
		case g.Int != nil:
			if n := g.Int(x); n != 0 || strings.HasSuffix(name, "uid") {
				if name == "auid" && n == 1<<32-1 {
					continue // no login
				}
				v = strconv.FormatInt(n, 10)
			}
		case g.Bool != nil:
			v = strconv.FormatBool(g.Bool(x))
		case g.IP != nil:
			if ip := g.IP(x); ip.IsValid() {
				v = ip.Unmap().String()
			}
		}
		if v != "" {
			out = append(out, &clewv1.Attribute{Field: prefix + name, Label: g.Label, Value: Short(v, 1000)})
		}
	}
	return out
}

func (b *builder) groupFacts(pb *clewv1.Node, n *node) {
	pb.Of = kindOf(n)
	pb.Count = countMembers(n)
	pb.ExpandToken, pb.FoldReason, pb.Path = n.token, n.reason, n.path
	slices.SortFunc(n.members, compareNodes)
	ended := 0
	for _, m := range n.members {
		if m.state == "ended" {
			ended++
			pb.StateAt = Time(max(m.stateAt, nsOf(pb.StateAt)))
		}
		if len(pb.Samples) < 3 {
			pb.Samples = append(pb.Samples, m.id)
		}
	}
	switch {
	case ended == len(n.members):
		pb.State = "ended"
	case n.kind == "ancestors":
		pb.State, pb.StateAt = "unknown", Time(n.last)
	default:
		pb.State, pb.StateAt = n.members[0].state, Time(n.members[0].stateAt)
	}
	// The worst members are listed first, then the oldest.
	list := slices.Clone(n.members)
	if n.kind == "group" {
		slices.SortStableFunc(list, func(x, y *node) int { return cmp.Compare(y.severity, x.severity) })
	}
	for _, m := range list[:min(len(list), 50)] {
		label := m.label
		if m.kind == "group" {
			label = groupLabel(m) + " ×" + strconv.Itoa(len(m.members))
		}
		pb.Members = append(pb.Members, &clewv1.Member{Id: m.id, Label: label, At: Time(m.first), Severity: SeverityName(m.severity)})
	}
	if n.kind == "group" {
		pb.Label = groupLabel(n)
		pb.Varies = varies(n.members)
	}
}

// countMembers counts a group's members, those of groups inside it included.
func countMembers(n *node) int64 {
	var total int64
	for _, m := range n.members {
		if m.kind == "group" || m.kind == "ancestors" {
			total += countMembers(m)
		} else {
			total++
		}
	}
	return total
}

func nsOf(t interface{ GetSeconds() int64 }) int64 {
	type nanos interface{ GetNanos() int32 }
	return t.GetSeconds()*1e9 + int64(t.(nanos).GetNanos())
}

func groupLabel(n *node) string {
	m := n.members[0]
	if n.reason == reasonBudget {
		same := true
		for _, o := range n.members {
			same = same && o.sig == m.sig && o.kind == m.kind
		}
		if !same || m.sig == "" {
			return map[string]string{"process": "processes", "file": "files", "endpoint": "endpoints", "actor": "addresses"}[kindOf(n)]
		}
	}
	switch m.kind {
	case "group":
		return groupLabel(m)
	case "process":
		return Short(Template(m.label), 120)
	case "file":
		return Short(strings.TrimSuffix(Dir(m.file.Path), "/")+"/*"+m.file.Extension(), 400)
	case "endpoint":
		label := endpointNet(m.addr)
		if m.addr.Port != 0 {
			label += ":" + strconv.FormatUint(uint64(m.addr.Port), 10)
		}
		return Short(label, 255)
	}
	return m.label
}

// varies says in what members differ.
func varies(members []*node) (out []string) {
	switch members[0].kind {
	case "file":
		return []string{"name"}
	case "endpoint":
		return []string{"address"}
	case "process":
	default:
		return nil
	}
	var first *event.Process
	differ := map[int]bool{}
	user, path := false, false
	for _, m := range members {
		if m.kind != "process" || len(m.proc.images) == 0 {
			continue
		}
		img := m.proc.latest()
		if first == nil {
			first = img
			continue
		}
		a, c := first.Argv(), img.Argv()
		for i := range max(len(a), len(c)) {
			if i >= len(a) || i >= len(c) || a[i] != c[i] {
				differ[i+1] = true
			}
		}
		user = user || first.UID != img.UID
		path = path || first.File.Path != img.File.Path
	}
	if path {
		out = append(out, "path")
	}
	for i := 1; i <= 16; i++ {
		if differ[i] {
			out = append(out, "args["+strconv.Itoa(i)+"]")
		}
	}
	if user {
		out = append(out, "user")
	}
	return append(out, "pid")
}

type shownKey struct {
	kind     string
	src, dst *node
	refused  bool
	link     string
}

func (b *builder) mergedKey(e *edge) shownKey {
	return shownKey{e.kind, visible(e.src), visible(e.dst), e.refused, e.edgeKey.link}
}

func (b *builder) mergedID(e *edge) string {
	k := b.mergedKey(e)
	if k.src == k.dst {
		return ""
	}
	if e.shown == "" {
		e.shown = hashID("e_", k.kind, k.src.id, k.dst.id, strconv.FormatBool(k.refused), k.link)
	}
	return e.shown
}

// emitEdges merges what runs parallel after folding.
func (b *builder) emitEdges(g *clewv1.Graph) {
	slices.SortFunc(b.order, compareEdges)
	merged := map[shownKey]*edge{}
	var order []*edge
	for _, e := range b.order {
		k := b.mergedKey(e)
		if k.src == k.dst {
			continue
		}
		m := merged[k]
		if m == nil {
			m = &edge{edgeKey: edgeKey{k.kind, k.src, k.dst, k.refused, k.link}, id: b.mergedID(e), severity: None, ops: map[string]int64{}, link: e.link}
			merged[k] = m
			order = append(order, m)
		}
		m.tree = m.tree || e.tree && k.dst.parent == k.src
		m.role, m.label = cmp.Or(m.role, e.role), cmp.Or(m.label, e.label)
		m.severity = max(m.severity, e.severity)
		m.count += e.count
		for op, n := range e.ops {
			m.ops[op] += n
		}
		if m.first == 0 || e.first < m.first {
			m.first = e.first
		}
		m.last = max(m.last, e.last)
		for _, id := range e.events {
			if len(m.events) < 5 {
				m.events = append(m.events, id)
			}
		}
	}
	// A group below a parent is a child in the tree although no edge says so.
	slices.SortFunc(order, compareEdges)
	for _, e := range order {
		g.Edges = append(g.Edges, &clewv1.Edge{
			Id: e.id, Kind: e.kind, Source: e.src.id, Target: e.dst.id, Tree: e.tree, Role: e.role, Severity: SeverityName(e.severity),
			Count: e.count, Ops: e.ops, Label: edgeLabel(e), FirstSeen: Time(e.first), LastSeen: Time(e.last),
			Refused: e.refused, EventIds: e.events, Link: e.link,
		})
		g.Legend.Edges[e.kind]++
	}
}

func edgeLabel(e *edge) string {
	if e.label != "" {
		return e.label
	}
	switch e.kind {
	case "execute_file":
		if e.link != nil && strings.Contains(e.link.Type, "schedul") {
			return "ran as a job"
		}
		return "ran"
	case "context":
		return strings.ReplaceAll(e.edgeKey.link, "_", " ")
	}
	var words []string
	for _, op := range sortedKeys(e.ops) {
		if w := opWord(op); !slices.Contains(words, w) {
			words = append(words, w)
		}
	}
	label := strings.Join(words[:min(len(words), 3)], ", ")
	if e.refused {
		label += " (refused)"
	}
	return label
}

// emitLanes puts hosts in order of their names, containers in order of age,
// the internet last.
func (b *builder) emitLanes(g *clewv1.Graph, used map[*lane]bool) {
	var list []*lane
	for l := range used {
		list = append(list, l)
		if l.pb.ParentId != "" && !used[b.lanes[l.pb.ParentId]] {
			list = append(list, b.lanes[l.pb.ParentId])
		}
	}
	rank := func(l *lane) int { return slices.Index([]string{"host", "container", "internet"}, l.pb.Kind) }
	slices.SortFunc(list, func(x, y *lane) int {
		return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(x.first, y.first), strings.Compare(x.pb.Label, y.pb.Label), strings.Compare(x.pb.Id, y.pb.Id))
	})
	list = slices.Compact(list)
	orders := map[string]int32{}
	for _, l := range list {
		l.pb.Order = orders[l.pb.ParentId]
		orders[l.pb.ParentId]++
		switch l.pb.Kind {
		case "host":
			a := b.agent(l.agent)
			l.pb.State, l.pb.StateAt = "alive", Time(a.Last)
			if a.Last == 0 || b.in.AsOf-a.Last > SilentAfter {
				l.pb.State = "unknown"
			}
		case "container":
			l.pb.State = "ended"
			var at, seen int64
			for _, p := range l.procs {
				if p.node.state != "ended" {
					l.pb.State = p.node.state
				}
				at, seen = max(at, p.node.stateAt), max(seen, p.node.last)
			}
			l.pb.StateAt = Time(cmp.Or(at, seen))
		}
		g.Lanes = append(g.Lanes, l.pb)
	}
}
