#!/usr/bin/env bash
# debian.sh NAME "PACKAGE..." PROGRAM...: makes programs available, by Debian's packages where one is missing; of A,B either
# is enough. Where they cannot be had, says why in one line and fails.
set -euo pipefail
name=$1 packages=$2
shift 2
PATH=$PATH:$(printf '%s:' /usr/lib/postgresql/*/bin)
there() {
	local wanted program
	for wanted in "$@"; do
		for program in ${wanted//,/ }; do type -P "$program" > /dev/null && continue 2; done
		return 1
	done
}
there "$@" && exit 0
type -P apt-get > /dev/null || { echo "$name is not installed, and there is no apt-get to install it"; exit 1; }
[ "$(id -u)" = 0 ] || { echo "$name is not installed, and user $(id -un) cannot install it"; exit 1; }
# shellcheck disable=SC2086 # several packages
{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages; } > /dev/null 2>&1 ||
	{ echo "$name is not installed, and apt-get cannot install it ($packages)"; exit 1; }
there "$@" || { echo "Debian's $packages is installed and lacks one of: $*"; exit 1; }
