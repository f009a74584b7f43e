import { COMMAND } from './commands.js';
import { vfioUserErrors } from './errors.js';
import { checkSize } from './sizes.js';
import { VERSION } from './structs.js';

/** The protocol that this package speaks. */
export const PROTOCOL = { major: 0, minor: 1 } as const;

/** What the sender of a VERSION can do; a missing key has the default. */
export interface Capabilities {
  /** Most file descriptors it can receive with one message. Default 1. */
  readonly maxMsgFds: number;
  /** Most bytes of data it accepts in one message. Default 1 MiB. */
  readonly maxDataXferSize: number;
  /** Most DMA mappings at a time. Default 65535. */
  readonly maxDmaMaps: number;
  /** Page sizes for DMA, one bit each. Default 4096. */
  readonly pgsizes: number;
  /** It takes (server) or sends (client) REGION_WRITE_MULTI. Default false. */
  readonly writeMultiple: boolean;
  /** A second socket for commands of the server. `fdIndex`: which descriptor of the reply is the client's end. */
  readonly twinSocket?: { readonly supported: boolean; readonly fdIndex?: number };
  /** Not in the specification any more; QEMU, libvfio-user and Cloud Hypervisor still exchange it. */
  readonly migration?: { readonly pgsize: number; readonly maxBitmapSize?: number };
}

/** Source: vfio-user specification, "VFIO_USER_VERSION", defaults. */
export const DEFAULT_CAPABILITIES: Capabilities = Object.freeze({
  maxMsgFds: 1,
  maxDataXferSize: 1 << 20,
  maxDmaMaps: 65_535,
  pgsizes: 4096,
  writeMultiple: false,
});

export interface VersionMessage {
  readonly major: number;
  readonly minor: number;
  readonly capabilities: Capabilities;
}

/** The most that a count of descriptors or bytes may be believed: what a peer claims beyond is held to this. */
const MAX_FDS = 253;
const MAX_XFER = 64 << 20;

/** The payload of VERSION in either direction, JSON with its NUL. */
export function encodeVersion(message: VersionMessage): Uint8Array<ArrayBuffer> {
  const json = new TextEncoder().encode(`${JSON.stringify({ capabilities: wireForm(message.capabilities) })}\0`);
  const bytes = VERSION.encode(message, json.length);
  bytes.set(json, VERSION.size);
  return bytes;
}

/**
 * Reads the payload of VERSION; no JSON means all defaults, unknown keys are passed over. Claims of more than 253
 * descriptors or 64 MiB are held to that. @throws VFIOUSER_BAD_SIZE, VFIOUSER_BAD_VERSION, VFIOUSER_BAD_CAPABILITY (EINVAL).
 */
export function decodeVersion(payload: Uint8Array): VersionMessage {
  checkSize(COMMAND.VERSION, payload, VERSION.size);
  const { major, minor } = VERSION.read(payload);
  return { major, minor, capabilities: readCapabilities(payload.subarray(VERSION.size)) };
}

function wireForm(capabilities: Capabilities): Record<string, unknown> {
  const { twinSocket, migration } = capabilities;
  return {
    max_msg_fds: capabilities.maxMsgFds,
    max_data_xfer_size: capabilities.maxDataXferSize,
    max_dma_maps: capabilities.maxDmaMaps,
    pgsizes: capabilities.pgsizes,
    write_multiple: capabilities.writeMultiple,
    ...(twinSocket && { twin_socket: { supported: twinSocket.supported, fd_index: twinSocket.fdIndex } }),
    ...(migration && { migration: { pgsize: migration.pgsize, max_bitmap_size: migration.maxBitmapSize } }),
  };
}

function readCapabilities(bytes: Uint8Array): Capabilities {
  if (bytes.length === 0) return DEFAULT_CAPABILITIES;
  const root = asObject('(the JSON)', parse(bytes));
  const keys = root['capabilities'] === undefined ? {} : asObject('capabilities', root['capabilities']);
  const read = (key: string, otherwise: number, min: number, max: number): number =>
    keys[key] === undefined ? otherwise : Math.min(asCount(key, keys[key], min), max);
  const { twin_socket: twin, migration } = keys;
  return {
    maxMsgFds: read('max_msg_fds', DEFAULT_CAPABILITIES.maxMsgFds, 0, MAX_FDS),
    maxDataXferSize: read('max_data_xfer_size', DEFAULT_CAPABILITIES.maxDataXferSize, 1, MAX_XFER),
    maxDmaMaps: read('max_dma_maps', DEFAULT_CAPABILITIES.maxDmaMaps, 0, 0xffff_ffff),
    pgsizes: checkPageSizes(read('pgsizes', DEFAULT_CAPABILITIES.pgsizes, 1, Number.MAX_SAFE_INTEGER)),
    writeMultiple: keys['write_multiple'] === undefined ? false : asBoolean('write_multiple', keys['write_multiple']),
    ...(twin === undefined ? {} : { twinSocket: readTwin(asObject('twin_socket', twin)) }),
    ...(migration === undefined ? {} : { migration: readMigration(asObject('migration', migration)) }),
  };
}

function parse(bytes: Uint8Array): unknown {
  const end = bytes.indexOf(0);
  if (end !== bytes.length - 1) {
    throw vfioUserErrors.BAD_VERSION({ problem: 'the JSON must end with the NUL that is its last byte' });
  }
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, end)));
  } catch (cause) {
    throw vfioUserErrors.BAD_VERSION({ problem: 'the JSON cannot be read' }, cause);
  }
}

function asObject(key: string, value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw vfioUserErrors.BAD_CAPABILITY({ key, wanted: 'an object' });
  }
  return Object.assign(Object.create(null), value); // a key like __proto__ finds nothing of ours
}

function asCount(key: string, value: unknown, min: number): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= min) return value;
  throw vfioUserErrors.BAD_CAPABILITY({ key, wanted: `a whole number from ${min} on` });
}

function asBoolean(key: string, value: unknown): boolean {
  if (typeof value === 'boolean') return value;
  throw vfioUserErrors.BAD_CAPABILITY({ key, wanted: 'true or false' });
}

function checkPageSizes(pgsizes: number): number {
  if (pgsizes % 4096 === 0) return pgsizes;
  throw vfioUserErrors.BAD_CAPABILITY({ key: 'pgsizes', wanted: 'a multiple of 4096' });
}

function readTwin(twin: Readonly<Record<string, unknown>>): { supported: boolean; fdIndex?: number } {
  const { supported, fd_index: fdIndex } = twin;
  return {
    supported: supported === undefined ? false : asBoolean('twin_socket.supported', supported),
    ...(fdIndex === undefined ? {} : { fdIndex: asCount('twin_socket.fd_index', fdIndex, 0) }),
  };
}

function readMigration(migration: Readonly<Record<string, unknown>>): { pgsize: number; maxBitmapSize?: number } {
  const { pgsize, max_bitmap_size: size } = migration;
  return {
    pgsize: pgsize === undefined ? 4096 : asCount('migration.pgsize', pgsize, 1),
    ...(size === undefined ? {} : { maxBitmapSize: asCount('migration.max_bitmap_size', size, 0) }),
  };
}
