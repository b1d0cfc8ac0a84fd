"""Tools for all stories: two repositories, the record of the model's requests, and a program on a terminal.

No step waits for a fixed time: each one ends when the expected state is reached, or fails.
"""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

HOST, THRUM, DIR = sys.argv[1], sys.argv[2], Path(sys.argv[3])
HERE, THERE, HOME = DIR / "here", DIR / "there", DIR / "home"
RECORD = DIR / "model.jsonl"
PORT = 8900
SOON = int(os.environ.get("SOON", "60"))
# Each program's story adds its own variables (`VARIABLES`).
ENVIRONMENT = {
    "PATH": f"{DIR / 'bin'}:{os.environ['PATH']}", "HOME": str(HOME), "TERM": "xterm-256color", "LANG": "C.UTF-8",
    "TMPDIR": str(DIR / "tmp"),
}


def thrum(repo: Path, *args: str, more: dict = {}, wait: bool = True):
    name = {"THRUM_TS_HOSTNAME": repo.name}
    process = subprocess.Popen([THRUM, *args], cwd=repo, env={**ENVIRONMENT, **name, **more}, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if not wait:
        return process
    out, err = process.communicate(timeout=SOON)
    assert process.returncode == 0, f"thrum {' '.join(args)}: {out}{err}"
    return out


def asked(repo: Path, *args: str):
    return json.loads(thrum(repo, *args, "--json"))


def until(what: str, look):
    """Polls until `look` returns a true value, and returns it. Fails after SOON seconds."""
    deadline = time.monotonic() + SOON
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {SOON} s\n{screen()}")


def requests() -> list[dict]:
    """Returns all requests to the model, without those that offer no tools (such as requests for a title)."""
    text = RECORD.read_text() if RECORD.exists() else ""
    # The last line may be incomplete.
    lines = text[: text.rfind("\n") + 1].splitlines()
    return [request for request in map(json.loads, lines) if request["tools"]]


def told(words: str, after: int = 0):
    """Returns the first request to the model that brought these words, if there is one."""
    return next((request for request in requests()[after:] if words in request["last"]), None)


def made(repo: Path, agent: str) -> None:
    repo.mkdir()
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-C", str(repo)]
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True, env=ENVIRONMENT)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True, env=ENVIRONMENT)
    # Programs run servers and shells in their own environment, and any of these may start the daemon.
    (repo / ".env").write_text(f"THRUM_TS_HOSTNAME={repo.name}\n")
    (repo / ".git/info/exclude").write_text("/.env\n")
    thrum(repo, "quickstart", "--name", agent, "--role", f"role-{agent}", "--module", f"module-{agent}")


def paired() -> None:
    adding = thrum(HERE, "peer", "add", "--via", "local", "--json", wait=False)
    shown = json.loads(adding.stdout.readline())
    subprocess.run([THRUM, "peer", "join", shown["address"]], cwd=THERE, env={**ENVIRONMENT, "THRUM_TS_HOSTNAME": "there"},
                   input=shown["code"] + "\n", text=True, check=True, capture_output=True, timeout=SOON)
    assert adding.wait(SOON) == 0


def written(text: str) -> str:
    return asked(THERE, "send", text, "--to", "@bob@here")["message_id"]


def read_there(message: str) -> bool:
    sent = asked(THERE, "sent")["messages"]
    return any(it["message_id"] == message and it["recipients"][0]["state"] == "read" for it in sent)


def answered(message: str) -> bool:
    return any(it.get("reply_to") == message for it in asked(THERE, "inbox", "--all")["messages"])


SCREEN = bytearray()


def screen() -> str:
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][AB0]|\x1b[=>]|\x1b\][^\x07]*\x07", b"", bytes(SCREEN[-6000:]))
    return plain.decode(errors="replace")


class Terminal:
    """A program on its own terminal."""

    def __init__(self, *command: str) -> None:
        self.pid, self.file = pty.fork()
        if self.pid == 0:
            os.chdir(HERE)
            os.execvpe(command[0], command, {**ENVIRONMENT, "THRUM_TS_HOSTNAME": "here"})
        self.columns = 150
        self.resize()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        while select.select([self.file], [], [])[0]:
            try:
                got = os.read(self.file, 65536)
            except OSError:
                return
            SCREEN.extend(got)
            if b"\x1b[6n" in got:
                os.write(self.file, b"\x1b[1;1R")

    def types(self, text: str) -> None:
        os.write(self.file, text.encode())
        # Text that arrives together with its Enter counts as pasted.
        time.sleep(0.5)
        os.write(self.file, b"\r")

    def resize(self) -> None:
        fcntl.ioctl(self.file, termios.TIOCSWINSZ, struct.pack("HHHH", 50, self.columns, 0, 0))

    def shows(self, words: str) -> bool:
        """Returns True if the screen shows these words now.

        Programs may send only changes, so a resize forces a redraw.
        """
        SCREEN.clear()
        self.columns = 301 - self.columns
        self.resize()
        time.sleep(0.3)
        return "".join(words.split()) in "".join(screen().split())

    def keys(self, *keys: str) -> None:
        for key in keys:
            os.write(self.file, key.encode())
            # Two keys that arrive together count as another key.
            time.sleep(0.3)

    def end(self) -> None:
        """Ends the program as a closed terminal does. Some programs need a second signal."""
        for signal in (15, 1, 9):
            os.kill(self.pid, signal)
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                if os.waitpid(self.pid, os.WNOHANG)[0]:
                    return
                time.sleep(0.05)
        raise AssertionError("it does not end")


def run(*command: str) -> str:
    """Runs a program without a terminal until it exits, and returns what it printed."""
    ran = subprocess.run(command, cwd=HERE, env={**ENVIRONMENT, "THRUM_TS_HOSTNAME": "here"}, stdin=subprocess.DEVNULL,
                         capture_output=True, text=True, timeout=2 * SOON)
    assert ran.returncode == 0, f"{' '.join(command)}: {ran.stdout}{ran.stderr}"
    return ran.stdout


def waiting() -> bool:
    """Returns True if a waiter of a session is running."""
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"hook\0wait" in line.read_bytes():
                return True
        except OSError:
            pass  # the process has ended
    return False


# Capabilities that the story has shown, by their keys in `hosts.py`.
CAPABILITIES: list[str] = []


def shown(step: str, *capabilities: str) -> None:
    CAPABILITIES.extend(capabilities)
    print(f"  {step}", flush=True)
