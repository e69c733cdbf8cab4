#!/usr/bin/env bash
# lint.sh: formatting and static checks. Prints what is wrong and ends with 1.
set -euo pipefail
cd "$(dirname "$0")/.."

status=0
# report NAME TEXT: a check found TEXT, which is empty when all is well.
report() {
	if [ -n "$2" ]; then
		printf 'lint: %s:\n%s\n' "$1" "$2" >&2
		status=1
	else
		printf 'lint: %s: ok\n' "$1"
	fi
}

mapfile -t go < <(find cmd internal test tools web -name '*.go' ! -path '*/node_modules/*')
report gofmt "$(gofmt -l "${go[@]}")"
report "go vet" "$(go vet ./... 2>&1 || true)"

mapfile -t c < <(find internal -path '*/bpf/*' \( -name '*.h' -o -name '*.bpf.c' \) | sort)
if [ ${#c[@]} -gt 0 ]; then
	report clang-format "$(for f in "${c[@]}"; do clang-format-19 --dry-run -Werror "$f" >/dev/null 2>&1 || echo "$f"; done)"
fi

mapfile -t sh < <(find tools internal .ci -name '*.sh' -o -path .ci/run)
report "bash -n" "$(for f in "${sh[@]}"; do bash -n "$f" 2>&1 || true; done)"

if [ -f web/package.json ]; then
	if out=$(tools/web.sh lint 2>&1); then report web ""; else report web "$(sed "s/\x1b\[[0-9;]*m//g" <<<"$out" | tail -n 60)"; fi
fi
exit $status
