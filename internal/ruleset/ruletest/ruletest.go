// Package ruletest reads the cases that come with a rule: events that must
// raise its signal and events that must not, written so that an author can
// read them.
//
//   - name: a shell below a web server
//     fires: true
//     event:
//     kind: exec
//     lineage:                      # the acting image, then those above it
//   - {exec: /usr/bin/sh, args: [sh, -c, id], uid: 33}
//   - {exec: /usr/sbin/nginx, uid: 33}
//
// A rule about several events has a list of events in place of event, each with
// after, the time since the one before; the case fires if any of them does.
//
// An open has file and flags, a chmod file and mode, a rename or link file and
// destination, a connect addr. Ages count back from the moment of the event.
// Events of every kind can give any field of the rule language by its full
// name, beside these forms or instead of them:
//
//	event:
//	  kind: dns
//	  fields: {dns.question.name: example.org, dns.question.type: 16, network.destination.ip: 192.0.2.1}
package ruletest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path"
	"slices"
	"time"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/evalfile"
	"github.com/clewsec/clew/internal/secl"
	"go.yaml.in/yaml/v3"
)

// Time is the moment of every event of a case, ns since the epoch.
const Time int64 = 1_700_000_000_000_000_000

// oldAge is how old files and processes are where a case does not say.
const oldAge = 1000 * time.Hour

// Case is an event, or some, and whether the rule must fire.
type Case struct {
	Name   string  `yaml:"name"`
	Fires  bool    `yaml:"fires"`
	Event  Event   `yaml:"event"`
	Events []Event `yaml:"events"`
}

// Event is an event as a case writes it.
type Event struct {
	Kind  string        `yaml:"kind"`
	After time.Duration `yaml:"after"`
	// Context is the key of the execution context, empty for none.
	Context     string    `yaml:"context"`
	Lineage     []Process `yaml:"lineage"`
	File        File      `yaml:"file"`
	Destination File      `yaml:"destination"`
	Flags       []string  `yaml:"flags"`
	Mode        int64     `yaml:"mode"`
	Addr        Address   `yaml:"addr"`
	Target      string    `yaml:"target"`
	UID         uint32    `yaml:"uid"`
	EUID        uint32    `yaml:"euid"`
	Retval      int64     `yaml:"retval"`
	// Fields are values by the names that rules use; lists as lists, the
	// objects of a list as mappings.
	Fields map[string]any `yaml:"fields"`
}

// Process is a process image.
type Process struct {
	Exec        string        `yaml:"exec"`
	Args        []string      `yaml:"args"`
	Comm        string        `yaml:"comm"`
	PID         uint32        `yaml:"pid"`
	UID         uint32        `yaml:"uid"`
	EUID        *uint32       `yaml:"euid"`
	AUID        *uint32       `yaml:"auid"`
	TTY         string        `yaml:"tty"`
	Fork        bool          `yaml:"fork"`
	Age         time.Duration `yaml:"age"`
	FileAge     time.Duration `yaml:"file_age"`
	Package     string        `yaml:"package"`
	Filesystem  string        `yaml:"filesystem"`
	UpperLayer  bool          `yaml:"upper_layer"`
	Interpreter string        `yaml:"interpreter"`
	Cgroup      string        `yaml:"cgroup"`
	Container   string        `yaml:"container"`
	Envs        []string      `yaml:"envs"`
	Envp        []string      `yaml:"envp"`
}

// File is a file of an event.
type File struct {
	Path       string        `yaml:"path"`
	Mode       uint32        `yaml:"mode"`
	UID        uint32        `yaml:"uid"`
	Age        time.Duration `yaml:"age"`
	Package    string        `yaml:"package"`
	Filesystem string        `yaml:"filesystem"`
	UpperLayer bool          `yaml:"upper_layer"`
}

// Address is the peer of a connection.
type Address struct {
	IP   string `yaml:"ip"`
	Port uint32 `yaml:"port"`
}

// Parse reads a file of cases. Unknown keys are errors.
func Parse(data []byte) ([]Case, error) {
	var cases []Case
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&cases); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read cases: %w", err)
	}
	return cases, nil
}

// Build makes the event of a case that has one.
func (c *Case) Build() (*event.Event, error) {
	e, err := c.Event.build()
	if err != nil {
		return nil, fmt.Errorf("case %q: %w", c.Name, err)
	}
	return e, nil
}

// BuildAll makes the events in their order.
func (c *Case) BuildAll() ([]*event.Event, error) {
	if len(c.Events) == 0 {
		e, err := c.Build()
		return []*event.Event{e}, err
	}
	out := make([]*event.Event, 0, len(c.Events))
	at := Time
	for i := range c.Events {
		e, err := c.Events[i].build()
		if err != nil {
			return nil, fmt.Errorf("case %q: event %d: %w", c.Name, i+1, err)
		}
		at += int64(c.Events[i].After)
		e.TimeNS = at
		out = append(out, e)
	}
	return out, nil
}

func ago(d time.Duration) int64 {
	if d == 0 {
		d = oldAge
	}
	return Time - int64(d)
}

func (f File) build() event.File {
	return event.File{
		Path: f.Path, Mode: f.Mode, UID: f.UID, ChangeTime: ago(f.Age), ModificationTime: ago(f.Age),
		PackageName: f.Package, Filesystem: f.Filesystem, InUpperLayer: f.UpperLayer, Inode: 1,
	}
}

const unset = ^uint32(0)

func (p *Process) build(i int) *event.Process {
	out := &event.Process{
		ID: event.Ref{Run: 1, Seq: uint64(i + 1)}, PID: p.PID, TID: p.PID, Comm: p.Comm, TTYName: p.TTY, AllArgs: p.Args,
		UID: p.UID, EUID: p.UID, AUID: unset, IsExec: !p.Fork, IsThread: p.Fork, Cgroup: p.Cgroup, ContainerID: p.Container,
		CreatedAt: ago(p.Age), Envs: p.Envs, Envp: p.Envp, FSUID: p.UID,
		File: event.File{
			Path: p.Exec, ChangeTime: ago(p.FileAge), ModificationTime: ago(p.FileAge), PackageName: p.Package,
			Filesystem: p.Filesystem, InUpperLayer: p.UpperLayer, Mode: 0o100755, Inode: 1,
		},
	}
	if p.EUID != nil {
		out.EUID = *p.EUID
	}
	if p.AUID != nil {
		out.AUID = *p.AUID
	}
	if out.Comm == "" {
		out.Comm = path.Base(p.Exec)
		out.Comm = out.Comm[:min(len(out.Comm), 15)]
	}
	if out.PID == 0 {
		out.PID = uint32(1000 - i)
	}
	if p.Interpreter != "" {
		out.Interpreter = event.File{Path: p.Interpreter}
	}
	if out.AllArgs == nil && p.Exec != "" {
		out.AllArgs = []string{p.Exec}
	}
	return out
}

func (v *Event) build() (*event.Event, error) {
	kind, ok := event.KindByName(v.Kind)
	if !ok || kind.Info().Hidden {
		return nil, fmt.Errorf("unknown kind %q", v.Kind)
	}
	e := &event.Event{Kind: kind, TimeNS: Time, Run: 1, Seq: 1000, Host: &event.Host{Name: "host"}}
	if v.Context != "" {
		e.Contexts = []*event.Context{{Key: v.Context}}
	}
	var child *event.Process
	for i := range v.Lineage {
		p := v.Lineage[i].build(i)
		if child == nil {
			e.Proc, e.PID, e.ProcID = p, p.PID, p.ID
		} else {
			child.Parent, child.ParentID, child.PPID = p, p.ID, p.PID
		}
		child = p
	}
	if e.Proc == nil {
		if len(v.Fields) == 0 {
			return nil, errors.New("event has neither a lineage nor fields")
		}
		e.Proc = &event.Process{}
	}
	var flags int64
	for _, name := range v.Flags {
		n, ok := secl.Constant(name)
		if !ok {
			return nil, fmt.Errorf("unknown flag %q", name)
		}
		flags |= n
	}
	var addr event.Address
	if v.Addr.IP != "" {
		ip, err := netip.ParseAddr(v.Addr.IP)
		if err != nil {
			return nil, fmt.Errorf("address: %w", err)
		}
		addr = event.Address{IP: ip, Port: v.Addr.Port, Family: 2}
		if ip.Is6() {
			addr.Family = 10
		}
	}
	file, dest := v.File.build(), v.Destination.build()
	switch kind {
	case event.KindExec:
		e.Exec = &event.Exec{SyscallPath: e.Proc.File.Path}
	case event.KindExit:
		e.Exit = &event.Exit{}
	case event.KindOpen:
		e.Open = &event.Open{File: file, Flags: flags, DestinationMode: v.Mode, Retval: v.Retval}
	case event.KindUnlink:
		e.Unlink = &event.Unlink{File: file, Flags: flags, Retval: v.Retval}
	case event.KindRename:
		e.Rename = &event.Rename{File: file, Destination: dest, Retval: v.Retval}
	case event.KindChmod:
		e.Chmod = &event.Chmod{File: file, DestinationMode: v.Mode, Retval: v.Retval}
	case event.KindChown:
		e.Chown = &event.Chown{File: file, DestinationUID: int64(v.UID), DestinationGID: -1, Retval: v.Retval}
	case event.KindLink:
		e.Link = &event.Link{File: file, Destination: dest, Retval: v.Retval}
	case event.KindSymlink:
		e.Symlink = &event.Symlink{File: file, Target: v.Target, Retval: v.Retval}
	case event.KindConnect:
		e.Connect = &event.Connect{Addr: addr, Protocol: 6, Retval: v.Retval}
	case event.KindAccept:
		e.Accept = &event.Accept{Addr: addr, Retval: v.Retval}
	case event.KindBind:
		e.Bind = &event.Bind{Addr: addr, Protocol: 6, Retval: v.Retval}
	case event.KindSetuid:
		e.Setuid = &event.Setuid{UID: v.UID, EUID: v.EUID, FSUID: v.EUID}
	case event.KindMkdir:
		e.Mkdir = &event.Mkdir{File: file, DestinationMode: v.Mode, Retval: v.Retval}
	case event.KindRmdir:
		e.Rmdir = &event.Rmdir{File: file, Retval: v.Retval}
	default:
		e.Allocate()
	}
	return e, v.setFields(e)
}

// setFields puts what is given by full names into the event.
func (v *Event) setFields(e *event.Event) error {
	if len(v.Fields) == 0 {
		return nil
	}
	d, err := evalfile.New()
	if err != nil {
		return err
	}
	fields := make(map[string]json.RawMessage, len(v.Fields))
	for name, val := range v.Fields {
		raw, err := json.Marshal(val)
		if err != nil {
			return fmt.Errorf("field %s: %w", name, err)
		}
		fields[name] = raw
	}
	if err := d.Set(e, fields); err != nil {
		return err
	}
	if u := d.Unknown(); len(u) > 0 {
		return fmt.Errorf("%s events have no field %s", v.Kind, u[0])
	}
	if given := d.Given(e); len(given) > 0 {
		return fmt.Errorf("field %s is computed from others: give those", given[0])
	}
	return nil
}

// Run evaluates a case against a set that has not been used before, and tells
// what went wrong.
func Run(set *ruleset.Set, id string, c *Case) error {
	events, err := c.BuildAll()
	if err != nil {
		return err
	}
	fired := false
	for _, e := range events {
		fired = slices.ContainsFunc(set.Eval(e, nil), func(m ruleset.Match) bool { return m.Rule.ID == id }) || fired
	}
	switch {
	case fired && !c.Fires:
		return fmt.Errorf("case %q: rule %s fires and must not", c.Name, id)
	case !fired && c.Fires:
		return fmt.Errorf("case %q: rule %s does not fire and must", c.Name, id)
	}
	return nil
}
