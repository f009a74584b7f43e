import { ENTRY, LIMIT, VERSION } from './registers.js';
import type { NamespaceStore } from './store.js';

/** Who the controller and its namespace are. */
export interface Identification {
  readonly vendor: number;
  /** At most 20, 40 and 8 characters. */
  readonly serial: string;
  readonly model: string;
  readonly firmware: string;
  /** 16 bytes: the namespace's UUID, also its NGUID. */
  readonly uuid: Uint8Array;
  /** 512 or 4096. */
  readonly blockSize: number;
  readonly store: NamespaceStore;
}

const SIZE = 4096;
const PADDING = 0x20;

const page = (fill: (view: DataView, bytes: Uint8Array) => void): Uint8Array => {
  const bytes = new Uint8Array(SIZE);
  fill(new DataView(bytes.buffer), bytes);
  return bytes;
};

function text(bytes: Uint8Array, about: { at: number; size: number; value: string }): void {
  bytes.fill(PADDING, about.at, about.at + about.size);
  bytes.set(Buffer.from(about.value.slice(0, about.size), 'latin1'), about.at);
}

/** Identify Controller. Source: NVMe 1.4 figure 247; Linux nvme_init_ctrl_finish() (what it reads). */
export const identifyController = (who: Identification): Uint8Array =>
  page((view, bytes) => {
    view.setUint16(0, who.vendor, true);
    view.setUint16(2, who.vendor, true);
    text(bytes, { at: 4, size: 20, value: who.serial });
    text(bytes, { at: 24, size: 40, value: who.model });
    text(bytes, { at: 64, size: 8, value: who.firmware });
    view.setUint8(77, LIMIT.TRANSFER_EXPONENT);
    view.setUint32(80, VERSION, true);
    view.setUint8(111, 1); // an I/O controller
    view.setUint8(258, LIMIT.ABORTS - 1);
    view.setUint8(259, LIMIT.EVENTS - 1);
    view.setUint8(260, 0x03); // one firmware slot, read-only
    view.setUint8(261, 0x06); // commands-and-effects log, long log pages
    view.setUint8(262, LIMIT.ERRORS - 1);
    view.setUint16(266, 343, true); // kelvin
    view.setUint16(268, 373, true);
    view.setUint8(512, (ENTRY.IOSQES << 4) | ENTRY.IOSQES);
    view.setUint8(513, (ENTRY.IOCQES << 4) | ENTRY.IOCQES);
    view.setUint32(516, 1, true); // namespaces
    view.setUint16(520, 0x0008, true); // write zeroes
    view.setUint8(525, 1); // volatile write cache
    bytes.set(Buffer.from(`nqn.2014-08.org.nvmexpress:uuid:${formatUuid(who.uuid)}`, 'latin1'), 768);
    view.setUint16(2048, 900, true); // power state 0: 9 W
  });

/** Identify Namespace. Source: NVMe 1.4 figure 245. */
export const identifyNamespace = (who: Identification): Uint8Array =>
  page((view, bytes) => {
    const blocks = BigInt(who.store.size / who.blockSize);
    for (const at of [0, 8, 16]) view.setBigUint64(at, blocks, true);
    view.setUint8(99, who.store.readOnly ? 1 : 0);
    bytes.set(who.uuid, 104);
    view.setUint8(130, Math.log2(who.blockSize));
  });

/** The namespaces behind `after`: there is one, number 1. Source: NVMe 1.4 section 5.15.2.3. */
export const activeNamespaces = (after: number): Uint8Array =>
  page((view) => view.setUint32(0, after < 1 ? 1 : 0, true));

/** NGUID and UUID of the namespace. Source: NVMe 1.4 figure 246. */
export const namespaceDescriptors = (who: Identification): Uint8Array =>
  page((_view, bytes) => {
    bytes.set([2, 16, 0, 0, ...who.uuid]);
    bytes.set([3, 16, 0, 0, ...who.uuid], 20);
  });

function formatUuid(uuid: Uint8Array): string {
  const digits = Buffer.from(uuid).toString('hex');
  return [
    [0, 8],
    [8, 12],
    [12, 16],
    [16, 20],
    [20, 32],
  ]
    .map(([from, to]) => digits.slice(from, to))
    .join('-');
}
