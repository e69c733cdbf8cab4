#!/usr/bin/env bash
# Records the attack of `clew demo` in a virtual machine and writes it where it
# is embedded, internal/demo/demo.clewrec. Nothing of the machine this runs on
# gets in: the guest has a distribution's kernel, the host's coreutils and no
# network. Run it when the attack, the event schema or the sensor changes what
# the stream holds, and look at what the story becomes (go test ./internal/demo).
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-internal/demo/demo.clewrec}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$tmp/clew" ./cmd/clew

# The shell and the programs that the attack calls, each with its libraries.
add=()
for p in dash id uname cat ls chmod cp rm true mkdir; do
	bin=$(readlink -f "$(type -P "$p")")
	add+=(-add "$bin")
	while read -r lib; do add+=(-add "$lib"); done < <(ldd "$bin" | grep -o '/[^ ]*')
done
mkdir -p "$tmp/etc"
go run ./internal/testkit/vm/cmd/vmtest -kernel 6.1 "${add[@]}" -add "$tmp/clew" -- /bin/busybox sh -c "
	set -e
	mkdir -p /usr/local/bin /etc /tmp
	cp $tmp/clew /usr/local/bin/clew
	[ -e /etc/passwd ] || printf 'root:x:0:0:root:/root:/bin/sh\n' >/etc/passwd
	[ -e /etc/group ] || printf 'root:x:0:\n' >/etc/group
	for p in dash id uname cat ls chmod cp rm true mkdir; do
		for d in /usr/bin /bin; do [ -x \$d/\$p ] && [ ! -L \$d/\$p ] && ln -sf \$d/\$p /usr/local/bin/\$p; done
	done
	rm -f /bin/sh && ln -s /usr/bin/dash /bin/sh
	/usr/local/bin/clew record --sensor tracepoint -o /tmp/out.clewrec -- /usr/local/bin/clew demo-attack --root /tmp/clew-demo
	echo BEGIN-RECORDING
	busybox base64 /tmp/out.clewrec
	echo END-RECORDING
" >"$tmp/log" 2>&1 || { tail -50 "$tmp/log" >&2; exit 1; }
sed -n '/BEGIN-RECORDING/,/END-RECORDING/p' "$tmp/log" | grep -v RECORDING | tr -d '\r' | base64 -d >"$tmp/demo.clewrec"
[ -s "$tmp/demo.clewrec" ] || { cat "$tmp/log" >&2; exit 1; }
mv "$tmp/demo.clewrec" "$out"
ls -l "$out"
