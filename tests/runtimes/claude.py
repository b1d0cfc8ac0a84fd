"""Claude Code, on a terminal."""

import json

from steps import *

VARIABLES = {
    "CLAUDE_CODE_TMPDIR": str(DIR / "tmp"), "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{PORT}",
    "ANTHROPIC_API_KEY": "dummy-key-of-a-test-0123456789", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1",
}


def story() -> None:
    settings = {
        "hasCompletedOnboarding": True, "theme": "dark",
        "customApiKeyResponses": {"approved": [ENVIRONMENT["ANTHROPIC_API_KEY"][-20:]], "rejected": []},
        # The answers that a person gives once to two questions.
        "projects": {str(HERE): {"hasTrustDialogAccepted": True, "enabledMcpjsonServers": ["thrum"]}},
    }
    (HOME / ".claude.json").write_text(json.dumps(settings))
    terminal = Terminal("claude")
    until("a waiter beside the new session", waiting)
    terminal.types("hello")
    first = until("the first request", lambda: told("hello"))
    assert first["last"].count("You are @bob") == 1, first["last"]
    until("the end of the first turn", lambda: "Done." in screen())
    shown("briefed at the start, once", "brief")
    over_mcp(terminal)

    woken("please look at the login", "idle: woken by mail of the other machine, answered, receipt there", "wake")

    until("the next waiter", waiting)
    not_interrupted(terminal)

    # The program runs no hook when the user presses Esc.
    before = len(requests())
    terminal.types(f"work until {HERE / 'never'}")
    until("the work to begin", lambda: told("work until", before))
    until("the command to run", lambda: terminal.shows("esc to interrupt"))
    terminal.keys("\x1b")
    until("the interruption", lambda: terminal.shows("Interrupted"))
    woken("after Esc", "interrupted by its person: woken all the same", "wake")
    until("the next waiter", waiting)

    before = len(requests())
    terminal.types("/compact")
    until("the compaction", lambda: any("detailed summary" in json.loads(line)["last"] for line in RECORD.read_text().splitlines()))
    until("a waiter after the compaction", waiting)
    terminal.types("go on")
    again = until("the next request", lambda: told("go on", before))
    assert again["last"].count("You are @bob") == 1, again["last"]
    shown("compacted: briefed again, once", "compaction")

    thrum(HERE, "daemon", "restart")
    woken("after the restart", "daemon restarted in between: woken all the same", "restart")
    terminal.end()
    until("the waiters to end with the program", lambda: not waiting())
    shown("ended: no waiter is left")
