import {
  asPfn,
  type Device,
  DIRTY_FLAG,
  type DirtyBitmap,
  EXTENSION,
  isErrno,
  MAP_FLAG,
  PAGE_SIZE,
  PinionError,
  PROT_READ,
  UNMAP_FLAG,
} from '@pinion/core';
import { isMode } from './pintest.js';
import type { Answer, Operation } from './scenario.js';
import { bitRuns, fnv, head, hexText } from './text.js';
import type { Buffer, Process, World } from './world.js';

/** Where an operation happens. */
export interface Context {
  readonly world: World;
  readonly process: Process;
}

type Handler = (context: Context, op: Operation) => Answer | Promise<Answer>;

/** An errno without a library behind it: what the recorder's own bookkeeping answers. */
class Refused extends Error {
  readonly errno: string;
  constructor(errno: string) {
    super(errno);
    this.errno = errno;
  }
}

const DONE: Answer = { ret: 0 };
const MEGABYTE = 1 << 20;
/** BAR0 of the recorded PCI functions: edu has 1 MiB, pci-testdev 4 KiB. Bytes. */
const BAR_PAGES: Readonly<Record<string, number>> = { pt0: 256, pt1: 1, pt2: 256 };

const text = (op: Operation, key: string, fallback = ''): string => String(op[key] ?? fallback);
const int = (op: Operation, key: string, fallback = 0): number => Number(op[key] ?? fallback);
const big = (op: Operation, key: string, fallback = 0n): bigint => {
  const value = op[key];
  return typeof value === 'string' || typeof value === 'number' ? BigInt(value) : fallback;
};

/** `buf0+0x1000`, `buf0-0x1000` or a number. */
function address({ process }: Context, op: Operation): bigint {
  const value = op['vaddr'];
  if (typeof value === 'number') return BigInt(value);
  const [, name = '', sign, offset = '0'] = /^(\w+)(?:([+-])(\w+))?$/.exec(String(value)) ?? [];
  const buffer = process.buffers.get(name);
  if (buffer === undefined) return BigInt(name);
  return sign === '-' ? buffer.vaddr - BigInt(offset) : buffer.vaddr + BigInt(offset);
}

const containerOf = ({ process }: Context, op: Operation) => {
  const found = process.containers.get(text(op, 'c', 'c0'));
  if (found === undefined) throw new Refused('EBADF');
  return found.container;
};

const groupOf = ({ process }: Context, op: Operation) => {
  const found = process.groups.get(text(op, 'dev'));
  if (found === undefined) throw new Refused('EBADF');
  return found;
};

/** The newest device file of a device. */
const deviceOf = ({ process }: Context, op: Operation): Device => {
  const files = process.devices.get(text(op, 'dev')) ?? [];
  const newest = files[files.length - 1];
  if (newest === undefined) throw new Refused('EBADF');
  return newest.device.device;
};

async function openGroup(context: Context, op: Operation): Promise<void> {
  const dev = text(op, 'dev');
  const group = (await context.world.group(dev)).open(context.process.task);
  const file = context.process.task.open(`group ${dev}`, () => group.close());
  context.process.groups.set(dev, { file, group });
}

async function closeGroup({ process }: Context, op: Operation): Promise<void> {
  const dev = text(op, 'dev');
  const { file } = groupOf({ process } as Context, op); // why: groupOf reads the process alone
  process.groups.delete(dev);
  await process.task.close(file);
}

async function closeNewestDevice({ process }: Context, dev: string): Promise<boolean> {
  const open = process.devices.get(dev)?.pop();
  if (open === undefined) return false;
  await process.task.close(open.file);
  return true;
}

const bitmapOf = (op: Operation): DirtyBitmap => {
  const size = int(op, 'bitmap_size', 64);
  return { pgsize: big(op, 'pgsize', 4096n), size: BigInt(size), data: new Uint8Array(Math.min(size, 64 * MEGABYTE)) };
};

const FLAG_LETTERS: Readonly<Record<string, number>> = { r: MAP_FLAG.READ, w: MAP_FLAG.WRITE, v: MAP_FLAG.VADDR };
const UNMAP_WORDS: Readonly<Record<string, number>> = {
  all: UNMAP_FLAG.ALL,
  vaddr: UNMAP_FLAG.VADDR,
  bitmap: UNMAP_FLAG.GET_DIRTY_BITMAP,
};
const DIRTY_WORDS: Readonly<Record<string, number>> = {
  start: DIRTY_FLAG.START,
  stop: DIRTY_FLAG.STOP,
  get: DIRTY_FLAG.GET_BITMAP,
  none: 0,
};

const letters = (flags: string): number => [...flags].reduce((bits, letter) => bits | (FLAG_LETTERS[letter] ?? 0), 0);
const words = (flags: unknown): number =>
  Array.isArray(flags) ? flags.reduce((bits: number, word) => bits | (UNMAP_WORDS[String(word)] ?? 0), 0) : 0;
const prot = (value: unknown): number =>
  typeof value === 'number' || /^(0x)?[0-9]/.test(String(value)) ? Number(value) : letters(String(value)) & 3;
const argsz = (op: Operation): { argsz?: number } => (op['argsz'] === undefined ? {} : { argsz: int(op, 'argsz') });

/** The pattern that buffer `number` is filled with: the u64 at byte offset o is number << 56 | o. */
const pattern = (number: number) => (offset: number, page: Uint8Array) => {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  for (let at = 0; at < page.byteLength; at += 8) {
    view.setUint32(at, offset + at, true);
    view.setUint32(at + 4, number << 24, true);
  }
};

function makeBuffer(context: Context, op: Operation): Answer {
  const { process, world } = context;
  const name = text(op, 'name');
  const kind = text(op, 'kind');
  const number = process.buffers.size + 1;
  const bar = kind === 'bar' ? world.os.bar(BAR_PAGES[text(op, 'dev')] ?? 1) : undefined;
  const asked = big(op, 'size');
  const room = bar === undefined ? asked : BigInt(bar.pages * PAGE_SIZE);
  const size = asked < room ? asked : room;
  const memory = process.task.memory;
  const vaddr = memory.mmap({
    size,
    kind: kind === 'shared' ? 'shared' : kind === 'none' ? 'none' : 'anon',
    ...(bar === undefined ? {} : { object: bar }),
    ...(['anon', 'ro', 'shared'].includes(kind) ? { fill: pattern(number) } : {}),
  });
  if (kind === 'ro' || kind === 'roz') memory.mprotect(vaddr, size, PROT_READ);
  process.buffers.set(name, { name, number, vaddr, size });
  return bar === undefined ? DONE : { ret: 0, size: hexText(size) };
}

/** The first u64 of a pinned page, as `buffer+offset` while it still is the fill pattern. */
function pageText(context: Context, pfn: number): string {
  const bytes = context.world.os.host.bytes(asPfn(pfn), 1);
  const value = new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
  const offset = value & 0xff_ffff_ffff_ffffn;
  const buffer = [...context.process.buffers.values()].find(
    (candidate: Buffer) => BigInt(candidate.number) === value >> 56n,
  );
  return buffer === undefined || offset >= buffer.size ? hexText(value) : `${buffer.name}+${hexText(offset)}`;
}

function pin(context: Context, op: Operation): Answer {
  const device = deviceOf(context, op);
  const npage = int(op, 'npage');
  const frames = new Float64Array(Math.min(Math.max(npage, 0), 512));
  device.pins.pinAt(big(op, 'iova'), npage, prot(op['prot']), frames);
  context.world.pintest(device)?.pinned(big(op, 'iova'), npage);
  const pages = [...frames].map((pfn) => pageText(context, pfn));
  return { ret: npage, pages: pages.length > 12 ? [...pages.slice(0, 4), '...', ...pages.slice(-1)] : pages };
}

function unpin(context: Context, op: Operation): Answer {
  const device = deviceOf(context, op);
  device.pins.unpinAt(big(op, 'iova'), int(op, 'npage'));
  context.world.pintest(device)?.unpinned(big(op, 'iova'), int(op, 'npage'));
  return DONE;
}

function dmaRw(context: Context, op: Operation): Answer {
  const device = deviceOf(context, op);
  const write = op['write'] === true;
  const bytes = new Uint8Array(int(op, 'len'));
  if (write) bytes.fill(int(op, 'fill'));
  device.copy(big(op, 'iova'), bytes, write, context.process.task);
  return write ? DONE : { ret: 0, head: head(bytes), fnv: fnv(bytes) };
}

async function unmap(context: Context, op: Operation): Promise<Answer> {
  const flags = (words(op['flags']) | int(op, 'raw_flags')) >>> 0;
  const bitmap = flags & UNMAP_FLAG.GET_DIRTY_BITMAP ? bitmapOf(op) : undefined;
  const request = {
    flags,
    iova: big(op, 'iova'),
    size: big(op, 'size'),
    ...argsz(op),
    ...(bitmap === undefined ? {} : { bitmap }),
  };
  try {
    const { size } = await containerOf(context, op).unmap(request, context.process.task);
    return { ret: 0, size: hexText(size), ...(bitmap === undefined ? {} : { bits: bitRuns(bitmap.data) }) };
  } catch (failure) {
    if (isErrno(failure, 'EBUSY') && failure.name === 'TYPE1_PIN_LEAK') throw failure;
    return { ...refusal(failure), size: hexText(request.size) };
  }
}

function info(context: Context, op: Operation): Answer {
  const { flags, pgsizes, capabilities } = containerOf(context, op).info();
  const answer: Record<string, unknown> = { ret: 0, flags: hexText(BigInt(flags)), pgsizes: hexText(pgsizes) };
  for (const capability of capabilities) {
    if (capability.id === 'migration') {
      const { flags: own, pgsizes: sizes, maxBitmapSize } = capability;
      answer['migration'] = { flags: own, pgsizes: hexText(sizes), max_bitmap: hexText(maxBitmapSize) };
    } else if (capability.id === 'dma-avail') answer['dma_avail'] = capability.available;
    else answer['ranges'] = capability.ranges.map(([start, end]) => [hexText(start), hexText(end)]);
  }
  return answer;
}

function dirty(context: Context, op: Operation): Answer {
  const get = op['cmd'] === 'get';
  const flags = (DIRTY_WORDS[text(op, 'cmd')] ?? 0) | int(op, 'raw_flags');
  if (!get) {
    containerOf(context, op).dirty({ flags, ...argsz(op) });
    return DONE;
  }
  const bitmap = bitmapOf(op);
  containerOf(context, op).dirty({ flags, iova: big(op, 'iova'), size: big(op, 'size'), bitmap, ...argsz(op) });
  return { ret: 0, bits: bitRuns(bitmap.data) };
}

/** The steps of `attach`, with the name of the one that fails; the group is closed again then. */
async function attach(context: Context, op: Operation): Promise<Answer> {
  const opened = !context.process.groups.has(text(op, 'dev'));
  try {
    if (opened) await openGroup(context, op);
  } catch (failure) {
    return { ...refusal(failure), step: 'group_open' };
  }
  try {
    groupOf(context, op).group.setContainer(containerOf(context, op), context.process.task);
    return DONE;
  } catch (failure) {
    await closeGroup(context, op);
    return { ...refusal(failure), step: 'set_container' };
  }
}

async function detach(context: Context, op: Operation): Promise<Answer> {
  const dev = text(op, 'dev');
  if (!context.process.groups.has(dev)) return { ret: -1, errno: 'EBADF', step: 'unset_container' };
  while (await closeNewestDevice(context, dev));
  try {
    groupOf(context, op).group.unsetContainer();
  } catch (failure) {
    return { ...refusal(failure), step: 'unset_container' };
  }
  await closeGroup(context, op);
  return DONE;
}

async function openDevice(context: Context, op: Operation): Promise<Answer> {
  const { process, world } = context;
  const dev = text(op, 'dev');
  const name = (await world.device(dev)).name;
  const device = await groupOf(context, op).group.openDevice(name);
  const file = process.task.open(`device ${dev}`, () => device.close());
  process.devices.set(dev, [...(process.devices.get(dev) ?? []), { file, device }]);
  return DONE;
}

function setMode(context: Context, op: Operation): Answer {
  const mode = op['mode'];
  if (!isMode(mode)) throw new Error(`unknown mode ${String(mode)}`);
  context.world.pintest(deviceOf(context, op))?.setMode(mode, int(op, 'rescue'), int(op, 'close_keep') !== 0);
  return DONE;
}

function modparam(context: Context, op: Operation): Answer {
  const value = text(op, 'value');
  const on = ['1', 'y', 'Y'].includes(value);
  const name = text(op, 'name');
  const parameters = { ...context.world.parameters };
  if (name === 'dma_entry_limit') Object.assign(parameters, { dmaEntryLimit: Number(value) });
  else if (name === 'disable_hugepages') Object.assign(parameters, { disableHugepages: on });
  else if (name === 'allow_unsafe_interrupts') Object.assign(parameters, { allowUnsafeInterrupts: on });
  else throw new Error(`unknown module parameter ${name}`);
  context.world.parameters = parameters;
  return DONE;
}

const HANDLERS: Readonly<Record<string, Handler>> = {
  nop: () => DONE,
  container: ({ world, process }, op) => {
    const container = world.mediator.openContainer(process.task);
    const file = process.task.open('container', () => container.close());
    process.containers.set(text(op, 'c', 'c0'), { file, container });
    return DONE;
  },
  close_container: async ({ process }, op) => {
    const name = text(op, 'c', 'c0');
    const open = process.containers.get(name);
    if (open === undefined) throw new Refused('EBADF');
    process.containers.delete(name);
    await process.task.close(open.file);
    return DONE;
  },
  api_version: (context, op) => ({ ret: containerOf(context, op).apiVersion() }),
  check_ext: (context, op) => ({ ret: containerOf(context, op).checkExtension(int(op, 'ext')) }),
  set_iommu: (context, op) => {
    containerOf(context, op).setIommu(int(op, 'type', EXTENSION.TYPE1v2_IOMMU), context.process.task);
    return DONE;
  },
  group_open: async (context, op) => {
    await openGroup(context, op);
    return DONE;
  },
  group_close: async (context, op) => {
    await closeGroup(context, op);
    return DONE;
  },
  group_status: (context, op) => ({ ret: 0, flags: groupOf(context, op).group.status() }),
  set_container: (context, op) => {
    groupOf(context, op).group.setContainer(containerOf(context, op), context.process.task);
    return DONE;
  },
  unset_container: (context, op) => {
    groupOf(context, op).group.unsetContainer();
    return DONE;
  },
  attach,
  detach,
  open_dev: openDevice,
  close_dev: async (context, op) => {
    if (!(await closeNewestDevice(context, text(op, 'dev')))) throw new Refused('EBADF');
    return DONE;
  },
  buf: makeBuffer,
  map: (context, op) => {
    const flags = (letters(text(op, 'flags')) | int(op, 'raw_flags')) >>> 0;
    const request = { flags, iova: big(op, 'iova'), size: big(op, 'size'), vaddr: address(context, op), ...argsz(op) };
    containerOf(context, op).map(request, context.process.task);
    return DONE;
  },
  unmap,
  info,
  dirty,
  pin,
  unpin,
  dma_rw: dmaRw,
  mode: setMode,
  forget: (context, op) => {
    context.world.pintest(deviceOf(context, op))?.forget();
    return DONE;
  },
  peek: (context, op) => {
    const bytes = context.process.task.memory.peek(address(context, op), int(op, 'len'));
    return { ret: 0, head: head(bytes), fnv: fnv(bytes) };
  },
  poke: (context, op) => {
    context.process.task.memory.poke(address(context, op), new Uint8Array(int(op, 'len')).fill(int(op, 'fill')));
    return DONE;
  },
  munmap: (context, op) => {
    context.process.task.memory.munmap(address(context, op), big(op, 'size'));
    return DONE;
  },
  mprotect: (context, op) => {
    context.process.task.memory.mprotect(address(context, op), big(op, 'size'), prot(op['prot'] ?? op['flags']));
    return DONE;
  },
  madvise_dontneed: (context, op) => {
    context.process.task.memory.madviseDontneed(address(context, op), big(op, 'size'));
    return DONE;
  },
  mlock: (context, op) => {
    context.process.task.mlock(address(context, op), big(op, 'size'));
    return DONE;
  },
  munlock: (context, op) => {
    context.process.task.memory.munlock(address(context, op), big(op, 'size'));
    return DONE;
  },
  rlimit: (context, op) => {
    context.process.task.lockBytes = int(op, 'bytes');
    return DONE;
  },
  cap: (context, op) => {
    context.process.task.ipcLock = op['ipc_lock'] === true;
    return DONE;
  },
  modparam,
};

/** A failure as the recordings write it. Anything that carries no errno is a defect and goes on. */
function refusal(failure: unknown): Answer {
  if (failure instanceof PinionError || failure instanceof Refused) return { ret: -1, errno: failure.errno };
  throw failure;
}

/**
 * Carries out one operation. @returns the answer, without callbacks and locked pages.
 * @throws PinionError TYPE1_PIN_LEAK where a kernel would stop, and Error for an operation it does not know.
 */
export async function perform(context: Context, op: Operation): Promise<Answer> {
  const handler = HANDLERS[op.op];
  if (handler === undefined) throw new Error(`unknown operation ${op.op}`);
  try {
    return await handler(context, op);
  } catch (failure) {
    if (failure instanceof PinionError && failure.name === 'TYPE1_PIN_LEAK') throw failure;
    return refusal(failure);
  }
}
