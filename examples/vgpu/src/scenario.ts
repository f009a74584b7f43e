import { writeFileSync } from 'node:fs';
import { PinionError } from '@pinion/core';
import type { FakeClock } from '@pinion/testkit';
import { EmbeddedVm, encodePng, type Host, type Picture, screenOf, type VmDescription } from '@pinion/vm';
import { curve, triangle } from './artwork.js';
import { Painter } from './painter.js';
import { sideBySide } from './picture.js';

/** A vGPU that just started goes first for two seconds; after them weights decide. */
const HEAD_START = 2100;
const MEASURED = 1000;
/** How far a share may be from its weight. */
const TOLERANCE = 0.1;

/** One line of what happened: what, the facts, and whether it was as it should be. */
export type Tell = (what: string, facts: string, ok: boolean) => void;

/** Where the example runs. `png`: where the picture goes. */
export interface Stage {
  readonly host: Host;
  readonly clock: FakeClock;
  readonly descriptions: { readonly left: VmDescription; readonly right: VmDescription };
  readonly png: string;
  readonly tell: Tell;
}

/** Two guests share one GPU; things happen to each of them, and the other one draws on. */
export async function runScenario(stage: Stage): Promise<void> {
  const { host, tell, descriptions } = stage;
  const left = new Painter(await EmbeddedVm.start(host, descriptions.left), triangle);
  const right = new Painter(await EmbeddedVm.start(host, descriptions.right), curve);
  tell('two VMs started', `${facts(left)}; ${facts(right)}`, true);
  await shareTheGpu(stage, left, right);
  await hang(stage, left, right);
  await sleepAndWake(stage, left, right);
  const shown = [screenOf(deviceOf(left)), screenOf(deviceOf(right))] as const;
  save(stage, sideBySide(...shown));
  await killOne(stage, left, right);
  await stopOther(stage, right);
}

async function shareTheGpu({ clock, tell }: Stage, left: Painter, right: Painter): Promise<void> {
  left.begin();
  right.begin();
  await passed(clock, HEAD_START);
  const before = [engineTime(left), engineTime(right)] as const;
  await passed(clock, MEASURED);
  const used = [engineTime(left) - before[0], engineTime(right) - before[1]] as const;
  const share = used[0] / (used[0] + used[1]);
  const wanted = weight(left) / (weight(left) + weight(right));
  await Promise.all([left.rest(), right.rest()]);
  tell(
    'both draw for a second',
    `weights ${weight(left)}:${weight(right)}, engine time ${used.map(Math.round).join(':')} ms (left ${percent(share)} of ${percent(wanted)})`,
    Math.abs(share - wanted) <= TOLERANCE,
  );
  tell('what is pinned', `${pinned(left)}; ${pinned(right)}`, pages(left) > 0 && pages(right) > 0);
}

async function hang({ tell }: Stage, left: Painter, right: Painter): Promise<void> {
  const frames = right.frames;
  right.begin();
  const failure = await left.hang();
  await left.drawFrame();
  await right.rest();
  tell(
    'left runs a batch without end',
    `${nameOf(failure)}; reset, and it draws again; meanwhile right drew ${right.frames - frames} frames`,
    nameOf(failure) === 'VM_GPU_HUNG' && right.frames > frames,
  );
}

async function sleepAndWake({ tell }: Stage, left: Painter, right: Painter): Promise<void> {
  const tables = right.device.ppgtt.stats.tables;
  const frames = left.frames;
  left.begin();
  await right.sleepAndWake();
  const kept = right.device.ppgtt.stats.tables;
  await right.drawFrame();
  await left.rest();
  tell(
    'right sleeps (D3hot), is reset, wakes',
    `${kept} of ${tables} shadow tables kept; it draws again; left drew ${left.frames - frames} frames meanwhile`,
    kept === tables && tables > 0,
  );
}

async function killOne({ clock, tell }: Stage, left: Painter, right: Painter): Promise<void> {
  const frames = right.frames;
  left.begin();
  right.begin();
  await passed(clock, 50);
  await left.vm.kill();
  const reason = await left.rest();
  const after = pages(left);
  await passed(clock, 200);
  await right.rest();
  tell(
    'left is killed while it draws',
    `its program: ${nameOf(reason)}; ${after} pages pinned for it; right drew ${right.frames - frames} frames meanwhile`,
    after === 0 && nameOf(reason) === 'VM_KILLED' && right.frames > frames,
  );
}

async function stopOther({ tell }: Stage, right: Painter): Promise<void> {
  right.stop();
  const after = pages(right);
  await right.vm.stop();
  tell('right gives everything back and stops', `${after} pages pinned for it before its device closed`, after === 0);
}

function save({ png, tell }: Stage, picture: Picture): void {
  writeFileSync(png, encodePng(picture));
  tell(
    'both screens',
    `${picture.width} x ${picture.height}, ${png}`,
    picture.pixels.some((byte) => byte > 0xf0),
  );
}

/** Waits until so many milliseconds of the clock have passed. */
const passed = (clock: FakeClock, milliseconds: number): Promise<void> =>
  new Promise((resolve) => void clock.after(milliseconds, resolve));

const deviceOf = ({ vm }: Painter) => {
  const device = vm.slots[0]?.device;
  if (device === undefined) throw new TypeError(`VM ${vm.name} has no device`);
  return device;
};
const weight = ({ device }: Painter): number => device.resources.type.weight;
const engineTime = ({ device }: Painter): number => device.submission.engineTime;
const pages = ({ vm }: Painter): number => [...vm.accounting.pinnedPages.values()].reduce((sum, one) => sum + one, 0);
const percent = (part: number): string => `${Math.round(part * 100)} %`;
const nameOf = (failure: unknown): string => (failure instanceof PinionError ? failure.name : String(failure));
const facts = ({ vm, device }: Painter): string =>
  `${vm.name}: ${device.resources.type.id}, weight ${device.resources.type.weight}`;
const pinned = (painter: Painter): string => {
  const { ppgtt, stats } = painter.device;
  return `${painter.vm.name}: ${pages(painter)} pages for ${stats.tableEntries} global entries and ${ppgtt.stats.tables} shadow tables`;
};
