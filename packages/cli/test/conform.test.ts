import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { inProcess, Recorded } from './console.js';
import { eventsOf, Folder } from './process.js';

const folder = new Folder();
after(() => folder[Symbol.dispose]());
const from = (name: string): string => JSON.stringify(import.meta.resolve(name));

writeFileSync(
  folder.file('backend.mjs'),
  `import { type1 } from ${from('@pinion/type1')};
const harness = {
  name: 'mine', backend: () => type1(), iommuType: 3, capabilities: ['pins', 'refuses-overlap', 'refuses-bisect', 'dma-rw', 'dirty'],
  leak: { name: 'TYPE1_PIN_LEAK', rounds: 11 },
};
export default harness;
export const wrong = [{ ...harness, name: 'wrong', backend: () => type1({ quirks: [] }), leak: { name: 'OTHER_NAME', rounds: 11 } }];`,
);
/** A driver that pins pages it is told of by a register; when \`point\`, it looks only at the first page of what goes away. */
writeFileSync(
  folder.file('driver.mjs'),
  `import { type1 } from ${from('@pinion/type1')};
const driver = (point) => ({
  name: 'pinner', deviceApi: 'vfio-pci', types: [{ id: 'one' }], pins: true,
  create({ pins }) {
    const held = new Map();
    const drop = (frame) => { held.get(frame).unpin(); held.delete(frame); };
    const dropAll = () => { for (const frame of [...held.keys()]) drop(frame); };
    return {
      hold(frame) { if (!held.has(frame)) held.set(frame, pins.pin(frame, 1, 3)); },
      idle: () => held.size === 0,
      dmaUnmap({ first, last }) {
        for (const frame of [...held.keys()]) if (point ? frame === first : frame >= first && frame <= last) drop(frame);
      },
      close: dropAll,
    };
  },
});
const harness = (name, point) => ({
  name, backend: () => type1(), iommuType: 3, capabilities: [],
  start: () => ({
    plugin: { name: 'pinner', core: '^0.1', register: (scope) => scope.vendorDriver(driver(point)) },
    driver: 'pinner', type: 'one', parent: (index) => 'card-' + index,
    pinSomething: (seat, frames) => { for (const frame of frames) seat.ops.hold(frame); },
    isIdle: (seat) => seat.ops.idle(),
  }),
});
export const good = harness('good', false);
export const pointMinded = harness('point-minded', true);`,
);
writeFileSync(folder.file('nothing.mjs'), 'export const a = 1; export default { name: "x" };');

describe('pinion conform', () => {
  test('runs the suite of backends: what fails is named, what is not declared is skipped', async () => {
    const { code, out, err } = await inProcess(['conform', './backend.mjs', '--json'], folder.path);
    assert.deepEqual([code, err], [1, '']);
    const events = eventsOf(out);
    assert.deepEqual(
      events.filter(({ event }) => event === 'suite').map(({ suite }) => suite),
      ['backend mine', 'backend wrong'],
    );
    const failed = events.filter(({ outcome }) => outcome === 'failed');
    assert.ok(failed.length > 0 && failed.every(({ suite }) => suite === 'backend wrong'));
    const skipped = events.filter(({ outcome }) => outcome === 'skipped');
    assert.ok(skipped.some(({ missing }) => Array.isArray(missing) && missing.includes('passthrough')));
    const last = events.at(-1);
    assert.deepEqual(
      [last?.['event'], last?.['failed'], last?.['skipped'], last?.['ok']],
      ['summary', failed.length, skipped.length, false],
    );
  });

  test('runs the suite of vendor drivers, and catches one that looks only at the first page', async () => {
    const { code, out } = await inProcess(['conform', './driver.mjs'], folder.path);
    assert.equal(code, 1);
    const [good = '', bad = ''] = out.split('vendor driver point-minded');
    assert.match(good, /^vendor driver good: \d+ cases\n {2}ok {3}/);
    assert.doesNotMatch(good, /FAIL/);
    assert.match(bad, /\n {2}FAIL .*\n {7}\S/);
    assert.match(out, /\d+ passed, \d+ failed, \d+ skipped\n$/);
  });

  test('--case chooses; progress is for a terminal', async () => {
    const around = new Recorded(folder.path, { terminal: true });
    assert.equal(await around.run(['conform', './backend.mjs', '--case', 'overlap']), 0);
    assert.match(around.written, /^backend mine: \d cases\n/);
    assert.match(around.complained, /backend mine 1 of \d: .*overlap/);
  });

  const WRONG: readonly (readonly [args: string, code: number, message: RegExp])[] = [
    ['', 2, /missing required argument 'MODULE'/],
    ['./none.mjs', 1, /^CLI_NO_PLUGIN \(ENOENT\)/],
    ['./nothing.mjs', 2, /^CLI_NO_HARNESS \(EINVAL\): \.\/nothing\.mjs exports no harness/],
    ['./backend.mjs --case floppy', 2, /^CLI_BAD_VALUE \(EINVAL\): --case wants text of a case, is 'floppy'/],
  ];
  for (const [args, code, message] of WRONG) {
    test(`refuses: ${args || 'nothing'}`, async () => {
      const end = await inProcess(['conform', ...args.split(' ').filter((word) => word !== '')], folder.path);
      assert.match(end.err, message);
      assert.equal(end.code, code);
    });
  }
});
