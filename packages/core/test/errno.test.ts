import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { test } from 'node:test';
import { catalogue, coreErrors, ERRNO, errorNames, isErrno, PinionError } from '@pinion/core';

const sample = catalogue('SAMPLE', {
  TORN: ['EIO', (d: { what: string }) => `${d.what} is torn`],
  FULL: ['ENOSPC', () => 'full'],
});

test('errnos are the numbers of this Linux', { skip: process.platform !== 'linux' }, () => {
  const known: Readonly<Record<string, number>> = constants.errno;
  // The host's table has the POSIX names only; the others are in kernel-only territory.
  for (const [name, number] of Object.entries(ERRNO)) assert.equal(known[name] ?? number, number, name);
});

test('no two errnos share a number', () => {
  const numbers = Object.values(ERRNO);
  assert.equal(new Set(numbers).size, numbers.length);
});

test('a row makes an error with its name, errno, number and message', () => {
  const cause = new RangeError('beneath');
  const error = sample.TORN({ what: 'page 3' }, cause);
  assert.ok(error instanceof PinionError && error instanceof Error);
  assert.equal(error.name, 'SAMPLE_TORN');
  assert.equal(error.errno, 'EIO');
  assert.equal(error.code, 5);
  assert.equal(error.message, 'page 3 is torn');
  assert.equal(error.cause, cause);
  assert.equal(String(error), 'SAMPLE_TORN (EIO): page 3 is torn');
});

test('an error without a cause has none', () => {
  assert.equal('cause' in sample.FULL({}), false);
});

test('errorNames lists a catalogue with its prefix', () => {
  assert.deepEqual(errorNames('SAMPLE', sample), ['SAMPLE_TORN', 'SAMPLE_FULL']);
});

test('isErrno knows only PinionErrors of that errno', () => {
  assert.equal(isErrno(sample.FULL({}), 'ENOSPC'), true);
  assert.equal(isErrno(sample.FULL({}), 'EIO'), false);
  assert.equal(isErrno(Object.assign(new TypeError('like one'), { errno: 'ENOSPC' }), 'ENOSPC'), false);
  assert.equal(isErrno(undefined, 'EIO'), false);
});

test("core's messages name who, what and where", () => {
  const range = { container: 'c0', type: 7, backends: [] };
  assert.equal(
    coreErrors.NO_BACKEND(range).message,
    'no backend takes IOMMU type 7 for container c0; registered: none',
  );
  const frames = [1, 2, 3, 4, 5];
  const left = coreErrors.PINS_LEFT({ driver: 'gvt', device: 'vgpu0', frames, released: true });
  assert.match(left.message, /driver gvt closed device vgpu0 .*0x1000, 0x2000, 0x3000, 0x4000, \.\.\. \(5 pages\)/);
});
