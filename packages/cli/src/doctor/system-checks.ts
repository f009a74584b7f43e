import { createMemfd, EventFd, FdInbox, mapFile, type Sys, UnixSocket } from '@pinion/sys';
import { failureLine } from '../failure-text.js';
import { type Check, type Finding, fail, type Machine, ok, warn } from './finding.js';

const OLDEST_NODE = [20, 19] as const;
/** From here on a view of memory that is gone is detached, instead of showing zeros. */
const DETACHING_NODE = 22;
const ARCHITECTURES = ['x64', 'arm64'];
const MEMORY_BYTES = 1 << 20;
/** A guest's mappings cost a descriptor and a mapping each when its memory comes in many pieces. */
const ENOUGH_FILES = 1024;
const ENOUGH_MAPPINGS = 65_530;
const KIB = 1 << 10;
/** What Linux gives everybody since long. */
const ENOUGH_LOCKED = 64 * KIB;

const node: Check = {
  name: 'node',
  run({ node: version }) {
    const [major = 0, minor = 0] = version.split('.').map(Number);
    const [oldest, oldestMinor] = OLDEST_NODE;
    if (major < oldest || (major === oldest && minor < oldestMinor)) {
      return fail(version, `install Node ${oldest}.${oldestMinor} or newer`);
    }
    if (major >= DETACHING_NODE) return ok(version);
    return ok(
      `${version}; raw views of memory that is gone show zeros here, and are detached from Node ${DETACHING_NODE} on`,
    );
  },
};

const platform: Check = {
  name: 'platform',
  run: ({ platform: name, arch }) =>
    name === 'linux' && ARCHITECTURES.includes(arch)
      ? ok(`${name} on ${arch}`)
      : fail(`${name} on ${arch}`, 'serving needs Linux on x64 or arm64; the embedded VM runs everywhere'),
};

/** A check of the native side: what it throws is what was found. */
const native = (name: string, advice: string, look: (sys: Sys) => Finding): Check => ({
  name,
  run(machine) {
    try {
      return look(machine.sys());
    } catch (cause) {
      return fail(failureLine(cause), advice);
    }
  },
});

const koffi = native(
  'native calls',
  "run 'npm ci' with optional dependencies: koffi's prebuilt library is one",
  (sys) => ok(`koffi is loaded, pages of ${sys.pageSize} bytes`),
);

const memory = native(
  'guest memory',
  'memfd_create(2) with sealing and mmap(2) must be allowed; look at seccomp rules of the container',
  (sys) => {
    using fd = createMemfd(sys, 'doctor', BigInt(MEMORY_BYTES));
    using mapping = mapFile({ fd, offset: 0n, length: MEMORY_BYTES, writable: true, label: 'doctor' });
    mapping.write(0, Uint8Array.of(1));
    return ok('a sealed memfd can be made and mapped');
  },
);

const descriptors = native(
  'descriptors over sockets',
  'sendmsg(2) with SCM_RIGHTS and eventfd(2) must be allowed',
  (sys) => {
    const [near, far] = UnixSocket.pair(sys);
    using event = EventFd.create(sys, 'doctor');
    const inbox = new FdInbox(1);
    try {
      near.send(Uint8Array.of(1), [event.fd]);
      far.receive(new Uint8Array(1), inbox);
      return inbox.size === 1
        ? ok('an eventfd came through a socket')
        : fail('no descriptor came', 'SCM_RIGHTS is filtered out');
    } finally {
      inbox.close();
      near.close();
      far.close();
    }
  },
);

const identity = native('kcmp', 'kcmp(2) must exist', (sys) => {
  using fd = createMemfd(sys, 'doctor', 4096n);
  using same = fd.duplicate();
  if (sys.compareFiles(fd.number, same.number) === true) return ok('two descriptors of one file are known as such');
  return warn('not permitted', 'allow kcmp(2), or files are told apart by device and inode');
});

const number = (text: string): string => (text === 'unlimited' ? text : Number(text).toLocaleString('en-US'));

/** The soft limit of a row of /proc/self/limits. Source: proc(5). */
const limitOf = (machine: Machine, row: string): string | undefined =>
  new RegExp(`^${row} +(\\w+)`, 'm').exec(machine.readText('/proc/self/limits') ?? '')?.[1];

const limit = (name: string, row: string, about: { enough: number; unit: string; advice: string }): Check => ({
  name,
  run(machine) {
    const found = limitOf(machine, row);
    if (found === undefined) return warn('unknown', '/proc/self/limits cannot be read');
    const text = `${number(found)} ${about.unit}`;
    return found === 'unlimited' || Number(found) >= about.enough ? ok(text) : warn(text, about.advice);
  },
});

const files = limit('open files', 'Max open files', {
  enough: ENOUGH_FILES,
  unit: 'descriptors',
  advice: `a guest with its own IOMMU needs more: 'ulimit -n ${ENOUGH_FILES * 16}'`,
});

const locked = limit('RLIMIT_MEMLOCK', 'Max locked memory', {
  enough: ENOUGH_LOCKED,
  unit: 'bytes',
  advice:
    "mlock fails for more; 'ulimit -l' raises it (locked pages of VMs are counted, and limited by --memlock alone)",
});

const mappings: Check = {
  name: 'mappings',
  run(machine) {
    const found = machine.readText('/proc/sys/vm/max_map_count')?.trim();
    if (found === undefined) return warn('unknown', '/proc/sys/vm/max_map_count cannot be read');
    if (Number(found) >= ENOUGH_MAPPINGS) return ok(`${number(found)} per process`);
    return warn(
      `${number(found)} per process`,
      `'sysctl vm.max_map_count=${ENOUGH_MAPPINGS}' for guests whose memory comes in many pieces`,
    );
  },
};

/** What every part of Pinion that touches the system needs. */
export const SYSTEM_CHECKS: readonly Check[] = [
  node,
  platform,
  koffi,
  memory,
  descriptors,
  identity,
  files,
  locked,
  mappings,
];
