#!/usr/bin/env bash
# Guess:     a worker that was too slow, so that JetStream gave its message to another one, gets an error or no answer when it asks for a
#            confirmation of its ack; the confirmation says who has done the work.
# Versions:  nats-server 2.15.3 (Go 1.25 or newer), nats-py 2.16.0 (Python 3.10 or newer), Linux, root.
# Behaviour: the late ack of the first delivery is confirmed, and takes the message out of the work queue although the second worker is
#            still at it. The second worker's ack of a message that is no longer there is confirmed too. Nothing tells either of
#            them of the other, so what a confirmed ack stands for must be harmless when it is done twice.
# Seen:      first, late: confirmed, 0 messages left / second: confirmed
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"

cat > workers.py <<'PY'
import asyncio
import nats
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy

async def main():
    connection = await nats.connect("nats://127.0.0.1:4222")
    stream = connection.jetstream()
    await stream.add_stream(name="WORK", subjects=["work"], retention=RetentionPolicy.WORK_QUEUE)
    await stream.add_consumer("WORK", ConsumerConfig(durable_name="workers", ack_policy=AckPolicy.EXPLICIT, ack_wait=1))
    one, two = [await stream.pull_subscribe_bind("workers", "WORK") for _ in range(2)]
    await stream.publish("work", b"a message")

    async def confirmed(message):
        try:
            await message.ack_sync(timeout=3)
            return "confirmed"
        except Exception as error:
            return type(error).__name__

    [first] = await one.fetch(1, timeout=5)
    [second] = await two.fetch(1, timeout=10)  # comes once the first worker's second is over
    assert (first.data, second.data) == (b"a message", b"a message")
    assert (first.metadata.num_delivered, second.metadata.num_delivered) == (1, 2)
    late = await confirmed(first)
    left = (await stream.stream_info("WORK")).state.messages
    print(f"first, late: {late}, {left} messages left / second: {await confirmed(second)}")
    await connection.close()

asyncio.run(asyncio.wait_for(main(), 60))
PY
GOBIN=$dir go install github.com/nats-io/nats-server/v2@v2.15.3 2>go.log || { cat go.log >&2; exit 1; }
python3 -m venv venv && venv/bin/pip install --quiet nats-py==2.16.0
seen=$(unshare --net --pid --fork --kill-child bash -c '
    ip link set lo up; ./nats-server -a 127.0.0.1 -js -sd store >server.log 2>&1 & sleep 2; timeout 80 venv/bin/python workers.py') || true
echo "$seen"
[ "$seen" = "first, late: confirmed, 0 messages left / second: confirmed" ] || { echo "changed" >&2; exit 1; }
