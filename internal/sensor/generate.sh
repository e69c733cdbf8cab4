#!/bin/sh
# Builds the BPF objects for amd64 and arm64 and their Go bindings, which are
# checked in, so that building clew needs no clang. The same compiler gives
# the same bytes wherever the tree lies. Needs clang-19, llvm-strip-19 and
# libbpf's headers.
set -eu
cd "$(dirname "$0")"

: "${CLANG:=clang-19}" "${STRIP:=llvm-strip-19}"
asm="/usr/include/$(uname -m)-linux-gnu"

object() {
	stem=$1
	shift
	GOPACKAGE=sensor go run github.com/cilium/ebpf/cmd/bpf2go \
		-cc "$CLANG" -strip "$STRIP" -target amd64,arm64 -no-global-types \
		-output-stem "bpf_$stem" "$@" "$stem" "bpf/$stem.bpf.c" -- \
		-O2 -g -Wall -Werror -mcpu=v2 -idirafter "$asm"
}

# What tracepoint mode needs most, again for kernels without the helpers that
# came with v5.11 and v5.15. The others' objects are not touched by it.
v510() {
	GOPACKAGE=sensor go run github.com/cilium/ebpf/cmd/bpf2go \
		-cc "$CLANG" -strip "$STRIP" -target amd64,arm64 -no-global-types \
		-output-stem "bpf_$1_v510" "$1_v510" "bpf/$1.bpf.c" -- \
		-O2 -g -Wall -Werror -mcpu=v2 -DCLEW_V5_10 -idirafter "$asm"
}

object proc -type rec_any -type rec_hdr -type rec_str -type rec_file -type rec_proc \
	-type rec_exit -type rec_ids -type rec_cred -type rec_cgroup -type rec_canary \
	-type rec_fileop -type rec_meta -type rec_mount -type rec_net -type rec_xattr_ns -type rec_mount_flag -type rec_call -type rec_mmap -type rec_bpf -type rec_module \
	-type rec_sysctl -type rec_call_flag -type rec_kind -type rec_hdr_flag -type rec_file_flag -type rec_proc_flag \
	-type rec_op_flag -type fate -type plan_mode -type plan_data -type fate_counts -type name_key \
	-type beside -type shape_data -type shape_limit -type proc_key -type hint_state -type moment -type moments
object file_tp
object net_tp
object cred_tp
object file_tr
object fsmeta_tp
object fsmeta_tr
object uring
object net_tr
object cred_tr
v510 proc
v510 file_tp
v510 net_tp
v510 cred_tp
v510 fsmeta_tp
object packet -type rec_packet -type rec_packet_flag
object sockopt_tp -type rec_socket -type rec_sockopt
object sockopt_tr
object caps_tp
object caps_tr
object selinux_tp -type selinux_file
object selinux_tr
object ondemand -type rec_hook
object flow -type flow_key -type flow -type flow_owner -type flow_fate

# The names of the maps, cut as the kernel cuts them: rules can leave out what
# the sensor itself does to them.
sed -nE 's/^\} ([a-z0-9_]{1,15})[a-z0-9_]* SEC\("\.maps"\);.*/\1/p' bpf/*.h bpf/*.c | LC_ALL=C sort -u >../ruleset/ownmaps.txt
object kern
object kern_tp
object kern_tr

# 32-bit calls have other numbers and registers on arm64, and are not seen there.
GOPACKAGE=sensor go run github.com/cilium/ebpf/cmd/bpf2go \
	-cc "$CLANG" -strip "$STRIP" -target amd64 -no-global-types \
	-output-stem bpf_see32 see32 bpf/see32.bpf.c -- \
	-O2 -g -Wall -Werror -mcpu=v2 -idirafter "$asm"
