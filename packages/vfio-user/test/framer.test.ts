import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { encodeMessage, Framer, HEADER, type Message } from '@pinion/vfio-user';
import fc from 'fast-check';

const MAX = 4096;
const message = (id: number, size: number): Uint8Array =>
  encodeMessage({ id, command: 9, flags: 0, error: 0, payload: new Uint8Array(size).fill(id) });

interface Rig {
  readonly framer: Framer<number>;
  readonly got: Message<number>[];
  readonly stray: number[];
  push(bytes: Uint8Array, fds?: readonly number[]): void;
}

function rig(max = MAX): Rig {
  const got: Message<number>[] = [];
  const stray: number[] = [];
  const framer = new Framer<number>(max, (fds) => stray.push(...fds));
  return { framer, got, stray, push: (bytes, fds = []) => framer.push(bytes, fds, (each) => got.push(each)) };
}

const concat = (...parts: Uint8Array[]): Uint8Array => Uint8Array.from(parts.flatMap((part) => [...part]));

describe('the framer', () => {
  test('gives the same messages however the stream is split', () => {
    const sizes = fc.array(fc.integer({ min: 0, max: 300 }), { maxLength: 8 });
    const cuts = fc.array(fc.nat(2600), { maxLength: 20 });
    fc.assert(
      fc.property(sizes, cuts, (payloads, at) => {
        const stream = concat(...payloads.map((size, id) => message(id, size)));
        const { framer, got, push } = rig();
        const borders = [0, ...at.filter((cut) => cut < stream.length).sort((a, b) => a - b), stream.length];
        borders.slice(1).forEach((end, n) => {
          push(stream.slice(borders[n], end));
        });
        assert.deepEqual(
          got.map(({ id, payload }) => [id, payload]),
          payloads.map((size, id) => [id, new Uint8Array(size).fill(id)]),
        );
        assert.equal(framer.pending, 0);
      }),
    );
  });

  test('gives descriptors to the message that was sent with them, at every split of it', () => {
    const before = message(1, 10);
    const carrier = message(2, 20);
    for (let cut = 1; cut <= carrier.length; cut++) {
      const { got, stray, push } = rig();
      push(concat(before, carrier.slice(0, cut)), [7, 8]);
      push(concat(carrier.slice(cut), message(3, 5)));
      assert.deepEqual(
        got.map(({ id, fds }) => [id, fds]),
        [
          [1, []],
          [2, [7, 8]],
          [3, []],
        ],
      );
      assert.deepEqual(stray, []);
    }
  });

  test('keeps descriptors apart when the message before ends in the same piece', () => {
    const [first, second] = [message(1, 30), message(2, 0)];
    for (let cut = 1; cut < first.length; cut++) {
      const { got, push } = rig();
      push(first.slice(0, cut), [5]);
      push(concat(first.slice(cut), second), [6]);
      assert.deepEqual(
        got.map(({ id, fds }) => [id, fds]),
        [
          [1, [5]],
          [2, [6]],
        ],
      );
    }
  });

  test('knows that descriptors inside a message belong to nobody', () => {
    const { got, stray, push } = rig();
    const whole = message(1, 30);
    push(whole.slice(0, 20));
    push(whole.slice(20, 30), [9]);
    push(whole.slice(30), [10, 11]);
    assert.deepEqual(
      got.map(({ fds }) => fds),
      [[]],
    );
    assert.deepEqual(stray, [9, 10, 11]);
  });

  test('hands out the descriptors of an unfinished message when it gives up', () => {
    for (let cut = 1; cut < 36; cut++) {
      const { framer, stray, push } = rig();
      push(message(1, 20).slice(0, cut), [3]);
      framer.close();
      framer.close();
      assert.deepEqual(stray, [3]);
      assert.equal(framer.pending, 0);
    }
  });

  const header = (size: number, flags = 0): Uint8Array => HEADER.encode({ id: 0, command: 9, size, flags, error: 0 });
  const BAD: readonly (readonly [what: string, bytes: Uint8Array])[] = [
    ['size 0', header(0)],
    ['size 15', header(15)],
    ['one byte more than may be', header(MAX + 1)],
    ['size 2^32-1', header(0xffffffff)],
    ['type 2', header(16, 2)],
    ['type 15', header(16, 15)],
  ];
  for (const [what, bytes] of BAD) {
    test(`refuses ${what}, and leaves no descriptor behind`, () => {
      const { framer, got, stray, push } = rig();
      assert.throws(() => push(concat(message(1, 4), bytes), [4]), { name: 'VFIOUSER_BAD_MESSAGE', errno: 'EBADMSG' });
      framer.close();
      assert.deepEqual(
        got.map(({ id }) => id),
        [1],
      );
      assert.deepEqual(stray, [4]);
    });
  }

  test('takes the largest message, one byte at a time', () => {
    const { got, push } = rig();
    for (const byte of message(1, MAX - HEADER.size)) push(Uint8Array.of(byte));
    assert.equal(got[0]?.payload.length, MAX - HEADER.size);
  });
});
