#!/usr/bin/env bash
# test.sh go|vm|web|soak|fuzz [TIME [DIR…]]|bench: one part of the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

# alone lists the packages whose tests start virtual machines or watch this
# host's kernel; others lists the rest.
alone() {
	go list -f '{{.ImportPath}} {{join .TestImports " "}} {{join .XTestImports " "}}' ./... |
		awk '/internal\/testkit\/(vm|proc)( |$)/ || $1 ~ /internal\/sensor$/ {print $1}'
}
others() { go list ./... | grep -vxF "$(alone)"; }

case "${1:-}" in
go)
	# Without the test cache: some tests read what the go command cannot see
	# (the repository, the kernel).
	mapfile -t pkgs < <(others)
	go run ./tools/gotest -count=1 -timeout 15m "${pkgs[@]}"
	;;
vm)
	# One package at a time: they load the processors, or watch what happens.
	mapfile -t pkgs < <(alone)
	[ ${#pkgs[@]} -eq 0 ] || go run ./tools/gotest -count=1 -timeout 20m -p 1 "${pkgs[@]}"
	;;
web)
	[ -f web/package.json ] || exit 0
	tools/web.sh test
	tools/web.sh browser
	;;
soak)
	CLEW_SOAK=1 go test -count=1 -timeout 150m -p 1 ./...
	# What rules are read and evaluated by meets every text for a minute each.
	"$0" fuzz 1m internal/secl internal/ruleset
	;;
fuzz)
	# One target at a time: the go command takes no more, and each uses all
	# processors.
	time=${2:-30s}
	shift $(($# > 2 ? 2 : $#))
	[ $# -gt 0 ] || set -- cmd internal test tools
	status=0
	while read -r pkg target; do
		echo "fuzz: $pkg $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$pkg" || status=1
	done < <(grep -rhoE --include='*_test.go' --exclude-dir=node_modules -H '^func (Fuzz[A-Za-z0-9_]+)' "$@" |
		sed -E 's|^(.*)/[^/]+:func (.*)$|./\1 \2|' | sort -u)
	exit $status
	;;
bench)
	go test -run '^$' -bench . -benchmem ./...
	;;
*)
	echo "usage: tools/test.sh go|vm|web|soak|fuzz [TIME [DIR…]]|bench" >&2
	exit 2
	;;
esac
