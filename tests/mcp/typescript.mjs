// Both generations of the TypeScript SDK against `thrum mcp serve`. Once the tools are listed, the SDKs check every
// result against the schema of its tool.
import assert from 'node:assert/strict';
import { Client as OldClient } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport as OldTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { Client } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';

const server = (agent) => ({ command: process.argv[2], args: ['mcp', 'serve', '--as', agent] });

async function talk(name, connect) {
  const [ann, bob] = [await connect('ann'), await connect('bob')];
  const done = async (client, tool, args = {}) => {
    const result = await client.callTool({ name: tool, arguments: args });
    assert.equal(result.isError ?? false, false, JSON.stringify(result));
    assert.ok(result.content[0].text);
    return result.structuredContent;
  };
  assert.equal(ann.getServerVersion()?.name ?? 'thrum', 'thrum');
  const { tools } = await ann.listTools();
  await bob.listTools();
  assert.equal(tools.length, 8);

  const sent = await done(ann, 'send_message', { to: '@bob', content: name });
  const got = await done(bob, 'check_messages');
  assert.deepEqual(got.messages.map((message) => message.content), [name]);
  const waiting = done(ann, 'wait_for_message', { timeout: 30 });
  const answered = await done(bob, 'reply', { message_id: sent.message_id, content: 'read it' });
  assert.equal((await waiting).message.message_id, answered.message_id);
  await done(ann, 'set_status', { intent: name });
  await done(bob, 'who_has', { path: '.' });
  await done(bob, 'list_agents');
  assert.equal((await done(bob, 'brief')).you.name, 'bob');

  const refused = await bob.callTool({ name: 'send_message', arguments: { to: '@nobody', content: 'x' } });
  assert.ok(refused.isError);
  assert.match(refused.content[0].text, /@nobody/);

  const giving = new AbortController();
  const given = bob.callTool({ name: 'wait_for_message', arguments: {} }, ...giveUp(bob, giving));
  giving.abort();
  await assert.rejects(given);
  await done(ann, 'send_message', { to: '@bob', content: 'after it gave up' });
  assert.deepEqual((await done(bob, 'check_messages')).messages.map((message) => message.content), ['after it gave up']);

  const { contents } = await bob.readResource({ uri: 'thrum://agents' });
  assert.equal(JSON.parse(contents[0].text).count, 2);
  await ann.close();
  await bob.close();
  console.log(name);
}

// The older SDK takes the result schema before the options.
const giveUp = (client, { signal }) => (client instanceof OldClient ? [undefined, { signal }] : [{ signal }]);

await talk('TypeScript SDK 1: 2025-11-25', async (agent) => {
  const client = new OldClient({ name: 'test', version: '1' });
  await client.connect(new OldTransport(server(agent)));
  return client;
});
await talk('TypeScript SDK 2: 2026-07-28', async (agent) => {
  const client = new Client({ name: 'test', version: '1' }, { versionNegotiation: { mode: { pin: '2026-07-28' } } });
  await client.connect(new StdioClientTransport(server(agent)));
  return client;
});
