#!/usr/bin/env bash
# Guess:     `git fetch --dry-run` asks the remote which refs differ, downloads no objects and leaves the repository as it is.
# Versions:  git 2.39.5 and 2.55.0.
# Behaviour: it downloads and stores all objects of the fetch and only leaves out the refs. Nothing refers to these objects, so they stay until a
#            `git gc` prunes them. To ask what is new without the data takes `git ls-remote`.
# Seen:      before: 0 objects / dry run: 0 refs, 3 objects, the remote's commit is here
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null HOME=$dir
export GIT_AUTHOR_NAME=ann GIT_AUTHOR_EMAIL=ann@example.invalid GIT_COMMITTER_NAME=ann GIT_COMMITTER_EMAIL=ann@example.invalid

git init --quiet --bare --initial-branch=main hub
git init --quiet --initial-branch=main ann
echo notes > ann/notes; git -C ann add notes; git -C ann commit --quiet -m begin; git -C ann push --quiet ../hub main
git init --quiet bob
cd bob
git remote add hub ../hub

objects() { git cat-file --batch-all-objects --batch-check | wc -l; }
seen=$(echo "before: $(objects) objects"
       git fetch --quiet --dry-run hub
       printf 'dry run: %s refs, %s objects' "$(git for-each-ref | wc -l)" "$(objects)"
       git cat-file -e "$(git -C ../hub rev-parse main)" && echo ", the remote's commit is here")
git --version; echo "$seen"
[ "$seen" = "before: 0 objects
dry run: 0 refs, 3 objects, the remote's commit is here" ] || { echo "changed" >&2; exit 1; }
