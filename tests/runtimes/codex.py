"""Codex, on a terminal.

Its sessions run in a background process that outlives the terminal, and so do their hooks and servers.
"""

import json

from steps import *

VARIABLES = {"DUMMY_KEY": "dummy"}


CONFIGURATION = HOME / ".codex/config.toml"


def answer(terminal: Terminal, question: str, *keys: str, noted: str) -> None:
    """Answers a question until Codex has stored the answer. At first the question ignores keys."""
    def is_noted() -> bool:
        if terminal.shows(question):
            terminal.keys(*keys)
        return noted in CONFIGURATION.read_text()
    until(f"an answer to '{question}'", is_noted)


def story() -> None:
    CONFIGURATION.parent.mkdir()
    CONFIGURATION.write_text(f"""
model = "test"
model_provider = "test"
check_for_update_on_startup = false
[model_providers.test]
name = "test"
base_url = "http://127.0.0.1:{PORT}/v1"
wire_api = "responses"
env_key = "DUMMY_KEY"
""")
    # Codex runs a login shell, which sets its own PATH.
    (HOME / ".profile").write_text(f'PATH="{DIR / "bin"}:$PATH"\n')
    terminal = Terminal("codex")
    # The questions that a person answers once.
    answer(terminal, "Trust this folder?", "\r", noted='trust_level = "trusted"')
    answer(terminal, "Hooks need review", "2", "\r", noted="trusted_hash")
    until("the prompt", lambda: terminal.shows("Ask Codex to do anything"))

    terminal.types("hello")
    first = until("the first request", lambda: told("hello"))
    assert first["last"].count("You are @bob") == 1, first["last"]
    assert "thrum inbox" in first["last"], "the instructions of AGENTS.md"
    shown("briefed with the first prompt, once", "brief")

    # Waking is not enabled yet, so this mail waits.
    task = json.dumps({"message": f"work until {DIR / 'look'} then by tool mcp__thrum.check_messages {{}}"})
    terminal.types(f"by tool multi_agent_v1.spawn_agent {task}")
    until("the sub-agent to work", lambda: any("work until" in it["last"] and "spawn_agent" not in it["last"] for it in requests()))
    until("the end of the turn", idle)
    message = written("for the session")
    until("it to be stored here", lambda: asked(HERE, "inbox", "--unread")["messages"])
    (DIR / "look").touch()
    seen = until("the sub-agent to see it", lambda: told("You are a sub-agent"))
    assert "for the session" in seen["last"], seen["last"]
    assert asked(HERE, "inbox", "--unread")["messages"], "it is the session's"
    terminal.types("go on")
    until("the mail with the next prompt", lambda: told("New mail for @bob"))
    until("the answer", lambda: answered(message))
    shown("a sub-agent sees mail through MCP and leaves it to the session, which gets it with its next prompt", "MCP", "prompt")

    thrum(HERE, "setup", "codex", "--wake")
    before = len(requests())
    terminal.types("and now?")
    until("the next turn", lambda: told("and now?", before))
    until("a waiter beside the idle session", lambda: idle() and waiting())
    request = woken("please look at the login", "idle: woken by mail of the other machine, answered, receipt there", "wake")
    assert "[thrum] 1 new message for @bob" in request["last"], request["last"]

    until("the next waiter", lambda: idle() and waiting())
    not_interrupted(terminal)

    until("the next waiter", lambda: idle() and waiting())
    before = len(requests())
    terminal.types("/compact")
    until("the compaction", lambda: any("helping the next LLM" in json.loads(line)["last"] for line in RECORD.read_text().splitlines()))
    terminal.types("go on")
    again = until("the next request", lambda: told("go on", before))
    assert again["last"].count("You are @bob") == 1, again["last"]
    shown("compacted: briefed again, once", "compaction")

    until("the next waiter", lambda: idle() and waiting())
    thrum(HERE, "daemon", "restart")
    woken("after the restart", "daemon restarted in between: woken all the same", "restart")

    until("the next waiter", lambda: idle() and waiting())
    terminal.types("/quit")
    until("the waiter to end with the last terminal", lambda: not waiting())
    shown("quit: nothing wakes the session that nobody sees")
