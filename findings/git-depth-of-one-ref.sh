#!/usr/bin/env bash
# Guess:     `git fetch --depth=1` of `refs/mail/ann`, whose history has nothing in common with the branches, concerns that ref alone; in
#            the rest of a complete repository everything works as before.
# Versions:  git 2.39.5.
# Behaviour: being shallow is a property of the repository. The branches keep their history, but `git commit-graph write` now writes
#            nothing and ends with 0, and `git clone --reference` refuses the repository. Deleting the ref is no remedy before the next
#            `git gc` that prunes. Whoever keeps data beside the code in a user's repository has to fetch it whole, or into
#            a repository of his own.
# Seen:      before: not shallow, 3 commits, graph written, reference taken / fetched: shallow, 3 commits, graph missing, reference refused /
#            ref deleted: shallow, 3 commits, graph missing, reference refused / pruned: not shallow, 3 commits, graph written, reference taken
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null HOME=$dir
export GIT_AUTHOR_NAME=ann GIT_AUTHOR_EMAIL=ann@example.invalid GIT_COMMITTER_NAME=ann GIT_COMMITTER_EMAIL=ann@example.invalid

git init --quiet --bare --initial-branch=main hub
git init --quiet --initial-branch=main ann
cd ann
for n in 1 2 3; do git commit --quiet --allow-empty -m "change $n"; done
tree=$(git mktree </dev/null)
mail=$(git commit-tree -m 'second mail' -p "$(git commit-tree -m 'first mail' "$tree")" "$tree")
git push --quiet ../hub main "$mail:refs/mail/ann"
cd ..
git clone --quiet "file://$dir/hub" bob
cd bob

state() {  # state NAME
  local shallow='not shallow' graph=missing reference=refused
  [ "$(git rev-parse --is-shallow-repository)" = false ] || shallow=shallow
  rm -f .git/objects/info/commit-graph
  git commit-graph write --reachable
  [ ! -e .git/objects/info/commit-graph ] || graph=written
  if git clone --quiet --reference . "file://$dir/hub" ../other 2>../clone.log; then reference=taken
  else grep --quiet 'is shallow' ../clone.log || cat ../clone.log; fi
  rm -rf ../other
  echo "$1: $shallow, $(git rev-list --count main) commits, graph $graph, reference $reference"
}
seen=$(state before
       git fetch --quiet --depth=1 origin refs/mail/ann:refs/mail/ann; state fetched
       git update-ref -d refs/mail/ann; state 'ref deleted'
       git gc --quiet --prune=now; state pruned)
git --version; echo "$seen"
[ "$seen" = "before: not shallow, 3 commits, graph written, reference taken
fetched: shallow, 3 commits, graph missing, reference refused
ref deleted: shallow, 3 commits, graph missing, reference refused
pruned: not shallow, 3 commits, graph written, reference taken" ] || { echo "changed" >&2; exit 1; }
