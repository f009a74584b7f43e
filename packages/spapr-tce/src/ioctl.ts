import type { MapRequest, Task, UnmapRequest } from '@pinion/core';
import { charge, type Payer } from './accounting.js';
import { tceErrors } from './errors.js';
import { info } from './info.js';
import { map } from './map.js';
import { registerMemory, unregisterMemory } from './memory.js';
import { TCE_ARGSZ, TCE_IOCTL } from './requests.js';
import type { TceState } from './state.js';
import { Struct } from './struct.js';
import { unmap } from './unmap.js';
import { createWindow, makeDefaultWindow, removeWindow } from './windows.js';

interface Call {
  readonly state: TceState;
  readonly argument: unknown;
  readonly caller: Task;
}

interface Handler {
  readonly name: string;
  /** Containers that have it; default: both. */
  readonly only?: 'v1' | 'v2';
  run(call: Call): unknown;
}

const HANDLERS: ReadonlyMap<number, Handler> = new Map<number, Handler>([
  [TCE_IOCTL.GET_INFO, { name: 'info', run: getInfo }],
  [TCE_IOCTL.MAP_DMA, { name: 'map', run: mapDma }],
  [TCE_IOCTL.UNMAP_DMA, { name: 'unmap', run: unmapDma }],
  [TCE_IOCTL.ENABLE, { name: 'enable', only: 'v1', run: enable }],
  [TCE_IOCTL.DISABLE, { name: 'disable', only: 'v1', run: disable }],
  [TCE_IOCTL.REGISTER_MEMORY, { name: 'register', only: 'v2', run: register }],
  [TCE_IOCTL.UNREGISTER_MEMORY, { name: 'unregister', only: 'v2', run: unregister }],
  [TCE_IOCTL.CREATE, { name: 'create', only: 'v2', run: create }],
  [TCE_IOCTL.REMOVE, { name: 'remove', only: 'v2', run: remove }],
  [TCE_IOCTL.EEH_PE_OP, { name: 'EEH', run: eeh }],
]);

/**
 * Any ioctl of a TCE container, by number, with its struct as an object (requests.ts): what the kernel answers. A number is
 * what the call returns (0, or a positive one under the quirks that have them); GET_INFO and CREATE return what they write back.
 * @throws TCE_NOT_OWNER (EPERM) before anything else, TCE_NO_IOCTL (ENOTTY), TCE_UNREADABLE (EFAULT), TCE_BAD_NUMBER (EINVAL),
 * and each call's own. Source: tce_iommu_ioctl().
 */
export function ioctl(state: TceState, number: number, argument: unknown, caller: Task): unknown {
  const handler = HANDLERS.get(number);
  const operation = handler?.name ?? `ioctl ${number}`;
  state.checkOwner(operation, caller);
  if (handler === undefined || (handler.only ?? state.version) !== state.version) {
    throw tceErrors.NO_IOCTL({ operation, version: state.version });
  }
  return handler.run({ state, argument, caller });
}

function getInfo({ state, argument }: Call): unknown {
  return info(state, new Struct('info', argument).u32('argsz', TCE_ARGSZ.INFO_WINDOWS));
}

function mapDma({ state, argument, caller }: Call): number {
  if (!state.enabled) throw tceErrors.NOT_ENABLED({ operation: 'map', v2: state.v2 });
  const struct = new Struct('map', argument);
  const request: MapRequest = {
    argsz: struct.u32('argsz', TCE_ARGSZ.MAP),
    flags: struct.u32('flags'),
    vaddr: struct.u64('vaddr'),
    iova: struct.u64('iova'),
    size: struct.u64('size'),
  };
  return map(state, request, caller);
}

function unmapDma(call: Call): number {
  return runUnmap(call).aligned ? 0 : 1;
}

/** UNMAP_DMA with what the kernel does not write back: how much is gone. */
export function runUnmap({ state, argument, caller }: Call): ReturnType<typeof unmap> {
  if (!state.enabled) throw tceErrors.NOT_ENABLED({ operation: 'unmap', v2: state.v2 });
  const struct = new Struct('unmap', argument);
  const request: UnmapRequest = {
    argsz: struct.u32('argsz', TCE_ARGSZ.UNMAP),
    flags: struct.u32('flags'),
    iova: struct.u64('iova'),
    size: struct.u64('size'),
  };
  return unmap(state, request, caller);
}

/** Charges the whole 32-bit window up front, instead of every page when it is mapped. Source: tce_iommu_enable(). */
function enable({ state, caller }: Call): number {
  return state.asOwner('enable', caller, (payer) => {
    if (state.enabled) throw tceErrors.ENABLED({ container: state.host.container });
    const [newest] = state.groups;
    if (newest === undefined) throw tceErrors.NO_GROUP({ operation: 'enable' });
    const { size } = newest.tables.window32;
    if (size === 0n) throw tceErrors.NO_WINDOW32({ group: newest.group.name });
    const pages = Number(size >> 12n);
    charge(payer, pages, 'enable');
    state.enabledPages = pages;
    state.enabled = true;
    return 0;
  });
}

function disable({ state }: Call): number {
  state.disable();
  return 0;
}

function register({ state, argument, caller }: Call): number {
  return state.asOwner('register', caller, (payer) => {
    const struct = new Struct('register', argument);
    struct.checkHeader(TCE_ARGSZ.REGISTER);
    return registerMemory(state, payer, { vaddr: struct.u64('vaddr'), size: struct.u64('size') });
  });
}

function unregister({ state, argument, caller }: Call): number {
  state.payer('unregister', caller);
  const struct = new Struct('unregister', argument);
  struct.checkHeader(TCE_ARGSZ.REGISTER);
  unregisterMemory(state, caller, { vaddr: struct.u64('vaddr'), size: struct.u64('size') });
  return 0;
}

function create({ state, argument, caller }: Call): { readonly start: bigint } {
  return state.asOwner('create', caller, (payer) => {
    const struct = new Struct('create', argument);
    struct.checkHeader(TCE_ARGSZ.CREATE);
    const shape = {
      pageShift: struct.u32('pageShift'),
      size: struct.u64('size'),
      levels: Math.max(1, struct.u32('levels', 1)),
    };
    makeDefaultWindow(state, 'create', caller);
    return { start: makeWindow(state, payer, shape) };
  });
}

const makeWindow = (state: TceState, payer: Payer, shape: Parameters<typeof createWindow>[2]): bigint =>
  createWindow(state, payer, shape).table.start;

function remove({ state, argument, caller }: Call): number {
  return state.asOwner('remove', caller, () => {
    const struct = new Struct('remove', argument);
    struct.checkHeader(TCE_ARGSZ.REMOVE);
    removeWindow(state, struct.u64('start'));
    return 0;
  });
}

/** No platform here has error handling, so every operation is refused before it is looked at. */
function eeh({ state }: Call): never {
  if (state.groups.length === 0) throw tceErrors.NO_GROUP({ operation: 'EEH' });
  throw tceErrors.NO_EEH({});
}
