#!/usr/bin/env bash
# Makes Chromium available, by Debian's package where it is missing, and puts axe-core into the folder that the first
# argument names. Where there is no Chromium to be had, says why in one line and fails. Log of apt and npm: the file named
# by the second argument, if any.
set -euo pipefail
folder=$1 log=${2:-/dev/null}
axe=axe-core@4.14.1
there() { for name in chromium chromium-browser google-chrome; do type -P "$name" > /dev/null && return 0; done; return 1; }
if ! there; then
	type -P apt-get > /dev/null || { echo "Chromium is not installed, and there is no apt-get to install it"; exit 1; }
	[ "$(id -u)" = 0 ] || { echo "Chromium is not installed, and user $(id -un) cannot install it"; exit 1; }
	{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } \
		> "$log" 2>&1 || { echo "Chromium is not installed, and apt-get cannot install it (chromium)"; exit 1; }
	there || { echo "Debian's chromium is installed and there is no such program"; exit 1; }
fi
# Without axe-core only the test that needs it is skipped.
if [ ! -f "$folder/package/axe.min.js" ] && type -P npm > /dev/null; then
	mkdir -p "$folder"
	(cd "$folder" && npm pack --silent "$axe" && tar -xzf axe-core-*.tgz package/axe.min.js package/LICENSE) \
		>> "$log" 2>&1 || true
fi
