"""Steps on a terminal that the stories of several programs share."""

import json

from kit import *


def everything(request: dict) -> str:
    return request["system"] + request["last"]


def idle() -> bool:
    """Returns True if all sessions have ended their turn, according to the records of their hooks."""
    notes = [json.loads(it.read_text()) for it in (HERE / ".thrum/var/hooks").glob("*.json")]
    return bool(notes) and not any(it["busy"] for it in notes)


def briefed(terminal: Terminal, prompt: str = "hello") -> None:
    terminal.types(prompt)
    first = until("the first request", lambda: told(prompt))
    assert everything(first).count("You are @bob") == 1, everything(first)[-3000:]
    until("the end of the turn", idle)
    shown("briefed at the start, once", "brief")


def over_mcp(terminal: Terminal) -> None:
    """Calls a tool of the MCP server and checks that the model receives the result."""
    terminal.types("look with check_messages")
    until("the answer of the tool", lambda: told("No unread messages") or told('"status":"empty"'))
    until("the end of the turn", idle)
    shown("the MCP server's tools are called, and their answers read", "MCP")


def woken(text: str, step: str, capability: str) -> dict:
    """Sends mail to the idle session and returns the request that the mail started."""
    message = written(text)
    request = until("the idle session to be woken", lambda: told(text))
    until("the answer on the other machine", lambda: answered(message))
    until("the receipt on the other machine", lambda: read_there(message))
    assert sum(text in it["last"] for it in requests()) == 1, "told once"
    until("the end of the turn", idle)
    shown(step, capability)
    return request


def told_with_next_prompt(terminal: Terminal, text: str, prompt: str, step: str, capability: str) -> None:
    before = len(requests())
    message = written(text)
    until("it to be here", lambda: asked(HERE, "inbox", "--unread")["messages"])
    assert len(requests()) == before, "nothing wakes it"
    terminal.types(prompt)
    until("the mail with the prompt", lambda: told(text, before))
    until("the answer on the other machine", lambda: answered(message))
    until("the receipt on the other machine", lambda: read_there(message))
    assert sum(text in request["last"] for request in requests()) == 1, "told once"
    until("the end of the turn", idle)
    shown(step, capability)


def not_interrupted(terminal: Terminal) -> None:
    before = len(requests())
    terminal.types(f"work until {HERE / 'go'}")
    until("the work to begin", lambda: told("work until", before))
    before = len(requests())
    message = written("while you work")
    until("it to be stored here", lambda: asked(HERE, "inbox", "--unread")["messages"])
    assert len(requests()) == before, "interrupted"
    (HERE / "go").touch()
    until("the mail at the end of the turn", lambda: told("Before you end your turn", before))
    until("the answer", lambda: answered(message))
    until("the end of the turn", idle)
    shown("busy: not interrupted, mail at the end of the turn", "stop")


def briefed_after_compaction(terminal: Terminal, command: str, is_over) -> None:
    # Creates enough text to compact.
    terminal.types("count to 3000")
    until("much text", lambda: told("2999"))
    until("the end of the turn", idle)
    before = len(requests())
    terminal.types(command)
    until("the compaction", is_over)
    terminal.types("go on")
    again = until("the next request", lambda: told("go on", before))
    assert everything(again).count("You are @bob") == 1, everything(again)[-3000:]
    until("the end of the turn", idle)
    shown("compacted: briefed again, once", "compaction")


def all_without_waking(terminal: Terminal, command: str, is_over) -> None:
    """The whole story of a program without waking, from the first prompt to the end of the program."""
    briefed(terminal)
    over_mcp(terminal)
    told_with_next_prompt(terminal, "please look at the login", "anything new?", "idle: mail with the next prompt, answered, receipt there",
                          "prompt")
    not_interrupted(terminal)
    briefed_after_compaction(terminal, command, is_over)
    thrum(HERE, "daemon", "restart")
    told_with_next_prompt(terminal, "after the restart", "and now?", "daemon restarted in between: the same", "restart")
    terminal.end()
