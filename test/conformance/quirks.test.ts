import assert from 'node:assert/strict';
import { test } from 'node:test';
import { failedCases, runVendorDriver, type VendorDriverHarness } from '@pinion/testkit';
import { apHarness } from './ap-harness.js';
import { ccwHarness } from './ccw-harness.js';
import { gvtHarness } from './gvt-harness.js';

const AP = [
  'gives back a pin in the middle page of a larger mapping',
  'gives back a pin in the last page of a larger mapping',
  'gives back pins all over a mapping',
  'gives back pins in two mappings that go in one unmap',
  'of two mappings only one goes: nothing is held there, and the other can go later',
  'a mapping that it never touched goes: its pins and its work stay',
  'of two devices only the one with pins in the range loses them',
  'devices that share pages each give back their own pins, and nobody else’s',
  'another device’s pin in the first page of the range is left alone',
  'a second call for the same range does nothing',
  'a call for a range that nobody mapped does nothing',
  'a call for the whole address space gives back everything',
  'two unmaps at once',
  'after an unmap that met I/O in flight nobody writes to the page',
  'I/O elsewhere goes on while a range goes that it does not touch',
  'after an unmap the same addresses work again, with the new memory',
  'beside passthrough: pins cost nothing, an unmap gives all back',
  'passthrough comes and goes while pins are held, then an unmap gives all back',
];

// Core asks again while pages are held, so a driver that gives back one at a time is caught only where it is asked once.
const AP_ONE = [
  'devices that share pages each give back their own pins, and nobody else’s',
  'a call for the whole address space gives back everything',
];

// A program goes as a whole, so one page at the start of the range saves the others: cases with such a page pass.
const CCW = [
  'gives back a pin in the middle page of a larger mapping',
  'gives back a pin in the last page of a larger mapping',
  'gives back pins in two mappings that go in one unmap',
  'of two mappings only one goes: nothing is held there, and the other can go later',
  'of two devices only the one with pins in the range loses them',
  'gives back a pin that ends behind the range',
  'a second call for the same range does nothing',
  'a call for the whole address space gives back everything',
  'two unmaps at once',
  'after an unmap that met I/O in flight nobody writes to the page',
  'after an unmap the same addresses work again, with the new memory',
  'passthrough comes and goes while pins are held, then an unmap gives all back',
];

// Only data that begins at the first byte of the range is noticed; the suite points into pages.
const CCW_BYTES = [
  'gives back a pin in the first page of a larger mapping',
  'gives back a pin in the middle page of a larger mapping',
  'gives back a pin in the last page of a larger mapping',
  'gives back pins all over a mapping',
  'gives back pins in two mappings that go in one unmap',
  'of two mappings only one goes: nothing is held there, and the other can go later',
  'of two devices only the one with pins in the range loses them',
  'devices that share pages each give back their own pins, and nobody else’s',
  'gives back a pin that ends behind the range',
  'a second call for the same range does nothing',
  'a call for the whole address space gives back everything',
  'two unmaps at once',
  'after an unmap that met I/O in flight nobody writes to the page',
  'after an unmap the same addresses work again, with the new memory',
  'beside passthrough: pins cost nothing, an unmap gives all back',
  'passthrough comes and goes while pins are held, then an unmap gives all back',
];

const GVT = ['gives back a pin that begins below the range'];

/** Historical bugs of `dmaUnmap`, each with exactly the cases that catch it. Source: threads/2022-07. */
const bugs: readonly (readonly [bug: string, harness: VendorDriverHarness, caught: readonly string[]])[] = [
  ['ap blind-unpin', apHarness(['blind-unpin']), AP],
  ['ap first-queue-only', apHarness(['first-queue-only']), AP_ONE],
  ['ccw first-iova-only', ccwHarness(['first-iova-only']), CCW],
  ['ccw byte-compare', ccwHarness(['byte-compare']), CCW_BYTES],
  ['gvt straddle-missed', gvtHarness(['straddle-missed']), GVT],
];
for (const [bug, harness, caught] of bugs) {
  test(`the suite catches ${bug} by exactly its cases`, async () => {
    assert.deepEqual(failedCases(await runVendorDriver(harness)), caught);
  });
}
