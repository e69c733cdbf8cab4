// Package dnscache remembers which names resolved to an address, so that a
// later connection can say what it was meant for. It is fed with the answers
// that processes of the host got, and keeps each network namespace to itself:
// what a container was told says nothing about its neighbour.
//
// A name is a hint, no proof: whoever runs a name server can answer with any
// address, and one address serves many names.
package dnscache

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/clewsec/clew/internal/event"
)

// Bounds of what is remembered.
const (
	MaxAddresses = 8192 // the one that was not of use for longest makes room
	MaxNames     = 8    // per address; the oldest makes room
	maxName      = 253
)

// Life is how long an answer counts, in time of events. Programs keep answers
// for longer than the server allowed, and connections to an address begin long
// after its name was asked for.
const Life = time.Hour

type key struct {
	netns uint32
	addr  netip.Addr
}

type name struct {
	text string
	at   int64 // of the last answer, ns since the epoch
}

type entry struct {
	key        key
	names      []name // oldest first
	prev, next *entry // by use
}

// A Cache is not safe for concurrent use.
type Cache struct {
	entries map[key]*entry
	head    entry // of a ring: head.next was used last
}

// New returns an empty cache.
func New() *Cache {
	c := &Cache{entries: make(map[key]*entry)}
	c.head.prev, c.head.next = &c.head, &c.head
	return c
}

// Event learns from an answer, and names the far ends of a connection or of
// flows. The event's process must be known.
func (c *Cache) Event(ev *event.Event) {
	switch {
	case ev.DNS != nil:
		// An answer that nobody is known to have asked for teaches nothing.
		if d := ev.DNS; d.IsResponse && d.ResponseCode == 0 && ev.PID != 0 {
			for _, s := range d.Addresses {
				if a, err := netip.ParseAddr(s); err == nil {
					c.Learn(d.Network.DeviceNetns, a, d.QuestionName, ev.TimeNS)
				}
			}
		}
	case ev.Connect != nil:
		c.address(ev, &ev.Connect.Addr)
	case ev.Accept != nil:
		c.address(ev, &ev.Accept.Addr)
	case ev.NetworkFlowMonitor != nil:
		m := ev.NetworkFlowMonitor
		for i := range m.Flows {
			a := &m.Flows[i].Destination
			a.Hostname = c.Names(m.DeviceNetns, a.IP, ev.TimeNS)
		}
	}
}

func (c *Cache) address(ev *event.Event, a *event.Address) {
	if ev.Proc != nil && len(a.Hostname) == 0 {
		a.Hostname = c.Names(ev.Proc.NetNS, a.IP, ev.TimeNS)
	}
}

// Learn takes an answer of a namespace: a name has an address.
func (c *Cache) Learn(netns uint32, addr netip.Addr, text string, at int64) {
	text = strings.ToLower(text)
	if netns == 0 || !addr.IsValid() || text == "" || len(text) > maxName {
		return
	}
	k := key{netns, addr.Unmap()}
	e := c.entries[k]
	if e == nil {
		if len(c.entries) >= MaxAddresses {
			c.drop(c.head.prev)
		}
		e = &entry{key: k}
		c.entries[k] = e
	} else {
		e.unlink()
	}
	c.front(e)
	if i := slices.IndexFunc(e.names, func(n name) bool { return n.text == text }); i >= 0 {
		e.names = slices.Delete(e.names, i, i+1)
	} else if len(e.names) >= MaxNames {
		e.names = slices.Delete(e.names, 0, 1)
	}
	e.names = append(e.names, name{text, at})
}

// Names are the names that resolved to an address in a namespace during the
// last hour, the youngest first; nil when there are none.
func (c *Cache) Names(netns uint32, addr netip.Addr, at int64) []string {
	if len(c.entries) == 0 || !addr.IsValid() {
		return nil
	}
	e := c.entries[key{netns, addr.Unmap()}]
	if e == nil {
		return nil
	}
	e.names = slices.DeleteFunc(e.names, func(n name) bool { return at-n.at > int64(Life) })
	if len(e.names) == 0 {
		c.drop(e)
		return nil
	}
	e.unlink()
	c.front(e)
	out := make([]string, 0, len(e.names))
	for _, n := range slices.Backward(e.names) {
		out = append(out, n.text)
	}
	return out
}

// Len is how many addresses are remembered.
func (c *Cache) Len() int { return len(c.entries) }

func (c *Cache) front(e *entry) {
	e.prev, e.next = &c.head, c.head.next
	e.prev.next, e.next.prev = e, e
}

func (c *Cache) drop(e *entry) {
	e.unlink()
	delete(c.entries, e.key)
}

func (e *entry) unlink() { e.prev.next, e.next.prev = e.next, e.prev }
