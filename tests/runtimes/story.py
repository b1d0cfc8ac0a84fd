"""Runs one story with a real program: an agent here, another one on a paired machine, and mail between them.

    story.py PROGRAM THRUM DIR

Runs inside the namespace that `run` created. `PROGRAM.py` defines the program's story (`story`) and the variables that it
needs (`VARIABLES`); `kit.py` has the parts that all stories share.
"""

import importlib
import json
import subprocess
import sys
from pathlib import Path

from kit import *


def main() -> None:
    program = importlib.import_module(HOST)
    ENVIRONMENT.update(program.VARIABLES)
    for directory in (HOME, DIR / "tmp"):
        directory.mkdir()
    model = subprocess.Popen([sys.executable, "-B", str(Path(__file__).with_name("model.py")), str(PORT), str(RECORD)])
    try:
        made(HERE, "bob")
        made(THERE, "ann")
        paired()
        thrum(HERE, "setup", HOST)
        program.story()
        # The user's own files change only if the command names the program.
        thrum(HERE, "setup", HOST, "--remove")
        thrum(HERE, "setup", "--remove")
        # Only our own entries count: the program itself records a person's answers in these files.
        ours = ("thrum hook", "mcp__thrum", '"serve"', "thrum: begin", "prefix_rule")
        files = [it for it in HERE.rglob("*") if it.is_file() and not {".git", ".thrum"} & set(it.parts)]
        texts = {it: it.read_text() for it in [*files, *HOME.glob(".kimi-code/*.toml")]}
        left = [it for it, text in texts.items() if any(part in text for part in ours)]
        assert not left, f"left behind: {left}"
        shown("setup taken out again", "setup")
        (DIR / "shown.json").write_text(json.dumps(CAPABILITIES))
    except BaseException:
        for repo in (HERE, THERE):
            log = repo / ".thrum/var/daemon.log"
            if log.exists():
                print(f"the end of {log}:", *log.read_text().splitlines()[-20:], sep="\n  ")
        raise
    finally:
        model.kill()


main()
