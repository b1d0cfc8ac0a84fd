"""Kimi Code, on a terminal."""

from steps import *

VARIABLES = {
    "KIMI_MODEL_NAME": "test", "KIMI_MODEL_API_KEY": "dummy", "KIMI_MODEL_PROVIDER_TYPE": "openai",
    "KIMI_MODEL_BASE_URL": f"http://127.0.0.1:{PORT}/v1", "KIMI_CODE_NO_AUTO_UPDATE": "1",
}


def story() -> None:
    terminal = Terminal("kimi", "--yolo")
    until("its question", lambda: "Trust this folder?" in screen())
    terminal.keys("\r")
    until("its prompt", lambda: "Welcome to Kimi Code" in screen())
    all_without_waking(terminal, "/compact", lambda: "compact" in screen().lower())
