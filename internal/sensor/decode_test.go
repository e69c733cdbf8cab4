//go:build linux && (amd64 || arm64)

package sensor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/clewsec/clew/internal/event"
)

// TestLayout compares the decoder's structs with the BTF of the programs, field
// by field.
func TestLayout(t *testing.T) {
	spec, err := loadProc()
	if err != nil {
		t.Fatal(err)
	}
	for name, typ := range map[string]reflect.Type{
		"rec_hdr": reflect.TypeFor[procRecHdr](), "rec_str": reflect.TypeFor[procRecStr](),
		"rec_file": reflect.TypeFor[procRecFile](), "rec_proc": reflect.TypeFor[procRecProc](),
		"rec_exit": reflect.TypeFor[procRecExit](), "rec_ids": reflect.TypeFor[procRecIds](),
		"rec_cred": reflect.TypeFor[procRecCred](), "rec_cgroup": reflect.TypeFor[procRecCgroup](),
		"rec_canary": reflect.TypeFor[procRecCanary](), "rec_fileop": reflect.TypeFor[procRecFileop](),
		"rec_net": reflect.TypeFor[procRecNet](), "rec_call": reflect.TypeFor[procRecCall](),
		"rec_mmap": reflect.TypeFor[procRecMmap](), "rec_bpf": reflect.TypeFor[procRecBpf](),
		"rec_module": reflect.TypeFor[procRecModule](), "rec_sysctl": reflect.TypeFor[procRecSysctl](), "plan_data": reflect.TypeFor[procPlanData](),
		"fate_counts": reflect.TypeFor[procFateCounts](), "name_key": reflect.TypeFor[procNameKey](),
	} {
		var s *btf.Struct
		if err := spec.Types.TypeByName(name, &s); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if uintptr(s.Size) != typ.Size() {
			t.Errorf("%s has %d bytes, its decoder %d", name, s.Size, typ.Size())
		}
		var fields []reflect.StructField
		for i := range typ.NumField() {
			if f := typ.Field(i); f.Type.Size() > 0 {
				fields = append(fields, f)
			}
		}
		if len(fields) != len(s.Members) {
			t.Errorf("%s has %d members, its decoder %d", name, len(s.Members), len(fields))
			continue
		}
		end := uint32(0)
		for i, m := range s.Members {
			size, err := btf.Sizeof(m.Type)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.ReplaceAll(m.Name, "_", "")
			if got := strings.ToLower(fields[i].Name); got != want {
				t.Errorf("%s: member %d is %q, its decoder's %q", name, i, want, got)
			}
			if fields[i].Offset != uintptr(m.Offset.Bytes()) || fields[i].Type.Size() != uintptr(size) {
				t.Errorf("%s.%s lies at %d with %d bytes, its decoder has %d with %d", name, m.Name, m.Offset.Bytes(), size, fields[i].Offset, fields[i].Type.Size())
			}
			if m.Offset.Bytes() != end {
				t.Errorf("%s.%s: padding before it is not explicit", name, m.Name)
			}
			end = m.Offset.Bytes() + uint32(size)
		}
		if end != s.Size {
			t.Errorf("%s: padding at its end is not explicit", name)
		}
	}
}

// pack puts a record together as the kernel does: the struct, then strings.
type pack struct {
	b []byte
}

func newPack[T any](r *T) *pack {
	n := int(unsafe.Sizeof(*r))
	return &pack{append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(r)), n)...)}
}

// done sets kind and size.
func (p *pack) done(kind procRecKind) []byte {
	for len(p.b)%8 != 0 {
		p.b = append(p.b, 0)
	}
	binary.LittleEndian.PutUint16(p.b, uint16(kind))
	binary.LittleEndian.PutUint32(p.b[4:], uint32(len(p.b)))
	return p.b
}

func at[T any](s string, used *int) procRecStr {
	var r T
	out := procRecStr{Off: uint16(int(unsafe.Sizeof(r)) + *used), Len: uint16(len(s))}
	*used += len(s)
	return out
}

func sampleExec() []byte {
	var r procRecProc
	r.Hdr.Ts, r.Hdr.Start, r.Hdr.Tgid, r.Hdr.Tid, r.Hdr.Ppid = 2000, 1000, 7, 7, 3
	r.Hdr.Uid, r.Hdr.Euid, r.Hdr.Auid, r.Hdr.Ses = 5, 6, 8, 9
	r.Argc, r.Envc = 3, 2
	tail := []string{"sh\x00bin\x00usr\x00", "abc\x00docker\x00", "/bin/x", "/bin/sh", "tmp\x00", "sh\x00/bin/x\x00--token=t\x00", "PATH=/bin\x00PASSWORD=x\x00"}
	used := 0
	r.Exe = procRecFile{Inode: 11, Mode: 0o100755, Flags: uint16(procRecFileFlagRF_PRESENT | procRecFileFlagRF_UPPER), MntId: 4}
	copy(r.Exe.Fs[:], []int8{'e', 'x', 't', '4'})
	r.Exe.Path = at[procRecProc](tail[0], &used)
	r.Cgroup = at[procRecProc](tail[1], &used)
	r.Filename = at[procRecProc](tail[2], &used)
	r.Interp = at[procRecProc](tail[3], &used)
	r.Cwd = at[procRecProc](tail[4], &used)
	r.Args = at[procRecProc](tail[5], &used)
	r.Envs = at[procRecProc](tail[6], &used)
	copy(r.Hdr.Comm[:], []int8{'s', 'h'})
	p := newPack(&r)
	p.b = append(p.b, strings.Join(tail, "")...)
	return p.done(procRecKindREC_EXEC)
}

func sampleFileop(kind procRecKind) []byte {
	var r procRecFileop
	r.Retval, r.Opflags, r.Mode, r.Uid, r.Gid = -13, uint32(procRecOpFlagRO_PATH_USER|procRecOpFlagRO_CHANGED), 0o104755, ^uint32(0), 4
	used := 0
	tail := []string{"b\x00a\x00", "../c/./d", "d2\x00", "/x//y"}
	r.Dir = at[procRecFileop](tail[0], &used)
	r.Arg = at[procRecFileop](tail[1], &used)
	r.Dir2 = at[procRecFileop](tail[2], &used)
	r.Arg2 = at[procRecFileop](tail[3], &used)
	p := newPack(&r)
	p.b = append(p.b, strings.Join(tail, "")...)
	return p.done(kind)
}

func sampleNet(kind procRecKind, family uint16) []byte {
	r := procRecNet{Retval: -115, Family: family, Protocol: 6, Lport: 80, Rport: 443}
	r.Laddr = netip.MustParseAddr("2001:db8::1").As16()
	r.Raddr = netip.MustParseAddr("::ffff:10.1.2.3").As16()
	if family == 2 {
		copy(r.Laddr[:], []byte{127, 0, 0, 1})
		copy(r.Raddr[:], []byte{10, 1, 2, 3})
	}
	used := 0
	r.Path = at[procRecNet]("/run/x", &used)
	p := newPack(&r)
	p.b = append(p.b, "/run/x"...)
	return p.done(kind)
}

func samples() map[string][]byte {
	exit := procRecExit{Code: 37 << 8}
	killed := procRecExit{Code: 11 | 0x80}
	cred := procRecCred{After: procRecIds{Uid: 1, Euid: 2, Fsuid: 3, CapEffective: 4}}
	group := procRecCred{After: procRecIds{Gid: 1, Egid: 2, Fsgid: 3}}
	canary := procRecCanary{Nonce: 77, Ring: 1}
	used := 0
	cg := procRecCgroup{Tgid: 9, Node: 10, Start: 11, Hier: 3, Flags: uint32(procRecProcFlagRP_CGROUP_V1)}
	cg.Path = at[procRecCgroup]("b\x00a\x00", &used)
	cgp := newPack(&cg)
	cgp.b = append(cgp.b, "b\x00a\x00"...)
	out := map[string][]byte{
		"exec":    sampleExec(),
		"exit":    newPack(&exit).done(procRecKindREC_EXIT),
		"killed":  newPack(&killed).done(procRecKindREC_EXIT),
		"setuid":  newPack(&cred).done(procRecKindREC_CRED),
		"setgid":  newPack(&group).done(procRecKindREC_CRED),
		"canary":  newPack(&canary).done(procRecKindREC_CANARY),
		"cgroup":  cgp.done(procRecKindREC_CGROUP),
		"chown":   sampleFileop(procRecKindREC_CHOWN),
		"rename":  sampleFileop(procRecKindREC_RENAME),
		"open":    sampleFileop(procRecKindREC_OPEN),
		"symlink": sampleFileop(procRecKindREC_SYMLINK),
		"connect": sampleNet(procRecKindREC_CONNECT, 10),
		"accept":  sampleNet(procRecKindREC_ACCEPT, 2),
		"unix":    sampleNet(procRecKindREC_BIND, 1),
	}
	maps.Copy(out, kernSamples())
	return out
}

func mustDecode(t *testing.T, name string) record {
	t.Helper()
	d := newDecoder(nil)
	d.offset = 1_000_000
	rec, err := d.decode(samples()[name])
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func TestDecode(t *testing.T) {
	check := func(name string, got, want any) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: want - got +\n%s", name, diff)
		}
	}
	e := mustDecode(t, "exec").ev
	check("exec", e, &event.Event{
		BootNS: 2000, TimeNS: 1_002_000, Kind: event.KindExec, PID: 7, TID: 7, StartNS: 1000, UID: 5, EUID: 6,
		Exec: &event.Exec{SyscallPath: "/bin/x", Image: &event.Process{
			PID: 7, TID: 7, PPID: 3, StartNS: 1000, CreatedAt: 1_002_000, ExecTime: 1_002_000, Comm: "sh",
			AllArgs: []string{"sh", "/bin/x", "--token=[redacted]"}, Envs: []string{"PATH", "PASSWORD"},
			Envp: []string{"PATH=/bin"}, IsExec: true, UID: 5, EUID: 6, AUID: 8, AuditSession: 9,
			File: event.File{Path: "/bin/x", PathSource: "user"}, Script: &event.File{Path: "/bin/x", PathSource: "user"},
			Interpreter: event.File{
				Path: "/usr/bin/sh", Filesystem: "ext4", Inode: 11, MountID: 4, Mode: 0o100755, InUpperLayer: true,
				PathSource: "kernel",
			},
			Cgroup: "/docker/abc", CgroupVersion: 2, CWD: "/tmp", Source: "runtime",
		}},
	})
	check("exit", mustDecode(t, "exit").ev.Exit, &event.Exit{Code: 37})
	check("killed", mustDecode(t, "killed").ev.Exit, &event.Exit{Cause: 1, Code: 11})
	check("setuid", mustDecode(t, "setuid").ev.Setuid, &event.Setuid{UID: 1, EUID: 2, FSUID: 3, CapEffective: 4})
	check("setgid", mustDecode(t, "setgid").ev.Setgid, &event.Setgid{GID: 1, EGID: 2, FSGID: 3})
	if r := mustDecode(t, "canary"); r.canary != 77 || !r.bulk || r.ev != nil {
		t.Errorf("canary: %+v", r)
	}
	check("cgroup", mustDecode(t, "cgroup").ev.CgroupWrite, &event.CgroupWrite{
		File: event.File{Path: "/a/b", Inode: 10, Filesystem: "cgroup", Mode: 0o40755, PathSource: "kernel"},
		PID:  9, Cgroup: "/a/b", CgroupID: 10, MovedStartNS: 11,
	})
	e = mustDecode(t, "chown").ev
	check("chown", e.Chown, &event.Chown{
		File: event.File{Path: "/a/c/d", PathSource: "user"}, DestinationUID: -1, DestinationGID: 4, SyscallUID: -1,
		SyscallGID: 4, SyscallPath: "../c/./d", Retval: -13,
	})
	check("chown flags", e.Flags, event.FlagPathUser|event.FlagPathChanged)
	check("rename", mustDecode(t, "rename").ev.Rename, &event.Rename{
		File: event.File{Path: "/a/c/d", PathSource: "user"}, Destination: event.File{Path: "/d2/x/y", PathSource: "user"},
		SyscallPath: "../c/./d", SyscallDestinationPath: "/x//y", Retval: -13,
	})
	check("symlink", mustDecode(t, "symlink").ev.Symlink, &event.Symlink{
		File: event.File{Path: "/a/c/d", PathSource: "user"}, Target: "/x//y", Retval: -13,
	})
	check("connect", mustDecode(t, "connect").ev.Connect.Addr.IP.String(), "10.1.2.3")
	a := mustDecode(t, "accept").ev.Accept
	check("accept peer", a.Addr.IP.String(), "10.1.2.3")
	check("accept local", a.Local.IP.String(), "127.0.0.1")
	check("accept ports", [2]uint32{a.Addr.Port, a.Local.Port}, [2]uint32{443, 80})
	check("unix", mustDecode(t, "unix").ev.Bind.Addr.UnixPath, "/run/x")
}

// TestDecodeShort cuts every sample at every length.
func TestDecodeShort(t *testing.T) {
	for name, b := range samples() {
		for n := range len(b) {
			if _, err := newDecoder(nil).decode(b[:n]); !errors.Is(err, errRecord) {
				t.Fatalf("%s cut to %d bytes: %v", name, n, err)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, b := range samples() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		given := bytes.Clone(b)
		r1, err1 := newDecoder(nil).decode(b)
		r2, err2 := newDecoder(nil).decode(b)
		if (err1 == nil) != (err2 == nil) || !bytes.Equal(b, given) {
			t.Fatal("not a function of its input")
		}
		if err1 != nil {
			return
		}
		if r1.ev == nil && r1.snap == nil && r1.kind != procRecKindREC_CANARY && !r1.part {
			t.Fatalf("kind %d gives nothing", r1.kind)
		}
		if diff := cmp.Diff(r1.ev, r2.ev, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestSeeds writes the samples where the fuzzer looks for seeds.
func TestSeeds(t *testing.T) {
	dir := filepath.Join("testdata", "fuzz", "FuzzDecode")
	found, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("UPDATE_SEEDS") == "" {
		if len(found) < len(samples()) {
			t.Errorf("%d seeds in %s, want one of each of %d records", len(found), dir, len(samples()))
		}
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, b := range samples() {
		seed := "go test fuzz v1\n[]byte(" + quote(b) + ")\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(seed), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func quote(b []byte) string {
	const hex = "0123456789abcdef"
	var s strings.Builder
	s.WriteByte('"')
	for _, c := range b {
		s.WriteString(`\x`)
		s.WriteByte(hex[c>>4])
		s.WriteByte(hex[c&15])
	}
	s.WriteByte('"')
	return s.String()
}

func TestJoin(t *testing.T) {
	for _, tt := range [][3]string{
		{"/", "/etc/passwd", "/etc/passwd"}, {"/root", "a/b", "/root/a/b"}, {"/a", "../../..", "/"},
		{"/jail", "/etc/x", "/jail/etc/x"}, {"/a", "./b//c/.", "/a/b/c"}, {"/a", "", "/a"},
		{"/", "/", "/"}, {"/", "", "/"}, {"", "/a/b", "/a/b"}, {"/", "/a/", "/a"}, {"/", "//a", "/a"}, {"/", "/a//b", "/a/b"},
		{"/", "/a/./b", "/a/b"}, {"/", "/a/../b", "/b"}, {"/", "/a/b/..", "/a"}, {"/", "/..a/.b", "/..a/.b"}, {"/", "a", "/a"},
	} {
		if got := join(tt[0], tt[1]); got != tt[2] {
			t.Errorf("join(%q, %q) = %q, want %q", tt[0], tt[1], got, tt[2])
		}
	}
}

func TestContainer(t *testing.T) {
	id := strings.Repeat("0a", 32)
	for _, tt := range []struct{ path, id, manager string }{
		{"/", "", ""},
		{"/docker/" + id, id, "docker"},
		{"/system.slice/docker-" + id + ".scope", id, "docker"},
		{"/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + id + ".scope", id, "containerd"},
		{"/kubepods/besteffort/pod2/" + id, id, "containerd"},
		{"/kubepods.slice/crio-" + id + ".scope", id, "cri-o"},
		{"/machine.slice/libpod-" + id + ".scope/container", id, "podman"},
		{"/machine.slice/libpod-conmon-" + id + ".scope", "", "systemd"},
		{"/docker/" + id + "/init.scope", id, "docker"},
		{"/system.slice/ssh.service", "", "systemd"},
		{"/user.slice/user-0.slice/session-1.scope", "", "systemd"},
		{"/x/" + id[:63], "", ""},
		{"/x/" + strings.ToUpper(id), "", ""},
		{"/other/" + id, id, ""},
	} {
		if id, m := container(tt.path); id != tt.id || m != tt.manager {
			t.Errorf("container(%q) = %q, %q, want %q, %q", tt.path, id, m, tt.id, tt.manager)
		}
	}
}

func TestLimits(t *testing.T) {
	many := []byte(strings.Repeat("a\x00", 300))
	if got, cut := strs(many, 300, false); len(got) != maxStrings || !cut {
		t.Errorf("%d strings, cut %v", len(got), cut)
	}
	if got, cut := strs([]byte("a\x00\x00b\x00"), 3, false); len(got) != 3 || cut || got[1] != "" {
		t.Errorf("%q, cut %v", got, cut)
	}
	if got, cut := strs([]byte(strings.Repeat("y", 257)), 1<<30, false); len(got[0]) != maxStringLen || !cut {
		t.Errorf("%d bytes, cut %v", len(got[0]), cut)
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, name := range []string{"exec", "exit", "open", "connect"} {
		raw := samples()[name]
		b.Run(name, func(b *testing.B) {
			d := newDecoder(nil)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.decode(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
