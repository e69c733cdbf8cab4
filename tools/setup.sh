#!/usr/bin/env bash
# setup.sh MODE: makes sure that what MODE needs is installed.
#
#   build   Go alone. Installs nothing, says what is missing.
#   web     what builds the page: Node and the packages of web/.
#   test    everything that `make test` uses.
#
# Quiet, and quick when nothing is missing. Packages are installed only by
# root, on Debian and its relatives; elsewhere the script lists them and fails.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

missing=()
# need PROGRAM PACKAGE: remembers the package when the program is not there.
need() { have "$1" || missing+=("$2"); }

check_go() {
	have go || die "Go is missing: https://go.dev/doc/install"
	# The go command fetches the version that go.mod asks for, if it may.
	go version >/dev/null || die "this Go cannot build the version that go.mod asks for"
}

# candidate PACKAGE: whether apt could install it.
candidate() {
	local c
	c=$(apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: //p')
	[ -n "$c" ] && [ "$c" != "(none)" ]
}

install_missing() {
	[ ${#missing[@]} -gt 0 ] || return 0
	have apt-get || die "please install: ${missing[*]}"
	[ "$(id -u)" = 0 ] || die "please install: apt-get install ${missing[*]}"
	say "installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	local apt=(apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300)
	"${apt[@]}" update >/dev/null || die "apt-get update failed"
	local p wanted=()
	for p in "${missing[@]}"; do
		if candidate "$p"; then
			wanted+=("$p")
			continue
		fi
		case "$p" in
		# On Ubuntu bpftool is in a package with the kernel's name.
		bpftool) candidate linux-tools-common && wanted+=(linux-tools-common) ;;
		*) die "no package $p for $(. /etc/os-release && echo "$PRETTY_NAME")" ;;
		esac
	done
	local log refuse=""
	log=$(mktemp)
	# A package's daemon is for the tests to start, in directories of theirs;
	# one that the installation starts would stay. The file is the
	# administrator's, so one that is there decides.
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		refuse=/usr/sbin/policy-rc.d
		printf '#!/bin/sh\nexit 101\n' >"$refuse" && chmod 755 "$refuse"
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
	fi
	if ! "${apt[@]}" install -y --no-install-recommends "${wanted[@]}" >"$log" 2>&1 </dev/null; then
		tail -n 20 "$log" >&2
		rm -f "$log"
		die "apt-get install failed"
	fi
	rm -f "$log"
	if [ -n "$refuse" ]; then
		rm -f "$refuse"
		trap - EXIT
	fi
}

need_node() {
	need node nodejs
	need npm npm
}

# locked EXPRESSION: asks web/package-lock.json; p is its list of packages.
locked() {
	node -p "const p = require('./web/package-lock.json').packages; $1"
}

# npm leaves out optional packages that the Node it runs on is too old for, and
# with them what the page is built with. So where the machine's Node is old, the
# one that the lock file names is fetched first, and runs npm.
fetch_node() {
	node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 22 || (a === 22 && b >= 12) || (a === 20 && b >= 19) ? 0 : 1)' && return 0
	local name dir=.cache/node
	name=node-linux-$(node -p process.arch)
	if [ ! -x "$dir/bin/node" ]; then
		local version sum
		version=$(locked "p['node_modules/$name'].version")
		sum=$(locked "p['node_modules/$name'].integrity")
		say "fetching $name $version"
		rm -rf "$dir" && mkdir -p "$dir"
		(cd "$dir" && npm pack --silent "$name@$version" >/dev/null) || die "npm pack $name failed"
		node -e '
			const [, file, want] = process.argv;
			const got = "sha512-" + require("crypto").createHash("sha512").update(require("fs").readFileSync(file)).digest("base64");
			process.exit(got === want ? 0 : 1);
		' "$dir/$name-$version.tgz" "$sum" || die "$name $version is not what web/package-lock.json names"
		tar -xzf "$dir/$name-$version.tgz" -C "$dir" --strip-components=1
		rm "$dir/$name-$version.tgz"
	fi
	PATH=$PWD/$dir/bin:$PATH
}

# The packages of web/, exactly as locked, when they are not there yet. None of
# them may run a script of its own at installation.
web_packages() {
	[ -f web/package-lock.json ] || return 0
	local mark=web/node_modules/.clew-installed
	[ -f "$mark" ] && cmp -s "$mark" web/package-lock.json && return 0
	fetch_node
	say "installing the packages of web/"
	(cd web && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null) || die "npm ci failed"
	cp web/package-lock.json "$mark"
}

# Ubuntu's chromium is a snap, which is of no use in a container; where that is
# so, any other browser of the family will do.
need_browser() {
	local b
	for b in chromium chromium-browser google-chrome google-chrome-stable; do
		have "$b" && "$b" --version >/dev/null 2>&1 && return 0
	done
	if [ -r /etc/os-release ] && (. /etc/os-release && [ "${ID:-}" = ubuntu ]); then
		die "the browser tests need chromium or google-chrome on the PATH; Ubuntu has it as a snap only"
	fi
	missing+=(chromium)
}

mode=${1:-}
case "$mode" in
build)
	check_go
	;;
web)
	check_go
	need_node
	install_missing
	web_packages
	;;
test)
	check_go
	need git git
	need make make
	need ip iproute2
	need clang-19 clang-19
	need llvm-strip-19 llvm-19
	need clang-format-19 clang-format-19
	[ -e /usr/include/bpf/bpf_helpers.h ] || missing+=(libbpf-dev)
	need bpftool bpftool
	need qemu-system-x86_64 qemu-system-x86
	need qemu-system-aarch64 qemu-system-arm
	[ -x /bin/busybox ] || missing+=(busybox-static)
	need cpio cpio
	need xz xz-utils
	need strace strace
	# With runc and iptables, which they depend on. /usr/sbin is not on
	# everybody's PATH.
	[ -x /usr/sbin/dockerd ] || need dockerd docker.io
	need containerd containerd
	need_node
	need_browser
	install_missing
	web_packages
	;;
*)
	die "usage: tools/setup.sh build|web|test"
	;;
esac
