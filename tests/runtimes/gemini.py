"""Gemini CLI, on a terminal."""

import json

from steps import *

VARIABLES = {"GOOGLE_GEMINI_BASE_URL": f"http://127.0.0.1:{PORT}", "GEMINI_API_KEY": "dummy", "GEMINI_CLI_TRUST_WORKSPACE": "true"}


def story() -> None:
    (HOME / ".gemini").mkdir()
    settings = {"security": {"auth": {"selectedType": "gemini-api-key"}}, "privacy": {"usageStatisticsEnabled": False},
                "general": {"enableAutoUpdate": False}}
    (HOME / ".gemini/settings.json").write_text(json.dumps(settings))
    terminal = Terminal("gemini", "--yolo", "--model", "gemini-2.5-flash")
    until("its prompt", lambda: "Type your message" in screen())
    all_without_waking(terminal, "/compress", lambda: "compressed" in screen().lower())
