#!/bin/sh
# Compares the guard's copy of the address registries with what IANA publishes
# today. It needs the network, so it is not part of the suite.
set -eu
cd "$(dirname "$0")/.."

site=https://www.iana.org/assignments
dir=.build/iana
copy=internal/egress/testdata/registries.txt
mkdir -p "$dir"

fetch() { # fetch REGISTRY FILE
	if ! curl -fsSL --max-time 60 -o "$dir/$2" "$site/$1/$2"; then
		echo "check-tables: $site/$1/$2 cannot be had; nothing was compared" >&2
		exit 1
	fi
}

for registry in iana-ipv4-special-registry iana-ipv6-special-registry; do
	fetch "$registry" "$registry-1.csv"
	fetch "$registry" "$registry.xml"
done
fetch ipv6-unicast-address-assignments ipv6-unicast-address-assignments.csv
fetch ipv6-unicast-address-assignments ipv6-unicast-address-assignments.xml

# A new date without another difference is only to be written down.
for registry in iana-ipv4-special-registry iana-ipv6-special-registry ipv6-unicast-address-assignments; do
	published=$(sed -n 's|.*<updated>\(.*\)</updated>.*|\1|p' "$dir/$registry.xml" | head -n 1)
	ours=$(sed -n "s|^# $registry  *updated \(.*\)|\1|p" "$copy")
	if [ "$published" != "$ours" ]; then
		echo "check-tables: $registry was updated on $published; $copy is of $ours"
	fi
done

WEBTRIGGER_IANA_DIR="$PWD/$dir" go test -tags iana -count=1 -run '^Test(PublishedRegistries|EdgesOfTheRegistries)$' ./internal/egress
echo "check-tables: the guard's tables are what IANA publishes"
