"""Two more API dialects of the scripted model: Chat Completions (opencode, Copilot CLI, Qwen Code, Kimi Code) and
Gemini's generateContent.

Each function returns the body of a response that contains a text, or that calls the program's own shell tool.
"""

import json
import time

# The names of the shell tool in the various programs.
SHELLS = ("bash", "Bash", "run_shell_command", "shell", "Shell")


def call_of(command: str | None, names: list[str]) -> tuple[str, dict] | None:
    """Returns the call for a shell command or an MCP tool ("mcp:NAME"), to whose name programs add a prefix."""
    if command and command.startswith("mcp:"):
        tool = next((name for name in names if name.endswith(command[4:])), None)
        return (tool, {}) if tool else None
    shell = next((name for name in SHELLS if name in names), None)
    return (shell, {"command": command, "description": "run"}) if command and shell else None


def tokens(conversation) -> int:
    """Estimates the number of tokens as a real model would count them. Programs compact the context by this number."""
    return len(json.dumps(conversation)) // 4


def server_sent(events: list[dict], end: str = "") -> bytes:
    return ("".join(f"data: {json.dumps(event)}\n\n" for event in events) + end).encode()


def answer_chat(body: dict, text: str | None, command: str | None) -> tuple[bytes, str]:
    call = call_of(command, [tool.get("function", tool).get("name") for tool in body.get("tools") or []])
    head = {"id": f"chat_{time.time_ns()}", "created": int(time.time()), "model": body.get("model")}
    size = tokens(body["messages"])
    usage = {"prompt_tokens": size, "completion_tokens": 5, "total_tokens": size + 5}
    message, end = {"role": "assistant", "content": text or "Done."}, "stop"
    if call:
        name, arguments = call
        function = {"name": name, "arguments": json.dumps({**more_for(name, body), **arguments})}
        message, end = {"role": "assistant", "content": None, "tool_calls": [
            {"id": f"call_{time.time_ns()}", "type": "function", "function": function}]}, "tool_calls"
    if not body.get("stream"):
        choices = [{"index": 0, "message": message, "finish_reason": end}]
        return json.dumps({**head, "object": "chat.completion", "usage": usage, "choices": choices}).encode(), "application/json"
    for index, call in enumerate(message.get("tool_calls", [])):
        call["index"] = index
    def chunk(delta: dict, finish: str | None = None) -> dict:
        return {**head, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    counted = {**head, "object": "chat.completion.chunk", "choices": [], "usage": usage}
    return server_sent([chunk(message), chunk({}, end), counted], "data: [DONE]\n\n"), "text/event-stream"


def more_for(name: str, body: dict) -> dict:
    """Returns values for all parameters that a tool requires."""
    tools = [tool.get("function", tool) for tool in body.get("tools") or []]
    wanted = next((tool.get("parameters", {}) for tool in tools if tool.get("name") == name), {})
    defaults = {"string": "run", "boolean": False, "number": 60, "integer": 60}
    return {name: defaults.get(wanted["properties"][name].get("type"), "run") for name in wanted.get("required", [])}


def answer_gemini(body: dict, stream: bool, text: str | None, command: str | None) -> tuple[bytes, str]:
    call = call_of(command, [it["name"] for tool in body.get("tools") or [] for it in tool.get("functionDeclarations", [])])
    part, size = {"text": text or "Done."}, tokens(body.get("contents"))
    if call:
        part = {"functionCall": {"name": call[0], "args": call[1]}}
    answer = {"candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}],
              "usageMetadata": {"promptTokenCount": size, "candidatesTokenCount": 5, "totalTokenCount": size + 5}}
    return (server_sent([answer]), "text/event-stream") if stream else (json.dumps(answer).encode(), "application/json")
