import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@pinion/testkit';
import fc from 'fast-check';

test('time stands still until it is moved', () => {
  const clock = new FakeClock(5);
  const fired: number[] = [];
  clock.after(10, () => fired.push(clock.now()));
  assert.deepEqual([clock.now(), clock.pending, fired], [5, 1, []]);
  clock.advance(9);
  assert.deepEqual([clock.now(), clock.pending, fired], [14, 1, []]);
  clock.advance(1);
  assert.deepEqual([clock.now(), clock.pending, fired], [15, 0, [15]]);
});

test('timers run by due time, equal ones in the order they were set, each at its own time', () => {
  const clock = new FakeClock();
  const fired: [string, number][] = [];
  const note = (name: string) => () => fired.push([name, clock.now()]);
  clock.after(20, note('b'));
  clock.after(10, note('a1'));
  clock.after(10, note('a2'));
  clock.advance(100);
  assert.deepEqual(fired, [
    ['a1', 10],
    ['a2', 10],
    ['b', 20],
  ]);
  assert.equal(clock.now(), 100);
});

test('a timer started by a timer runs in the same span if it falls due there', () => {
  const clock = new FakeClock();
  const fired: number[] = [];
  const again = (): void => {
    fired.push(clock.now());
    clock.after(10, again);
  };
  clock.after(10, again);
  clock.advance(35);
  assert.deepEqual(fired, [10, 20, 30]);
  assert.equal(clock.pending, 1);
});

test('a delay of 0 waits for advance(0)', () => {
  const clock = new FakeClock();
  let fired = 0;
  clock.after(0, () => fired++);
  assert.equal(fired, 0);
  clock.advance(0);
  assert.equal(fired, 1);
});

test('a cancelled timer never fires, and cancelling twice or late does no harm', () => {
  const clock = new FakeClock();
  const fired: string[] = [];
  const cancel = clock.after(10, () => fired.push('cancelled'));
  const late = clock.after(10, () => fired.push('late'));
  cancel();
  cancel();
  clock.advance(10);
  late();
  assert.deepEqual([fired, clock.pending], [['late'], 0]);
});

test('a timer may cancel another that is due at the same time', () => {
  const clock = new FakeClock();
  const fired: string[] = [];
  let cancel = (): void => {};
  clock.after(10, () => cancel());
  cancel = clock.after(10, () => fired.push('second'));
  clock.advance(10);
  assert.deepEqual([fired, clock.pending], [[], 0]);
});

test('an action that throws stops the clock at its time and leaves later timers', () => {
  const clock = new FakeClock();
  const fired: number[] = [];
  clock.after(10, () => {
    throw new RangeError('broken action');
  });
  clock.after(20, () => fired.push(clock.now()));
  assert.throws(() => clock.advance(50), RangeError);
  assert.deepEqual([clock.now(), clock.pending], [10, 1]);
  clock.advance(10);
  assert.deepEqual([fired, clock.pending], [[20], 0]);
});

for (const ms of [-1, Number.NaN, Number.NEGATIVE_INFINITY]) {
  test(`${ms} ms is refused, as a delay and as a span`, () => {
    const clock = new FakeClock(3);
    const refusal = { name: 'SIM_BAD_TIME', errno: 'EINVAL' };
    assert.throws(() => clock.after(ms, () => {}), refusal);
    assert.throws(() => clock.advance(ms), refusal);
    assert.deepEqual([clock.now(), clock.pending], [3, 0]);
  });
}

test('whatever the timers and the steps: all due ones fire once, in order, no others', () => {
  const delays = fc.array(fc.nat(100), { maxLength: 20 });
  fc.assert(
    fc.property(delays, fc.array(fc.nat(30), { maxLength: 8 }), (timers, steps) => {
      const clock = new FakeClock();
      const fired: number[] = [];
      for (const delay of timers) clock.after(delay, () => fired.push(clock.now()));
      for (const step of steps) clock.advance(step);
      const due = timers.filter((delay) => steps.length > 0 && delay <= clock.now()).sort((a, b) => a - b);
      assert.deepEqual(fired, due);
      assert.equal(clock.pending, timers.length - due.length);
    }),
  );
});

test('step runs one timer at its time, however far off', () => {
  const clock = new FakeClock(5);
  const fired: number[] = [];
  assert.deepEqual([clock.nextDue, clock.step(), clock.now()], [undefined, false, 5]);
  for (const delay of [30, 10, 10]) clock.after(delay, () => fired.push(clock.now()));
  assert.deepEqual([clock.nextDue, clock.step(), clock.now(), fired], [15, true, 15, [15]]);
  assert.deepEqual([clock.step(), clock.step(), clock.pending, fired], [true, true, 0, [15, 15, 35]]);
});
