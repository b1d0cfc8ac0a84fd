#!/usr/bin/env bash
# Guess:     what counts for `git -C PATH -c safe.directory=PATH` counts for `git -c safe.directory=PATH push PATH` too: a user who declares a
#            repository of another account safe for one command can push to it with that command.
# Versions:  git 2.39.5 and 2.55.0. Needs root, to give a repository to another account; says so and ends with 0 otherwise.
# Behaviour: the check is made by the child that serves the remote, and git hands it neither `-c` nor GIT_CONFIG_COUNT, on purpose: it is
#            another repository. Only a configuration file reaches it, for one command by GIT_CONFIG_GLOBAL. In 2.39.5 the same goes for fetch,
#            and the file has to name the remote as the command does: `../hub` is not found under its full path.
# Seen:      -C with -c: done / push with -c: dubious ownership / push with GIT_CONFIG_COUNT: dubious ownership / push with a file: done
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null HOME=$dir
export GIT_AUTHOR_NAME=ann GIT_AUTHOR_EMAIL=ann@example.invalid GIT_COMMITTER_NAME=ann GIT_COMMITTER_EMAIL=ann@example.invalid

[ "$(id -u)" = 0 ] || { echo "skipped: needs root, to give a repository to another account" >&2; exit 0; }
git init --quiet --bare hub
git init --quiet ann
chown -R 65534 hub
cd ann
commit=$(git commit-tree -m mail "$(git mktree </dev/null)")
printf '[safe]\n\tdirectory = %s\n' "$dir/hub" > ../safe

try() {  # try NAME COMMAND...
  local name=$1; shift
  if "$@" >log 2>&1; then echo "$name: done"; else echo "$name: $(grep --only-matching 'dubious ownership' log || cat log)"; fi
}
seen=$(try '-C with -c' git -C ../hub -c "safe.directory=$dir/hub" rev-parse --git-dir
       try 'push with -c' git -c "safe.directory=$dir/hub" push "$dir/hub" "$commit:refs/mail/ann"
       try 'push with GIT_CONFIG_COUNT' env GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory "GIT_CONFIG_VALUE_0=$dir/hub" \
         git push "$dir/hub" "$commit:refs/mail/ann"
       try 'push with a file' env "GIT_CONFIG_GLOBAL=$dir/safe" git push "$dir/hub" "$commit:refs/mail/ann")
git --version; echo "$seen"
[ "$seen" = "-C with -c: done
push with -c: dubious ownership
push with GIT_CONFIG_COUNT: dubious ownership
push with a file: done" ] || { echo "changed" >&2; exit 1; }
