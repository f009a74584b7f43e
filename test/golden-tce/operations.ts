import { type Container, PAGE_SIZE, PinionError, PROT_READ } from '@pinion/core';
import { TCE_IOCTL, type TceInfo } from '@pinion/spapr-tce';
import type { Answer, Operation } from '../golden/scenario.js';
import { fnv, head, hexText } from '../golden/text.js';
import { address, argszOf, big, flagsOf, int, text } from './arguments.js';
import { EduDevice } from './edu.js';
import type { OpenDevice, Process, World } from './world.js';

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
/** BAR0 of the recorded functions: edu has 1 MiB, pci-testdev 4 KiB. Pages. */
const BAR_PAGES: Readonly<Record<string, number>> = { pt0: 256, pt1: 256, pt2: 1 };

function containerOf({ process }: Context, op: Operation): Container {
  const found = process.containers.get(text(op, 'c', 'c0'));
  if (found === undefined) throw new Refused('EBADF');
  return found.container;
}

function groupOf({ process }: Context, op: Operation) {
  const found = process.groups.get(text(op, 'dev'));
  if (found === undefined) throw new Refused('EBADF');
  return found;
}

/** The newest open file of a device. */
function deviceOf({ process }: Context, op: Operation): OpenDevice {
  const newest = process.devices.get(text(op, 'dev'))?.at(-1);
  if (newest === undefined) throw new Refused('EBADF');
  return newest;
}

/** An ioctl of the container: what it returns, as the recorder wrote it. */
function ask(context: Context, op: Operation, number: number, argument?: unknown): unknown {
  return containerOf(context, op).ioctl(number, argument, context.process.task);
}

const returned = (value: unknown): Answer => ({ ret: typeof value === 'number' ? value : 0 });

function openGroup({ world, process }: Context, op: Operation): void {
  const dev = text(op, 'dev');
  const group = world.bound(dev).device.group.open(process.task);
  const file = process.task.open(`group ${dev}`, () => group.close());
  process.groups.set(dev, { file, group });
}

async function closeGroup(context: Context, op: Operation): Promise<void> {
  const { file } = groupOf(context, op);
  context.process.groups.delete(text(op, 'dev'));
  await context.process.task.close(file);
}

async function closeNewestDevice({ process }: Context, dev: string): Promise<boolean> {
  const open = process.devices.get(dev)?.pop();
  if (open === undefined) return false;
  await process.task.close(open.file);
  return true;
}

/** The steps of `attach`, with the name of the one that fails; the group is closed again then. */
async function attach(context: Context, op: Operation): Promise<Answer> {
  try {
    if (!context.process.groups.has(text(op, 'dev'))) openGroup(context, op);
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
  const { group } = groupOf(context, op);
  const { device, hardware } = world.bound(dev);
  const opened = await group.openDevice(device.name);
  const file = process.task.open(`device ${dev}`, () => opened.close());
  const edu = process.devices.get(dev)?.at(-1)?.edu ?? new EduDevice(hardware);
  process.devices.set(dev, [...(process.devices.get(dev) ?? []), { file, device: opened, edu }]);
  return DONE;
}

/** The pattern that buffer `number` is filled with: the u64 at byte offset o is number << 56 | o, in the recorder's byte order. */
const pattern = (number: number) => (offset: number, page: Uint8Array) => {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  for (let at = 0; at < page.byteLength; at += 8) {
    view.setUint32(at, offset + at, true);
    view.setUint32(at + 4, number << 24, true);
  }
};

const ALIGNMENT = 1n << 24n;
const GUARD = 1n << 21n;
const FIRST_BUFFER = 0x10_0000_0000n + GUARD;

/**
 * Buffers are aligned to 2 MiB, with as much of nothing on both sides, and not to 16 MiB: the recorder's were not.
 */
function freePlace({ buffers }: Process): bigint {
  let place = FIRST_BUFFER;
  for (const { vaddr, size } of buffers.values()) {
    const after = ((vaddr + size) / ALIGNMENT + 1n) * ALIGNMENT + GUARD;
    if (after > place) place = after;
  }
  return place;
}

const FILLED = ['anon', 'ro', 'shared', 'huge'];

function makeBuffer(context: Context, op: Operation): Answer {
  const { process, world } = context;
  const name = text(op, 'name');
  const kind = text(op, 'kind');
  if (kind === 'bar') deviceOf(context, op);
  const number = process.buffers.size + 1;
  const bar = kind === 'bar' ? world.os.bar(BAR_PAGES[text(op, 'dev')] ?? 1) : undefined;
  const room = bar === undefined ? big(op, 'size') : BigInt(bar.pages * PAGE_SIZE);
  const size = big(op, 'size') < room ? big(op, 'size') : room;
  const vaddr = process.task.memory.mmap({
    at: freePlace(process),
    size,
    kind: kind === 'shared' ? 'shared' : kind === 'none' ? 'none' : 'anon',
    contiguous: kind === 'huge',
    ...(bar === undefined ? {} : { object: bar }),
    ...(FILLED.includes(kind) ? { fill: pattern(number) } : {}),
  });
  if (kind === 'ro' || kind === 'roz') process.task.memory.mprotect(vaddr, size, PROT_READ);
  const buffer = { name, number, vaddr, size, huge: kind === 'huge' };
  process.buffers.set(name, buffer);
  world.remember(buffer);
  return bar === undefined ? DONE : { ret: 0, size: hexText(size) };
}

function info(context: Context, op: Operation): Answer {
  const argsz = int(op, 'argsz', 32);
  // why: GET_INFO of this backend answers with its struct
  const answer = ask(context, op, TCE_IOCTL.GET_INFO, { argsz }) as TceInfo;
  const { pageSizes, max, levels } = answer.windows ?? { pageSizes: 0n, max: 0, levels: 0 };
  return {
    ret: 0,
    argsz,
    flags: hexText(BigInt(answer.flags)),
    start: hexText(answer.start),
    size: hexText(answer.size),
    ddw: { pgsizes: hexText(pageSizes), max_windows: max, levels },
  };
}

/** The size field is what it was, whatever happened. */
function unmap(context: Context, op: Operation): Answer {
  const size = big(op, 'size');
  const request = { flags: int(op, 'raw_flags'), iova: big(op, 'iova'), size, ...argszOf(op) };
  try {
    return { ...returned(ask(context, op, TCE_IOCTL.UNMAP_DMA, request)), size: hexText(size) };
  } catch (failure) {
    return { ...refusal(failure), size: hexText(size) };
  }
}

function create(context: Context, op: Operation): Answer {
  const answer = ask(context, op, TCE_IOCTL.CREATE, {
    pageShift: int(op, 'page_shift'),
    size: big(op, 'window_size'),
    levels: int(op, 'levels'),
    flags: int(op, 'raw_flags'),
    ...argszOf(op),
  });
  // why: CREATE of this backend answers with its struct
  return { ret: 0, start: hexText((answer as { readonly start: bigint }).start) };
}

const registration = (number: number): Handler => {
  return (context, op) => {
    const memory = { vaddr: address(context.process, op), size: big(op, 'size') };
    return returned(ask(context, op, number, { ...memory, flags: int(op, 'raw_flags'), ...argszOf(op) }));
  };
};

/** An ioctl with an argument that cannot be read; the first three belong to the container, and take numbers. */
function rawIoctl(context: Context, op: Operation): Answer {
  const container = containerOf(context, op);
  const [nr, arg] = [int(op, 'nr'), int(op, 'arg')];
  if (nr === 0) return { ret: container.apiVersion() };
  if (nr === 1) return { ret: container.checkExtension(arg) };
  if (nr === 2) container.setIommu(arg, context.process.task);
  else ask(context, op, nr);
  return DONE;
}

/** Rights as a number or as letters. */
function protOf(op: Operation): number {
  const prot = op['prot'] ?? op['flags'];
  if (typeof prot === 'number' || /^(0x)?[0-9]/.test(String(prot))) return Number(prot);
  return flagsOf({ ...op, flags: prot }) & 3;
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
    const open = process.containers.get(text(op, 'c', 'c0'));
    if (open === undefined) throw new Refused('EBADF');
    process.containers.delete(text(op, 'c', 'c0'));
    await process.task.close(open.file);
    return DONE;
  },
  api_version: (context, op) => ({ ret: containerOf(context, op).apiVersion() }),
  check_ext: (context, op) => ({ ret: containerOf(context, op).checkExtension(int(op, 'ext')) }),
  set_iommu: (context, op) => {
    containerOf(context, op).setIommu(int(op, 'type'), context.process.task);
    return DONE;
  },
  group_open: (context, op) => {
    openGroup(context, op);
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
  enable: (context, op) => returned(ask(context, op, TCE_IOCTL.ENABLE)),
  disable: (context, op) => returned(ask(context, op, TCE_IOCTL.DISABLE)),
  info,
  map: (context, op) => {
    const range = { iova: big(op, 'iova'), size: big(op, 'size'), vaddr: address(context.process, op) };
    return returned(ask(context, op, TCE_IOCTL.MAP_DMA, { ...range, flags: flagsOf(op), ...argszOf(op) }));
  },
  unmap,
  register: registration(TCE_IOCTL.REGISTER_MEMORY),
  unregister: registration(TCE_IOCTL.UNREGISTER_MEMORY),
  create,
  remove: (context, op) => {
    const request = { start: big(op, 'start'), flags: int(op, 'raw_flags'), ...argszOf(op) };
    return returned(ask(context, op, TCE_IOCTL.REMOVE, request));
  },
  eeh: (context, op) => returned(ask(context, op, TCE_IOCTL.EEH_PE_OP, {})),
  ioctl: rawIoctl,
  buf: makeBuffer,
  cmd_wr: (context, op) => {
    deviceOf(context, op).edu.writeCommand(int(op, 'value'));
    return DONE;
  },
  edu_dma: (context, op) => {
    const toDevice = int(op, 'dir') === 0;
    deviceOf(context, op).edu.copy(big(op, 'iova'), toDevice, int(op, 'len'), int(op, 'off'));
    return DONE;
  },
  peek: ({ process }, op) => {
    const bytes = process.task.memory.peek(address(process, op), int(op, 'len'));
    return { ret: 0, head: head(bytes), fnv: fnv(bytes) };
  },
  poke: ({ process }, op) => {
    process.task.memory.poke(address(process, op), new Uint8Array(int(op, 'len')).fill(int(op, 'fill')));
    return DONE;
  },
  munmap: ({ process }, op) => {
    process.task.memory.munmap(address(process, op), big(op, 'size'));
    return DONE;
  },
  mprotect: ({ process }, op) => {
    process.task.memory.mprotect(address(process, op), big(op, 'size'), protOf(op));
    return DONE;
  },
  madvise_dontneed: ({ process }, op) => {
    process.task.memory.madviseDontneed(address(process, op), big(op, 'size'));
    return DONE;
  },
  mlock: ({ process }, op) => {
    process.task.mlock(address(process, op), big(op, 'size'));
    return DONE;
  },
  munlock: ({ process }, op) => {
    process.task.memory.munlock(address(process, op), big(op, 'size'));
    return DONE;
  },
  rlimit: ({ process }, op) => {
    process.task.lockBytes = int(op, 'bytes');
    return DONE;
  },
  cap: ({ process }, op) => {
    process.task.ipcLock = op['ipc_lock'] === true || op['ipc_lock'] === 1;
    return DONE;
  },
};

/** A failure as the recordings write it. Anything that carries no errno is a defect and goes on. */
function refusal(failure: unknown): Answer {
  if (failure instanceof PinionError || failure instanceof Refused) return { ret: -1, errno: failure.errno };
  throw failure;
}

/** Carries out one operation. @returns the answer, without the process's state. @throws Error for an operation it does not know. */
export async function perform(context: Context, op: Operation): Promise<Answer> {
  const handler = HANDLERS[op.op];
  if (handler === undefined) throw new Error(`unknown operation ${op.op}`);
  try {
    return await handler(context, op);
  } catch (failure) {
    return refusal(failure);
  }
}
