import { deviceInfo, IO_REGION, IRB_SIZE, irqInfo, OFFSET_SHIFT, regionInfo } from '@pinion/ccw';
import { ERRNO, type Errno, PinionError, type Prot } from '@pinion/core';
import type { Answer, Operation } from '../golden/scenario.js';
import { hexText } from '../golden/text.js';
import { agrees } from './compare.js';
import { isInstruction } from './replayed-subchannel.js';
import type { World } from './world.js';

/** An errno that the recorder's own file descriptors answer with. */
class Refused extends Error {
  readonly errno: Errno;

  constructor(errno: Errno) {
    super(errno);
    this.errno = errno;
  }
}

/** `next`: what the recording goes on with, for what only a later operation shows. */
export interface Context {
  readonly world: World;
  readonly op: Operation;
  readonly next: readonly Operation[];
}

type Handler = (context: Context) => Answer | Promise<Answer>;

const DONE: Answer = { ret: 0 };
const text = (op: Operation, key: string): string => String(op[key] ?? '');
const int = (op: Operation, key: string, fallback = 0): number => Number(op[key] ?? fallback);
const big = (op: Operation, key: string, fallback = 0n): bigint => {
  const value = op[key];
  return typeof value === 'number' || typeof value === 'string' ? BigInt(value) : fallback;
};
const fromHex = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'));
const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const errnoName = (code: number): string =>
  Object.entries(ERRNO).find(([, value]) => value === code)?.[0] ?? `E${code}`;
/** What pread or pwrite returned, as the recordings write it. */
const outcome = (ret: number): Answer => (ret < 0 ? { ret: -1, errno: errnoName(-ret) } : { ret });

const place = (op: Operation): { index: number; offset: number } => {
  const position = int(op, 'region') * 2 ** OFFSET_SHIFT + int(op, 'off');
  return { index: Math.floor(position / 2 ** OFFSET_SHIFT), offset: position % 2 ** OFFSET_SHIFT };
};

function openDevice({ world }: Context): World['device'] {
  if (world.devices.length === 0) throw new Refused('EBADF');
  return world.device;
}

function read(
  context: Context,
  access: { index: number; offset: number; length: number },
): { ret: number; data: string } {
  let data = '';
  const ret = openDevice(context).pread(access, (bytes) => {
    data = toHex(bytes);
    return true;
  });
  return { ret, data };
}

const write = (context: Context, access: { index: number; offset: number }, bytes: Uint8Array): number =>
  openDevice(context).pwrite({ ...access, length: bytes.length }, (target) => {
    target.set(bytes);
    return true;
  });

const ioIrb = (context: Context): string => read(context, { index: 0, offset: IO_REGION.irb, length: IRB_SIZE }).data;

/** What `op` shows of the IRB; undefined if nothing. */
function shownIrb(op: Operation): string | undefined {
  const irb = op.r?.['irb'];
  if (typeof irb === 'string') return irb;
  const data = op.r?.['data'];
  if (op.op !== 'rd' || op['region'] !== 0 || typeof data !== 'string') return undefined;
  const skipped = IO_REGION.irb - int(op, 'off');
  if (skipped < 0) return undefined;
  const shown = data.slice(skipped * 2, (skipped + IRB_SIZE) * 2);
  return shown.length >= 24 ? shown.padEnd(IRB_SIZE * 2, '0') : undefined;
}

/** The next look at the IRB before anything else is started. */
function irbAhead(next: readonly Operation[]): string | undefined {
  for (const op of next) {
    if (op.op === 'start' || op.op === 'async' || op.op === 'wr') return undefined;
    const irb = shownIrb(op);
    if (irb !== undefined) return irb;
  }
  return undefined;
}

/** The interruption comes where the recording shows it: in what this operation saw, or in pages that came back. */
function deliverIfRecorded(context: Context, signs: { signalled: boolean; irb: string | undefined }): void {
  const { world, op, next } = context;
  if (!world.subchannel.awaited) return;
  const ev = JSON.stringify(op.r?.['ev'] ?? '');
  const freed = world.pins > 0 && ev.includes('"unpin"');
  const changed = signs.irb !== undefined && !agrees(signs.irb, ioIrb(context));
  if (signs.signalled || freed || changed) world.subchannel.deliver(signs.irb ?? irbAhead(next));
}

/** A write of a whole request, then, if it was taken, the wait for its interrupt. */
function request(context: Context, access: { index: number; offset: number }, bytes: Uint8Array): Answer {
  const { world, op } = context;
  const efd = world.counters[0];
  efd?.take();
  const answer = outcome(write(context, access, bytes));
  if (op['ms'] === 0 && op.r?.['irb'] === undefined) return answer;
  const irq = Number(op.r?.['irq'] ?? 0);
  deliverIfRecorded(context, { signalled: irq > 0, irb: shownIrb(op) });
  const region = read(context, { index: 0, offset: 0, length: IO_REGION.size }).data;
  const seen = { irb: region.slice(48, 240), rc: Number.parseInt(region.slice(240), 16) | 0 };
  return Number(answer['ret']) > 0 ? { ...answer, irq: efd?.take() ?? 0, ...seen } : { ...answer, ...seen };
}

function start(context: Context): Answer {
  const { op } = context;
  const bytes = new Uint8Array(IO_REGION.size);
  const view = new DataView(bytes.buffer);
  for (const [at, key] of [
    [0, 'intparm'],
    [4, 'orb1'],
    [8, 'cpa'],
    [12, 'scsw0'],
  ] as const)
    view.setUint32(at, int(op, key));
  return request(context, { index: 0, offset: 0 }, bytes);
}

function asyncCommand(context: Context): Answer {
  const view = new DataView(new ArrayBuffer(8));
  view.setUint32(0, int(context.op, 'command'));
  const answer = request(context, { index: 1, offset: 0 }, new Uint8Array(view.buffer));
  if (answer['irb'] === undefined) return answer;
  const code = read(context, { index: 1, offset: 4, length: 4 }).data;
  return { ...answer, cmd_rc: Number.parseInt(code, 16) | 0 };
}

function readRegion(context: Context): Answer {
  const { op } = context;
  deliverIfRecorded(context, { signalled: false, irb: shownIrb(op) });
  const { ret, data } = read(context, { ...place(op), length: int(op, 'len') });
  return ret < 0 || data === '' ? outcome(ret) : { ret, data };
}

function wait(context: Context): Answer {
  const { world, op } = context;
  deliverIfRecorded(context, { signalled: Number(op.r?.['count']) > 0, irb: undefined });
  return { count: world.counters[int(op, 'efd')]?.take() ?? 0 };
}

/** What a descriptor of the recording program is: eight eventfds, a container, and 0 to 2. */
function setIrqs(context: Context): Answer {
  const { world, op } = context;
  const data = text(op, 'data');
  const named = /^efd(\d)$/.exec(data);
  const counter = named === null ? undefined : world.counters[Number(named[1])];
  const bytes = counter === undefined && data !== 'container' ? fromHex(data) : fromHex('00000064');
  const filled = new Uint8Array(Math.max(bytes.length, 4));
  filled.set(bytes);
  const header = { argsz: int(op, 'argsz'), flags: int(op, 'flags'), index: int(op, 'index') };
  openDevice(context).setIrqs({ ...header, start: int(op, 'start'), count: int(op, 'count'), data: filled }, (fd) => {
    if (counter !== undefined) return counter;
    throw new Refused(data === 'container' || fd <= 2 ? 'EINVAL' : 'EBADF');
  });
  return DONE;
}

const INJECTED_PATH = { 0: 'online', 1: 'offline', 2: 'vary-on', 3: 'vary-off' } as const;
const isPath = (value: number): value is keyof typeof INJECTED_PATH => value in INJECTED_PATH;

async function inject({ world, op }: Context): Promise<Answer> {
  const what = text(op, 'what');
  const a = int(op, 'a');
  if (what === 'clear') world.subchannel.forget();
  else if (what === 'event') world.device.checkSubchannel();
  else if (what === 'chp' && isPath(a)) world.device.pathEvent(INJECTED_PATH[a], op['b'] === -1 ? 1 : 0);
  else if (isInstruction(what) && (a === 0 || a === 1 || a === 2 || a === 3))
    world.subchannel.inject(what, a, int(op, 'b'));
  else throw new Error(`unknown injection ${JSON.stringify(op)}`);
  return DONE;
}

/** A writer that is stuck while others try, then goes on. */
function contend(context: Context): Answer {
  const device = openDevice(context);
  const zeros = { index: 0, offset: 0 };
  const said = (ret: number): string | number => (ret < 0 ? errnoName(-ret) : ret);
  const others: Record<string, string | number> = {};
  const fill = (): boolean => true;
  const ret = device.pwrite({ ...zeros, length: IO_REGION.size }, (bytes) => {
    others['second_io'] = said(device.pwrite({ ...zeros, length: IO_REGION.size }, fill));
    others['async'] = said(device.pwrite({ index: 1, offset: 0, length: 8 }, fill));
    others['too_long'] = said(device.pwrite({ ...zeros, length: 200 }, fill));
    others['schib_write'] = said(device.pwrite({ index: 2, offset: 0, length: 4 }, fill));
    bytes.fill(0);
    new DataView(bytes.buffer, bytes.byteOffset).setUint32(IO_REGION.scsw, int(context.op, 'scsw0'));
    return true;
  });
  return { ...others, ...outcome(ret) };
}

/** VFIO_BASE + nr with a buffer of zeros. */
async function ioctl(context: Context): Promise<Answer> {
  openDevice(context);
  const nr = int(context.op, 'nr');
  if (nr === 7) deviceInfo(0);
  if (nr === 8) regionInfo(0, 0);
  if (nr === 9) irqInfo(0, 0);
  if (nr === 10) throw new Refused('EINVAL');
  if (nr !== 11) throw new Refused('ENOTTY');
  await context.world.mdev.device.reset();
  return DONE;
}

const protOf = (value: unknown): Prot => {
  const bits =
    typeof value === 'number'
      ? value & 3
      : (String(value).includes('r') ? 1 : 0) | (String(value).includes('w') ? 2 : 0);
  return bits as Prot; // why: two bits are a Prot
};

const range = (op: Operation): bigint => big(op, 'len', big(op, 'size'));

const HANDLERS: Readonly<Record<string, Handler>> = {
  container: ({ world, op }) => {
    const container = world.mediator.openContainer(world.task);
    world.container = { container, file: world.task.open('container', () => container.close()) };
    const group = world.mdev.device.group.open(world.task);
    world.group = { group, file: world.task.open('group', () => group.close()) };
    group.setContainer(container, world.task);
    container.setIommu(int(op, 'type'), world.task);
    return DONE;
  },
  open: async ({ world }) => {
    if (world.group === undefined) throw new Refused('EBADF');
    const device = await world.group.group.openDevice(world.mdev.device.name);
    world.devices.push(world.task.open('device', () => device.close()));
    return DONE;
  },
  close: async ({ world }) => {
    const file = world.devices.pop();
    if (file === undefined) throw new Refused('EBADF');
    await world.task.close(file);
    return DONE;
  },
  close_group: async ({ world }) => {
    if (world.group !== undefined) await world.task.close(world.group.file);
    world.group = undefined;
    return DONE;
  },
  close_container: async ({ world }) => {
    if (world.container !== undefined) await world.task.close(world.container.file);
    world.container = undefined;
    return DONE;
  },
  unset_container: ({ world }) => {
    world.group?.group.unsetContainer();
    return DONE;
  },
  map: ({ world, op }) => {
    const vaddr = world.memory + big(op, 'off');
    const request = { flags: int(op, 'flags', 3), iova: big(op, 'iova'), size: big(op, 'size'), vaddr };
    world.container?.container.map(request, world.task);
    return DONE;
  },
  unmap: async ({ world, op }) => {
    const size = big(op, 'size');
    try {
      const request = { flags: int(op, 'flags'), iova: big(op, 'iova'), size };
      const gone = await world.container?.container.unmap(request, world.task);
      return { ret: 0, size: hexText(gone?.size ?? 0n) };
    } catch (failure) {
      return { ...refusal(failure), size: hexText(size) };
    }
  },
  poke: ({ world, op }) => {
    const bytes = fromHex(text(op, 'data'));
    world.task.memory.poke(world.memory + big(op, 'off'), bytes);
    return { ret: bytes.length };
  },
  fill: ({ world, op }) => {
    const bytes = new Uint8Array(int(op, 'len')).fill(int(op, 'byte'));
    world.task.memory.poke(world.memory + big(op, 'off'), bytes);
    return { ret: bytes.length };
  },
  // What the device stored is replayed: the recorded bytes are put where they were seen.
  peek: ({ world, op }) => {
    const data = op.r?.['data'];
    if (typeof data === 'string') world.task.memory.poke(world.memory + big(op, 'off'), fromHex(data));
    const bytes = world.task.memory.peek(world.memory + big(op, 'off'), int(op, 'len'));
    return { ret: bytes.length, data: toHex(bytes) };
  },
  munmap: ({ world, op }) => {
    world.task.memory.munmap(world.memory + big(op, 'off'), range(op));
    return DONE;
  },
  mprotect: ({ world, op }) => {
    world.task.memory.mprotect(world.memory + big(op, 'off'), range(op), protOf(op['prot']));
    return DONE;
  },
  rlimit: ({ world, op }) => {
    world.task.lockBytes = int(op, 'bytes');
    return DONE;
  },
  info: (context) => {
    openDevice(context);
    const argsz = int(context.op, 'argsz');
    return { ret: 0, ...deviceInfo(argsz), argsz, cap_offset: 0 };
  },
  region: (context) => {
    openDevice(context);
    const { size, offset, capOffset, caps, ...facts } = regionInfo(int(context.op, 'index'), int(context.op, 'argsz'));
    const found = {
      ret: 0,
      ...facts,
      size: hexText(BigInt(size)),
      offset: hexText(BigInt(offset)),
      cap_offset: capOffset,
    };
    return caps === undefined ? found : { ...found, caps: toHex(caps) };
  },
  irq: (context) => {
    openDevice(context);
    return { ret: 0, ...irqInfo(int(context.op, 'index'), int(context.op, 'argsz')) };
  },
  setirqs: setIrqs,
  wait,
  start,
  async: asyncCommand,
  rd: readRegion,
  wr: (context) => outcome(write(context, place(context.op), fromHex(text(context.op, 'data')))),
  rdbad: (context) =>
    outcome(openDevice(context).pread({ ...place(context.op), length: int(context.op, 'len') }, () => false)),
  wrbad: (context) =>
    outcome(openDevice(context).pwrite({ ...place(context.op), length: int(context.op, 'len') }, () => false)),
  contend,
  inject,
  lpm: ({ world }) => {
    const { usable, allowed } = world.device.paths;
    const two = (mask: number): string => mask.toString(16).padStart(2, '0');
    world.record(['lpm', two(usable), 'opm', two(allowed)]);
    return DONE;
  },
  reset: async (context) => {
    openDevice(context);
    await context.world.mdev.device.reset();
    return DONE;
  },
  ioctl,
  remove_async: ({ world }) => {
    world.remove();
    return DONE;
  },
  sleep: () => DONE,
};

/** A failure as the recordings write it. Anything that carries no errno is a defect and goes on. */
function refusal(failure: unknown): Answer {
  if (failure instanceof PinionError || failure instanceof Refused) return { ret: -1, errno: failure.errno };
  throw failure;
}

/** Carries out one operation. @returns its answer without what all answers have. @throws Error for an unknown one. */
export async function perform(context: Context): Promise<Answer> {
  const handler = HANDLERS[context.op.op];
  if (handler === undefined) throw new Error(`unknown operation ${context.op.op}`);
  context.world.subchannel.begin(context.op);
  try {
    return await handler(context);
  } catch (failure) {
    return refusal(failure);
  }
}
