import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DutyGuard, type DutyOf } from '@pinion/core';
import { FakeClock, settled } from './fake-clock.js';

const who: DutyOf = { device: 'vgpu0', driver: 'gvt', duty: 'dmaUnmap' };
const LIMIT = 500;

const never = (): Promise<void> => new Promise(() => {});

test('a duty answers what its action answers, at once or later', async () => {
  const clock = new FakeClock();
  const guard = new DutyGuard(clock, LIMIT);
  assert.equal(await guard.run(who, () => 7), 7);
  assert.equal(await guard.run(who, async () => 8), 8);
  assert.equal(clock.pending, 0, 'no watchdog is left');
});

test('`run` throws what the duty threw; `runNamed` names the driver and keeps the cause', async () => {
  const guard = new DutyGuard(new FakeClock(), LIMIT);
  const failure = new RangeError('ring is wedged');
  const fail = (): never => {
    throw failure;
  };
  await assert.rejects(guard.run(who, fail), (thrown) => thrown === failure);
  await assert.rejects(guard.runNamed(who, fail), {
    name: 'CORE_CALLBACK_FAILED',
    errno: 'EIO',
    message: 'dmaUnmap of device vgpu0 (driver gvt) failed: ring is wedged',
    cause: failure,
  });
  await assert.rejects(
    guard.runNamed(who, () => Promise.reject('a string')),
    /failed: a string/,
  );
});

test('a duty that never settles is given up after the limit, by name', async () => {
  const clock = new FakeClock();
  const guard = new DutyGuard(clock, LIMIT);
  const outcome = assert.rejects(guard.runNamed(who, never), {
    name: 'CORE_CALLBACK_TIMEOUT',
    errno: 'ETIMEDOUT',
    message: 'dmaUnmap of device vgpu0 (driver gvt) did not settle within 500 ms',
  });
  await clock.advance(LIMIT - 1);
  assert.equal(clock.pending, 1, 'one millisecond before the limit nobody gives up');
  await clock.advance(1);
  await outcome;
});

test('limit 0 waits for ever', async () => {
  const clock = new FakeClock();
  let outcome = 'waiting';
  void new DutyGuard(clock, 0).run(who, never).then(
    () => (outcome = 'done'),
    () => (outcome = 'failed'),
  );
  await clock.advance(1e9);
  assert.deepEqual([outcome, clock.pending], ['waiting', 0]);
});

test('what a duty does after its time is ignored, success and failure alike', async () => {
  for (const late of ['resolve', 'reject'] as const) {
    const clock = new FakeClock();
    const guard = new DutyGuard(clock, LIMIT);
    const { promise, settle } = withSettle(late);
    const outcome = assert.rejects(
      guard.run(who, () => promise),
      { name: 'CORE_CALLBACK_TIMEOUT' },
    );
    await clock.advance(LIMIT);
    await outcome;
    settle();
    await settled(); // an unhandled rejection would fail this test file
  }
});

function withSettle(how: 'resolve' | 'reject'): { promise: Promise<void>; settle: () => void } {
  let settle = (): void => {};
  const promise = new Promise<void>((resolve, reject) => {
    settle = how === 'resolve' ? resolve : () => reject(new RangeError('late'));
  });
  return { promise, settle };
}

test('an operation inside a duty is refused by name, also across awaits', async () => {
  const guard = new DutyGuard(new FakeClock(), LIMIT);
  const refusal = {
    name: 'CORE_REENTRY',
    errno: 'EBUSY',
    message: 'unmap was called from inside dmaUnmap of device vgpu0 (driver gvt); do it after the duty returned',
  };
  await guard.run(who, async () => {
    assert.throws(() => guard.refuseInside('unmap', ['dmaUnmap']), refusal);
    await settled();
    assert.throws(() => guard.refuseInside('unmap', ['dmaUnmap']), refusal);
    guard.refuseInside('open', ['open', 'close']);
  });
  guard.refuseInside('unmap', ['dmaUnmap']);
});

test('somebody else may do during a duty what the duty may not', async () => {
  const guard = new DutyGuard(new FakeClock(), LIMIT);
  const { promise, settle } = withSettle('resolve');
  const duty = guard.run(who, () => promise);
  guard.refuseInside('unmap', ['dmaUnmap']);
  settle();
  await duty;
});

test('work that a duty started and did not wait for is free once the duty settled', async () => {
  const guard = new DutyGuard(new FakeClock(), LIMIT);
  let later: Promise<string> | undefined;
  await guard.run(who, () => {
    later = settled().then(() => {
      guard.refuseInside('unmap', ['dmaUnmap']);
      return 'free';
    });
  });
  assert.equal(await later, 'free');
});

test('an inner duty hides the outer one for its own time', async () => {
  const guard = new DutyGuard(new FakeClock(), LIMIT);
  await guard.run(who, async () => {
    await guard.run({ ...who, duty: 'create' }, () => guard.refuseInside('unmap', ['dmaUnmap']));
    assert.throws(() => guard.refuseInside('unmap', ['dmaUnmap']), { name: 'CORE_REENTRY' });
  });
});

test('a duty of one mediator inside a duty of another hides nothing, and neither refuses for the other', async () => {
  const guard = new DutyGuard(new FakeClock(), LIMIT);
  const other = new DutyGuard(new FakeClock(), LIMIT);
  const refusal = { name: 'CORE_REENTRY', message: /inside dmaUnmap of device vgpu0/ };
  await guard.run(who, async () => {
    other.refuseInside('unmap', ['dmaUnmap']);
    await other.run({ ...who, device: 'vgpu1', duty: 'close' }, async () => {
      await settled();
      assert.throws(() => guard.refuseInside('unmap', ['dmaUnmap']), refusal);
      other.refuseInside('unmap', ['dmaUnmap']);
      assert.throws(() => other.refuseInside('open', ['close']), /inside close of device vgpu1/);
    });
    assert.throws(() => guard.refuseInside('unmap', ['dmaUnmap']), refusal);
  });
});
