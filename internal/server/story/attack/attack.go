// Package attack holds what stories need of MITRE ATT&CK: the tactics in the
// order of an intrusion, and names and tactics of techniques.
package attack

import (
	_ "embed"
	"strings"
)

// A Tactic is why an intruder does something.
type Tactic struct {
	ID   string // TA0002
	Slug string // execution
	Name string // Execution
}

// tactics are in the order of an intrusion.
var tactics = [...]Tactic{
	{"TA0043", "reconnaissance", "Reconnaissance"},
	{"TA0042", "resource-development", "Resource development"},
	{"TA0001", "initial-access", "Initial access"},
	{"TA0002", "execution", "Execution"},
	{"TA0003", "persistence", "Persistence"},
	{"TA0004", "privilege-escalation", "Privilege escalation"},
	{"TA0005", "defense-evasion", "Defense evasion"},
	{"TA0006", "credential-access", "Credential access"},
	{"TA0007", "discovery", "Discovery"},
	{"TA0008", "lateral-movement", "Lateral movement"},
	{"TA0009", "collection", "Collection"},
	{"TA0011", "command-and-control", "Command and control"},
	{"TA0010", "exfiltration", "Exfiltration"},
	{"TA0040", "impact", "Impact"},
}

// Lookup finds a tactic by id, slug or name. Order is its place in an
// intrusion, from 0.
func Lookup(s string) (t Tactic, order int, ok bool) {
	slug := strings.ReplaceAll(strings.ReplaceAll(strings.ToLower(s), "_", "-"), " ", "-")
	for i, t := range tactics {
		if t.ID == s || t.Slug == slug {
			return t, i, true
		}
	}
	return Tactic{}, 0, false
}

// Gravity says how much it matters that an intruder got as far as a tactic: a
// number that is higher the worse it is.
func Gravity(id string) int {
	order := [...]string{"TA0043", "TA0042", "TA0001", "TA0002", "TA0007", "TA0005", "TA0011", "TA0009", "TA0008", "TA0003", "TA0006", "TA0004", "TA0010", "TA0040"}
	for i, t := range order {
		if t == id {
			return i
		}
	}
	return -1
}

//go:embed techniques.tsv
var techniques string

// Technique returns the name of a technique and the ids of its tactics. A
// sub-technique that is not listed answers with its parent.
func Technique(id string) (name string, tactics []string, ok bool) {
	for {
		at := strings.Index(techniques, "\n"+id+"\t")
		if at >= 0 && id != "" {
			line, _, _ := strings.Cut(techniques[at+1:], "\n")
			f := strings.Split(line, "\t")
			return f[1], strings.Split(f[2], ","), true
		}
		dot := strings.IndexByte(id, '.')
		if dot < 0 {
			return "", nil, false
		}
		id = id[:dot]
	}
}
