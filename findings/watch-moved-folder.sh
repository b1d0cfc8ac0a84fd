#!/usr/bin/env bash
# Guess:     a folder that was filled elsewhere and renamed into a watched tree, as one publishes several files at once, is reported with
#            its files, and what is written in it afterwards is reported too.
# Versions:  chokidar 5.0.0, @parcel/watcher 2.6.0 (Node 20 or newer), watchdog 7.1.0, watchfiles 1.3.0 (Python 3.10 or newer), Linux.
# Behaviour: chokidar and watchdog name the folder and each file in it. @parcel/watcher and watchfiles name the folder alone; its files are
#            for the caller to find. Afterwards @parcel/watcher follows only the top of such a folder, not the folders in it, so that a
#            change and a new file there are never reported.
# Seen:      (the moved in/box holds `top` and `deep/low`; later both are appended to, and `deep/new` is made)
#            chokidar: deep/low top, later deep/low deep/new top / parcel: none, later top /
#            watchdog: deep/low top, later deep/low deep/new top / watchfiles: none, later deep/low deep/new top
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"

cat > watch.mjs <<'JS'
import fs from 'node:fs';
const [kind, tree] = process.argv.slice(2);
const say = (path) => fs.appendFileSync(`${kind}.log`, `${path}\n`);
if (kind === 'chokidar') {
  const { watch } = await import('chokidar');
  watch(tree).on('all', (event, path) => say(path)).on('ready', () => fs.writeFileSync(`${kind}.ready`, ''));
} else {
  const { default: watcher } = await import('@parcel/watcher');
  await watcher.subscribe(tree, (error, events) => events.forEach(({ path }) => say(path)));
  fs.writeFileSync(`${kind}.ready`, '');
}
setTimeout(() => process.exit(0), 60000);
JS
cat > watch.py <<'PY'
import sys, threading, time
from pathlib import Path
kind, tree = sys.argv[1:]

def say(path):
    with open(f"{kind}.log", "a") as log:
        log.write(f"{path}\n")

if kind == "watchdog":
    from watchdog.events import FileSystemEventHandler
    from watchdog.observers import Observer
    class Handler(FileSystemEventHandler):
        def on_any_event(self, event):
            if event.event_type in ("created", "modified", "moved"):
                say(event.dest_path or event.src_path)
    observer = Observer()
    observer.schedule(Handler(), tree, recursive=True)
    observer.start()
else:
    from watchfiles import watch
    def follow():
        for changes in watch(tree, step=50, debounce=200):
            for _, path in changes:
                say(path)
    threading.Thread(target=follow, daemon=True).start()
time.sleep(2)
Path(f"{kind}.ready").touch()
time.sleep(60)
PY
npm install --silent --no-audit --no-fund chokidar@5.0.0 @parcel/watcher@2.6.0 >/dev/null
python3 -m venv venv && venv/bin/pip install --quiet watchdog==7.1.0 watchfiles==1.3.0

files() {  # files KIND: the reported files in the box, without folders
  sed --quiet 's|.*/in/box/||p' "$1.log" | grep --invert-match --line-regexp deep | sort --unique | xargs
}
try() {  # try KIND COMMAND...
  local kind=$1 moved later
  mkdir -p "$kind/in" "$kind/box/deep"
  echo one >"$kind/box/top"; echo one >"$kind/box/deep/low"
  : >"$kind.log"
  "${@:2}" "$kind" "$dir/$kind/in" >"$kind.out" 2>&1 & local watcher=$!
  for _ in $(seq 300); do [ ! -e "$kind.ready" ] || break; sleep 0.1; done
  sleep 1
  mv "$kind/box" "$kind/in/box"
  sleep 3; moved=$(files "$kind" || true); : >"$kind.log"
  echo two >>"$kind/in/box/top"; echo two >>"$kind/in/box/deep/low"; echo one >"$kind/in/box/deep/new"
  sleep 3; later=$(files "$kind" || true)
  kill "$watcher"; wait "$watcher" 2>/dev/null || true
  echo "$kind: ${moved:-none}, later ${later:-none}"
}
seen=$(try chokidar node watch.mjs
       try parcel node watch.mjs
       try watchdog venv/bin/python watch.py
       try watchfiles venv/bin/python watch.py)
echo "$seen"
[ "$seen" = "chokidar: deep/low top, later deep/low deep/new top
parcel: none, later top
watchdog: deep/low top, later deep/low deep/new top
watchfiles: none, later deep/low deep/new top" ] || { echo "changed" >&2; exit 1; }
