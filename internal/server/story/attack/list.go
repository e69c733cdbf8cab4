package attack

import "strings"

// Tactics returns the tactics in the order of an intrusion.
func Tactics() []Tactic { return append([]Tactic(nil), tactics[:]...) }

// A TechniqueName is a technique or sub-technique by id.
type TechniqueName struct {
	ID   string // T1059.004
	Name string
}

// Techniques returns those that are known by name, in the order of their ids.
func Techniques() []TechniqueName {
	var out []TechniqueName
	for l := range strings.Lines(techniques) {
		f := strings.Split(strings.TrimSuffix(l, "\n"), "\t")
		if len(f) == 3 && strings.HasPrefix(f[0], "T") {
			out = append(out, TechniqueName{ID: f[0], Name: f[1]})
		}
	}
	return out
}
