//go:build linux && (amd64 || arm64)

package sensor

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
)

// TestProbe compares what Probe says with what the sensor can do.
func TestProbe(t *testing.T) {
	needKernel(t)
	fds := len(ours(t))
	r := Probe()
	if n := len(ours(t)); n != fds {
		t.Errorf("%d descriptors before, %d after", fds, n)
	}
	by := map[string]Answer{}
	for _, f := range r.Features {
		by[f.Name] = f.Answer
		if (f.Answer == Yes) != (f.Reason == "") {
			t.Errorf("%+v", f)
		}
		t.Logf("%-24s %s %s", f.Name, f.Answer, f.Reason)
	}
	want := Tracepoint
	if by["trampolines"] == Yes {
		want = Trampoline
	}
	if r.Mode != want || r.Mode != pickMode() || r.Kernel == "" {
		t.Errorf("mode %q on %q, want %q", r.Mode, r.Kernel, want)
	}
	if testMode() == Trampoline && r.Mode != Trampoline {
		t.Error("this kernel should have trampolines")
	}
	seen := map[event.Kind]Status{}
	for _, k := range r.Kinds {
		t.Logf("%-13s %s %s", k.Kind, k.Status, k.Reason)
		seen[k.Kind] = k.Status
		if (k.Status == OK) != (k.Reason == "") {
			t.Errorf("%+v", k)
		}
	}
	for kind := range recKinds {
		k := event.Kind(kind)
		if recKinds[kind] == nil {
			continue
		}
		want := OK
		if r.Mode == Tracepoint && !alwaysSeen(k) || notes[r.Mode][k] != "" {
			want = Degraded
		}
		if before515() && !onOld(t, recKinds[kind]) {
			if seen[k] != Impossible {
				t.Errorf("%s is %s on a kernel that its programs are not built for", k, seen[k])
			}
			continue
		}
		if kernKind(k) {
			// What these lack differs from kernel to kernel; modules may be all
			// that does.
			_, err := os.Stat("/proc/modules")
			modules := k == event.KindLoadModule || k == event.KindUnloadModule
			if impossible := modules && err != nil; (seen[k] == Impossible) != impossible {
				t.Errorf("%s is %s", k, seen[k])
			}
			continue
		}
		switch {
		case k == event.KindSELinux && !selinuxInUse(), k == event.KindCapabilities && r.Mode == Tracepoint && !hasTracepoint("cap_capable"):
			want = Impossible
		}
		if seen[k] != want {
			t.Errorf("%s is %s, want %s", k, seen[k], want)
		}
	}
	for _, k := range kindChecks("") {
		if k.Status != Impossible {
			t.Errorf("without a mode %s is %s", k.Kind, k.Status)
		}
	}
}

// TestAsked holds that a question which could not be asked is not answered
// with no.
func TestAsked(t *testing.T) {
	for _, tt := range []struct {
		err        error
		privileged bool
		want       Answer
	}{
		{nil, true, Yes},
		{nil, false, Yes},
		{unix.EPERM, true, No},
		{fmt.Errorf("attach: %w", unix.EPERM), false, Unknown},
		{ebpf.ErrNotSupported, false, No},
		{fmt.Errorf("%w: %w", errTracefs, unix.EPERM), true, Unknown},
		{unix.EMFILE, true, Unknown},
	} {
		f := asked("x", tt.err, tt.privileged)
		if f.Name != "x" || f.Answer != tt.want || (f.Reason == "") != (tt.want == Yes) {
			t.Errorf("%v, privileged %t: %+v, want %s", tt.err, tt.privileged, f, tt.want)
		}
	}
}

// onOld tells whether programs for kernels before v5.15 report one of these.
func onOld(t *testing.T, recs []procRecKind) bool {
	t.Helper()
	specs, err := readSpecs(v510Objects)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range built(hooksFor(Tracepoint), specs, map[string]string{}) {
		if slices.ContainsFunc(h.kinds, func(k procRecKind) bool { return slices.Contains(recs, k) }) {
			return true
		}
	}
	return false
}

// TestV510 holds that what is built for old kernels has the programs and maps
// of what it stands for.
func TestV510(t *testing.T) {
	now := map[string]func() (*ebpf.CollectionSpec, error){
		"proc": loadProc, "file_tp": loadFile_tp, "net_tp": loadNet_tp, "cred_tp": loadCred_tp, "fsmeta_tp": loadFsmeta_tp,
	}
	specs, err := readSpecs(now)
	if err != nil {
		t.Fatal(err)
	}
	old, err := readSpecs(v510Objects)
	if err != nil {
		t.Fatal(err)
	}
	for name, spec := range old {
		for p := range specs[name].Programs {
			if spec.Programs[p] == nil {
				t.Errorf("%s has no program %s", name, p)
			}
		}
		for m, want := range specs[name].Maps {
			if got := spec.Maps[m]; got == nil || got.ValueSize != want.ValueSize || got.Type != want.Type {
				t.Errorf("%s: map %s is %v, want %v", name, m, got, want)
			}
		}
	}
}
