#!/usr/bin/env bash
# Guess:     an Ed25519 private key in a PKCS#8 file that one library has written is read by every other; it is 32 bytes and a standard.
# Versions:  ring 0.17.14, ed25519-dalek 2.2.0 (Rust), cryptography 50.0.2 (Python), Node 20.20.2 (OpenSSL 3.0) and 22.23.3 (OpenSSL 3.5),
#            crypto/x509 of Go 1.26.
# Behaviour: there are two forms. Python, Node and Go write version 1 (48 bytes, without the public key), ring and dalek version 2 (83
#            bytes). Python and Node 20 refuse version 2, ring's `from_pkcs8` refuses version 1; dalek, Go and Node 22 read both. A
#            daemon whose identity should be readable elsewhere has to keep the 32 bytes of the seed, or to write version 1.
# Seen:      version 1: read by dalek, go, node 20, node 22, python / version 2: read by dalek, go, node 22, ring
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"; mkdir -p src

cat > Cargo.toml <<'TOML'
[package]
name = "finding"
edition = "2024"
[dependencies]
ring = "=0.17.14"
ed25519-dalek = { version = "=2.2.0", features = ["pkcs8"] }
[workspace]
TOML
cat > src/main.rs <<'RS'
use ed25519_dalek::{SigningKey, pkcs8::{DecodePrivateKey, EncodePrivateKey}};
use ring::{rand::SystemRandom, signature::Ed25519KeyPair};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments[0] == "write" {
        std::fs::write("ring.der", Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap()).unwrap();
        let seed = std::array::from_fn(|place| place as u8);
        std::fs::write("dalek.der", SigningKey::from_bytes(&seed).to_pkcs8_der().unwrap().as_bytes()).unwrap();
    } else {
        let key = std::fs::read(&arguments[1]).unwrap();
        let ok = if arguments[0] == "ring" { Ed25519KeyPair::from_pkcs8(&key).is_ok() } else { SigningKey::from_pkcs8_der(&key).is_ok() };
        std::process::exit(if ok { 0 } else { 1 });
    }
}
RS
cat > key.py <<'PY'
import sys
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
if sys.argv[1] == "write":
    key = Ed25519PrivateKey.generate().private_bytes(form.Encoding.DER, form.PrivateFormat.PKCS8, form.NoEncryption())
    open("python.der", "wb").write(key)
else:
    form.load_der_private_key(open(sys.argv[2], "rb").read(), None)
PY
cat > key.mjs <<'JS'
import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
const form = { format: 'der', type: 'pkcs8' };
if (process.argv[2] === 'write') writeFileSync('node.der', generateKeyPairSync('ed25519').privateKey.export(form));
else createPrivateKey({ key: readFileSync(process.argv[3]), ...form });
JS
mkdir go; cat > go/main.go <<'GO'
package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"os"
)

func main() {
	if os.Args[1] == "write" {
		_, key, _ := ed25519.GenerateKey(nil)
		file, _ := x509.MarshalPKCS8PrivateKey(key)
		os.WriteFile("go.der", file, 0o600)
		return
	}
	file, _ := os.ReadFile(os.Args[2])
	if _, err := x509.ParsePKCS8PrivateKey(file); err != nil {
		os.Exit(1)
	}
}
GO
CARGO_TARGET_DIR=target cargo build --quiet >log 2>&1 && go build -o key-go go/main.go >>log 2>&1 || { cat log >&2; exit 1; }
npm install --prefix n20 --silent --no-audit --no-fund node@20.20.2 >/dev/null; npm install --prefix n22 --silent --no-audit --no-fund node@22.23.3 >/dev/null
node() { local version=$1; shift; "n$version/node_modules/node/bin/node" "$@"; }
python3 -m venv venv && venv/bin/pip install --quiet cryptography==50.0.2
rust=target/debug/finding
"$rust" write; ./key-go write; node 22 key.mjs write; venv/bin/python key.py write 2>/dev/null

readers() {  # readers FILE: who reads it
  local who=()
  "$rust" dalek "$1" && who+=(dalek)
  ./key-go read "$1" && who+=(go)
  node 20 key.mjs read "$1" 2>/dev/null && who+=(node20)
  node 22 key.mjs read "$1" 2>/dev/null && who+=(node22)
  venv/bin/python key.py read "$1" 2>/dev/null && who+=(python)
  "$rust" ring "$1" && who+=(ring)
  echo "${who[*]}"
}
failed=0
for writer in python node go dalek ring; do
  seen=$(readers $writer.der)
  echo "written by $writer ($(wc -c < $writer.der) bytes): read by $seen"
  case $writer in dalek | ring) expected="dalek go node22 ring" ;; *) expected="dalek go node20 node22 python" ;; esac
  [ "$seen" = "$expected" ] || failed=1
done
[ $failed = 0 ] || { echo "changed" >&2; exit 1; }
