import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { asIovaFrame, asPfn, PROT_RW } from '@pinion/core';
import {
  adaptHypervisor,
  type BackendFactory,
  DISPLAY,
  type ExportedPlane,
  kvmBackend,
  PIPE_ENABLE,
  PLANE_ENABLE,
  PLANE_FORMAT,
} from '@pinion/gvt';
import fc from 'fast-check';
import { FakeGuest, POISON } from './fake-guest.js';

const PAGE = 4096;
/** Pages of the picture, and guest frames to play with. */
const PAGES = 3;
const FRAMES = 6;
/** One page of pixels: 32 by 32. */
const ROWS = 32;

type Step =
  | { readonly do: 'map' | 'clear'; readonly page: number; readonly frame: number }
  | { readonly do: 'export' | 'reset' | 'reopen' }
  | { readonly do: 'close' | 'look'; readonly handle: number }
  | { readonly do: 'unmap'; readonly frame: number; readonly count: number };

const page = fc.integer({ min: 0, max: PAGES - 1 });
const frame = fc.integer({ min: 0, max: FRAMES - 1 });
const handle = fc.nat(5);
const steps = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant('map' as const), page, frame }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('clear' as const), page, frame }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constant('export' as const) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('close' as const), handle }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('look' as const), handle }) },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant('unmap' as const), frame, count: fc.integer({ min: 1, max: 3 }) }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constantFrom('reset' as const, 'reopen' as const) }),
    },
  ),
  { maxLength: 40 },
);

/** A guest and what should be true of it: which frame each table entry holds, and which frames each handle holds. */
class Model {
  readonly guest: FakeGuest;
  readonly #table: (number | undefined)[] = new Array<number | undefined>(PAGES).fill(undefined);
  readonly #handles: { readonly plane: ExportedPlane; frames: (number | undefined)[]; open: boolean }[] = [];
  readonly #gone = new Set<number>();

  constructor(hypervisor: BackendFactory) {
    this.guest = new FakeGuest({ hypervisor, pages: 64 });
    this.#switchOn();
    for (let at = 0; at < FRAMES; at++) this.guest.pins.page(at).fill(at + 1);
  }

  run(step: Step): void {
    if (step.do === 'map') this.#map(step.page, step.frame);
    else if (step.do === 'clear') this.#clear(step.page);
    else if (step.do === 'export') this.#export();
    else if (step.do === 'close') this.#close(step.handle);
    else if (step.do === 'look') this.#look(step.handle);
    else if (step.do === 'unmap') this.#unmap(step.frame, step.count);
    else this.#restart(step.do);
    this.#check();
  }

  finish(): void {
    for (const { plane } of this.#handles) plane.close();
    this.guest.finish();
  }

  #map(at: number, to: number): void {
    this.guest.writeEntry(this.guest.low.base + at * PAGE, (BigInt(to) << 12n) | 3n);
    this.#table[at] = this.#gone.has(to) ? undefined : to;
  }

  #clear(at: number): void {
    this.guest.writeEntry(this.guest.low.base + at * PAGE, 0n);
    this.#table[at] = undefined;
  }

  #export(): void {
    const whole = this.#table.every((each) => each !== undefined);
    if (!whole) {
      assert.throws(() => this.guest.device.exportPlane(), { name: 'GVT_EXPORT_PAGE', errno: 'EINVAL' });
      return;
    }
    const plane = this.guest.device.exportPlane();
    assert.ok(plane);
    this.#handles.push({ plane, frames: [...this.#table], open: true });
  }

  #close(index: number): void {
    const picked = this.#handles[index];
    picked?.plane.close();
    if (picked !== undefined) Object.assign(picked, { open: false, frames: [] });
  }

  /** Each page of the picture has the shade of its frame, or is black where the frame is gone. */
  #look(index: number): void {
    const picked = this.#handles[index];
    if (picked === undefined) return;
    const { pixels } = picked.plane.frame();
    assert.equal(pixels.includes(POISON), false);
    for (let at = 0; at < PAGES; at++) {
      const shown: number | undefined = picked.frames[at];
      assert.equal(pixels[at * ROWS * 32 * 4], shown === undefined ? 0 : shown + 1);
    }
  }

  #unmap(first: number, count: number): void {
    this.guest.unmap(first, count);
    for (let at = first; at < first + count; at++) this.#forget(at);
  }

  #forget(gone: number): void {
    this.#gone.add(gone);
    const without = (frames: readonly (number | undefined)[]) =>
      frames.map((each) => (each === gone ? undefined : each));
    this.#table.splice(0, PAGES, ...without(this.#table));
    for (const each of this.#handles) each.frames = without(each.frames);
  }

  #restart(how: 'reset' | 'reopen'): void {
    if (how === 'reset') this.guest.device.reset();
    else {
      this.guest.device.close();
      this.guest.device.open();
    }
    this.#table.fill(undefined);
    for (const each of this.#handles) each.frames = each.frames.map(() => undefined);
    this.#switchOn();
  }

  #switchOn(): void {
    this.guest.write32(DISPLAY.TRANSCONF, PIPE_ENABLE);
    this.guest.write32(DISPLAY.PIPESRC, (31 << 16) | (PAGES * ROWS - 1));
    this.guest.write32(DISPLAY.PLANE_STRIDE, 2);
    this.guest.write32(DISPLAY.PLANE_CTL, (PLANE_ENABLE | PLANE_FORMAT.XRGB8888) >>> 0);
    this.guest.write32(DISPLAY.PLANE_SURF, this.guest.low.base);
  }

  /** Pinned is exactly what the table or an open handle holds. */
  #check(): void {
    const held = new Set([this.#table, ...this.#handles.map(({ frames }) => frames)].flat());
    held.delete(undefined);
    assert.equal(this.guest.pins.pages, held.size);
    for (const { plane, frames, open } of this.#handles) {
      const left = frames.filter((each) => each !== undefined).length;
      const state = left === 0 || !open ? 'revoked' : left === PAGES ? 'live' : 'partly-revoked';
      assert.equal(plane.state, state);
    }
  }
}

describe('exported planes, whatever happens in whatever order', () => {
  const backends: readonly (readonly [name: string, hypervisor: BackendFactory])[] = [
    ['kvm', kvmBackend],
    [
      'adapter',
      adaptHypervisor(({ pins }) => {
        const out = new Float64Array(1);
        return {
          kind: 'adapted',
          pin: (gfn) => {
            pins.pinInto(asIovaFrame(gfn), 1, PROT_RW, out);
            return asPfn(out[0] ?? 0);
          },
          unpin: (gfn) => pins.unpin(asIovaFrame(gfn), 1),
        };
      }),
    ],
  ];
  for (const [name, hypervisor] of backends) {
    test(`pins are those of table and handles, and poison is never seen: ${name}`, () => {
      fc.assert(
        fc.property(steps, (script) => {
          const model = new Model(hypervisor);
          for (const step of script) model.run(step);
          model.finish();
        }),
        { numRuns: 80 },
      );
    });
  }
});
