#!/usr/bin/env bash
# generate.sh [--check]: writes every file that is derived from something else.
# All of them are checked in, so that building needs Go alone. With --check it
# ends with status 1 when one of them was not as it should be; they are right
# afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."

# Where derived files are. What is not there yet is skipped.
derived=(
	internal/event/schema_gen.go
	internal/gen
	proto/clew/v1/event.proto
	docs/reference/fields.md
	docs/reference/metrics.md
	docs/reference/kinds-by-kernel.md
	internal/sensor
	internal/ruleset/ownmaps.txt
	web/src/gen
	web/dist
)

# sums prints a checksum of every file that a generator may write. Hand-written
# files below the same folders do no harm: no generator changes them.
sums() {
	local d have=()
	for d in "${derived[@]}"; do [ ! -e "$d" ] || have+=("$d"); done
	find "${have[@]}" -type f ! -path '*/node_modules/*' -print0 | sort -z | xargs -0 sha256sum
}

run() {
	printf 'generate: %s\n' "$*"
	"$@"
}

before=
[ "${1:-}" != --check ] || before=$(sums)

run go run ./tools/schemagen
run go run ./tools/protogen
run go run ./tools/metricspage
run go run ./tools/kindspage
# Another patch release of the compiler may write other, equally good bytes.
bpf_clang=19.1.7
if [ -x internal/sensor/generate.sh ]; then
	have=$(clang-19 -dumpversion)
	if [ "${1:-}" = --check ] && [ "$have" != "$bpf_clang" ]; then
		echo "generate: BPF objects are not compared: they are built with clang $bpf_clang, this is $have"
	else
		run internal/sensor/generate.sh
	fi
fi
[ ! -f web/package.json ] || run tools/web.sh generate

[ "${1:-}" = --check ] || exit 0
after=$(sums)
if [ "$before" != "$after" ]; then
	echo "generate: these files are not what the generators write; run make generate and commit:" >&2
	diff <(echo "$before") <(echo "$after") | sed -n 's/^[<>] [0-9a-f]*  /  /p' | sort -u >&2
	exit 1
fi
