import { errors } from './errors.js';
import { BUFFER, DMA, STATUS } from './registers.js';

/** What an edu card is when nothing runs: words of 32 bits, addresses of 64. */
export interface SavedState {
  readonly liveness: number;
  readonly factorial: number;
  readonly status: number;
  readonly interrupts: number;
  readonly command: number;
  readonly source: bigint;
  readonly destination: bigint;
  readonly count: bigint;
  readonly buffer: Uint8Array;
  /** Configuration space. */
  readonly config: Uint8Array;
}

const MAGIC = 0x7564_6501; // "edu", layout 1
const CONFIG_SIZE = 256;
const AT = { length: 4, words: 8, wide: 28, buffer: 52 } as const;
const CONFIG_AT = AT.buffer + BUFFER.size;
/** Bytes of a saved state. */
export const SAVED_SIZE = CONFIG_AT + CONFIG_SIZE;

/** The bytes that migrate, little endian: magic, length, five words, three addresses, the buffer, configuration space. */
export function encodeState(state: SavedState): Uint8Array {
  const bytes = new Uint8Array(SAVED_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint32(AT.length, SAVED_SIZE, true);
  const { liveness, factorial, status, interrupts, command, source, destination, count } = state;
  [liveness, factorial, status, interrupts, command].forEach((word, n) => {
    view.setUint32(AT.words + n * 4, word, true);
  });
  [source, destination, count].forEach((address, n) => {
    view.setBigUint64(AT.wide + n * 8, address, true);
  });
  bytes.set(state.buffer, AT.buffer);
  bytes.set(state.config, CONFIG_AT);
  return bytes;
}

/** Reads what `encodeState` made; everything is looked at. @throws EDU_BAD_STATE (EINVAL). */
export function decodeState(bytes: Uint8Array): SavedState {
  const bad = (problem: string): unknown => errors.BAD_STATE({ problem });
  if (bytes.length !== SAVED_SIZE) throw bad(`it has ${bytes.length} bytes, not ${SAVED_SIZE}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0, true) !== MAGIC || view.getUint32(AT.length, true) !== SAVED_SIZE) throw bad('it begins wrong');
  const word = (n: number): number => view.getUint32(AT.words + n * 4, true);
  const wide = (n: number): bigint => view.getBigUint64(AT.wide + n * 8, true);
  const [status, command] = [word(2), word(4)];
  if ((status & ~(STATUS.COMPUTING | STATUS.INTERRUPT_WHEN_DONE)) !== 0) throw bad('its status register cannot be');
  if ((command & ~(DMA.TO_RAM | DMA.INTERRUPT_WHEN_DONE)) !== 0) throw bad('its DMA command cannot be');
  return {
    liveness: word(0),
    factorial: word(1),
    status,
    interrupts: word(3),
    command,
    source: wide(0),
    destination: wide(1),
    count: wide(2),
    buffer: bytes.slice(AT.buffer, CONFIG_AT),
    config: bytes.slice(CONFIG_AT),
  };
}
