#!/usr/bin/env bash
# Guess:     when a push has ended with 0, the remote has written objects and ref through to the disk, objects first.
# Versions:  git 2.39.5 and 2.55.0, remotes that are folders, default settings. Needs strace; says so and ends with 0 otherwise.
# Behaviour: a push of fewer than 100 objects (receive.unpackLimit) is stored as loose objects, and neither these nor the ref are synced.
#            A larger push syncs its pack, but not the ref. `core.fsync=committed,reference` at the remote syncs both. Whoever drops
#            data because a push was confirmed may lose it when the remote's machine loses power.
# Seen:      synced for 30 objects: nothing / 300 objects: pack / 30 objects, core.fsync: loose ref
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null HOME=$dir
export GIT_AUTHOR_NAME=ann GIT_AUTHOR_EMAIL=ann@example.invalid GIT_COMMITTER_NAME=ann GIT_COMMITTER_EMAIL=ann@example.invalid

command -v strace >/dev/null || { echo "skipped: needs strace" >&2; exit 0; }
git init --quiet ann
cd ann
push() {  # push NAME COUNT [FSYNC]
  local hub commit seen; hub=$(mktemp -d "$dir/hub.XXXXXX")
  commit=$(git commit-tree -m mail "$(for ((i = 2; i < $2; i++)); do
    printf '100644 blob %s\tpart%s\n' "$(echo "$1 $i" | git hash-object -w --stdin)" "$i"; done | git mktree)")
  git init --quiet --bare "$hub"
  [ -z "${3:-}" ] || git -C "$hub" config core.fsync "$3"
  strace -f -qq -y -e trace=fsync,fdatasync,sync_file_range -e signal=none -o trace git push --quiet "$hub" "$commit:refs/mail/ann"
  seen=$(sed -n -e "s|.*sync(.*/pack/tmp_pack.*|pack|p" -e "s|.*sync(.*/tmp_obj_.*|loose|p" -e "s|.*sync(.*/refs/mail/.*|ref|p" trace \
         | sort -u | xargs)
  echo "$1: ${seen:-nothing}"
}
seen=$(push '30 objects' 30
       push '300 objects' 300
       push '30 objects, core.fsync' 30 committed,reference)
git --version; echo "$seen"
[ "$seen" = "30 objects: nothing
300 objects: pack
30 objects, core.fsync: loose ref" ] || { echo "changed" >&2; exit 1; }
