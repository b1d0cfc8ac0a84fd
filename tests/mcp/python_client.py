"""Tests `thrum mcp serve` with the Python SDK: both lifecycles, every tool, progress, cancellation, result schemas."""

import asyncio
import sys

from mcp import Client, MCPError, StdioServerParameters

TOOLS = ["send_message", "check_messages", "wait_for_message", "list_agents", "reply", "who_has", "set_status", "brief"]


def server(agent: str) -> StdioServerParameters:
    return StdioServerParameters(command=sys.argv[1], args=["mcp", "serve", "--as", agent])


async def done(client: Client, tool: str, **arguments):
    """Calls a tool that must succeed. The SDK has checked the result against the tool's schema."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result
    assert result.content[0].text, result
    return result.structured_content


async def talk(mode: str, version: str) -> None:
    async with Client(server("ann"), mode=mode) as ann, Client(server("bob"), mode=mode) as bob:
        assert ann.session.protocol_version == version, ann.session.protocol_version
        assert "check_messages" in ann.session.instructions
        listed = (await ann.list_tools()).tools
        assert [tool.name for tool in listed] == TOOLS

        sent = await done(ann, "send_message", to="@bob", content=f"from {version}", metadata={"issue": "17"})
        assert sent["status"] == "stored", sent
        got = await done(bob, "check_messages")
        assert [message["content"] for message in got["messages"]] == [f"from {version}"], got
        assert (await done(bob, "check_messages"))["status"] == "empty"

        waiting = asyncio.create_task(done(ann, "wait_for_message", timeout=30))
        answered = await done(bob, "reply", message_id=sent["message_id"], content="read it")
        woken = await waiting
        assert woken["message"]["message_id"] == answered["message_id"], woken

        await done(ann, "set_status", intent="Test the SDK", task="T-1")
        assert (await done(bob, "list_agents"))["count"] == 2
        assert (await done(bob, "who_has", path="src"))["agents"] == []
        assert (await done(bob, "brief"))["you"]["name"] == "bob"
        assert len((await bob.list_resources()).resources) == 3

        refused = await bob.call_tool("send_message", {"to": "@nobody", "content": "x"})
        assert refused.is_error and "@nobody" in refused.content[0].text, refused
        try:
            await bob.call_tool("no_such_tool", {})
            raise AssertionError("an unknown tool was taken")
        except MCPError as error:
            assert "check_messages" in str(error), error

        # A call that the client abandons ends on the server, too, so it does not swallow the next message.
        try:
            await bob.call_tool("wait_for_message", {}, read_timeout_seconds=0.5)
            raise AssertionError("there was mail")
        except MCPError:
            pass
        await done(ann, "send_message", to="@bob", content="after it gave up")
        assert [message["content"] for message in (await done(bob, "check_messages"))["messages"]] == ["after it gave up"]

        told = []

        async def progress(done: float, total: float | None, message: str | None) -> None:
            told.append(message)

        result = await bob.call_tool("wait_for_message", {"timeout": 11}, progress_callback=progress)
        assert result.structured_content["status"] == "timeout", result
        assert told == ["still waiting after 10 s"], told
    print(f"Python SDK, {mode}: {version}")


async def main() -> None:
    await talk("auto", "2026-07-28")
    await talk("legacy", "2025-11-25")


asyncio.run(asyncio.wait_for(main(), 120))
