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

object proc -type rec_any -type rec_hdr -type rec_str -type rec_file -type rec_proc \
	-type rec_exit -type rec_ids -type rec_cred -type rec_cgroup -type rec_canary \
	-type rec_fileop -type rec_net -type rec_kind -type rec_hdr_flag -type rec_file_flag -type rec_proc_flag \
	-type rec_op_flag -type fate -type plan_mode -type plan_data -type fate_counts -type name_key
object file_tp
object net_tp
object cred_tp
object file_tr
object net_tr
object cred_tr
