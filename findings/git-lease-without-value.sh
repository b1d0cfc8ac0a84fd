#!/usr/bin/env bash
# Guess:     `git push --force-with-lease` replaces a ref if the remote still has what was fetched last, for `refs/mail/ann` as for a
#            branch; with a refspec that fetches these refs to the same names it knows what that was.
# Versions:  git 2.39 or newer.
# Behaviour: without a value the lease looks for the local ref that a configured refspec makes from the remote's. A ref that was fetched by a
#            refspec on the command line has none, and the push is refused. With `refs/mail/*:refs/mail/*` configured it is the very ref
#            that is to be pushed: the remote would have to hold the new value already, and the push is refused although nobody
#            else has touched it. A lease on refs outside refs/heads has to name the old value.
# Seen:      refspec on the command line: stale info / same names configured: stale info / other names configured: done / value named: done
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null HOME=$dir
export GIT_AUTHOR_NAME=ann GIT_AUTHOR_EMAIL=ann@example.invalid GIT_COMMITTER_NAME=ann GIT_COMMITTER_EMAIL=ann@example.invalid

git init --quiet --bare hub
git init --quiet ann
cd ann
tree=$(git mktree </dev/null)
next() { git commit-tree -m "$1" "$tree"; }  # a commit without parents, as for a ref that is replaced each time
git remote add hub ../hub
outcome() { if "$@" >push.log 2>&1; then echo done; else grep --only-matching 'stale info' push.log || cat push.log; fi; }

# try NAME REFSPEC CONFIGURED [LEASE]: the hub has the first commit, which was fetched; ann replaces her ref by the second and pushes.
try() {
  local old new
  old=$(next "first, $1") new=$(next "second, $1")
  git push --quiet --force ../hub "$old:refs/mail/ann"
  git config --replace-all remote.hub.fetch "${3:-+refs/heads/*:refs/remotes/hub/*}"
  git fetch --quiet hub "+$2"
  git update-ref refs/mail/ann "$new"
  echo "$1: $(outcome git push "--force-with-lease${4:+=refs/mail/ann:$old}" hub refs/mail/ann)"
}
same='refs/mail/*:refs/mail/*' other='refs/mail/*:refs/remotes/hub/mail/*'
seen=$(try 'refspec on the command line' "$same" ''
       try 'same names configured' "$same" "+$same"
       try 'other names configured' "$other" "+$other"
       try 'value named' "$same" '' value)
git --version; echo "$seen"
[ "$seen" = "refspec on the command line: stale info
same names configured: stale info
other names configured: done
value named: done" ] || { echo "changed" >&2; exit 1; }
