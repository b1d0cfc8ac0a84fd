#!/usr/bin/env bash
# Guess:     a full name such as `refs/mail/zoe` means that ref alone: without it `git ls-remote --exit-code` ends with 2 and `git fetch` fails.
# Versions:  git 2.39.5 and 2.55.0.
# Behaviour: `git ls-remote` compares the name with the end of each ref, and `git fetch` tries the name below refs/heads too. Both take
#            the branch `refs/mail/zoe`, that is refs/heads/refs/mail/zoe, for the missing ref and end with 0. A fetch with a wildcard takes
#            refs of that name only. Whoever reads refs/mail by full names has to compare the names in the answer.
# Seen:      ls-remote: 0 refs/heads/refs/mail/zoe / fetch: 0, what the branch has / fetch with a wildcard: 0, nothing
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null HOME=$dir
export GIT_AUTHOR_NAME=ann GIT_AUTHOR_EMAIL=ann@example.invalid GIT_COMMITTER_NAME=ann GIT_COMMITTER_EMAIL=ann@example.invalid

git init --quiet --bare hub
git init --quiet ann
cd ann
commit=$(git commit-tree -m 'a branch' "$(git mktree </dev/null)")
git push --quiet ../hub "$commit:refs/heads/refs/mail/zoe"
fetch() {  # fetch NAME REFSPEC
  local code=0 got
  git fetch --quiet ../hub "$2" || code=$?
  got=$(git for-each-ref --format='%(objectname)' refs/got)
  echo "$1: $code, $([ "$got" = "$commit" ] && echo 'what the branch has' || echo "${got:-nothing}")"
  git for-each-ref --format='delete %(refname)' refs/got | git update-ref --stdin
}
seen=$(code=0; names=$(git ls-remote --exit-code ../hub refs/mail/zoe) || code=$?; echo "ls-remote: $code $(cut -f2 <<<"$names")"
       fetch fetch refs/mail/zoe:refs/got/zoe
       fetch 'fetch with a wildcard' 'refs/mail/*:refs/got/*')
git --version; echo "$seen"
[ "$seen" = "ls-remote: 0 refs/heads/refs/mail/zoe
fetch: 0, what the branch has
fetch with a wildcard: 0, nothing" ] || { echo "changed" >&2; exit 1; }
