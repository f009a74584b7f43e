import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Teardown } from '@pinion/core';

test('undo runs newest first and waits for each', async () => {
  const done: string[] = [];
  const teardown = new Teardown();
  teardown.defer(() => void done.push('first'));
  teardown.defer(async () => {
    await Promise.resolve();
    done.push('second');
  });
  teardown.defer(() => void done.push('third'));
  assert.equal(teardown.size, 3);
  await teardown.run();
  assert.deepEqual(done, ['third', 'second', 'first']);
});

test('each undo runs once', async () => {
  let runs = 0;
  const teardown = new Teardown();
  teardown.defer(() => {
    runs += 1;
  });
  await teardown.run();
  await teardown.run();
  assert.deepEqual([runs, teardown.size], [1, 0]);
});

test('one failure is thrown itself, after the others ran', async () => {
  const failure = new RangeError('undo 2');
  const done: string[] = [];
  const teardown = new Teardown();
  teardown.defer(() => void done.push('first'));
  teardown.defer(() => Promise.reject(failure));
  teardown.defer(() => void done.push('third'));
  await assert.rejects(teardown.run(), (thrown) => thrown === failure);
  assert.deepEqual(done, ['third', 'first']);
});

test('several failures are thrown together, newest first', async () => {
  const [older, newer] = [new RangeError('older'), new RangeError('newer')];
  const teardown = new Teardown();
  teardown.defer(() => Promise.reject(older));
  teardown.defer(() => {
    throw newer;
  });
  await assert.rejects(teardown.run(), (thrown) => {
    assert.ok(thrown instanceof AggregateError);
    assert.deepEqual(thrown.errors, [newer, older]);
    return true;
  });
});

test('what is deferred while undoing stays for the next run', async () => {
  const done: string[] = [];
  const teardown = new Teardown();
  teardown.defer(() => teardown.defer(() => void done.push('late')));
  await teardown.run();
  assert.deepEqual([done.length, teardown.size], [0, 1]);
  await teardown.run();
  assert.deepEqual(done, ['late']);
});
