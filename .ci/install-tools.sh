#!/usr/bin/env bash
# Installs the Debian packages whose programs tests compare with: Hercules' disk tools, and a C compiler for the guest that is
# rebuilt. Whoever may not install them gets a notice; the tests that need them then say so and are skipped.
set -euo pipefail

missing=()
command -v dasdls >/dev/null || missing+=(hercules)
command -v cc >/dev/null || missing+=(gcc libc6-dev)
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "notice: not installed: ${missing[*]} (needs root and Debian's apt); tests that need them are skipped" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
{ apt-get -qq update && apt-get -qq install --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 || {
  tail -n 20 "$log" >&2
  echo "error: could not install ${missing[*]}" >&2
  exit 1
}
echo "installed: ${missing[*]}"
