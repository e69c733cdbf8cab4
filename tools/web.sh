#!/usr/bin/env bash
# web.sh build|generate|lint|test|browser: the page's own commands, run with
# the Node that web/package-lock.json pins rather than the machine's.
set -euo pipefail
cd "$(dirname "$0")/../web"

for bin in "$PWD"/node_modules/node-linux-*/bin; do
	[ ! -x "$bin/node" ] || PATH=$bin:$PATH
done
[ -t 1 ] || export NO_COLOR=1
has() { node -e 'process.exit(process.argv[1] in require("./package.json").scripts ? 0 : 1)' "$1"; }
script() { npm run --silent "$@"; }

case "${1:-}" in
generate)
	# The messages of the API, then dist/, which is checked in as well.
	if [ -x node_modules/.bin/protoc-gen-es ]; then
		(cd .. && go run ./tools/protogen -plugin web/node_modules/.bin/protoc-gen-es -out web/src/gen -opt target=ts,json_types=true,import_extension=none)
	fi
	if ! out=$(script build 2>&1); then
		printf '%s\n' "$out" >&2
		exit 1
	fi
	;;
build | lint | test | browser)
	if ! has "$1"; then
		echo "web: no script $1" >&2
		exit 1
	fi
	script "$1"
	;;
*)
	echo "usage: tools/web.sh build|generate|lint|test|browser" >&2
	exit 2
	;;
esac
