#!/usr/bin/env bash
# Guess:     a publisher that lost the answer sends the very same message again, and JetStream, which knows its `Nats-Msg-Id`, confirms it
#            as a duplicate, whatever else its headers demand.
# Versions:  nats-server 2.15.3 (Go 1.25 or newer), nats-py 2.16.0 (Python 3.10 or newer), Linux, root.
# Behaviour: a retry that also names the last sequence that it expects, of the stream or of the subject, is refused as a wrong sequence:
#            its own first try has moved it on. With the expected last id or the expected stream it is a duplicate, as without any
#            expectation. So whoever writes only if nobody else did cannot tell by the answer to a retry whether he or another
#            one was first; he must read what is there and look for his id.
# Seen:      the retry: alone: duplicate / last sequence: error 10071 / last sequence of the subject: error 10071 / last id: duplicate /
#            stream: duplicate
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"

cat > publish.py <<'PY'
import asyncio
import nats
from nats.js.errors import APIError

async def main():
    connection = await nats.connect("nats://127.0.0.1:4222")
    stream = connection.jetstream()
    await stream.add_stream(name="MAIL", subjects=["mail.*"])

    async def publish(number, expected):
        try:
            answer = await stream.publish("mail.ann", b"a message", headers={"Nats-Msg-Id": f"id-{number}", **expected})
            return "duplicate" if answer.duplicate else "stored"
        except APIError as error:
            return f"error {error.err_code}"

    # Each message is the next one of the stream and of the subject, so that what it expects is true when it is first sent.
    seen = []
    for number, (name, header, value) in enumerate([
        ("alone", None, None),
        ("last sequence", "Nats-Expected-Last-Sequence", "1"),
        ("last sequence of the subject", "Nats-Expected-Last-Subject-Sequence", "2"),
        ("last id", "Nats-Expected-Last-Msg-Id", "id-3"),
        ("stream", "Nats-Expected-Stream", "MAIL"),
    ], 1):
        expected = {header: value} if header else {}
        first = await publish(number, expected)
        assert first == "stored", (name, first)
        seen.append(f"{name}: {await publish(number, expected)}")
    assert (await stream.stream_info("MAIL")).state.messages == 5
    print(" / ".join(seen))
    await connection.close()

asyncio.run(asyncio.wait_for(main(), 60))
PY
GOBIN=$dir go install github.com/nats-io/nats-server/v2@v2.15.3 2>go.log || { cat go.log >&2; exit 1; }
python3 -m venv venv && venv/bin/pip install --quiet nats-py==2.16.0
seen=$(unshare --net --pid --fork --kill-child bash -c '
    ip link set lo up; ./nats-server -a 127.0.0.1 -js -sd store >server.log 2>&1 & sleep 2; timeout 80 venv/bin/python publish.py') || true
echo "$seen"
[ "$seen" = "alone: duplicate / last sequence: error 10071 / last sequence of the subject: error 10071 / last id: duplicate / stream: duplicate" ] || {
    echo "changed" >&2; exit 1; }
