#!/bin/sh
# Tags a release of every module that hosts install:
#
#   sh scripts/release.sh v0.1.0
#
# The modules are the root and the nested ones outside bench, e2e, examples and
# tools; each gets a tag of its own, for example v0.1.0 and llm/mcptools/v0.1.0.
#
# On main a nested module requires the root at v0.0.0 with a `replace`, which go
# ignores in a dependency. The script pins the requirement in a commit on top of
# HEAD that only the tags lead to, so main keeps its workspace. It works in a clone
# and copies the tags when every check has passed. It pushes nothing.
set -eu
cd "$(dirname "$0")/.."

fail() {
	echo "release: $*" >&2
	exit 1
}

[ $# -eq 1 ] || fail 'usage: sh scripts/release.sh vX.Y.Z'
version=$1
# From v2 on, a module path ends with its major version.
echo "$version" | grep -Eqx 'v[01]\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?' ||
	fail "$version must be a version such as v0.1.0 or v1.2.3-rc.1"
[ -z "$(git status --porcelain)" ] || fail 'commit or stash the changes first'

root=$(sed -n 's/^module //p' go.mod)
nested=$(git ls-files '*/go.mod' ':!bench' ':!e2e' ':!examples' ':!tools' | sed 's|/go.mod$||')
tags=$version
for dir in $nested; do
	tags="$tags $dir/$version"
done
for tag in $tags; do
	if git rev-parse -q --verify "refs/tags/$tag" >/dev/null; then
		fail "the tag $tag exists"
	fi
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
origin=$PWD
git clone -q --no-hardlinks . "$work/clone"
for key in user.name user.email; do
	if value=$(git config "$key"); then
		git -C "$work/clone" config "$key" "$value"
	fi
done
cd "$work/clone"

# The go command fetches the modules of the release from the clone, as it later does
# from the server. The user's module cache must not keep a version that is not
# published yet, so the modules go into another one, which reads from the first.
proxies="file://$(go env GOMODCACHE)/cache/download,$(go env GOPROXY)"
export GOWORK=off GOFLAGS="${GOFLAGS-} -modcacherw -trimpath" GOMODCACHE="$work/modules" GOPROXY="$proxies" GOPRIVATE="$root"
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$work/clone.insteadOf" GIT_CONFIG_VALUE_0="https://$root"

# Makes the release commit from the changed files, and the tags on it.
tag_all() { # tag_all [COMMIT OPTIONS]
	git commit -q --allow-empty -m "release: pin nested modules to $version" "$@"
	for tag in $tags; do
		git tag -f -a "$tag" -m "$tag" >/dev/null
	done
}

for dir in $nested; do
	if grep -q "$root v0.0.0\$" "$dir/go.mod"; then
		go mod edit -require="$root@$version" -dropreplace="$root" "$dir/go.mod"
	fi
	if grep -Eq '^replace|v0\.0\.0$' "$dir/go.mod"; then
		fail "$dir/go.mod must depend on published modules only"
	fi
done
git add -u
tag_all

# Adds the sums of the root, which has none of the files that this changes.
for dir in $nested; do
	go -C "$dir" list -mod=mod -deps -test ./... >/dev/null
done
git add -u
tag_all --amend

for dir in . $nested; do
	go -C "$dir" build ./... || fail "$dir does not build outside of the workspace"
done
[ -z "$(git status --porcelain)" ] || fail 'the release commit is not complete'

cd "$origin"
unset GIT_CONFIG_COUNT
for tag in $tags; do
	set -- "$@" "refs/tags/$tag:refs/tags/$tag"
done
shift
git fetch -q --no-tags --atomic "$work/clone" "$@"
echo "release: tagged $(git rev-parse --short "$version^{commit}"). To publish it:"
echo "  git push --atomic origin $tags"
