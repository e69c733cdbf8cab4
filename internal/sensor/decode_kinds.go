//go:build linux && (amd64 || arm64)

package sensor

import (
	"bytes"
	"strconv"
	"unicode/utf8"
	"unsafe"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/sensor/scrub"
)

// selinux decodes what was written to a file of SELinux. What the kernel did
// not take as a number says nothing, and is left out.
func (d *decoder) selinux(r *procRecCall, name string) *event.Event {
	ev := d.event(event.KindSELinux, &r.Hdr)
	s := &event.SELinux{}
	ev.SELinux = s
	written := unsafe.Slice((*byte)(unsafe.Pointer(&r.C)), 8)
	number, err := strconv.Atoi(string(bytes.Trim(written[:min(r.B, 8)], " \t\n\x00")))
	if err != nil && r.D == 0 {
		return ev
	}
	switch selinux_tpSelinuxFile(r.A) {
	case selinux_tpSelinuxFileSELINUX_ENFORCE:
		on := number != 0
		if r.D != 0 {
			on = r.D > 1
		}
		s.EnforceStatus = "permissive"
		if on {
			s.EnforceStatus = "enforcing"
		}
	case selinux_tpSelinuxFileSELINUX_DISABLE:
		if number != 0 {
			s.EnforceStatus = "disabled"
		}
	case selinux_tpSelinuxFileSELINUX_BOOL:
		s.BoolName, s.BoolState = name, "off"
		if number != 0 {
			s.BoolState = "on"
		}
	case selinux_tpSelinuxFileSELINUX_COMMIT:
		s.BoolCommitState = number != 0
	}
	return ev
}

// hook decodes the call of a function that a rule names.
func (d *decoder) hook(rec *record, b []byte) bool {
	r, ok := fill[ondemandRecHook](b)
	if !ok {
		return false
	}
	h, _ := fill[procRecHdr](b)
	ev := d.event(event.KindOndemand, h)
	o := &event.Ondemand{Name: d.same(cstrBytes(r.Name[:]))}
	texts := [...]*string{&o.Arg1Str, &o.Arg2Str, &o.Arg3Str, &o.Arg4Str, &o.Arg5Str, &o.Arg6Str}
	numbers := [...]*uint64{&o.Arg1Uint, &o.Arg2Uint, &o.Arg3Uint, &o.Arg4Uint, &o.Arg5Uint, &o.Arg6Uint}
	for i := range min(int(r.Args), len(numbers)) {
		*numbers[i] = r.Arg[i]
		*texts[i] = plainText(str(b, procRecStr{Off: r.Text[i].Off, Len: r.Text[i].Len}))
		if *texts[i] != "" && r.Arg[i]>>63 == 0 {
			ev.Flags |= event.FlagPathUser
		}
	}
	ev.Ondemand = o
	rec.ev = ev
	return true
}

// plainText is b where it reads as text: most addresses are of something else.
func plainText(b []byte) string {
	if !utf8.Valid(b) || bytes.ContainsFunc(b, func(c rune) bool { return c < ' ' && c != '\n' && c != '\t' || c == 0x7f }) {
		return ""
	}
	return scrub.Args([]string{"", string(b)})[1]
}
