"""opencode, on a terminal."""

import json

from steps import *

VARIABLES = {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"}

MODEL = {
    "model": "test/model", "small_model": "test/model", "autoupdate": False, "share": "disabled",
    "provider": {"test": {
        "npm": "@ai-sdk/openai-compatible", "options": {"baseURL": f"http://127.0.0.1:{PORT}/v1", "apiKey": "dummy"},
        "models": {"model": {"limit": {"context": 200000, "output": 8000}}},
    }},
}


def prepare() -> None:
    settings = HOME / ".config/opencode"
    settings.mkdir(parents=True)
    (settings / "opencode.json").write_text(json.dumps(MODEL))
    # A first start with access to the registry leaves these files, and opencode then stops asking the registry.
    (settings / "node_modules").mkdir()
    (settings / "package-lock.json").write_text(json.dumps({"packages": {"": {"dependencies": {"@opencode-ai/plugin": "1.18.33"}}}}))


def story() -> None:
    prepare()
    terminal = Terminal("opencode")
    until("its prompt", lambda: "Ask anything" in screen())
    briefed(terminal)
    until("the waiter beside the idle session", waiting)
    over_mcp(terminal)
    until("the next waiter", waiting)
    woken("please look at the login", "idle: woken by mail of the other machine, answered, receipt there", "wake")
    not_interrupted(terminal)

    until("the next waiter", waiting)
    before = len(requests())
    terminal.types("/compact")
    until("the compaction", lambda: summary() and waiting())
    terminal.types("go on")
    again = until("the next request", lambda: told("go on", before))
    assert again["system"].count("You are @bob") == 1, again["system"][-3000:]
    shown("compacted: briefed again, once", "compaction")

    until("the next waiter", waiting)
    thrum(HERE, "daemon", "restart")
    woken("after the restart", "daemon restarted in between: woken all the same", "restart")

    until("the next waiter", waiting)
    terminal.types(f"work until {DIR / 'never'}")
    until("the work to begin", lambda: told(f"work until {DIR / 'never'}"))
    before = len(requests())
    terminal.keys("\x1b", "\x1b")
    until("the interruption", lambda: "interrupted" in screen().lower())
    written("while nobody wants it")
    until("it to be stored here", lambda: asked(HERE, "inbox", "--unread")["messages"])
    assert not waiting() and len(requests()) == before, "woken although a person has stopped it"
    terminal.types("now go on")
    until("the mail with the next prompt", lambda: told("while nobody wants it", before))
    shown("interrupted: left in peace until the next prompt, which brings the mail", "prompt")

    until("the next waiter", waiting)
    terminal.end()
    until("the waiters to end with the program", lambda: not waiting())
    shown("ended: no waiter is left")


def summary() -> dict | None:
    """Returns the request for a compaction summary that contains the text of our plugin."""
    lines = map(json.loads, RECORD.read_text().splitlines())
    return next((request for request in lines if not request["tools"] and "Keep that you are @bob" in request["last"]), None)
