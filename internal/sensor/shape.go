//go:build linux && (amd64 || arm64)

package sensor

import "cmp"

// data is a shape as the kernel's map holds it: by the time that one event
// takes, and the time that may be owed.
func (s Shape) data() procShapeData {
	var d procShapeData
	d.Limit[0], d.Limit[1] = s.Session.limit(defaultSession), s.Cgroup.limit(defaultCgroup) // enum shape_what
	return d
}

func (r Rate) limit(def Rate) procShapeLimit {
	perSecond, burst := cmp.Or(r.PerSecond, def.PerSecond), cmp.Or(r.Burst, def.Burst)
	if perSecond < 0 {
		return procShapeLimit{}
	}
	gap := max(1, uint64(1e9)/uint64(perSecond))
	return procShapeLimit{Gap: gap, Room: gap * uint64(max(burst, 1))}
}
