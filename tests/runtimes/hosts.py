"""Writes docs/hosts.md, which lists what was tested with which version of each program.

    hosts.py FILE [PROGRAM VERSION SHOWN]

SHOWN is the JSON file of a story, a list of capabilities. Without PROGRAM only the text is rewritten. Rows of other
programs are kept.
"""

import json
import re
import sys
import time
from pathlib import Path

CAPABILITIES = {
    "MCP": "MCP", "brief": "briefing", "prompt": "mail with the next prompt", "stop": "mail before the turn ends", "wake": "woken while idle",
    "compaction": "briefed after compaction", "restart": "daemon restarted", "setup": "set up, taken out",
}
NONE, AUTOMATED, UNTESTED = "–", "automated", "untested"
# In the order of docs/agents.md: the common name, whether the payloads were observed with the real program, and the
# capabilities that the program cannot have.
PROGRAMS = {
    "claude": ("Claude Code", True, ()), "codex": ("Codex", True, ()), "opencode": ("opencode", True, ()),
    "copilot": ("Copilot CLI", True, ("wake",)), "qwen": ("Qwen Code", True, ("wake",)), "gemini": ("Gemini CLI", True, ("wake",)),
    "droid": ("Droid", True, ("wake",)), "kimi": ("Kimi Code", True, ("wake",)), "cursor": ("Cursor", False, ("wake", "prompt")),
    "antigravity": ("Antigravity", False, ("wake",)),
}
SEEN = {"droid": "0.215.0", "cursor": "3.7", "antigravity": "1.4.3"}
TEXT = """\
# Programs that run agents, and what was tried with them

Written by `tests/runtimes/run --write`, which plays a story with each program that it can install: two paired machines, a scripted model on
loopback, no network outside. [agents.md](agents.md) says what `thrum setup` writes for each.

* **real**: the story shows it with the program itself, in this version, on this date (UTC).
* **automated**: a test of `cargo test` runs it with payloads as the program was seen to send them; the program itself was not part of it.
* **untested**: written after documentation or the code of others.
* **–**: the program has no way for it.

{table}

A receipt comes to the sender when the session has gone on after the mail: with the next hook or the turn that it has started. In Kimi Code, which
runs its stop hook once for each turn, that is the next prompt or the end of the session.
"""


def row(program: str, version: str, date: str, shown: list[str]) -> str:
    name, was_seen, without = PROGRAMS[program]
    def state(capability: str) -> str:
        if capability in shown:
            return "real"
        if capability in without:
            return NONE
        # Compaction and restart do not depend on payloads, so automated tests do not cover them.
        # `setup` is tested for all programs.
        return AUTOMATED if capability == "setup" or was_seen and capability not in ("compaction", "restart") else UNTESTED
    return f"| {' | '.join([name, version, date, *map(state, CAPABILITIES)])} |"


def main() -> None:
    file, played = Path(sys.argv[1]), sys.argv[2:]
    text = file.read_text() if file.exists() else ""
    rows = []
    for program, (name, *_) in PROGRAMS.items():
        if played and played[0] == program:
            rows.append(row(program, played[1], time.strftime("%Y-%m-%d", time.gmtime()), json.loads(Path(played[2]).read_text())))
        else:
            known = re.search(rf"^\| {re.escape(name)} \|.*$", text, re.M)
            rows.append(known[0] if known else row(program, SEEN.get(program, ""), "", []))
    head = ["program", "version", "date", *CAPABILITIES.values()]
    table = [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows]
    file.write_text(TEXT.format(table="\n".join(table)))


main()
