/** Cards that compute on threads. Real threads, so real time: what is waited for is always an event, never a while. */
import assert from 'node:assert/strict';
import { createPublicKey, verify } from 'node:crypto';
import { describe, test } from 'node:test';
import {
  answer,
  type CardExecutor,
  type CardOutcome,
  type CardWork,
  decodeCcaReply,
  decodeReply,
  encodeCcaRequest,
  encodeRequest,
  ThreadExecutor,
} from '@pinion/ap';
import { isErrno } from '@pinion/core';
import { KEYS } from './keys.js';
import { enable, openRoom, Q47, Q48, type Room } from './machine-room.js';

const number = (base64: string): Uint8Array => Buffer.from(base64, 'base64url');
const key = KEYS[2048];
const parts = { p: number(key.p), q: number(key.q), dp: number(key.dp), dq: number(key.dq), u: number(key.qi) };
const message = encodeRequest({ form: 'CRT', ...parts, message: new Uint8Array(256).fill(1, 1) });
const work: CardWork = { mode: 'accelerator', domain: 0, message };
const run = (executor: ThreadExecutor, what = work): Promise<CardOutcome> =>
  new Promise((resolve) => void executor.run(what, resolve));

describe('the executor', () => {
  test('answers as the caller’s stack would', async () => {
    const executor = new ThreadExecutor(2);
    const outcomes = await Promise.all([run(executor), run(executor), run(executor)]);
    for (const outcome of outcomes) {
      assert.ok('reply' in outcome);
      assert.deepEqual(Buffer.from(outcome.reply), Buffer.from(answer(work)));
    }
    assert.equal(executor.threads, 2);
    await executor.close();
    assert.equal(executor.threads, 0);
  });

  test('threads start when there is work, and refusals need none', async () => {
    const executor = new ThreadExecutor(8);
    let refused: CardOutcome | undefined;
    executor.run({ ...work, message: new Uint8Array(20) }, (outcome) => {
      refused = outcome;
    });
    assert.deepEqual([refused, executor.threads], [{ reply: Uint8Array.of(0, 0x82, 0, 0, 0x20, 0, 0, 0) }, 0]);
    await run(executor);
    await run(executor);
    assert.equal(executor.threads, 1);
    await executor.close();
  });

  test('coprocessors too: random bytes from a thread, a wrong domain at once', async () => {
    const executor = new ThreadExecutor(1);
    const random = encodeCcaRequest({ verb: 'random', domain: 7, length: 32 });
    const refused = await run(executor, { mode: 'cca', domain: 8, message: random });
    assert.deepEqual([refused, executor.threads], [{ reply: Uint8Array.of(0, 0x82, 0, 0, 0x42, 0, 0, 0) }, 0]);
    const outcome = await run(executor, { mode: 'cca', domain: 7, message: random });
    assert.ok('reply' in outcome);
    const reply = decodeCcaReply(outcome.reply);
    assert.ok(reply.ok);
    assert.equal(reply.result.length, 32);
    await executor.close();
  });

  test('what was given up is not told, whether it ran or waited', async () => {
    const executor = new ThreadExecutor(1);
    const told: number[] = [];
    const undo = [0, 1, 2].map((index) => executor.run(work, () => told.push(index)));
    undo[0]?.();
    undo[1]?.();
    await run(executor);
    assert.deepEqual(told, [2]);
    await executor.close();
  });

  test('close tells nobody, and the executor can be used again', async () => {
    const executor = new ThreadExecutor(1);
    const told: unknown[] = [];
    for (let index = 0; index < 3; index++) executor.run(work, (outcome) => told.push(outcome));
    await executor.close();
    assert.deepEqual([told, executor.threads], [[], 0]);
    assert.ok('reply' in (await run(executor)));
    await executor.close();
  });

  test('a card that throws fails its message, and the thread goes on', async () => {
    const executor = new ThreadExecutor(1);
    const poison: object = { mode: 'no such mode', domain: 0, message };
    const outcome = await run(executor, poison as CardWork); // why: only a wrong mode makes a card throw
    assert.ok('failure' in outcome && outcome.failure instanceof TypeError);
    assert.ok('reply' in (await run(executor)));
    await executor.close();
  });

  test('a thread that dies fails what it had begun; the rest and what comes is done by another', async () => {
    const dying = `import { parentPort } from 'node:worker_threads';
      parentPort.on('message', ({ domain }) => {
        if (domain === 9) process.exit(3);
        parentPort.postMessage({ reply: Uint8Array.of(domain) });
      });`;
    const executor = new ThreadExecutor(1, new URL(`data:text/javascript,${encodeURIComponent(dying)}`));
    const outcomes = await Promise.all([9, 1, 2].map((domain) => run(executor, { ...work, domain })));
    const [first, ...others] = outcomes;
    assert.ok(first !== undefined && 'failure' in first && isErrno(first.failure, 'EIO'));
    assert.deepEqual(others, [{ reply: Uint8Array.of(1) }, { reply: Uint8Array.of(2) }]);
    assert.deepEqual(await run(executor, { ...work, domain: 3 }), { reply: Uint8Array.of(3) });
    await executor.close();
  });
});

describe('a queue over any executor', () => {
  /** An executor whose work ends when the test says so. */
  function held() {
    const jobs: { work: CardWork; done: (outcome: CardOutcome) => void; dropped: boolean }[] = [];
    const executor: CardExecutor = {
      run(work, done) {
        const job = { work, done, dropped: false };
        jobs.push(job);
        return () => {
          job.dropped = true;
        };
      },
      close: () => {},
    };
    return { jobs, room: openRoom({ executor }) };
  }
  const reply = (value: number): CardOutcome => ({ reply: Uint8Array.of(value) });

  test('two messages are at work at a time, and replies come in the order of the messages', async () => {
    const { jobs, room } = held();
    const { device, clock, guest } = room;
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    for (const psmid of [1n, 2n, 3n]) device.nqap(Q47, psmid, Uint8Array.of(Number(psmid)));
    clock.run();
    assert.deepEqual(
      jobs.map(({ work }) => work.message[0]),
      [1, 2],
    );
    jobs[1]?.done(reply(22));
    assert.deepEqual([device.dqap(Q47, 9).psmid, guest.interrupts], [0n, []]);
    jobs[0]?.done(reply(11));
    clock.run();
    assert.deepEqual([guest.interrupts, jobs.length], [[3, 3], 3]);
    jobs[2]?.done(reply(33));
    const taken = [1, 2, 3].map(() => device.dqap(Q47, 9)).map(({ psmid, message: bytes }) => [psmid, bytes[0]]);
    assert.deepEqual(taken, [
      [1n, 11],
      [2n, 22],
      [3n, 33],
    ]);
    await device.close();
  });

  test('a reset gives up what is at work, and what comes of it is ignored', async () => {
    const { jobs, room } = held();
    const { device, clock } = room;
    for (const psmid of [1n, 2n, 3n]) device.nqap(Q47, psmid, new Uint8Array(1));
    clock.run();
    await device.reset();
    assert.deepEqual(
      jobs.map(({ dropped }) => dropped),
      [true, true],
    );
    jobs[0]?.done(reply(11));
    device.nqap(Q47, 4n, new Uint8Array(1));
    clock.run();
    jobs[1]?.done(reply(22));
    assert.equal(device.dqap(Q47, 9).psmid, 0n);
    jobs[2]?.done(reply(44));
    assert.equal(device.dqap(Q47, 9).psmid, 4n);
    await device.close();
  });
});

/** Settles at the guest's next interrupt. */
const interrupted = ({ guest }: Room): Promise<void> =>
  new Promise((resolve) => {
    guest.onInterrupt = resolve;
  });

describe('queues over threads', () => {
  test('both queues work at the same time; replies are told and verified; no thread is left at close', async () => {
    const executor = new ThreadExecutor(2);
    const room = openRoom({ executor });
    const { device, clock, pins } = room;
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    enable(device, Q48, { isc: 3, nib: 0x8000n });
    const first = interrupted(room);
    device.nqap(Q47, 1n, message);
    device.nqap(Q48, 2n, message);
    clock.run();
    assert.equal(executor.threads, 2);
    await first;
    if (room.guest.interrupts.length < 2) await interrupted(room);
    for (const [queue, psmid] of [
      [Q47, 1n],
      [Q48, 2n],
    ] as const) {
      const reply = device.dqap(queue, 0x210);
      assert.equal(reply.psmid, psmid);
      const decoded = decodeReply(reply.message);
      assert.ok(decoded.ok);
      assert.deepEqual(reply.message, answer(work));
    }
    await device.close();
    assert.deepEqual([executor.threads, pins.held], [0, []]);
  });

  test('close while a thread computes: nothing is told, nothing is left', async () => {
    const executor = new ThreadExecutor(2);
    const room = openRoom({ executor });
    enable(room.device, Q47, { isc: 3, nib: 0x7000n });
    room.device.nqap(Q47, 1n, message);
    room.clock.run();
    await room.device.close();
    assert.deepEqual([executor.threads, room.guest.interrupts, room.pins.held], [0, [], []]);
  });

  test('by default a machine computes on threads', async () => {
    const room = openRoom({ threads: 1 });
    const { executor } = room.device.machine.hardware;
    assert.ok(executor instanceof ThreadExecutor);
    enable(room.device, Q47, { isc: 3, nib: 0x7000n });
    const told = interrupted(room);
    room.device.nqap(Q47, 1n, message);
    room.clock.run();
    await told;
    await room.device.close();
    assert.equal(executor.threads, 0);
  });
});

test('a signature of a card is one that node:crypto verifies', async () => {
  const { padded, text } = padSha256('hello');
  const reply = decodeReply(answer({ ...work, message: encodeRequest({ form: 'CRT', ...parts, message: padded }) }));
  assert.ok(reply.ok);
  const publicKey = createPublicKey({ key, format: 'jwk' });
  assert.ok(verify('sha256', Buffer.from(text), publicKey, reply.result));
});

/** EMSA-PKCS1-v1_5 by hand: RFC 8017, 9.2. */
function padSha256(text: string): { padded: Uint8Array; text: string } {
  const digest = '2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824'; // SHA-256 of hello
  const info = `3031300d060960864801650304020105000420${digest}`;
  return { padded: Buffer.from(`0001${'ff'.repeat(256 - 3 - info.length / 2)}00${info}`, 'hex'), text };
}
