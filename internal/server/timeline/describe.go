package timeline

import (
	"cmp"
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
		switch ret := e.Retval(); {
		case graph.Refused(ret):
			say(" was refused to " + infinitive + " ")
		case ret < 0 && ret != -115:
			say(" tried to " + infinitive + " ")
		default:
			say(" " + did + " ")
		}
	}
	path := func(f *event.File) { name(p.Object, graph.Short(f.Path, 200)) }

	target := func() {
		t := e.Target()
		label := p.Object.Label
		switch {
		case p.Object.ID != "" && p.Object.ID == p.Actor.ID, t.PID == e.PID:
			label = "itself"
		case t.Proc != nil:
			label = graph.Short(graph.ProgramName(t.Proc), 48)
		case label == "" && t.PID != 0:
			label = "process " + strconv.FormatUint(uint64(t.PID), 10)
		}
		name(p.Object, label)
	}

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
	case e.Ptrace != nil:
		do(graph.PtraceVerb(e.Ptrace.Request))
		target()
	case e.SignalSent != nil:
		do("sent "+graph.SignalName(e.SignalSent.Type)+" to", "send "+graph.SignalName(e.SignalSent.Type)+" to")
		target()
	case e.Setrlimit != nil:
		do("changed a resource limit of", "change a resource limit of")
		target()
	case e.Mount != nil:
		what := cmp.Or(e.Mount.SourcePath, e.Mount.FSType, "a file system")
		do("mounted "+graph.Short(what, 120)+" at", "mount "+graph.Short(what, 120)+" at")
		name(p.Object, graph.Short(e.Mount.MountpointPath, 200))
	case e.Umount != nil:
		do("unmounted", "unmount")
		name(p.Object, graph.Short(e.Umount.MountpointPath, 200))
	case e.Chdir != nil:
		do("changed its directory to", "change its directory to")
		path(&e.Chdir.File)
	case e.Setxattr != nil:
		what := "attribute " + graph.Short(e.Setxattr.DestinationName, 64) + " of"
		do("set "+what, "set "+what)
		path(&e.Setxattr.File)
	case e.Removexattr != nil:
		what := "attribute " + graph.Short(e.Removexattr.DestinationName, 64) + " of"
		do("removed "+what, "remove "+what)
		path(&e.Removexattr.File)
	case e.Utimes != nil:
		do("set the times of", "set the times of")
		path(&e.Utimes.File)
	case e.Splice != nil:
		do("spliced a pipe with", "splice a pipe with")
		path(&e.Splice.File)
	case e.Mmap != nil:
		prot := graph.ProtectionText(e.Mmap.Protection)
		if e.Mmap.File.Path == "" {
			do("mapped memory, "+prot, "map memory, "+prot)
			break
		}
		do("mapped", "map")
		path(&e.Mmap.File)
		say(", " + prot)
	case e.Mprotect != nil:
		prot := graph.ProtectionText(e.Mprotect.ReqProtection)
		do("made memory "+prot, "make memory "+prot)
	case e.LoadModule != nil:
		do("loaded kernel module", "load kernel module")
		name(p.Object, graph.Short(e.LoadModule.Name, 64))
		if e.LoadModule.LoadedFromMemory {
			say(" from memory")
		}
	case e.UnloadModule != nil:
		do("removed kernel module", "remove kernel module")
		name(p.Object, graph.Short(e.UnloadModule.Name, 64))
	case e.BPF != nil:
		actor()
		say(" " + graph.BPFCommand(e.BPF.Cmd))
		if obj := cmp.Or(e.BPF.ProgName, e.BPF.MapName); obj != "" {
			say(" ")
			name(p.Object, graph.Short(obj, 32))
		}
	case e.Sysctl != nil:
		if e.Sysctl.Action == 2 {
			do("set kernel parameter", "set kernel parameter")
			name(p.Object, graph.Short(e.Sysctl.Name, 120))
			say(" to " + graph.Short(strings.TrimSpace(e.Sysctl.Value), 80))
		} else {
			do("read kernel parameter", "read kernel parameter")
			name(p.Object, graph.Short(e.Sysctl.Name, 120))
		}
	case e.Unshare != nil:
		do("left its namespaces: "+graph.NamespaceText(e.Unshare.Flags), "leave its namespaces: "+graph.NamespaceText(e.Unshare.Flags))
	case e.Capset != nil:
		actor()
		say(" changed its capabilities")
	case e.Prctl != nil && e.Prctl.NewName != "":
		actor()
		say(" renamed itself " + graph.Short(e.Prctl.NewName, 32))
	case e.DNS != nil:
		if e.DNS.IsResponse {
			actor()
			say(" was answered about ")
		} else {
			do("looked up", "look up")
		}
		name(p.Object, graph.Short(e.DNS.QuestionName, 120))
		if e.DNS.IsResponse && len(e.DNS.Addresses) > 0 {
			say(": " + graph.Short(strings.Join(e.DNS.Addresses, ", "), 120))
		}
	case e.IMDS != nil:
		if e.IMDS.Type == "response" {
			actor()
			say(" was answered by the ")
		} else {
			do("asked the", "ask the")
		}
		name(p.Object, cmp.Or(e.IMDS.CloudProvider, "cloud")+" metadata service")
		if e.IMDS.URL != "" {
			say(" for " + graph.Short(e.IMDS.URL, 120))
		}
	case e.Socket != nil:
		do(fmt.Sprintf("made a socket (domain %d, type %d, protocol %d)", e.Socket.Domain, e.Socket.Type&0xf, e.Socket.Protocol), "make a socket")
	case e.Setsockopt != nil && e.Setsockopt.FilterLen > 0:
		do("attached a packet filter to a socket", "attach a packet filter to a socket")
	default:
		actor()
		say(": " + strings.ReplaceAll(e.Kind.String(), "_", " "))
	}
	last := out[len(out)-1]
	last.T = strings.TrimSuffix(last.T, " ") // what was done has no object
	return out
}

func userOf(name string, id uint32) string {
	if name != "" {
		return graph.Short(name, 64)
	}
	return strconv.FormatUint(uint64(id), 10)
}
