#!/usr/bin/env bash
# Records the attack of `clew demo` in a virtual machine and writes it where it
# is embedded, internal/demo/demo.clewrec. Nothing of the machine this runs on
# gets in: the guest has a distribution's kernel, plain coreutils and no
# network. Run it when the attack, the event schema or the sensor changes what
# the stream holds, and look at what the story becomes (go test ./internal/demo).
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-internal/demo/demo.clewrec}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
root=$tmp/root
mkdir -p "$root/usr/local/bin" "$root/usr/bin" "$root/etc"
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$root/usr/local/bin/clew" ./cmd/clew

# The shell and the programs that the attack calls, each with its libraries,
# symbolic links resolved.
for p in dash id uname cat ls chmod cp rm true mkdir; do
	bin=$(type -P "$p")
	cp -Lp "$bin" "$root/usr/bin/$p"
	ldd "$bin" | grep -o '/[^ ]*' | while read -r lib; do
		mkdir -p "$root/$(dirname "$lib")"
		cp -Lp "$lib" "$root/$lib"
	done
done
printf 'root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/usr/sbin/nologin\ndeploy:x:1000:1000::/home/deploy:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nwww-data:x:33:\ndeploy:x:1000:\n' >"$root/etc/group"

go run ./internal/testkit/vm/cmd/vmtest -kernel 6.1 -add "$root" -- /bin/busybox sh -c "
	set -e
	find $root -type f -exec touch -d '2026-01-01 00:00' {} + # programs as old as an installation
	cp -a $root/. /
	rm -rf $tmp
	rm -f /bin/sh /sbin/sh
	ln -s /usr/bin/dash /bin/sh
	cd /
	/usr/local/bin/clew record --as-agent --sensor tracepoint -o /tmp/out.clewrec -- /usr/local/bin/clew demo --attack --root /tmp/clew-demo
	echo BEGIN-RECORDING
	/bin/busybox base64 /tmp/out.clewrec
	echo END-RECORDING
" >"$tmp/log" 2>&1 || {
	tail -50 "$tmp/log" >&2
	exit 1
}
sed -n '/BEGIN-RECORDING/,/END-RECORDING/p' "$tmp/log" | grep -v RECORDING | tr -d '\r' | base64 -d >"$tmp/demo.clewrec"
[ -s "$tmp/demo.clewrec" ] || {
	tail -50 "$tmp/log" >&2
	exit 1
}
mv "$tmp/demo.clewrec" "$out"
ls -l "$out"
