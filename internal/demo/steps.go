// Package demo plays a safe attack on this host, so that a newcomer sees a true
// story: real processes, real files, real connections, and nothing of it
// outside a directory of its own and namespaces of its own.
//
// The attack is played on a stage: a process with a network, a process and a
// mount namespace of its own, in which the attack's directory is a file system
// in memory. Whoever ends that process ends all of it, and nothing stays. Where
// namespaces are refused, the attack keeps to a temporary directory and to
// loopback addresses.
//
// It is no test of a kernel's or an application's weakness: the one weakness it
// uses, a web service that hands a parameter to a shell, it brings along.
package demo

import (
	"net/netip"
	"path/filepath"
)

// A Step is one thing that the attack does.
type Step struct {
	Name   string // short and stable
	Text   string // what happens, as a sentence
	Marker string // a path or an address that the story has to contain
}

// A Plan says where an attack is played: below which directory, and under
// which addresses.
type Plan struct {
	Root     string         // directory that stands for the attacked host's file system
	Service  netip.AddrPort // where the vulnerable web service listens
	Client   netip.Addr     // where the attacker's requests come from
	Depot    netip.AddrPort // where the attacker's files are fetched from
	Metadata netip.AddrPort // stand-in of the cloud's metadata service
}

// The addresses of a stage with a network of its own. All of them are on its
// loopback device; those of the attacker are from the ranges for
// documentation, so they belong to nobody.
var staged = Plan{
	Service:  netip.MustParseAddrPort("192.0.2.10:8080"),
	Client:   netip.MustParseAddr("198.51.100.23"),
	Depot:    netip.MustParseAddrPort("203.0.113.66:80"),
	Metadata: netip.MustParseAddrPort("169.254.169.254:80"),
}

// The addresses of a stage that shares the host's network. A port of 0 is
// chosen when the stage is set.
var shared = Plan{
	Service:  netip.MustParseAddrPort("127.0.0.1:0"),
	Client:   netip.MustParseAddr("127.0.0.23"),
	Depot:    netip.MustParseAddrPort("127.0.113.66:0"),
	Metadata: netip.MustParseAddrPort("127.169.254.169:0"),
}

// The places of the attack, below the plan's root.
const (
	httpdPath   = "srv/httpd"                    // the web service
	outputPath  = "srv/www/status.txt"           // where the first injected command leaves its output
	cronPath    = "usr/sbin/cron"                // the runner of the cron table
	fetchPath   = "usr/bin/fetch"                // a small download program
	updaterPath = "tmp/.cache/updater"           // what the attacker drops
	awsPath     = "home/deploy/.aws/credentials" // decoys
	sshPath     = "home/deploy/.ssh/id_rsa"
	historyPath = "home/deploy/.bash_history"
	setuidPath  = "usr/lib/.helper"   // copy of true that becomes setuid
	tablePath   = "etc/cron.d/upd"    // cron entry
	logPath     = "var/log/httpd.log" // the web service's log
	lootPath    = "tmp/.cache/loot"   // what was read
	rolePath    = "tmp/.cache/role"   // what the metadata service answered
	ordersPath  = "tmp/.cache/orders" // what the dropped program was told when it called home
	addrPath    = "srv/address"       // where the web service says where it listens
)

func (p Plan) path(rel string) string { return filepath.Join(p.Root, rel) }

// Steps returns what the attack does, in order.
func (p Plan) Steps() []Step {
	return []Step{
		{"service", "A small web service starts. It checks whether a host is up, and hands the host's name to a shell.", p.path(httpdPath)},
		{"injection", "A request with a semicolon in the host's name runs a command of the attacker's choice.", p.path(outputPath)},
		{"discovery", "The attacker looks around: who am I, which system, which accounts.", "/etc/passwd"},
		{"download", "A program is downloaded from a machine of the attacker's.", p.Depot.Addr().String()},
		{"execution", "The dropped program is made executable and run.", p.path(updaterPath)},
		{"cloud-credentials", "It reads the cloud credentials of a user.", p.path(awsPath)},
		{"ssh-key", "It reads that user's private SSH key.", p.path(sshPath)},
		{"metadata", "It asks the cloud's metadata service for the machine's role.", p.Metadata.Addr().String()},
		{"setuid", "It copies a program and sets the setuid bit on the copy.", p.path(setuidPath)},
		{"cron-entry", "It writes a cron entry that starts it again.", p.path(tablePath)},
		{"persistence", "The cron runner, which has nothing to do with the web service, starts the dropped program.", p.path(cronPath)},
		{"history", "The attacker comes back and empties the user's shell history.", p.path(historyPath)},
		{"log", "The attacker removes the web service's log, and the dropped program.", p.path(logPath)},
	}
}

// Example returns a plan with made-up places, to show the steps.
func Example() Plan {
	plan := staged
	plan.Root = "/tmp/clew-demo-1"
	return plan
}
