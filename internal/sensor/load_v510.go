//go:build linux && (amd64 || arm64)

package sensor

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
)

// Kernels before v5.15 lack helpers that the programs use for the current task
// (v5.11) and the arguments of its call (v5.15), and take no functions that are
// verified once. For them what tracepoint mode needs most is built a second
// time, from the same sources.

// v510Objects are those, by the names of what they stand for.
var v510Objects = map[string]func() (*ebpf.CollectionSpec, error){
	"proc": loadProc_v510, "file_tp": loadFile_tp_v510, "net_tp": loadNet_tp_v510, "cred_tp": loadCred_tp_v510,
	"fsmeta_tp": loadFsmeta_tp_v510,
}

const needs515 = "needs Linux 5.15"

// before515 tells whether this kernel needs them: by the helper, not by its
// version, which distributions keep while they add to it.
func before515() bool {
	return errors.Is(features.HaveProgramHelper(ebpf.TracePoint, asm.FnTaskPtRegs), ebpf.ErrNotSupported)
}

// built leaves out the hooks whose object is not built for this kernel.
func built(hooks []hook, specs map[string]*ebpf.CollectionSpec, missing map[string]string) []hook {
	var out []hook
	for _, h := range hooks {
		if specs[h.object] == nil {
			missing[h.place()] = needs515
			continue
		}
		out = append(out, h)
	}
	return out
}

// callArguments tells whether the arguments of a call that ends can be read:
// by a helper, or where an older kernel keeps them.
func callArguments() error {
	if !before515() {
		return features.HaveProgramHelper(ebpf.TracePoint, asm.FnTaskPtRegs)
	}
	if n := os.Getpagesize(); n != 4096 {
		return fmt.Errorf("pages of %d bytes: %s", n, needs515)
	}
	return nil
}
