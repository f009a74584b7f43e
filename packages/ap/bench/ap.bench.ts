/**
 * Signatures per second and queue next to plain node:crypto, and pins per second when interrupts go on and off through core and type1.
 * With PINION_BENCH_JSON the rows also go to that file.
 */

import { constants, createPrivateKey, privateDecrypt } from 'node:crypto';
import { appendFileSync } from 'node:fs';
import {
  ApDevice,
  type ApDriverOptions,
  answer,
  ap,
  aqicRegister1,
  decodeReply,
  encodeRequest,
  PQAP_FUNCTION,
  pqapRegister0,
  RESPONSE,
} from '@pinion/ap';
import { type Clock, createMediator, EXTENSION, PROT_RW } from '@pinion/core';
import { SimulatedOs } from '@pinion/testkit';
import { type1 } from '@pinion/type1';
import { KEYS } from '../test/keys.js';

const ROUNDS = Math.max(1, Number(process.env['PINION_BENCH_ROUNDS'] ?? 3) || 3);
const UUID = '00000000-0000-4000-8000-000000000001';
const DOMAINS = [0, 1] as const;
const DEPTH = 8;
const SECOND = 1000;
const MODULUS = { 1024: 300, 2048: 150, 4096: 30 } as const;

/** One line of the table; `yardstick` is plain node:crypto in the same run, per second too. */
interface Row {
  readonly case: string;
  readonly operation: string;
  readonly value: number;
  readonly unit: '/s';
  readonly yardstick?: number;
}

const middle = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

/** Operations per second, the median of some rounds. `run` does `count`. */
async function rate(count: number, run: () => void | Promise<void>): Promise<number> {
  const rates: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const start = performance.now();
    await run();
    rates.push((count * SECOND) / (performance.now() - start));
  }
  return middle(rates);
}

/** What is due at once comes in the next turn of the event loop, without the millisecond that a timer takes. */
const turns: Clock = {
  now: () => performance.now(),
  after(delay, action) {
    if (delay > 0) {
      const timer = setTimeout(action, delay).unref();
      return () => clearTimeout(timer);
    }
    const turn = setImmediate(action);
    return () => clearImmediate(turn);
  },
};

/** A guest's matrix with two queues, in a container with 64 pages of memory. */
async function start(options: Partial<ApDriverOptions>) {
  const os = new SimulatedOs();
  const task = os.spawn({ name: 'vmm' });
  const driver = ap({
    adapters: [0],
    domains: DOMAINS,
    matrix: { adapters: [0], domains: DOMAINS },
    depth: DEPTH,
    ...options,
  });
  const mediator = await createMediator({ memory: os.host, clock: turns, plugins: [type1(), driver] });
  const mdev = await mediator.registerParent('matrix', 'ap').create('passthrough', UUID);
  const device = mdev.device.ops;
  if (!(device instanceof ApDevice)) throw new TypeError('not an AP device');
  let told = (): void => {};
  device.setGuest({ interrupt: () => told() });
  const container = mediator.openContainer(task);
  const group = mdev.group.open(task);
  group.setContainer(container);
  container.setIommu(EXTENSION.TYPE1v2_IOMMU);
  await group.openDevice(UUID);
  const size = 64n * 4096n;
  container.mapDma({ iova: 0n, size, vaddr: task.memory.mmap({ size }), prot: PROT_RW });
  const onInterrupt = (listener: () => void): void => {
    told = listener;
  };
  return { device, onInterrupt, end: () => mediator.close() };
}

const number = (base64: string): Uint8Array => Buffer.from(base64, 'base64url');

function requestOf(bits: keyof typeof MODULUS): { message: Uint8Array; plain: () => void } {
  const key = KEYS[bits];
  const clear = new Uint8Array(bits / 8).fill(0x2a, 1);
  const crt = { p: number(key.p), q: number(key.q), dp: number(key.dp), dq: number(key.dq), u: number(key.qi) };
  const privateKey = createPrivateKey({ key, format: 'jwk' });
  const options = { key: privateKey, padding: constants.RSA_NO_PADDING };
  return {
    message: encodeRequest({ form: 'CRT', ...crt, message: clear }),
    plain: () => void privateDecrypt(options, clear),
  };
}

/** Has `count` messages answered by each of the queues, which are kept full. Settles when all are. */
function flood(
  { device, onInterrupt }: Awaited<ReturnType<typeof start>>,
  load: { message: Uint8Array; count: number; queues: readonly number[] },
): Promise<void> {
  return new Promise((resolve) => {
    const sent = new Map(load.queues.map((apqn) => [apqn, 0]));
    let answered = 0;
    const fill = (): void => {
      for (const apqn of load.queues) {
        while (device.dqap(apqn, 4096).status.code === RESPONSE.NORMAL) answered += 1;
        for (let next = sent.get(apqn) ?? 0; next < load.count; sent.set(apqn, ++next)) {
          if (device.nqap(apqn, BigInt(next), load.message).code !== RESPONSE.NORMAL) break;
        }
      }
      if (answered === load.count * load.queues.length) resolve();
    };
    onInterrupt(fill);
    fill();
  });
}

async function signatures(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const bits of [1024, 2048, 4096] as const) {
    const { message, plain } = requestOf(bits);
    const count = MODULUS[bits];
    const reply = decodeReply(answer({ mode: 'accelerator', domain: 0, message }));
    if (!reply.ok) throw new TypeError(`the card refused with ${reply.code}`);
    const yardstick = await rate(count, () => {
      for (let one = 0; one < count; one++) plain();
    });
    for (const queues of [[0], DOMAINS]) {
      const room = await start({ threads: queues.length });
      for (const apqn of queues) room.device.pqap(pqapRegister0(PQAP_FUNCTION.AQIC, apqn), aqicRegister1(1), 0x1000n);
      await flood(room, { message, count: 10, queues });
      const total = await rate(count * queues.length, () => flood(room, { message, count, queues }));
      await room.end();
      const name = queues.length === 1 ? 'one queue' : `each of ${queues.length} queues`;
      rows.push({ case: `sign, ${bits} bits`, operation: name, value: total / queues.length, unit: '/s', yardstick });
    }
  }
  return rows;
}

async function pins(): Promise<Row[]> {
  const room = await start({ threads: 0 });
  const { device } = room;
  const gr0 = pqapRegister0(PQAP_FUNCTION.AQIC, 0);
  const on = aqicRegister1(1);
  const count = 20_000;
  const onOff = await rate(count, () => {
    for (let one = 0; one < count; one++) {
      device.pqap(gr0, on, 0x1000n);
      device.pqap(gr0, 0n, 0n);
    }
  });
  const move = await rate(count, () => {
    for (let one = 0; one < count; one++) device.pqap(gr0, on, one % 2 === 0 ? 0x1000n : 0x2000n);
  });
  await room.end();
  return [
    { case: 'interrupts', operation: 'pins by AQIC on and off', value: onOff, unit: '/s' },
    { case: 'interrupts', operation: 'pins by AQIC elsewhere', value: move, unit: '/s' },
  ];
}

function print(rows: readonly Row[]): void {
  for (const { case: name, operation, value, unit, yardstick } of rows) {
    const beside = yardstick === undefined ? '' : `node:crypto ${yardstick.toFixed(0).padStart(6)} ${unit}`;
    const ratio = yardstick === undefined ? '' : `${(value / yardstick).toFixed(2)} x`;
    const line = `${name.padEnd(16)} ${operation.padEnd(24)} ${value.toFixed(0).padStart(8)} ${unit}  ${beside.padEnd(24)} ${ratio}`;
    process.stdout.write(`${line.trimEnd()}\n`);
  }
  const file = process.env['PINION_BENCH_JSON'];
  if (file !== undefined && file !== '') appendFileSync(file, `${JSON.stringify({ bench: 'ap', rows })}\n`);
}

print([...(await signatures()), ...(await pins())]);
