//go:build linux && (amd64 || arm64)

package sensor

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/clewsec/clew/internal/event"
)

// uringHooks see what tracepoint mode misses else: requests of io_uring, which
// make no system call. Trampolines see them anyway. Of the programs for one
// place the one is used whose arguments this kernel's tracepoint has.
func uringHooks() (hooks []hook) {
	seen := kinds{
		procRecKindREC_OPEN, procRecKindREC_UNLINK, procRecKindREC_RMDIR, procRecKindREC_RENAME,
		procRecKindREC_MKDIR, procRecKindREC_LINK, procRecKindREC_SYMLINK,
		procRecKindREC_CONNECT, procRecKindREC_BIND, procRecKindREC_ACCEPT, procRecKindREC_SOCKET,
	}
	for _, prog := range []string{"on_submit_req", "on_submit_sqe", "on_complete", "on_complete_args"} {
		hooks = append(hooks, hook{object: "uring", prog: prog, kinds: seen, optional: true})
	}
	return hooks
}

// uringShapes tell by a tracepoint's arguments whether a program fits; the
// first argument of the kernel's prototype is not the tracepoint's.
var uringShapes = map[string]func([]btf.FuncParam) bool{
	"on_submit_req":    takesRequest,
	"on_submit_sqe":    takesRequest,
	"on_complete":      func(p []btf.FuncParam) bool { return len(p) == 4 && pointsTo(p[3], "io_uring_cqe") },
	"on_complete_args": func(p []btf.FuncParam) bool { return len(p) > 5 && !pointsTo(p[3], "io_uring_cqe") },
}

func takesRequest(p []btf.FuncParam) bool { return len(p) > 1 && pointsTo(p[1], "io_kiocb") }

func pointsTo(p btf.FuncParam, name string) bool {
	ptr, ok := btf.UnderlyingType(p.Type).(*btf.Pointer)
	if !ok {
		return false
	}
	s, ok := btf.UnderlyingType(ptr.Target).(*btf.Struct)
	return ok && s.Name == name
}

// uringFits tells whether the kernel has the tracepoint of one of uringHooks,
// with the arguments that its program expects.
func uringFits(types *btf.Spec, prog string, p *ebpf.ProgramSpec) bool {
	var t *btf.Typedef
	if err := types.TypeByName("btf_trace_"+p.AttachTo, &t); err != nil {
		return false
	}
	ptr, ok := btf.UnderlyingType(t.Type).(*btf.Pointer)
	if !ok {
		return false
	}
	proto, ok := ptr.Target.(*btf.FuncProto)
	return ok && uringShapes[prog](proto.Params)
}

// byUring are the kinds that uringHooks report.
var byUring = map[event.Kind]bool{
	event.KindOpen: true, event.KindUnlink: true, event.KindRmdir: true, event.KindRename: true,
	event.KindMkdir: true, event.KindLink: true, event.KindSymlink: true,
	event.KindConnect: true, event.KindBind: true, event.KindAccept: true, event.KindSocket: true,
}

// uringDoes are the kinds that io_uring has a request for, on some kernel
// (include/uapi/linux/io_uring.h): modes and owners are not among them.
var uringDoes = map[event.Kind]bool{
	event.KindOpen: true, event.KindUnlink: true, event.KindRmdir: true, event.KindRename: true,
	event.KindMkdir: true, event.KindLink: true, event.KindSymlink: true, event.KindSetxattr: true,
	event.KindSplice: true, event.KindConnect: true, event.KindAccept: true, event.KindBind: true,
	event.KindSocket: true, event.KindSetsockopt: true,
}

// seesUring tells whether requests are seen from submission to completion.
func seesUring(hooks []hook) bool {
	n := 0
	for i := range hooks {
		if hooks[i].object == "uring" {
			n++
		}
	}
	return n >= 2
}
