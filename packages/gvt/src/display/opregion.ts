import { hex, type Log } from '@pinion/core';
import { FewWarnings } from '../few-warnings.js';
import type { HypervisorBackend } from '../hypervisor/backend.js';
import { makeVbt, putText } from './vbt.js';

/** Bytes of the OpRegion. */
export const OPREGION_SIZE = 8192;
/** Offsets in the OpRegion. Source: ACPI / OpRegion specification; i915 gvt opregion.c. */
export const OPREGION = {
  SIZE: 0x10,
  VERSION: 0x14,
  MAILBOXES: 0x58,
  /** Current state of the lid. */
  CLID: 0x1ac,
  /** A service's function, its result, and its parameter. */
  SCIC: 0x200,
  PARM: 0x204,
  VBT: 0x400,
} as const;

const SIGNATURE = 'IntelGraphicsMem';
const SIZE_KB = 8;
const VERSION = 0x02000000;
/** Mailbox 4: the video BIOS table. */
const MAILBOX_VBT = 1 << 3;
const LID_OPEN = 3;
/** SWSCI: an SCI, not an SMI; and its trigger. */
const SELECT_SCI = 0x8000;
const TRIGGER = 1;
/** SCIC: the call is under way; exit status (0: failure); function; sub-function. */
const INDICATOR = 1;
const EXIT_STATUS = 0xe0;
const FUNCTION = 0x1e;
const SUB_FUNCTION = 0xff00;
/** What is answered: the questions which calls there are. [function, sub-function]. */
const GET_BIOS_DATA = 4;
const BIOS_CALLBACKS = 6;
const QUERIES: readonly (readonly [number, number])[] = [
  [GET_BIOS_DATA, 0],
  [GET_BIOS_DATA, 1],
  [BIOS_CALLBACKS, 0],
];

/** The OpRegion as the host shows it: header, lid, video BIOS table. */
function makeOpRegion(): Uint8Array {
  const bytes = new Uint8Array(OPREGION_SIZE);
  const view = new DataView(bytes.buffer);
  putText(bytes, 0, SIGNATURE);
  view.setUint32(OPREGION.SIZE, SIZE_KB, true);
  view.setUint32(OPREGION.VERSION, VERSION, true);
  view.setUint32(OPREGION.MAILBOXES, MAILBOX_VBT, true);
  bytes[OPREGION.CLID] = LID_OPEN;
  bytes.set(makeVbt(), OPREGION.VBT);
  return bytes;
}

/**
 * The OpRegion of a vGPU. The hypervisor puts a copy into guest memory and its address into config space; services are called by
 * the guest in that copy. Source: i915 gvt opregion.c.
 */
export class OpRegion {
  /** What the region shows. */
  readonly bytes: Uint8Array = makeOpRegion();
  readonly #backend: HypervisorBackend;
  readonly #warnings: FewWarnings;
  /** Where the guest has its copy: guest-physical, bytes; 0 before it said so. */
  #gpa = 0;

  constructor(backend: HypervisorBackend, log: Log) {
    this.#backend = backend;
    this.#warnings = new FewWarnings(log);
  }

  /** The guest wrote its address to config space: 0 means nowhere. */
  placeAt(gpa: number): void {
    this.#gpa = (gpa & ~0xfff) >>> 0;
  }

  /** The guest has no copy, and warnings are logged again. */
  reset(): void {
    this.#gpa = 0;
    this.#warnings.reset();
  }

  /**
   * A write of `swsci` to config space. A call that asks what there is gets the answer "nothing" (SCIC and PARM zero); any other
   * ends with exit status 0, failure. Unlike GVT-g the indicator is cleared in both cases, so that a guest does not wait.
   * @throws what the hypervisor throws if it cannot reach the guest's copy.
   */
  service(swsci: number): void {
    if ((swsci & SELECT_SCI) === 0 || (swsci & TRIGGER) === 0) return;
    if (this.#gpa === 0) {
      this.#warnings.warn('a guest calls a service of the OpRegion before it has one; ignored');
      return;
    }
    const scic = this.#read(OPREGION.SCIC);
    if (this.#isQuery(scic)) {
      this.#write(OPREGION.SCIC, 0);
      this.#write(OPREGION.PARM, 0);
      return;
    }
    this.#warnings.warn(`service ${hex(scic)} of the OpRegion is not there`);
    this.#write(OPREGION.SCIC, scic & ~EXIT_STATUS & ~INDICATOR);
  }

  #isQuery(scic: number): boolean {
    const called = (scic & FUNCTION) >>> 1;
    const sub = (scic & SUB_FUNCTION) >>> 8;
    return QUERIES.some(([one, other]) => one === called && other === sub);
  }

  #read(offset: number): number {
    const bytes = new Uint8Array(4);
    this.#backend.readGuest(BigInt(this.#at(offset)), bytes);
    return new DataView(bytes.buffer).getUint32(0, true);
  }

  #write(offset: number, value: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    this.#backend.writeGuest(BigInt(this.#at(offset)), bytes);
  }

  #at(offset: number): number {
    return this.#gpa + offset;
  }
}
