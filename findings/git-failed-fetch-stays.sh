#!/usr/bin/env bash
# Guess:     a fetch that fails because the connection ended removes what it had received; if anything is left over, `git gc` removes it.
# Versions:  git 2.39.5 and 2.55.0. Needs python3, for a server side that ends after 500,000 bytes.
# Behaviour: each failed fetch of 100 objects (fetch.unpackLimit) or more leaves objects/pack/tmp_pack_* behind with all that had come. A retry
#            begins from the start and leaves another one. `git gc` removes those of more than two weeks, `git gc --auto` does not count them and so
#            does not begin for them at any age. `git prune` removes them at once, and all other unreachable objects with them.
# Seen:      failed once: 1, more than 400,000 bytes / failed twice: 2 / git gc: 2 / 20 days later, git gc --auto: 2 / git gc: 0 /
#            failed again: 1 / git prune: 0
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null HOME=$dir
export GIT_AUTHOR_NAME=ann GIT_AUTHOR_EMAIL=ann@example.invalid GIT_COMMITTER_NAME=ann GIT_COMMITTER_EMAIL=ann@example.invalid

git init --quiet --bare hub
git init --quiet ann
cd ann
for ((i = 0; i < 150; i++)); do head -c 10000 /dev/urandom > "part$i"; done
git add .; git commit --quiet -m mail; git push --quiet ../hub HEAD:refs/mail/ann
cd ..
cat > ends <<'S'
#!/usr/bin/env python3
import os, subprocess, sys
server = subprocess.Popen(["git", "upload-pack", sys.argv[1]], stdout=subprocess.PIPE)
left = 500_000
while left and (data := os.read(server.stdout.fileno(), min(left, 65536))):
    left -= os.write(1, data)
server.kill()
S
chmod +x ends
git init --quiet bob
cd bob
pack=.git/objects/pack
fails() { if git fetch --quiet --upload-pack="$dir/ends" ../hub refs/mail/ann 2>log; then return 1; fi; grep --quiet 'early EOF' log; }
state() { echo "$1: $(find $pack -name 'tmp_pack_*' | wc -l)"; }
seen=$(fails; echo "$(state 'failed once')$([ "$(cat $pack/tmp_pack_* | wc -c)" -gt 400000 ] && echo ', more than 400,000 bytes')"
       fails; state 'failed twice'
       git gc --quiet; state 'git gc'
       touch -d '20 days ago' $pack/tmp_pack_*
       git -c gc.auto=1 -c gc.autoPackLimit=1 -c gc.autoDetach=false gc --auto --quiet; state '20 days later, git gc --auto'
       git gc --quiet; state 'git gc'
       fails; state 'failed again'
       git prune; state 'git prune')
git --version; echo "$seen"
[ "$seen" = "failed once: 1, more than 400,000 bytes
failed twice: 2
git gc: 2
20 days later, git gc --auto: 2
git gc: 0
failed again: 1
git prune: 0" ] || { echo "changed" >&2; exit 1; }
