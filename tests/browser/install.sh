#!/usr/bin/env bash
# Makes Chromium available, and puts axe-core into the folder that the argument names. Where there is no Chromium to be had,
# says why in one line and fails.
set -euo pipefail
folder=$1 axe=axe-core@4.14.1
"$(dirname "$0")/../debian.sh" Chromium chromium chromium,chromium-browser,google-chrome
# Without axe-core only the test that needs it is skipped.
if [ ! -f "$folder/package/axe.min.js" ] && type -P npm > /dev/null; then
	mkdir -p "$folder"
	(cd "$folder" && npm pack --silent "$axe" && tar -xzf axe-core-*.tgz package/axe.min.js package/LICENSE) > /dev/null 2>&1 ||
		true
fi
