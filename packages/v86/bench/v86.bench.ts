/**
 * How long it takes from nothing to a guest that has driven its devices, and what an interrupt, a register access and an nvme command cost
 * there. The first boot of a process compiles the emulator and runs its self-test. With PINION_BENCH_JSON the rows also go to that file.
 */
import { appendFileSync } from 'node:fs';
import { deviceKinds } from '@pinion/example-devices';
import { V86Vm, v86 } from '@pinion/v86';
import { createRegistry, Host } from '@pinion/vm';
import { DESCRIPTION, DEVICES_IMAGE, pcDescription, TurnClock } from '../test/pc.js';

const ROUNDS = Math.max(1, Number(process.env['PINION_BENCH_ROUNDS'] ?? 5) || 5);
const STORM = 5000;
const READS = 100_000;
const TRANSFERS = 5000;

interface Row {
  readonly case: string;
  readonly value: number;
  readonly unit: 'ms' | 'us';
}

const middle = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

/** Milliseconds from nothing to the guest's first line, and to its end. */
async function boot(commandLine: string): Promise<{ readonly first: number; readonly end: number }> {
  const begin = performance.now();
  const registry = createRegistry({ kinds: deviceKinds({ edu: { dmaDelay: 0 } }), hypervisors: [v86] });
  const description = pcDescription(registry, DESCRIPTION);
  const host = await Host.create(description, { registry, clock: new TurnClock() });
  const vm = await V86Vm.start(host, description, { image: DEVICES_IMAGE, commandLine });
  let first = 0;
  vm.serial.onLine(() => {
    if (first === 0) first = performance.now() - begin;
  });
  await vm.run();
  const end = performance.now() - begin;
  await vm.stop();
  await host.close();
  return { first, end };
}

async function rounds(commandLine: string): Promise<{ readonly first: number; readonly end: number }> {
  const all = [];
  for (let round = 0; round < ROUNDS; round += 1) all.push(await boot(commandLine));
  return { first: middle(all.map(({ first }) => first)), end: middle(all.map(({ end }) => end)) };
}

async function measure(): Promise<readonly Row[]> {
  const cold = await boot('list');
  const warm = await rounds('list');
  const driven = await rounds('');
  const storm = await rounds(`storm=${STORM}`);
  const reads = await rounds(`reads=${READS}`);
  const transfers = await rounds(`transfers=${TRANSFERS}`);
  const each = (end: number, count: number): number => ((end - warm.end) * 1000) / count;
  return [
    { case: 'first boot of a process, to the first line', value: cold.first, unit: 'ms' },
    { case: 'boot, to the first line', value: warm.first, unit: 'ms' },
    { case: 'boot, to all devices driven', value: driven.end, unit: 'ms' },
    { case: 'register read', value: each(reads.end, READS), unit: 'us' },
    { case: 'interrupt: raise, wake, acknowledge', value: each(storm.end, STORM), unit: 'us' },
    { case: 'doorbell, 4 KiB by DMA, interrupt', value: each(transfers.end, TRANSFERS), unit: 'us' },
  ];
}

const rows = await measure();
for (const { case: name, value, unit } of rows)
  process.stdout.write(`${name.padEnd(46)} ${value.toFixed(2).padStart(8)} ${unit}\n`);
const file = process.env['PINION_BENCH_JSON'];
if (file !== undefined && file !== '') appendFileSync(file, `${JSON.stringify({ bench: 'v86', rows })}\n`);
