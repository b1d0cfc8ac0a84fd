"""A scripted model on loopback.

It speaks Anthropic's Messages, OpenAI's Responses and the dialects of `dialects.py`.

    model.py PORT RECORD

It responds to the latest text of a request by rules: it answers mail with `thrum reply` in a shell; for "work until" FILE
it waits in a shell for that file and prints the text after "then"; for "count to" N it prints many lines; for "look with
check_messages" it calls that tool; a request for a summary gets one; everything else gets one word. Instructions before a
summary, such as old prompts that Codex keeps beside it, are not followed again. RECORD gets one line for each request, with
its latest text.
"""

import json
import re
import shlex
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dialects import answer_chat, answer_gemini, call_of

RECORD = open(sys.argv[2], "a")
LOCK = threading.Lock()
ANSWERED = set()
SUMMARY = "They work on the login."


# Keys that contain text in the dialects.
TEXTS = ("text", "content", "output", "parts", "functionResponse", "response", "error")


def flat(value) -> str:
    """Returns all text in a part of a conversation."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(flat(part) for part in value)
    if isinstance(value, dict):
        return "\n".join(flat(value[key]) for key in TEXTS if key in value)
    return ""


def act(last: str, has_tools: bool) -> tuple[str | None, str | None]:
    """Returns the model's response to the latest text: a text, or a command to run."""
    if "detailed summary" in last or "helping the next LLM" in last:
        return SUMMARY, None
    if "state_snapshot" in last:
        return f"<analysis>Short.</analysis><state_snapshot>{SUMMARY}</state_snapshot>", None
    if not has_tools:
        return "Title", None
    work = re.search(r"work until (\S+)(?: then (.*))?", last)
    if work:
        return None, f"while [ ! -e {work[1]} ]; do sleep 0.1; done; echo {shlex.quote(work[2] or 'it is there')}"
    if "look with check_messages" in last:
        return None, "mcp:check_messages"
    if count := re.search(r"count to (\d+)", last):
        # Shells of Qwen Code and Gemini CLI run on their own terminal and lose output printed just before the end.
        return None, f"seq {count[1]}; sleep 1"
    # Matches only the header line above a message text: other ids in the output of commands are not mail.
    mail = [found for found in re.findall(r"@ann[^\n]*\b(msg_[0-9A-Z]{26})[^\n]*:\n  │", last) if found not in ANSWERED]
    if mail:
        ANSWERED.add(mail[0])
        return None, f"thrum reply {mail[0]} 'I have read it'"
    return "Done.", None


def answer_messages(body: dict, text: str | None, command: str | None) -> list[dict]:
    if call := call_of(command, [tool.get("name") for tool in body.get("tools", [])]):
        block = {"type": "tool_use", "id": f"toolu_{time.time_ns()}", "name": call[0], "input": call[1]}
        start, delta = {**block, "input": {}}, {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        stop = "tool_use"
    else:
        start, delta, stop = {"type": "text", "text": ""}, {"type": "text_delta", "text": text or "Done."}, "end_turn"
    usage = {"input_tokens": 100, "output_tokens": 5, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    message = {"id": f"msg_{time.time_ns()}", "type": "message", "role": "assistant", "model": body.get("model"), "content": []}
    return [
        {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None, "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": start},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]


def answer_responses(body: dict, text: str | None, command: str | None, asked: str) -> list[dict]:
    """Returns the events of a response.

    Codex defers MCP tools, so a call names the server: `by tool SERVER.TOOL ARGUMENTS`.
    """
    number = time.time_ns()
    item = {"type": "function_call", "id": f"i{number}", "call_id": f"c{number}"}
    names = [tool.get("name") for tool in body.get("tools", [])]
    tool = re.search(r"^by tool (\w+)\.(\w+) (.*)$", asked, re.M)
    if tool and names:
        item |= {"namespace": tool[1], "name": tool[2], "arguments": tool[3]}
    elif command and "exec_command" in names:
        item |= {"name": "exec_command", "arguments": json.dumps({"cmd": command})}
    else:
        item = {"type": "message", "role": "assistant", "id": f"m{number}", "content": [{"type": "output_text", "text": text or "Done."}]}
    usage = {"input_tokens": 100, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 5,
             "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 105}
    response = {"id": f"resp_{number}", "object": "response", "status": "completed", "output": [item], "usage": usage}
    return [
        {"type": "response.created", "response": {"id": response["id"]}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": response},
    ]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        self.send(b"{}", "application/json")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        turns = body.get("messages") or body.get("input") or body.get("contents") or []
        # The turns since the model's last response.
        spoke = [at for at, turn in enumerate(turns) if turn.get("role") in ("assistant", "model") or turn.get("type") == "function_call"]
        since = turns[spoke[-1] + 1 :] if spoke else turns
        # In Chat Completions a system turn is the program's own prompt. Claude Code puts the output of hooks there.
        is_prompt = lambda turn: turn.get("role") == "system" and self.path.endswith("/chat/completions")
        last = flat([turn for turn in since if not is_prompt(turn)])
        system = flat([turn for turn in turns if turn.get("role") == "system"] + [body.get("systemInstruction", "")])
        with LOCK:
            RECORD.write(json.dumps({"at": time.time(), "path": self.path, "tools": len(body.get("tools") or []), "last": last,
                                     "system": system}) + "\n")
            RECORD.flush()
            asked = last.rpartition(SUMMARY)[2]
            text, command = act(asked, bool(body.get("tools")))
        if self.path.startswith("/v1/messages/count_tokens"):
            return self.send(b'{"input_tokens": 100}', "application/json")
        if self.path.endswith("/chat/completions"):
            return self.send(*answer_chat(body, text, command))
        if "enerateContent" in self.path:
            return self.send(*answer_gemini(body, "stream" in self.path, text, command))
        events = answer_messages(body, text, command) if "messages" in body else answer_responses(body, text, command, asked)
        if not body.get("stream"):
            whole = {"id": "msg_1", "type": "message", "role": "assistant", "model": body.get("model"), "stop_reason": "end_turn",
                     "content": [{"type": "text", "text": text or "Done."}], "usage": {"input_tokens": 1, "output_tokens": 1}}
            return self.send(json.dumps(whole).encode(), "application/json")
        self.send("".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode(), "text/event-stream")

    def send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    def handle_error(self, *_) -> None:
        """Ignores errors: programs may exit in the middle of a request."""


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
