#!/usr/bin/env bash
# Guess:     `ssh://ann:secret@host:2222/mail` is read as any URL: user ann, host, port 2222; the password is dropped or refused.
# Versions:  git 2.39.5 and 2.55.0; `GIT_SSH_COMMAND` records what ssh would be given.
# Behaviour: with a colon before the @ the port is not looked for. ssh gets no -p and the single argument `ann:secret@host:2222`, password
#            included, and would look for a host called `host:2222`. `git credential` reads the same URL as a URL.
# Seen:      ann: -p 2222 ann@host.invalid / ann:secret: ann:secret@host.invalid:2222 /
#            git credential: host=host.invalid:2222 username=ann password=secret
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null HOME=$dir
export GIT_AUTHOR_NAME=ann GIT_AUTHOR_EMAIL=ann@example.invalid GIT_COMMITTER_NAME=ann GIT_COMMITTER_EMAIL=ann@example.invalid

cat > ssh <<'S'
#!/bin/sh
printf '%s\n' "$@" > "$SEEN"; exit 1
S
chmod +x ssh
export SEEN=$dir/seen GIT_SSH_COMMAND=$dir/ssh GIT_SSH_VARIANT=ssh
given() {  # given USER: the arguments before the command, without the option that hands on GIT_PROTOCOL
  git ls-remote "ssh://$1@host.invalid:2222/mail" 2>/dev/null || true
  echo "$1: $(grep -v -e '^-o$' -e '^SendEnv=' -e '^git-upload-pack' "$SEEN" | xargs)"
}
seen=$(given ann
       given ann:secret
       echo "git credential: $(echo url=ssh://ann:secret@host.invalid:2222/mail | git credential fill | grep -e host -e name -e word | xargs)")
git --version; echo "$seen"
[ "$seen" = "ann: -p 2222 ann@host.invalid
ann:secret: ann:secret@host.invalid:2222
git credential: host=host.invalid:2222 username=ann password=secret" ] || { echo "changed" >&2; exit 1; }
