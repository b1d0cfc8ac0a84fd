#!/usr/bin/env bash
# Guess:     `git push --delete` of a name that is a symbolic ref at the remote removes that name; the ref that it points to stays.
# Versions:  git 2.39.5 and 2.55.0.
# Behaviour: the remote follows the symbolic ref. It deletes the ref that it points to and keeps the symbolic ref, which points nowhere
#            from then on. The push reports the name that was asked for as deleted and ends with 0. A client cannot see this coming over protocol
#            v0, where only HEAD is announced as symbolic; `git ls-remote --symref` shows the others over protocol v2.
# Seen:      before: refs/mail/ann refs/mail/old / deleted: refs/mail/old / after: nothing / old still points to refs/mail/ann
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null HOME=$dir
export GIT_AUTHOR_NAME=ann GIT_AUTHOR_EMAIL=ann@example.invalid GIT_COMMITTER_NAME=ann GIT_COMMITTER_EMAIL=ann@example.invalid

git init --quiet --bare hub
git init --quiet ann
cd ann
git push --quiet ../hub "$(git commit-tree -m mail "$(git mktree </dev/null)"):refs/mail/ann"
git -C ../hub symbolic-ref refs/mail/old refs/mail/ann  # the name that ann had before

names() { git -C ../hub for-each-ref --format='%(refname)' refs/mail | xargs; }
seen=$(echo "before: $(names)"
       git push --porcelain ../hub --delete refs/mail/old | sed -n 's/^-\t:\(.*\)\t\[deleted\]$/deleted: \1/p'
       after=$(names); echo "after: ${after:-nothing}"
       echo "old still points to $(git -C ../hub symbolic-ref refs/mail/old)")
git --version; echo "$seen"
[ "$seen" = "before: refs/mail/ann refs/mail/old
deleted: refs/mail/old
after: nothing
old still points to refs/mail/ann" ] || { echo "changed" >&2; exit 1; }
