import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CancelHaltClear,
  type CcwDevice,
  type CcwState,
  CLEARS,
  commandOrb,
  createCcwDriver,
  QUIESCE_WAIT,
  SCSW,
} from '@pinion/ccw';
import type { Clock } from '@pinion/core';
import { FakeGuest, framesOf } from './fake-guest.js';
import { FakeSubchannel } from './fake-subchannel.js';
import { AT } from './subchannel.js';

const PARENT = '0.0.1234';
const FINAL = SCSW.FORMAT1 | SCSW.START | SCSW.PRIMARY | SCSW.SECONDARY | SCSW.PENDING;
const orb = commandOrb(AT.ccws);
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

interface Bench {
  readonly guest: FakeGuest;
  readonly host: FakeSubchannel;
  readonly device: CcwDevice;
  readonly told: number[];
  readonly lost: string[];
  readonly clock: TickingClock;
}

/** Time passes when a test says so; every wait of the driver is seen. */
class TickingClock implements Clock {
  readonly waits: number[] = [];
  #action: (() => void) | undefined;

  now(): number {
    return this.waits.reduce((sum, wait) => sum + wait, 0);
  }

  after(delay: number, action: () => void): () => void {
    this.#action = () => {
      this.waits.push(delay);
      action();
    };
    return () => {
      this.#action = undefined;
    };
  }

  get waiting(): boolean {
    return this.#action !== undefined;
  }

  tick(): void {
    this.#action?.();
  }
}

function bench(host = new FakeSubchannel(), quirks: readonly string[] = []): Bench {
  const guest = new FakeGuest(0x10000, 256);
  guest.pokeHex(AT.ccws, '02 00 0001 10042000');
  const lost: string[] = [];
  const clock = new TickingClock();
  const options = { units: {}, subchannels: { [PARENT]: host }, quirks, lost: (name: string) => void lost.push(name) };
  const device = createCcwDriver(options).create(guest.context({ clock }));
  const told: number[] = [];
  device.setIrqSink((index) => void told.push(index));
  return { guest, host, device, told, lost, clock };
}

/** Brings a device into a state, then lets something happen in it. */
async function inState(state: CcwState, act: (bench: Bench) => unknown): Promise<Bench & { outcome: string }> {
  const made = bench();
  const { device, host } = made;
  let outcome = '';
  const run = async (): Promise<void> => {
    try {
      await act(made);
      outcome = 'done';
    } catch (failure) {
      outcome = String(failure).split(':')[0] ?? '';
    }
  };
  if (state === 'not-oper') await device.notOperational();
  if (state === 'idle' || state === 'cp-pending' || state === 'cp-processing') device.open();
  if (state === 'cp-pending') device.start(orb);
  let running: Promise<void> | undefined;
  if (state === 'cp-processing') {
    host.onStart = () => {
      host.onStart = () => {};
      assert.equal(device.state, 'cp-processing');
      running = run();
    };
    try {
      device.start(orb);
    } catch {
      // why: an event inside the start may well refuse it
    }
  } else {
    assert.equal(device.state, state);
    running = run();
  }
  await turn();
  for (let ticks = 0; made.clock.waiting && ticks < 300; ticks += 1) {
    host.interrupt(FINAL);
    await turn();
  }
  await running;
  return { ...made, outcome };
}

const events = {
  lost: ({ device }: Bench) => device.notOperational(),
  start: ({ device }: Bench) => device.start(orb),
  interruption: ({ host }: Bench) => host.interrupt(FINAL),
  halt: ({ device }: Bench) => device.halt(),
  clear: ({ device }: Bench) => device.clear(),
  open: ({ device }: Bench) => device.open(),
  close: ({ device }: Bench) => device.close(),
} as const;

const REFUSED = 'CCW_NOT_OPERATIONAL (EIO)';
const BUSY = 'CCW_PROCESSING (EAGAIN)';
const GONE = 'CCW_LOST (EINVAL)';

/** Every event in every state: its outcome, the state after it. B.2, row by row. */
const rows: readonly (readonly [keyof typeof events, CcwState, outcome: string, after: CcwState])[] = [
  ['lost', 'not-oper', 'done', 'not-oper'],
  ['lost', 'standby', 'done', 'not-oper'],
  ['lost', 'idle', 'done', 'not-oper'],
  ['lost', 'cp-processing', 'done', 'not-oper'],
  ['lost', 'cp-pending', 'done', 'not-oper'],
  ['start', 'not-oper', REFUSED, 'not-oper'],
  ['start', 'standby', REFUSED, 'standby'],
  ['start', 'idle', 'done', 'cp-pending'],
  ['start', 'cp-processing', BUSY, 'cp-pending'],
  ['start', 'cp-pending', 'CCW_PENDING (EBUSY)', 'cp-pending'],
  ['interruption', 'not-oper', 'done', 'not-oper'],
  ['interruption', 'standby', 'done', 'standby'],
  ['interruption', 'idle', 'done', 'idle'],
  ['interruption', 'cp-processing', 'done', 'cp-pending'],
  ['interruption', 'cp-pending', 'done', 'idle'],
  ['halt', 'not-oper', REFUSED, 'not-oper'],
  ['halt', 'standby', REFUSED, 'standby'],
  ['halt', 'idle', 'done', 'idle'],
  ['halt', 'cp-processing', BUSY, 'cp-pending'],
  ['halt', 'cp-pending', 'done', 'cp-pending'],
  ['clear', 'not-oper', REFUSED, 'not-oper'],
  ['clear', 'standby', REFUSED, 'standby'],
  ['clear', 'idle', 'done', 'idle'],
  ['clear', 'cp-processing', BUSY, 'cp-pending'],
  ['clear', 'cp-pending', 'done', 'cp-pending'],
  ['open', 'not-oper', GONE, 'not-oper'],
  ['open', 'standby', 'done', 'idle'],
  ['open', 'idle', GONE, 'not-oper'],
  ['open', 'cp-processing', GONE, 'not-oper'],
  ['open', 'cp-pending', GONE, 'not-oper'],
  ['close', 'not-oper', 'done', 'not-oper'],
  ['close', 'standby', 'done', 'not-oper'],
  ['close', 'idle', 'done', 'standby'],
  ['close', 'cp-processing', 'done', 'standby'],
  ['close', 'cp-pending', 'done', 'standby'],
];
for (const [event, state, outcome, after] of rows)
  test(`${event} in ${state}: ${outcome}, then ${after}`, async () => {
    const made = await inState(state, events[event]);
    assert.deepEqual([made.outcome, made.device.state], [outcome, after]);
    assert.equal(made.guest.pinned, after === 'cp-pending' ? 1 : 0);
    assert.equal(made.lost.length, after === 'not-oper' ? 1 : 0);
    if (event === 'interruption' && (state === 'standby' || state === 'not-oper'))
      assert.equal(made.host.enabled, false);
    await made.device.remove();
    assert.equal(made.guest.pinned, 0);
  });

/** Word 0 of an IRB while a program is in flight; whether the program is freed. */
const statuses: readonly (readonly [what: string, word0: number, freed: boolean])[] = [
  ['the final status', FINAL, true],
  ['a PCI interruption', FINAL | SCSW.INTERMEDIATE | SCSW.SUBCHANNEL_ACTIVE | SCSW.DEVICE_ACTIVE, false],
  ['the device is still active', FINAL | SCSW.DEVICE_ACTIVE, false],
  ['an unsolicited alert', SCSW.FORMAT1 | SCSW.ALERT | SCSW.PENDING, false],
  ['an alert with a deferred condition code', 0x0300_0000 | SCSW.START | SCSW.ALERT | SCSW.PENDING, true],
  ['a halt', SCSW.FORMAT1 | SCSW.HALT | SCSW.PENDING, true],
];
for (const [what, word0, freed] of statuses)
  test(`${what} ${freed ? 'frees' : 'keeps'} the program, and is told`, async () => {
    const { guest, device, host, told } = bench();
    device.open();
    device.start(orb);
    host.interrupt(word0);
    assert.deepEqual([device.state, guest.pinned, told], freed ? ['idle', 0, [0]] : ['cp-pending', 1, [0]]);
    await device.remove();
  });

const refusals = [
  [1, 'CCW_FUNCTION_BUSY', 'EBUSY'],
  [2, 'CCW_FUNCTION_BUSY', 'EBUSY'],
  [3, 'CCW_SUBCHANNEL_GONE', 'ENODEV'],
] as const;
for (const [cc, name, errno] of refusals) {
  for (const [instruction, ask] of [
    ['ssch', (device: CcwDevice) => device.start(orb)],
    ['hsch', (device: CcwDevice) => device.halt()],
    ['csch', (device: CcwDevice) => device.clear()],
  ] as const)
    test(`${instruction} answers cc ${cc}: ${errno}, nothing stays pinned, state idle`, async () => {
      const { guest, device } = bench(new FakeSubchannel({ [instruction]: [cc] }));
      device.open();
      assert.throws(() => ask(device), { name, errno });
      assert.deepEqual([device.state, guest.pinned], ['idle', 0]);
      await device.remove();
    });
}

test('cc 3 of a start takes its paths away: EACCES while others are left, then ENODEV, until vary on', async () => {
  const { device } = bench(new FakeSubchannel({ ssch: [3, 3] }));
  device.open();
  assert.throws(() => device.start({ ...orb, word1: (orb.word1 & ~0xff00) | 0x4000 }), { errno: 'EACCES' });
  assert.throws(() => device.start({ ...orb, word1: orb.word1 & ~0xff00 }), { errno: 'ENODEV' });
  assert.equal(device.paths.usable, 0);
  device.pathEvent('vary-on');
  assert.deepEqual(device.paths, { usable: 0x80, allowed: 0xff });
  await device.remove();
});

test('reports queue up, each read takes the oldest, and interrupt 1 comes again while more are left', async () => {
  const { device, told } = bench();
  device.pathEvent('offline', 7);
  assert.equal(told.length, 0, 'another path');
  for (const event of ['offline', 'online', 'vary-off', 'vary-on'] as const) device.pathEvent(event);
  device.open();
  const read = (offset: number, length: number): string => {
    const bytes = new Uint8Array(length);
    device.readRegion(3, offset, bytes);
    return Buffer.from(bytes).toString('hex');
  };
  assert.deepEqual([read(4, 4), device.pread({ index: 3, offset: 0, length: 8 }, () => false)], ['00000000', -14]);
  told.length = 0;
  assert.deepEqual([read(0, 8), told], ['0406000000000000', [1]]);
  assert.deepEqual([read(0, 8), told], ['0402000000000000', [1]]);
  assert.deepEqual([read(0, 8), told], ['0000000000000000', [1]]);
  await device.remove();
});

test('the quirk crw-read-pops: a read beside the report loses it', async () => {
  const { device } = bench(new FakeSubchannel(), ['crw-read-pops']);
  device.pathEvent('offline');
  const bytes = new Uint8Array(4);
  device.readRegion(3, 4, bytes);
  device.readRegion(3, 0, bytes);
  assert.deepEqual([...bytes], [0, 0, 0, 0]);
  await device.remove();
});

for (const quirks of [[], ['path-strands-program', 'path-halts-idle']]) {
  test(`the path of a program goes${quirks.length > 0 ? ', with the quirks: pages stay' : ': it is halted and told'}`, async () => {
    const { guest, device, host, told } = bench(new FakeSubchannel({ xsch: quirks.length > 0 ? [0] : [] }), quirks);
    device.open();
    device.start(orb);
    device.pathEvent('vary-off');
    if (quirks.length === 0) host.interrupt(SCSW.FORMAT1 | SCSW.HALT | SCSW.PENDING);
    assert.deepEqual(
      [device.state, guest.pinned, told.length],
      quirks.length > 0 ? ['cp-pending', 1, 0] : ['idle', 0, 1],
    );
    await device.remove();
    assert.equal(guest.pinned, 0);
  });
}

test('an idle path that goes halts nothing', async () => {
  const { device, host } = bench();
  device.open();
  device.pathEvent('vary-off');
  assert.deepEqual(host.calls, ['msch 0']);
  await device.remove();
});

test('I/O that never ends: XSCH, HSCH, then 255 CSCH, 3 s each; then the device is lost and says EIO', async () => {
  const { guest, device, host, clock, lost, told } = bench();
  device.open();
  device.start(orb);
  host.calls.length = 0;
  const closing = device.close();
  const outcome = assert.rejects(closing, { name: 'CCW_STUCK', errno: 'EIO' });
  for (let ticks = 0; ticks < 600 && device.state !== 'not-oper'; ticks += 1) {
    await turn();
    clock.tick();
  }
  await outcome;
  const count = (name: string): number => host.calls.filter((call) => call.startsWith(name)).length;
  assert.deepEqual([count('xsch'), count('hsch') >= 1 && count('hsch') <= 3, count('csch')], [1, true, CLEARS]);
  assert.ok(clock.waits.every((wait) => wait === QUIESCE_WAIT));
  assert.deepEqual([device.state, lost.length, guest.pinned, told.length], ['not-oper', 1, 0, 0]);
});

test('halts that are refused three times are followed by clears', () => {
  const host = new FakeSubchannel({ hsch: [2, 2, 2], csch: [3] });
  host.enabled = true;
  host.activity = SCSW.DEVICE_ACTIVE;
  const attempts = new CancelHaltClear(host, 3);
  assert.equal(attempts.attempt(), 'gone');
  assert.deepEqual(host.calls, ['xsch 2', 'hsch 2', 'csch 3']);
});

const firstAttempts = [
  ['XSCH takes it', { xsch: [0] }, 'idle'],
  ['status pending', { xsch: [1] }, 'busy'],
  ['no subchannel', { xsch: [3] }, 'gone'],
  ['HSCH takes it', { xsch: [2], hsch: [0] }, 'busy'],
  ['no subchannel at HSCH', { xsch: [2], hsch: [3] }, 'gone'],
  ['CSCH takes it', { xsch: [2], hsch: [1], csch: [0] }, 'busy'],
] as const;
for (const [what, script, outcome] of firstAttempts)
  test(`cancel, halt, clear: ${what}`, () => {
    const host = new FakeSubchannel(script);
    host.enabled = true;
    assert.equal(new CancelHaltClear(host).attempt(), outcome);
  });

test('the subchannel goes while a close waits for it', async () => {
  const { guest, device, host } = bench();
  device.open();
  device.start(orb);
  const closing = device.close();
  await turn();
  host.gone = true;
  device.checkSubchannel();
  await closing;
  assert.deepEqual([device.state, guest.pinned], ['not-oper', 0]);
});

test('an unmapping of a program that never ends is EIO, and the page goes with the device', async () => {
  const { guest, device, clock } = bench();
  device.open();
  device.start(orb);
  const outcome = assert.rejects(device.dmaUnmap(framesOf(0x1004_0000, 0x4000)), { name: 'CCW_STUCK' });
  for (let ticks = 0; ticks < 600 && device.state !== 'not-oper'; ticks += 1) {
    await turn();
    clock.tick();
  }
  await outcome;
  assert.equal(guest.pinned, 0);
});
