package story

import (
	"fmt"
	"net/netip"

	"github.com/clewsec/clew/internal/event"
)

// A host makes the records that an agent would have sent.
type host struct {
	agent string
	run   uint64
	seq   uint64
	now   int64
	boot  int64
	pid   uint32
	recs  []*event.SpoolRecord
	keys  map[uint32][]string // contexts by process id
}

const testAgent = "6f1c2d3e-4b5a-4678-9abc-def012345678"

func newHost() *host {
	h := &host{agent: testAgent, run: 7, now: 1763758500 * 1e9, pid: 1000, keys: map[uint32][]string{}}
	h.boot = h.now - 1e12
	h.put(&event.SpoolRecord{RunStart: &event.RunStart{Run: h.run, HostID: h.agent, BootID: "b00t", Hostname: "web-1", Kernel: "6.12.0", Mode: "tracepoint",
		Recording: true, At: h.now, Distribution: "Debian 13"}})
	return h
}

func (h *host) put(r *event.SpoolRecord) event.Ref {
	h.seq++
	r.Seq = h.seq
	h.recs = append(h.recs, r)
	return event.Ref{Run: h.run, Seq: h.seq}
}

// after lets ms milliseconds pass.
func (h *host) after(ms int64) { h.now += ms * 1e6 }

// process is one that lived before.
func (h *host) process(parent *event.Process, path string, user string, keys ...string) *event.Process {
	p := h.node(parent, path, user, path)
	p.Source = "snapshot"
	h.keys[p.PID] = keys
	return p
}

func (h *host) node(parent *event.Process, path, user string, args ...string) *event.Process {
	h.pid++
	uid := uint32(0)
	if user == "www-data" {
		uid = 33
	}
	p := &event.Process{PID: h.pid, StartNS: uint64(h.now - h.boot), CreatedAt: h.now, ExecTime: h.now, IsExec: true, AllArgs: args, File: event.File{Path: path, Inode: uint64(len(path)) * 31, Mode: 0o100755},
		UID: uid, EUID: uid, User: user, EUser: user, AUID: 1<<32 - 1, Cgroup: "/system.slice/web.service", Source: "runtime"}
	if parent != nil {
		p.PPID, p.ParentID = parent.PID, parent.ID
	}
	p.ID = event.Ref{Run: h.run, Seq: h.seq + 1}
	h.put(&event.SpoolRecord{ProcessNode: p})
	return p
}

// start forks parent and executes a program in the child.
func (h *host) start(parent *event.Process, path string, args []string, sig ...event.Signal) *event.Process {
	h.after(3)
	p := h.node(parent, path, parent.User, append([]string{path[1+lastSlash(path):]}, args...)...)
	if _, ok := h.keys[p.PID]; !ok {
		h.keys[p.PID] = h.keys[parent.PID]
	}
	h.event(p, &event.Event{Kind: kind("exec"), Exec: &event.Exec{SyscallPath: path}}, sig...)
	return p
}

// become executes another program in place of p.
func (h *host) become(p *event.Process, path string, args []string, sig ...event.Signal) *event.Process {
	h.after(2)
	n := *p
	n.ParentID, n.File.Path, n.AllArgs, n.CreatedAt, n.ExecTime = p.ID, path, append([]string{path[1+lastSlash(path):]}, args...), h.now, h.now
	n.ID = event.Ref{Run: h.run, Seq: h.seq + 1}
	h.put(&event.SpoolRecord{ProcessNode: &n})
	h.event(&n, &event.Event{Kind: kind("exec"), Exec: &event.Exec{SyscallPath: path}}, sig...)
	return &n
}

func lastSlash(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return i
		}
	}
	return -1
}

func kind(name string) event.Kind {
	k, ok := event.KindByName(name)
	if !ok {
		panic("no kind " + name)
	}
	return k
}

func (h *host) event(p *event.Process, e *event.Event, sig ...event.Signal) event.Ref {
	h.after(1)
	e.Seq, e.Run, e.TimeNS, e.BootNS = h.seq+1, h.run, h.now, uint64(h.now-h.boot)
	e.PID, e.TID, e.StartNS, e.ProcID = p.PID, p.PID, p.StartNS, p.ID
	e.ContextKeys, e.Signals = h.keys[p.PID], sig
	return h.put(&event.SpoolRecord{Event: e})
}

func (h *host) open(p *event.Process, path string, flags int64, created bool, sig ...event.Signal) event.Ref {
	return h.event(p, &event.Event{Kind: kind("open"), Open: &event.Open{File: event.File{Path: path, Inode: uint64(len(path)), Mode: 0o100644, User: "root"}, Flags: flags, Created: created, Retval: 3}}, sig...)
}

func (h *host) connect(p *event.Process, addr string, ret int64, sig ...event.Signal) event.Ref {
	ap := netip.MustParseAddrPort(addr)
	return h.event(p, &event.Event{Kind: kind("connect"), Connect: &event.Connect{Addr: event.Address{IP: ap.Addr(), Port: uint32(ap.Port()), Family: 2}, Protocol: 6, Retval: ret}}, sig...)
}

func (h *host) accept(p *event.Process, addr string) event.Ref {
	ap := netip.MustParseAddrPort(addr)
	return h.event(p, &event.Event{Kind: kind("accept"), Accept: &event.Accept{Addr: event.Address{IP: ap.Addr(), Port: uint32(ap.Port()), Family: 2}, Retval: 5}})
}

func (h *host) unlink(p *event.Process, path string, sig ...event.Signal) event.Ref {
	return h.event(p, &event.Event{Kind: kind("unlink"), Unlink: &event.Unlink{File: event.File{Path: path, Inode: uint64(len(path))}}}, sig...)
}

func (h *host) exit(p *event.Process, code int64) {
	h.event(p, &event.Event{Kind: kind("exit"), Exit: &event.Exit{Code: code}})
}

func (h *host) context(c event.Context) {
	if c.At == 0 {
		c.At = h.now
	}
	h.put(&event.SpoolRecord{Context: &c})
}

func (h *host) link(l event.ContextLink) { l.At = h.now; h.put(&event.SpoolRecord{Link: &l}) }

func signal(id, title, severity, tactic string, techniques ...string) event.Signal {
	return event.Signal{RuleID: id, Title: title, Severity: severity, Type: "process", Version: "1", Policy: "clew", Tactics: []string{tactic}, Techniques: techniques}
}

const (
	cgroupKey = "cgroup_11111111-1111-5111-8111-111111111111"
	shellKey  = "spawned_shell_22222222-2222-4222-8222-222222222222"
	cronKey   = "cron_job_33333333-3333-4333-8333-333333333333"
	aptKey    = "cgroup_44444444-4444-5444-8444-444444444444"
)

// intrusion is a web service that is made to start a shell, what the shell does,
// and what cron later runs because of it; beside it a package manager at work,
// which raises signals of its own.
func intrusion() *host {
	h := newHost()
	h.context(event.Context{Key: cgroupKey, Layer: "cgroup", Priority: 10, Entity: "/system.slice/web.service", Reason: "control group of the service"})
	h.context(event.Context{Key: aptKey, Layer: "cgroup", Priority: 10, Entity: "/user.slice", Reason: "control group of the session"})
	systemd := h.process(nil, "/usr/lib/systemd/systemd", "root", cgroupKey)
	super := h.process(systemd, "/usr/bin/supervisor", "root", cgroupKey)
	httpd := h.process(super, "/usr/sbin/httpd", "www-data", cgroupKey)
	cron := h.process(systemd, "/usr/sbin/cron", "root", cgroupKey)
	admin := h.process(systemd, "/usr/bin/bash", "root", aptKey)

	// Noise with signals of its own.
	h.after(100)
	apt := h.start(admin, "/usr/bin/apt-get", []string{"update"}, signal("package_manager", "Package manager ran", "low", "TA0002", "T1059"))
	h.open(apt, "/var/lib/apt/lists/lock", 0x42, true)
	h.exit(apt, 0)

	h.after(1000)
	h.accept(httpd, "127.0.0.1:51234")
	h.after(20)
	// The context is opened by the exec that its record follows.
	h.keys[h.pid+1] = []string{shellKey, cgroupKey}
	opener := event.Ref{Run: h.run, Seq: h.seq + 3}
	h.context(event.Context{Key: shellKey, Layer: "spawned_shell", Priority: 60, Entity: "httpd", ParentKey: cgroupKey, OpenedBy: opener, Reason: "shell below httpd", Episodic: true})
	sh := h.start(httpd, "/usr/bin/sh", []string{"-c", "id; uname -a; ps ax"}, signal("shell_below_web_server", "Shell below a web server", "high", "TA0002", "T1059.004"))
	if (event.Ref{Run: h.run, Seq: h.seq}) != opener {
		panic(fmt.Sprintf("the opener is record %d", h.seq))
	}
	for _, p := range []string{"/usr/bin/id", "/usr/bin/uname", "/usr/bin/ps"} {
		var args []string
		if p == "/usr/bin/uname" {
			args = []string{"-a"}
		}
		c := h.start(sh, p, args, signal("discovery_below_service", "Discovery command below a service", "low", "TA0007", "T1082"))
		h.exit(c, 0)
	}
	for i := range 12 {
		c := h.start(sh, "/usr/bin/sleep", []string{fmt.Sprintf("0.%d", i)})
		h.exit(c, 0)
	}
	h.after(300)
	fetch := h.start(sh, "/usr/bin/fetch", []string{"http://127.0.0.1:8001/updater"}, signal("fetch_below_service", "Download tool below a service", "medium", "TA0011", "T1105"))
	h.connect(fetch, "127.0.0.1:8001", 0)
	wrote := h.open(fetch, "/tmp/.cache/updater", 0x241, true, signal("executable_dropped", "Program dropped in a temporary directory", "medium", "TA0011", "T1105"))
	h.exit(fetch, 0)
	h.event(sh, &event.Event{Kind: kind("chmod"), Chmod: &event.Chmod{File: event.File{Path: "/tmp/.cache/updater", Inode: 19}, DestinationMode: 0o755}})
	up := h.start(sh, "/tmp/.cache/updater", []string{"--quiet"}, signal("dropped_program_ran", "A file written by the same activity was executed", "high", "TA0002", "T1204.002"))
	h.open(up, "/etc/shadow", 0, false, signal("credentials_read", "Password hashes read", "high", "TA0006", "T1003.008"))
	h.connect(up, "169.254.169.254:80", -111, signal("metadata_service", "Cloud metadata service asked", "high", "TA0006", "T1552.005"))
	h.event(up, &event.Event{Kind: kind("chmod"), Chmod: &event.Chmod{File: event.File{Path: "/tmp/.cache/rootsh", Inode: 18, Mode: 0o100755}, DestinationMode: 0o4755}},
		signal("setuid_bit_set", "Set-user-ID bit set", "critical", "TA0004", "T1548.001"))
	h.put(&event.SpoolRecord{Lost: &event.Lost{Kind: kind("open"), Reason: "ring_full_bulk", Count: 214, From: h.now - 50e6, To: h.now, Where: "kernel"}})
	cronSig := signal("cron_entry_written", "Cron entry written", "high", "TA0003", "T1053.003")
	cronSig.Type = "file"
	cronSig.Recommended = []event.Recommendation{{ID: "remove_file", Label: "Remove the cron entry", Why: "it runs again every minute"}, {ID: "isolate_host", Label: "Isolate the host", Why: "an intruder runs programs on it"}}
	h.open(up, "/etc/cron.d/upd", 0x241, true, cronSig)

	// A minute later cron runs the entry.
	h.after(40000)
	h.keys[h.pid+1] = []string{cronKey, cgroupKey}
	h.context(event.Context{Key: cronKey, Layer: "cron_job", Priority: 35, Entity: "root", ParentKey: cgroupKey, OpenedBy: event.Ref{Run: h.run, Seq: h.seq + 3}, Reason: "child of cron", Episodic: true})
	job := h.start(cron, "/usr/bin/sh", []string{"-c", "/tmp/.cache/updater --again"})
	again := h.start(job, "/tmp/.cache/updater", []string{"--again"}, signal("dropped_program_ran", "A file written by the same activity was executed", "high", "TA0002", "T1204.002"))
	h.link(event.ContextLink{FromContext: shellKey, ToContext: cronKey, Type: "file_scheduled", Weight: 0.9, Reason: "/tmp/.cache/updater, written by fetch 1023, was run as a job after /etc/cron.d/upd was written by updater 1024",
		Expires: h.now + 3600e9, Event: event.Ref{Run: h.run, Seq: h.seq}, Cause: wrote, Path: "/tmp/.cache/updater"})
	h.exit(again, 0)
	h.exit(job, 0)

	h.unlink(up, "/var/log/httpd/access.log", signal("log_removed", "Log file removed", "medium", "TA0005", "T1070.002"))
	h.unlink(up, "/tmp/.cache/history", signal("history_removed", "Command history removed", "medium", "TA0005", "T1070.003"))
	h.exit(up, 0)
	h.exit(sh, 0)
	h.after(1000)
	h.put(&event.SpoolRecord{Canary: &event.Canary{Nonce: 1, At: h.now}})
	return h
}
