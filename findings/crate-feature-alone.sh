#!/usr/bin/env bash
# Guess:     of a RustCrypto crate each documented feature compiles by itself: crypto_box with `default-features = false` and
#            `features = ["seal"]` has sealed boxes, for which the caller brings the randomness.
# Versions:  crypto_box 0.9.1; crypto_secretbox 0.1.1 for comparison.
# Behaviour: it does not compile: `seal` switches on `alloc` of aead, but not its `rand_core`, which `PublicKey::seal` names in its signature.
#            With `rand_core` beside it, it compiles. `cargo add` and docs.rs show no such condition, and the default features hide it.
# Seen:      seal: does not compile / seal and rand_core: compiles / secretbox with alloc alone: compiles
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
mkdir src; echo '//! Nothing but the dependency.' > src/lib.rs
export CARGO_TARGET_DIR=$dir/target

state() {  # state NAME DEPENDENCY
  printf '[package]\nname = "probe"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\n%s\n' "$2" > Cargo.toml
  if cargo check --quiet 2> log; then echo "$1: compiles"
  elif grep --quiet 'could not compile `crypto_box`' log; then echo "$1: does not compile"
  else cat log; fi
}
seen=$(state seal 'crypto_box = { version = "=0.9.1", default-features = false, features = ["seal", "salsa20"] }'
       state 'seal and rand_core' 'crypto_box = { version = "=0.9.1", default-features = false, features = ["seal", "salsa20", "rand_core"] }'
       state 'secretbox with alloc alone' 'crypto_secretbox = { version = "=0.1.1", default-features = false, features = ["alloc", "salsa20"] }')
cargo --version; echo "$seen"
[ "$seen" = "seal: does not compile
seal and rand_core: compiles
secretbox with alloc alone: compiles" ] || { echo "changed" >&2; exit 1; }
