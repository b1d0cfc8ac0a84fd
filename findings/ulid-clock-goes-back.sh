#!/usr/bin/env bash
# Guess:     a monotonic generator of ULIDs never makes one that sorts before an earlier one of its own, also when the clock is set back by
#            a millisecond; that is what the word promises, and the libraries mean the same by it.
# Versions:  github.com/oklog/ulid/v2 2.1.2 (Go), python-ulid 4.1.0 (Python 3.10 or newer), ulid 3.0.2 (Node 20 or newer), ulid 3.0.0 (Rust).
# Behaviour: the generators for Node and Rust stay at the latest time that they have seen and count on. Those for Go and Python compare
#            the time with that of the last id only for equality: the third id, a millisecond earlier, sorts before the first, and the fourth,
#            in the same millisecond as the first two, has new random bits, so that it may sort before them as well. Ids of one
#            machine are in the order of its events only if the caller keeps the time from going back.
# Seen:      ids at 2000, 2000, 1999 and 2000 ms; the third is the last of three so far: node yes, rust yes, go no, python no; times in them:
#            node and rust 2000 2000 2000 2000, go and python 2000 2000 1999 2000
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"; mkdir src go

cat > go/main.go <<'GO'
package main

import (
	"fmt"

	"github.com/oklog/ulid/v2"
)

func main() {
	entropy := ulid.DefaultEntropy() // that of ulid.Make, documented as monotonic
	for _, at := range []uint64{2000, 2000, 1999, 2000} {
		fmt.Println(ulid.MustNew(at, entropy))
	}
}
GO
cat > ids.py <<'PY'
from ulid import ULIDGenerator
times = iter([2000, 2000, 1999, 2000])
generator = ULIDGenerator(clock=lambda: next(times))  # its policy is StrictMonotonicPolicy
for _ in range(4):
    print(generator.generate())
PY
cat > ids.mjs <<'JS'
import { monotonicFactory } from 'ulid';
const ulid = monotonicFactory();
for (const at of [2000, 2000, 1999, 2000]) console.log(ulid(at));
JS
cat > Cargo.toml <<'TOML'
[package]
name = "finding"
edition = "2024"
[dependencies]
ulid = "=3.0.0"
[workspace]
TOML
cat > src/main.rs <<'RS'
use std::time::{Duration, UNIX_EPOCH};

fn main() {
    let mut generator = ulid::Generator::new();
    for at in [2000, 2000, 1999, 2000] {
        println!("{}", generator.generate_from_datetime(UNIX_EPOCH + Duration::from_millis(at)).unwrap());
    }
}
RS
npm install --silent --no-audit --no-fund ulid@3.0.2 >/dev/null
python3 -m venv venv && venv/bin/pip install --quiet python-ulid==4.1.0
(cd go && go mod init finding && go get github.com/oklog/ulid/v2@v2.1.2 && go build -o ../ids-go .) >log 2>&1 &&
    CARGO_TARGET_DIR=target nice cargo build --quiet >log 2>&1 || { cat log >&2; exit 1; }

failed=0
check() {  # check EXPECTED NAME COMMAND...
  local ids seen
  ids=$("${@:3}")
  # The first ten characters are the time: 00000001YG is 2000 ms, 00000001YF is 1999 ms.
  seen=$(sed 's/^00000001YG.*/2000/; s/^00000001YF.*/1999/' <<<"$ids" | xargs)
  if head -n 3 <<<"$ids" | LC_ALL=C sort --check=silent; then seen="yes, $seen"; else seen="no, $seen"; fi
  echo "$2: $seen"
  [ "$seen" = "$1" ] || failed=1
}
check "yes, 2000 2000 2000 2000" node node ids.mjs
check "yes, 2000 2000 2000 2000" rust target/debug/finding
check "no, 2000 2000 1999 2000" go ./ids-go
check "no, 2000 2000 1999 2000" python venv/bin/python ids.py
[ $failed = 0 ] || { echo "changed" >&2; exit 1; }
