"""Qwen Code, on a terminal."""

import json

from steps import *

VARIABLES = {"OPENAI_API_KEY": "dummy", "OPENAI_BASE_URL": f"http://127.0.0.1:{PORT}/v1", "OPENAI_MODEL": "test"}


def story() -> None:
    (HOME / ".qwen").mkdir()
    settings = {"security": {"auth": {"selectedType": "openai"}, "folderTrust": {"enabled": False}},
                "privacy": {"usageStatisticsEnabled": False}, "general": {"enableAutoUpdate": False}}
    (HOME / ".qwen/settings.json").write_text(json.dumps(settings))
    # A person approves the server once.
    run("qwen", "mcp", "approve", "thrum")
    terminal = Terminal("qwen", "--yolo")
    until("its prompt", lambda: "Type your message" in screen())
    all_without_waking(terminal, "/compress", lambda: "compressed" in screen().lower())
