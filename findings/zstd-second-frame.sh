#!/usr/bin/env bash
# Guess:     Zstandard data may consist of several frames, as when compressed pieces are appended to one file; every decompressor, and every
#            call of one library, returns the contents of all of them or an error.
# Versions:  zstandard 0.25.0, backports.zstd 1.8.0, pyzstd 0.20.0 (Python 3.10 or newer), fzstd 0.1.1 (Node 20 or newer),
#            github.com/klauspost/compress 1.20.4 (Go).
# Behaviour: python-zstandard's `decompress`, `decompressobj` and `read_to_iter` return the first frame and drop the rest without an
#            error; its `stream_reader` and `copy_stream` return both. All other libraries return both.
# Seen:      first only: zstandard decompress, decompressobj, read_to_iter / both: zstandard stream_reader, copy_stream,
#            backports.zstd, pyzstd, fzstd, klauspost
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"

cat > frames.py <<'PY'
import io
import pyzstd
import zstandard
from backports import zstd

both = b"".join(zstandard.ZstdCompressor().compress(text) for text in (b"first ", b"second"))
open("both.zst", "wb").write(both)

def copied():
    out = io.BytesIO()
    zstandard.ZstdDecompressor().copy_stream(io.BytesIO(both), out)
    return out.getvalue()

for name, call in {
    "zstandard decompress": lambda: zstandard.ZstdDecompressor().decompress(both),
    "zstandard decompressobj": lambda: zstandard.ZstdDecompressor().decompressobj().decompress(both),
    "zstandard read_to_iter": lambda: b"".join(zstandard.ZstdDecompressor().read_to_iter(io.BytesIO(both))),
    "zstandard stream_reader": lambda: zstandard.ZstdDecompressor().stream_reader(io.BytesIO(both)).read(),
    "zstandard copy_stream": copied,
    "backports.zstd": lambda: zstd.decompress(both),
    "pyzstd": lambda: pyzstd.decompress(both),
}.items():
    try:
        print(f"{name}: {call().decode().strip()}")
    except Exception as error:
        print(f"{name}: {type(error).__name__}")
PY
cat > frames.mjs <<'JS'
import fs from 'node:fs';
import { decompress } from 'fzstd';
console.log(`fzstd: ${Buffer.from(decompress(fs.readFileSync('both.zst')))}`);
JS
cat > main.go <<'GO'
package main

import (
	"fmt"
	"os"

	"github.com/klauspost/compress/zstd"
)

func main() {
	both, err := os.ReadFile("both.zst")
	if err != nil {
		panic(err)
	}
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		panic(err)
	}
	text, err := decoder.DecodeAll(both, nil)
	fmt.Println("klauspost:", string(text))
	if err != nil {
		panic(err)
	}
}
GO
npm install --silent --no-audit --no-fund fzstd@0.1.1 >/dev/null
python3 -m venv venv && venv/bin/pip install --quiet zstandard==0.25.0 backports.zstd==1.8.0 pyzstd==0.20.0
go mod init finding 2>go.log && go get github.com/klauspost/compress@v1.20.4 2>>go.log && go build -o frames . 2>>go.log || { cat go.log >&2; exit 1; }

seen=$(venv/bin/python frames.py; node frames.mjs; ./frames)
echo "$seen"
[ "$seen" = "zstandard decompress: first
zstandard decompressobj: first
zstandard read_to_iter: first
zstandard stream_reader: first second
zstandard copy_stream: first second
backports.zstd: first second
pyzstd: first second
fzstd: first second
klauspost: first second" ] || { echo "changed" >&2; exit 1; }
