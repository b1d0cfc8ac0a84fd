#!/usr/bin/env bash
# Guess:     libraries for canonical JSON (RFC 8785) agree on a document with a time in nanoseconds, and its last digits are in the
#            canonical bytes, since a signature over them is to protect the whole document.
# Versions:  rfc8785 0.1.4, jcs 0.2.1 (Python), canonicalize 5.1.0 (Node 20 or newer), github.com/gowebpki/jcs 1.0.2 (Go),
#            serde_json_canonicalizer 0.4.1, json-canon 0.1.3 (Rust).
# Behaviour: numbers are doubles, and such a time has 19 digits. Two libraries refuse it. Four write the nearest double without an error,
#            so that times in the same 256 ns have the same bytes, digest and signature; and a document that one side signs
#            cannot be checked by another that refuses it. Large integers belong into strings.
# Seen:      refused by rfc8785 and json-canon; {"at":1764367654123456800} from the others, for …789 and for …800
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"; mkdir -p src go

cat > canonical.py <<'PY'
import json, sys
from importlib import import_module
library = import_module(sys.argv[1])
canonical = library.dumps if sys.argv[1] == "rfc8785" else library.canonicalize
print(canonical(json.loads(sys.argv[2])).decode())
PY
cat > canonical.mjs <<'JS'
import canonicalize from 'canonicalize';
console.log(canonicalize(JSON.parse(process.argv[2])));
JS
cat > go/main.go <<'GO'
package main

import (
	"fmt"
	"os"

	"github.com/gowebpki/jcs"
)

func main() {
	canonical, err := jcs.Transform([]byte(os.Args[1]))
	if err != nil {
		os.Exit(1)
	}
	fmt.Println(string(canonical))
}
GO
cat > Cargo.toml <<'TOML'
[package]
name = "finding"
edition = "2024"
[dependencies]
serde_json = "1"
serde_json_canonicalizer = "=0.4.1"
json-canon = "=0.1.3"
[workspace]
TOML
cat > src/main.rs <<'RS'
fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value: serde_json::Value = serde_json::from_str(&arguments[2]).unwrap();
    let canonical = match arguments[1].as_str() {
        "json-canon" => json_canon::to_string(&value).ok(),
        _ => serde_json_canonicalizer::to_string(&value).ok(),
    };
    match canonical {
        Some(text) => println!("{text}"),
        None => std::process::exit(1),
    }
}
RS
npm install --silent --no-audit --no-fund canonicalize@5.1.0 >/dev/null
python3 -m venv venv && venv/bin/pip install --quiet rfc8785==0.1.4 jcs==0.2.1
(cd go && go mod init finding && go get github.com/gowebpki/jcs@v1.0.2 && go build -o ../canonical-go .) >log 2>&1 &&
    CARGO_TARGET_DIR=target cargo build --quiet >log 2>&1 || { cat log >&2; exit 1; }

failed=0
check() {  # check EXPECTED NAME COMMAND...: the command gets each of two documents, which differ in the last three digits
  local one two
  one=$("${@:3}" '{"at":1764367654123456789}' 2>/dev/null) || one=refused
  two=$("${@:3}" '{"at":1764367654123456800}' 2>/dev/null) || two=refused
  echo "$2: $one, $two"
  [ "$one, $two" = "$1, $1" ] || failed=1
}
rounded='{"at":1764367654123456800}'
check refused rfc8785 venv/bin/python canonical.py rfc8785
check refused json-canon target/debug/finding json-canon
check "$rounded" jcs venv/bin/python canonical.py jcs
check "$rounded" canonicalize node canonical.mjs
check "$rounded" gowebpki/jcs ./canonical-go
check "$rounded" serde_json_canonicalizer target/debug/finding serde_json_canonicalizer
[ $failed = 0 ] || { echo "changed" >&2; exit 1; }
