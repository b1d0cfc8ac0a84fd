#!/usr/bin/env bash
# Guess:     a push that lost its answer can be repeated with the same `--force-with-lease`: the remote already is as asked, so it ends with 0,
#            whether the push set a ref or deleted it.
# Versions:  git 2.39.5 and 2.55.0.
# Behaviour: true for an update, which is up to date. A repeated delete is refused as stale, since the old value is gone, exactly as if
#            another writer had replaced the ref. Without the lease the repeated delete ends with 0.
# Seen:      update: 0, again: 0 up to date / delete: 0, again: 1 stale info / again without a lease: 0
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null HOME=$dir
export GIT_AUTHOR_NAME=ann GIT_AUTHOR_EMAIL=ann@example.invalid GIT_COMMITTER_NAME=ann GIT_COMMITTER_EMAIL=ann@example.invalid

git init --quiet --bare hub
git init --quiet ann
cd ann
tree=$(git mktree </dev/null) one=$(git commit-tree -m one "$tree") two=$(git commit-tree -m two "$tree")
git push --quiet ../hub "$one:refs/mail/ann"
lease() { git push --porcelain "--force-with-lease=refs/mail/ann:$1" ../hub "$2:refs/mail/ann"; }
try() {  # try COMMAND...: the exit code and the word that matters
  local code=0; "$@" >log 2>&1 || code=$?
  echo "$code $(grep --only-matching -e 'up to date' -e 'stale info' log || true)" | sed 's/ $//'
}
seen=$(echo "update: $(try lease "$one" "$two"), again: $(try lease "$one" "$two")"
       echo "delete: $(try lease "$two" ''), again: $(try lease "$two" '')"
       echo "again without a lease: $(try git push --porcelain ../hub :refs/mail/ann)")
git --version; echo "$seen"
[ "$seen" = "update: 0, again: 0 up to date
delete: 0, again: 1 stale info
again without a lease: 0" ] || { echo "changed" >&2; exit 1; }
