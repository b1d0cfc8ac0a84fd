#!/usr/bin/env bash
# Guess:     an answer of `git cat-file --batch-check` is either `<id> <type> <size>` or ends with `missing`, so a program that takes the
#            first three words of a line for id, type and size, or looks at the number of words, tells the two apart.
# Versions:  git 2.39.5.
# Behaviour: the answer for a missing object repeats the name as it was asked for, spaces included. The name of a branch with a file in it, such as
#            `main:a blob 5`, gives a line whose second and third word are a type and a size. `--batch` writes the same line and no content
#            after it, so that whoever reads on by the size loses step. `%(objecttype)` in a format of one's own changes nothing. A name that came
#            from somebody else has to be checked for being an id before it is asked for.
# Seen:      found: 40 hex digits, blob, 6 / missing: main:a blob 5 missing / with a format: main:a blob 5 missing / --batch: the line alone
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null HOME=$dir
export GIT_AUTHOR_NAME=ann GIT_AUTHOR_EMAIL=ann@example.invalid GIT_COMMITTER_NAME=ann GIT_COMMITTER_EMAIL=ann@example.invalid

git init --quiet --initial-branch=main .
echo notes > notes; git add notes; git commit --quiet -m begin
ask() { printf '%s\n' "$1" | git cat-file "$2"; }
seen=$(printf 'found: %s\n' "$(ask main:notes --batch-check | sed -E 's/^[0-9a-f]{40} (.*) (.*)$/40 hex digits, \1, \2/')"
       printf 'missing: %s\n' "$(ask 'main:a blob 5' --batch-check)"
       printf 'with a format: %s\n' "$(ask 'main:a blob 5' '--batch-check=%(objecttype) %(objectsize)')"
       [ "$(ask 'main:a blob 5' --batch | wc -l)" = 1 ] && echo '--batch: the line alone')
git --version; echo "$seen"
[ "$seen" = "found: 40 hex digits, blob, 6
missing: main:a blob 5 missing
with a format: main:a blob 5 missing
--batch: the line alone" ] || { echo "changed" >&2; exit 1; }
