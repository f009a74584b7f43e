import assert from 'node:assert/strict';
import { asGfn, type Gfn, PinionError } from '@pinion/core';
import {
  type BackendFactory,
  FaultLog,
  type GuestWriteHandler,
  type GvtQuirk,
  type HypervisorBackend,
  KvmBackend,
  kvmBackend,
  type Leftover,
  Ppgtt,
  type PpgttOptions,
  RegisterFile,
} from '@pinion/gvt';
import { type FakeMemoryOptions, FakePins, fakeDma, KeptLog } from './fake-guest.js';

const PAGE = 4096;
export const P = 1;
export const RW = 2;
export const PS = 0x80;
export const IPS = 0x800;

export interface FakeTablesOptions extends FakeMemoryOptions {
  /** Whether guest writes to tracked pages are trapped. Default true. */
  readonly trap?: boolean;
  readonly quirks?: readonly GvtQuirk[];
  readonly ppgtt?: PpgttOptions;
  /** Default: KVM's way. */
  readonly hypervisor?: BackendFactory;
  /** Whether the guest has 64 KiB pages on. Default true. */
  readonly ips?: boolean;
}

/** A guest's tables in its memory, and their shadows. */
export class FakeTables {
  readonly pins: FakePins;
  readonly backend: HypervisorBackend;
  readonly ppgtt: Ppgtt;
  readonly log = new KeptLog();
  readonly faults = new FaultLog(new RegisterFile());
  /** Pages whose writes are trapped now. */
  readonly watched = new Map<number, GuestWriteHandler>();
  /** Names of the errors with which trapped writes were refused. */
  readonly refused: string[] = [];
  failsafe = false;
  ips: boolean;

  constructor(options: FakeTablesOptions = {}) {
    this.pins = new FakePins(options);
    this.ips = options.ips ?? true;
    const quirks = new Set(options.quirks);
    const { log, pins, faults } = this;
    const { hypervisor = kvmBackend } = options;
    this.backend = hypervisor({ device: 'vgpu', pins, dma: fakeDma(pins), log, quirks });
    if (options.trap ?? true)
      this.backend.setWriteTraps?.({ watchWrites: (gfn, onWrite) => this.#watch(gfn, onWrite) });
    this.backend.attach();
    this.ppgtt = new Ppgtt({
      backend: this.backend,
      faults,
      log,
      quirks,
      ipsEnabled: () => this.ips,
      failsafe: () => this.failsafe,
      options: options.ppgtt,
    });
    this.backend.onGuestWrite = (gpa, bytes) => {
      try {
        this.ppgtt.guestWrite(gpa, bytes);
      } catch (cause) {
        assert.ok(cause instanceof PinionError, String(cause));
        this.refused.push(cause.name);
      }
    };
  }

  /** The guest stores bytes; where that is trapped, `Ppgtt` hears of it. */
  store(gfn: number, offset: number, bytes: Uint8Array): void {
    this.pins.page(gfn).set(bytes, offset);
    this.watched.get(gfn)?.(BigInt(gfn * PAGE + offset), bytes);
  }

  /** Writes an entry of the table in guest frame `table` whole: `gfn` with `flags`. */
  entry(table: number, index: number, gfn: number, flags: number): void {
    this.store(table, index * 8, new Uint8Array(encode(gfn, flags)));
  }

  /** Writes one half of an entry. */
  half(table: number, index: number, high: boolean, value: number): void {
    this.store(table, index * 8 + (high ? 4 : 0), new Uint8Array(Uint32Array.of(value).buffer));
  }

  /** References on the mapping of a guest page, of a backend that counts them. */
  count(gfn: number): number {
    assert.ok(this.backend instanceof KvmBackend);
    return this.backend.cache?.refs(asGfn(gfn)) ?? 0;
  }

  /** Ends everything; the core has dropped what it tracks, so what is left over is a mistake unless it is asked for. */
  finish(leftovers: readonly Omit<Leftover, 'owner'>[] = []): void {
    this.ppgtt.destroyAll();
    const { mms, shadowed, tables, guestPages, unprotected } = this.ppgtt.stats;
    assert.deepEqual({ mms, shadowed, tables, guestPages, unprotected }, NOTHING);
    assert.equal(this.ppgtt.stats.mapped, 0);
    assert.equal(this.watched.size, 0, 'no page is trapped any more');
    const left = this.backend.detach().map(({ gfn, size, refs }) => ({ gfn, size, refs }));
    assert.deepEqual(
      left.sort((a, b) => a.gfn - b.gfn),
      leftovers,
    );
    assert.equal(this.pins.pages, 0);
  }

  #watch(gfn: Gfn, onWrite: GuestWriteHandler): () => void {
    assert.ok(!this.watched.has(gfn), `page ${gfn} is watched once`);
    if (!this.pins.has(gfn)) throw new PinionError('TEST_HOLE', 'EINVAL', `nothing at ${gfn}`);
    this.watched.set(gfn, onWrite);
    return () => this.watched.delete(gfn);
  }
}

const NOTHING = { mms: 0, shadowed: 0, tables: 0, guestPages: 0, unprotected: 0 };

const encode = (gfn: number, flags: number): ArrayBuffer =>
  new BigUint64Array([(BigInt(gfn) << 12n) | BigInt(flags)]).buffer;

/** Graphics address from the indexes of its levels, 4 down to 1. */
export const at = (i4: number, i3: number, i2: number, i1: number): number =>
  i4 * 2 ** 39 + i3 * 2 ** 30 + i2 * 2 ** 21 + i1 * PAGE;
