// Every native call of the relay fails once: whatever happens, nothing of it is left, and it goes on with the next client.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Relay } from '@pinion/cli';
import { silentLog } from '@pinion/core';
import {
  closeAll,
  createMemfd,
  FakeSys,
  FaultySys,
  FdInbox,
  SysError,
  UnixListener,
  UnixSocket,
  WOULD_BLOCK,
} from '@pinion/sys';
import { FakeClock } from '@pinion/testkit';
import { COMMAND, DEFAULT_CAPABILITIES, encodeMessage, encodeVersion } from '@pinion/vfio-user';

const turns = async (count = 20): Promise<void> => {
  for (let turn = 0; turn < count; turn += 1) await new Promise(setImmediate);
};

const payload = encodeVersion({ major: 0, minor: 0, capabilities: DEFAULT_CAPABILITIES });
const hello = encodeMessage({ id: 1, command: COMMAND.VERSION, flags: 0, error: 0, payload });

/** A client says hello with a descriptor, the server answers with the same bytes, both leave. @returns what came to the server. */
async function conversation(sys: FakeSys, upstream: UnixListener): Promise<{ bytes: number; fds: number }> {
  const client = UnixSocket.connect(sys, '/front');
  const ram = createMemfd(sys, 'ram', 4096n);
  client.trySend(hello, [ram]);
  await turns();
  const server = upstream.tryAccept();
  const inbox = new FdInbox(4);
  const into = new Uint8Array(1024);
  const bytes = server?.tryReceive(into, inbox) ?? WOULD_BLOCK;
  const fds = inbox.size;
  if (bytes > 0) answer(server);
  await turns();
  inbox.close();
  closeAll([ram, client.fd, ...(server === undefined ? [] : [server.fd])]);
  await turns();
  return { bytes, fds };
}

/** The relay may have given up the connection. */
function answer(server: UnixSocket | undefined): void {
  try {
    server?.trySend(encodeMessage({ id: 1, command: COMMAND.VERSION, flags: 1, error: 0, payload }));
  } catch (failure) {
    assert.ok(failure instanceof SysError && failure.errno === 'EPIPE', String(failure));
  }
}

test('every native call of a relay may fail', async () => {
  let faults = 0;
  for (let nth = 1, struck = true; struck; nth += 1) {
    const inner = new FakeSys();
    const faulty = new FaultySys(inner);
    const upstream = UnixListener.listen(inner, '/back');
    const told: string[] = [];
    const clock = new FakeClock();
    const options = {
      sys: faulty,
      clock,
      log: silentLog,
      listen: '/front',
      upstream: '/back',
      rules: [],
      random: () => 0,
      connected: () => told.push('+'),
      message: () => told.push('.'),
      disconnected: () => told.push('-'),
    };
    faulty.failAny(nth, nth % 2 === 0 ? 'EMFILE' : 'EIO');
    let relay: Relay | undefined;
    try {
      relay = new Relay(options);
    } catch (failure) {
      assert.ok(failure instanceof SysError, String(failure));
    }
    if (relay !== undefined) {
      await conversation(inner, upstream);
      struck = faulty.pending === 0;
      faulty.clear();
      clock.advance(100); // a client that could not be let in is tried again
      await turns();
      const waiting = upstream.tryAccept();
      waiting?.close();
      await turns();
      const next = await conversation(inner, upstream);
      assert.deepEqual(next, { bytes: hello.length, fds: 1 }, `call ${nth}: the next client is served`);
      await relay.close();
      assert.equal(
        told.filter((each) => each === '+').length,
        told.filter((each) => each === '-').length,
        `call ${nth}`,
      );
    }
    upstream.close();
    assert.deepEqual(inner.ledger.labels(), [], `call ${nth}`);
    if (struck) faults += 1;
    assert.ok(nth < 200, 'the scenario ends');
  }
  assert.ok(faults > 10, `only ${faults} calls failed`);
});
