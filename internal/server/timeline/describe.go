package timeline

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/server/graph"
)

// Describe says in words what an event is, naming the nodes it is about. The
// image is the actor's and may be nil.
func Describe(p graph.Placed, image *event.Process) []*clewv1.Span {
	e := p.Event
	var out []*clewv1.Span
	say := func(t string) { out = append(out, &clewv1.Span{T: t}) }
	name := func(n graph.Name, label string) {
		if label == "" {
			label = n.Label
		}
		if label == "" {
			label = "something"
		}
		out = append(out, &clewv1.Span{T: label, Node: n.ID})
	}
	actor := func() {
		label := p.Actor.Label
		if image != nil {
			label = graph.Short(graph.ProgramName(image), 48)
		} else if label == "" {
			label = "process " + strconv.FormatUint(uint64(e.PID), 10)
		}
		name(p.Actor, label)
	}
	// do says "x did", or that it could not.
	do := func(did, infinitive string) {
		actor()
		switch ret := graph.Retval(e); {
		case graph.Refused(ret):
			say(" was refused to " + infinitive + " ")
		case ret < 0 && ret != -115:
			say(" tried to " + infinitive + " ")
		default:
			say(" " + did + " ")
		}
	}
	path := func(f *event.File) { name(p.Object, graph.Short(f.Path, 200)) }

	switch {
	case e.Kind == event.KindExec:
		label := p.Actor.Label
		switch {
		case p.Became != "":
			name(p.Actor, p.Became)
			say(" became ")
		case p.Parent.Label != "":
			name(p.Parent, "")
			say(" started ")
		default:
			say("started ")
		}
		name(p.Actor, label)
	case e.Kind == event.KindFork:
		actor()
		say(" was forked")
		if p.Parent.Label != "" {
			say(" by ")
			name(p.Parent, "")
		}
	case e.Exit != nil:
		actor()
		switch {
		case e.Exit.Cause == 0 && e.Exit.Code == 0:
			say(" ended")
		case e.Exit.Cause == 0:
			say(" ended with status " + strconv.FormatInt(e.Exit.Code, 10))
		default:
			say(" was ended by signal " + strconv.FormatInt(e.Exit.Code, 10))
		}
	case e.Open != nil:
		switch op, _ := graph.Op(e); op {
		case "create":
			do("created", "create")
		case "read":
			do("opened", "open")
		case "truncate":
			do("emptied", "empty")
		default:
			do("opened for writing", "write")
		}
		path(&e.Open.File)
	case e.Unlink != nil:
		do("removed", "remove")
		path(&e.Unlink.File)
	case e.Rmdir != nil:
		do("removed directory", "remove directory")
		path(&e.Rmdir.File)
	case e.Mkdir != nil:
		do("made directory", "make directory")
		path(&e.Mkdir.File)
	case e.Rename != nil:
		do("renamed", "rename")
		path(&e.Rename.File)
		say(" to " + graph.Short(e.Rename.Destination.Path, 200))
	case e.Chmod != nil:
		user, group := graph.SetsID(e.Chmod)
		switch {
		case user:
			do("set the set-user-ID bit on", "set the set-user-ID bit on")
		case group:
			do("set the set-group-ID bit on", "set the set-group-ID bit on")
		default:
			do("changed the mode of", "change the mode of")
		}
		path(&e.Chmod.File)
		say(fmt.Sprintf(" (mode %04o)", e.Chmod.DestinationMode&0o7777))
	case e.Chown != nil:
		do("changed the owner of", "change the owner of")
		path(&e.Chown.File)
		if e.Chown.DestinationUser != "" {
			say(" to " + graph.Short(e.Chown.DestinationUser, 64))
		} else if e.Chown.DestinationUID >= 0 {
			say(" to uid " + strconv.FormatInt(e.Chown.DestinationUID, 10))
		}
	case e.Link != nil:
		do("linked", "link")
		path(&e.Link.Destination)
		say(" to " + graph.Short(e.Link.File.Path, 200))
	case e.Symlink != nil:
		do("made symbolic link", "make symbolic link")
		path(&e.Symlink.File)
		say(" to " + graph.Short(e.Symlink.Target, 200))
	case e.Connect != nil:
		do("connected to", "connect to")
		name(p.Object, graph.Short(graph.AddrText(&e.Connect.Addr), 120))
	case e.Bind != nil:
		do("listens on", "listen on")
		name(p.Object, graph.Short(graph.AddrText(&e.Bind.Addr), 120))
	case e.Accept != nil:
		do("accepted a connection from", "accept a connection from")
		// The peer's port is new each time and says nothing.
		name(p.Object, graph.Short(graph.AddrText(&event.Address{IP: e.Accept.Addr.IP, Hostname: e.Accept.Addr.Hostname, UnixPath: e.Accept.Addr.UnixPath}), 120))
	case e.Setuid != nil:
		actor()
		say(" became user " + userOf(e.Setuid.EUser, e.Setuid.EUID))
		if image != nil && image.UID != e.Setuid.UID {
			say(", was " + userOf(image.User, image.UID))
		}
	case e.Setgid != nil:
		actor()
		say(" became group " + userOf(e.Setgid.EGroup, e.Setgid.EGID))
	case e.CgroupWrite != nil:
		actor()
		say(" moved process " + strconv.FormatUint(uint64(e.CgroupWrite.PID), 10) + " to control group " + graph.Short(e.CgroupWrite.Cgroup, 120))
	default:
		actor()
		say(": " + strings.ReplaceAll(e.Kind.String(), "_", " "))
	}
	return out
}

func userOf(name string, id uint32) string {
	if name != "" {
		return graph.Short(name, 64)
	}
	return strconv.FormatUint(uint64(id), 10)
}
