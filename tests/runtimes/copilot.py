"""Copilot CLI, on a terminal."""

import json

from steps import *

VARIABLES = {
    "COPILOT_OFFLINE": "true", "COPILOT_AUTO_UPDATE": "false", "COPILOT_PROVIDER_BASE_URL": f"http://127.0.0.1:{PORT}/v1",
    "COPILOT_PROVIDER_API_KEY": "dummy", "COPILOT_MODEL": "test",
}


def story() -> None:
    (HOME / ".copilot").mkdir()
    (HOME / ".copilot/config.json").write_text(json.dumps({"trustedFolders": [str(HERE)]}))
    terminal = Terminal("copilot", "--allow-all-tools")
    until("its prompt", lambda: "/ commands" in screen())
    all_without_waking(terminal, "/compact", lambda: "Compaction completed" in screen())
