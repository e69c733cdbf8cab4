// Folding: what repeats becomes a group, ancestors without a say become one
// node, and what the budget has no room for is put away, least important
// first. Nothing is left out without being counted.

package graph

import (
	"cmp"
	"container/heap"
	"slices"
	"strconv"
	"strings"

	"github.com/clewsec/clew/internal/event"
)

// Reasons why nodes are inside a fold.
const (
	reasonChain     = "chain"
	reasonSignature = "same_signature"
	reasonBudget    = "budget"
)

func (b *builder) fold() {
	open := map[string]bool{}
	for _, t := range b.in.Open {
		open[t] = true
	}
	for _, n := range b.nodes {
		n.safe = n.severity >= Medium || n.role != ""
		if n.parent != nil {
			n.parent.children = append(n.parent.children, n)
		}
	}
	for _, n := range b.nodes {
		slices.SortFunc(n.children, compareNodes)
	}
	b.chains(open)
	b.siblings(open)
	b.budget(open)
}

// group makes the node that stands for members.
func (b *builder) group(id, kind, reason string, parent *node, members []*node) *node {
	g := b.newNode(id, kind, members[0].lane)
	g.token, g.reason, g.parent = id, reason, parent
	if parent != nil && kind == "group" {
		g.lane = members[0].lane
	}
	for _, m := range members {
		b.into(g, m)
	}
	return g
}

// into puts a node and all below it into a group.
func (b *builder) into(g, m *node) {
	m.rep = g
	g.members = append(g.members, m)
	g.signals += m.signals
	g.severity = max(g.severity, m.severity)
	g.tactic = max(g.tactic, m.tactic)
	g.seen(m.first)
	g.seen(m.last)
	for k := range m.contexts {
		g.contexts[k] = true
	}
	for k, v := range m.did {
		g.did[k] += v
	}
}

// takeTree puts everything below m into the group that m is in.
func (b *builder) takeTree(g, m *node) {
	for _, c := range m.children {
		if c.rep == nil || c.rep != g {
			c.rep = g
			g.signals += c.signals
			g.severity = max(g.severity, c.severity)
			g.seen(c.first)
			g.seen(c.last)
			for k, v := range c.did {
				g.did[k] += v
			}
		}
		b.takeTree(g, c)
	}
}

// chains folds runs of ancestors that did nothing in the story and have one
// child in it.
func (b *builder) chains(open map[string]bool) {
	quiet := func(n *node) bool {
		if n.kind != "process" || n.proc.own || n.safe || n.linked || n.rep != nil || len(n.children) != 1 {
			return false
		}
		// What started a process of the story stays visible.
		c := n.children[0]
		return c.kind == "process" && !c.proc.own
	}
	// An entry hangs below the address it came from; its own ancestors then
	// end in a node without a child in the tree.
	spawned := map[*node]*node{}
	for _, e := range b.order {
		if e.kind == "spawn" && !e.tree && e.dst.proc != nil && e.dst.parent != e.src {
			spawned[e.src] = e.dst
		}
	}
	loose := func(n *node) bool {
		return n.kind == "process" && !n.proc.own && !n.safe && n.rep == nil && len(n.children) == 0 && spawned[n] != nil
	}
	all := slices.Clone(b.nodes)
	slices.SortFunc(all, compareNodes)
	for _, n := range all {
		if n.rep != nil || !(quiet(n) || loose(n)) || n.parent != nil && quiet(n.parent) {
			continue
		}
		run := []*node{n}
		for quiet(run[len(run)-1]) {
			next := run[len(run)-1].children[0]
			if !quiet(next) && !loose(next) {
				break
			}
			run = append(run, next)
		}
		last := run[len(run)-1]
		id := hashID("a_", last.id)
		if len(run) < 2 || open[id] {
			continue
		}
		a := b.group(id, "ancestors", reasonChain, n.parent, run)
		for _, m := range run {
			a.path = append(a.path, procName(m))
		}
		if n.parent != nil {
			n.parent.children[slices.Index(n.parent.children, n)] = a
		}
		if len(last.children) == 1 {
			c := last.children[0]
			c.parent = a
			a.children = []*node{c}
		}
		a.label = strconv.Itoa(len(run)) + " ancestors"
	}
}

func procName(n *node) string {
	if len(n.proc.images) == 0 {
		return n.label
	}
	return Short(ProgramName(n.proc.latest()), 32)
}

// ownSignature is what a node has in common with those it may be folded with.
func ownSignature(n *node, edges map[*node]*edge) string {
	var s strings.Builder
	s.WriteString(n.kind)
	put := func(parts ...string) {
		for _, p := range parts {
			s.WriteByte(0)
			s.WriteString(p)
		}
	}
	switch n.kind {
	case "process":
		if len(n.proc.images) == 0 {
			put("unknown")
			break
		}
		for _, img := range n.proc.images {
			if !img.IsExec && len(n.proc.images) > 1 {
				continue // the copy of the parent between fork and exec
			}
			put(img.File.Path, strconv.FormatUint(uint64(img.UID), 10), img.ContainerID)
			for _, a := range img.Argv() {
				put(Template(a))
			}
		}
	case "file":
		ops := ""
		if e := edges[n]; e != nil {
			ops = strings.Join(sortedKeys(e.ops), ",")
			if e.refused {
				ops += " refused"
			}
		}
		put(ops, Dir(n.file.Path), n.file.Extension(), strings.Join(sortedKeys(n.flags), ","))
	case "endpoint":
		put(endpointNet(n.addr), strconv.FormatUint(uint64(n.addr.Port), 10), n.sub)
	default:
		put(n.id)
	}
	return s.String()
}

// endpointNet is the /24 (or /64) of an address, or the last two labels of a
// name.
func endpointNet(a *event.Address) string {
	if a.UnixPath != "" {
		return Dir(a.UnixPath)
	}
	if len(a.Hostname) > 0 {
		labels := strings.Split(a.Hostname[0], ".")
		return strings.Join(labels[max(0, len(labels)-2):], ".")
	}
	ip := a.IP.Unmap()
	bits := 64
	if ip.Is4() {
		bits = 24
	}
	if p, err := ip.Prefix(bits); err == nil {
		return p.String()
	}
	return ip.String()
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// siblings folds children of one parent that have the same signature, with all
// that is below them.
func (b *builder) siblings(open map[string]bool) {
	in := map[*node]*edge{}
	for _, e := range b.order {
		if e.tree {
			in[e.dst] = e
		}
	}
	var roots []*node
	for _, n := range b.nodes {
		if n.rep == nil && n.parent == nil {
			roots = append(roots, n)
		}
	}
	// Signatures from the leaves up, without recursion: lineages may be deep.
	order := preorder(roots)
	for i := len(order) - 1; i >= 0; i-- {
		n := order[i]
		if n.kind == "group" || n.kind == "ancestors" {
			n.treesig = n.id
			n.size = 1
			n.leaves = -1
			continue
		}
		n.sig = ownSignature(n, in)
		below := map[string]bool{}
		n.size = 1
		fixed := n.safe || n.linked
		for _, c := range n.children {
			below[c.treesig] = true
			n.size += c.size
			fixed = fixed || c.leaves < 0
		}
		if fixed {
			n.leaves = -1 // never inside a fold by signature
		}
		n.treesig = hashID("", append([]string{n.sig}, sortedKeys(below)...)...)
	}
	for _, p := range order {
		if p.rep == nil {
			b.foldChildren(p, open)
		}
	}
}

// preorder lists nodes with all below them, parents first.
func preorder(roots []*node) []*node {
	slices.SortFunc(roots, compareNodes)
	out := slices.Clone(roots)
	for i := 0; i < len(out); i++ {
		out = append(out, out[i].children...)
	}
	return out
}

func (b *builder) foldChildren(p *node, open map[string]bool) {
	classes := map[string][]*node{}
	for _, c := range p.children {
		if c.leaves >= 0 && c.kind != "actor" {
			classes[c.treesig] = append(classes[c.treesig], c)
		}
	}
	keys := sortedKeys(classes)
	for _, k := range keys {
		members := classes[k]
		// Who lives among those that ended has a state of its own.
		ended := 0
		for _, m := range members {
			if m.state == "ended" {
				ended++
			}
		}
		if members[0].kind == "process" && ended*2 >= len(members) {
			members = slices.DeleteFunc(slices.Clone(members), func(m *node) bool { return m.state == "alive" })
		}
		least := 3
		if members[0].kind == "process" {
			least = 2
		}
		if len(members) < least {
			continue
		}
		id := hashID("g_", p.id, k)
		if open[id] {
			for _, m := range members {
				m.opened = true
			}
			continue
		}
		g := b.group(id, "group", reasonSignature, p, members)
		for _, m := range members {
			b.takeTree(g, m)
			g.size += m.size
		}
		g.sig = members[0].sig
		rest := slices.DeleteFunc(p.children, func(c *node) bool { return c.rep == g })
		p.children = append(rest, g)
		slices.SortFunc(p.children, compareNodes)
	}
}

// A leafHeap has the least important visible leaf first.
type leafHeap []*node

func (h leafHeap) Len() int           { return len(h) }
func (h leafHeap) Less(i, j int) bool { return compareImportance(h[i], h[j]) < 0 }
func (h leafHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *leafHeap) Push(x any)        { *h = append(*h, x.(*node)) }
func (h *leafHeap) Pop() any {
	old := *h
	n := old[len(old)-1]
	*h = old[:len(old)-1]
	return n
}

func compareImportance(x, y *node) int {
	return cmp.Or(cmp.Compare(keepRank(x), keepRank(y)), cmp.Compare(x.severity, y.severity), cmp.Compare(x.signals, y.signals),
		cmp.Compare(x.last, y.last), cmp.Compare(x.size, y.size), strings.Compare(x.id, y.id))
}

// keepRank orders by what a reader would miss most.
func keepRank(n *node) int {
	switch {
	case n.role != "":
		return 4
	case n.severity >= Medium:
		return 3
	case n.opened:
		return 2
	case n.linked:
		return 1
	}
	return 0
}

// A bucket gathers what the budget has no room for below one parent.
type bucket struct {
	id      string
	parent  *node
	lane    *lane
	kind    string
	members []*node
}

// budget puts leaves away, least important first, until what remains fits. A
// severe node goes into a group of its own signature.
func (b *builder) budget(open map[string]bool) {
	var visible []*node
	for _, n := range b.nodes {
		if n.rep == nil {
			visible = append(visible, n)
		}
	}
	if len(visible) <= b.in.Budget {
		return
	}
	bySignature := true
	buckets := map[string]*bucket{}
	hidden := map[*node]*bucket{}
	left := map[*node]int{} // children still visible
	below := map[*node][]*bucket{}
	shown := len(visible)

	bucketOf := func(n *node) *bucket {
		parts := []string{"", kindOf(n)}
		bk := &bucket{parent: n.parent, lane: n.lane, kind: kindOf(n)}
		if n.parent != nil {
			parts[0] = n.parent.id
		} else {
			parts[0] = "root"
		}
		if bySignature && n.severity >= Medium {
			parts = append(parts, cmp.Or(n.sig, n.id))
		}
		bk.id = hashID("g_", append(parts, reasonBudget)...)
		if have := buckets[bk.id]; have != nil {
			return have
		}
		buckets[bk.id] = bk
		return bk
	}
	hide := func(n *node) {
		bk := bucketOf(n)
		if len(bk.members) == 0 {
			shown++
			if bk.parent != nil {
				below[bk.parent] = append(below[bk.parent], bk)
			}
		}
		bk.members = append(bk.members, n)
		hidden[n] = bk
		shown--
		// The groups below it go with it.
		for _, sub := range below[n] {
			if len(sub.members) > 0 {
				shown--
				delete(buckets, sub.id)
			}
		}
		delete(below, n)
	}

	for _, pass := range []bool{true, false} {
		bySignature = pass
		if !pass {
			// Even groups by signature are too many: severe nodes of a parent
			// share one.
			old := buckets
			buckets, below, shown = map[string]*bucket{}, map[*node][]*bucket{}, 0
			for _, n := range visible {
				if hidden[n] == nil {
					shown++
				}
			}
			for _, id := range sortedKeys(old) {
				for _, n := range old[id].members {
					bk := bucketOf(n)
					if len(bk.members) == 0 {
						shown++
						if bk.parent != nil {
							below[bk.parent] = append(below[bk.parent], bk)
						}
					}
					bk.members = append(bk.members, n)
					hidden[n] = bk
				}
			}
		}
		h := &leafHeap{}
		for _, n := range visible {
			left[n] = 0
			for _, c := range n.children {
				if hidden[c] == nil {
					left[n]++
				}
			}
			if hidden[n] == nil && left[n] == 0 && !open[n.id] {
				*h = append(*h, n)
			}
		}
		heap.Init(h)
		for shown > b.in.Budget && h.Len() > 0 {
			n := heap.Pop(h).(*node)
			hide(n)
			if p := n.parent; p != nil {
				if left[p]--; left[p] == 0 {
					heap.Push(h, p)
				}
			}
		}
		if shown <= b.in.Budget {
			break
		}
	}

	for _, id := range sortedKeys(buckets) {
		bk := buckets[id]
		if len(bk.members) == 1 && len(bk.members[0].children) == 0 {
			continue // alone, it takes no more room than its group
		}
		slices.SortFunc(bk.members, compareNodes)
		g := b.group(bk.id, "group", reasonBudget, bk.parent, bk.members)
		g.lane = bk.lane
		for _, m := range bk.members {
			b.takeTree(g, m)
			g.size += m.size
		}
	}
}

// kindOf is the kind of what a node stands for.
func kindOf(n *node) string {
	if n.kind == "group" && len(n.members) > 0 {
		return kindOf(n.members[0])
	}
	if n.kind == "ancestors" {
		return "process"
	}
	return n.kind
}

// visible is the node that stands for n.
func visible(n *node) *node {
	for n.rep != nil {
		n = n.rep
	}
	return n
}
