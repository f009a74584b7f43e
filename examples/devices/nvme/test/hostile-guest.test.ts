import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ADMIN, ALL_NAMESPACES, CC, CSTS, IO, LOG, MAX_TRANSFER, REGISTER, STATUS } from '@pinion/example-nvme';
import fc from 'fast-check';
import { encode, type LinuxDriver, type QueuePair, type Submission } from './linux-driver.js';
import { RAM, RAM_SIZE, type Rig, withDisk } from './rig.js';

const MIB = 1 << 20;
const BLOCKS = MIB / 512;
const NOWHERE = 0x7000_0000n;
const TOP = (1n << 64n) - 4096n;

/** A disk with a probed driver and a page to play with. */
const withQueue = (run: (rig: Rig & { queue: QueuePair; page: bigint }) => void | Promise<void>): Promise<void> =>
  withDisk({ size: MIB }, async (rig) => {
    const queue = rig.linux.probe();
    const resting = rig.container.stats.pinnedPages;
    const page = rig.linux.pages();
    await run({ ...rig, queue, page });
    if (rig.linux.register(REGISTER.CSTS) !== CSTS.RDY) return;
    rig.linux.good(rig.linux.read(queue, 0, [page]));
    assert.equal(rig.container.stats.pinnedPages, resting, 'nothing but queues is pinned');
  });

describe('commands that cannot be', () => {
  const read = (prp1: bigint, prp2: bigint, blocks: number): Submission => ({
    opcode: IO.READ,
    namespace: 1,
    prp1,
    prp2,
    dwords: [0, 0, blocks - 1],
  });
  const last = RAM + RAM_SIZE - 4096n;
  const io: readonly (readonly [what: string, command: Submission, status: number])[] = [
    ['an opcode nobody has', { opcode: 0x7f, namespace: 1 }, STATUS.INVALID_OPCODE],
    ['compare, which is not offered', { opcode: 0x05, namespace: 1 }, STATUS.INVALID_OPCODE],
    ['a fused command', { ...read(RAM, 0n, 1), form: 1 }, STATUS.INVALID_FIELD],
    ['SGLs', { ...read(RAM, 0n, 1), form: 0x40 }, STATUS.INVALID_FIELD],
    ['namespace 0', { ...read(RAM, 0n, 1), namespace: 0 }, STATUS.INVALID_NAMESPACE],
    ['namespace 2', { ...read(RAM, 0n, 1), namespace: 2 }, STATUS.INVALID_NAMESPACE],
    ['all namespaces for a read', { ...read(RAM, 0n, 1), namespace: ALL_NAMESPACES }, STATUS.INVALID_NAMESPACE],
    ['a block behind the last', { ...read(RAM, 0n, 1), dwords: [BLOCKS, 0, 0] }, STATUS.LBA_OUT_OF_RANGE],
    ['over the end', { ...read(RAM, 0n, 1), dwords: [BLOCKS - 1, 0, 1] }, STATUS.LBA_OUT_OF_RANGE],
    ['block 2^64 - 1', { ...read(RAM, 0n, 1), dwords: [0xffff_ffff, 0xffff_ffff, 0] }, STATUS.LBA_OUT_OF_RANGE],
    ['zeroes over the end', { opcode: IO.WRITE_ZEROES, namespace: 1, dwords: [1, 0, 0xffff] }, STATUS.LBA_OUT_OF_RANGE],
    ['an odd PRP1', read(RAM + 2n, 0n, 1), STATUS.INVALID_PRP_OFFSET],
    ['PRP1 nowhere', read(NOWHERE, 0n, 1), STATUS.DATA_TRANSFER_ERROR],
    ['PRP1 at the end of the address space', read(TOP, 0n, 1), STATUS.DATA_TRANSFER_ERROR],
    ['PRP1 zero', read(0n, 0n, 1), STATUS.DATA_TRANSFER_ERROR],
    ['PRP2 not at a page', read(RAM, RAM + 8n, 16), STATUS.INVALID_PRP_OFFSET],
    ['PRP2 nowhere', read(RAM, NOWHERE, 16), STATUS.DATA_TRANSFER_ERROR],
    ['a list at an odd address', read(RAM, RAM + 4n, 32), STATUS.INVALID_PRP_OFFSET],
    ['a list nowhere', read(RAM, NOWHERE, 32), STATUS.DATA_TRANSFER_ERROR],
    ['a list at the end of the address space', read(RAM, TOP + 4088n, 32), STATUS.DATA_TRANSFER_ERROR],
    ['a list whose pages are zero', read(RAM, last, 32), STATUS.DATA_TRANSFER_ERROR],
  ];
  for (const [what, command, status] of io) {
    test(`I/O: ${what}`, () =>
      withQueue(({ queue }) => {
        assert.equal(queue.run(command).status, status);
      }));
  }

  const page = RAM + 0x40_0000n;
  const log = (id: number, more: readonly number[] = []): Submission => ({
    opcode: ADMIN.GET_LOG_PAGE,
    prp1: page,
    dwords: [id, ...more],
  });
  const queue = (opcode: number, dword10: number, dword11: number, prp1 = page): Submission => ({
    opcode,
    prp1,
    dwords: [dword10, dword11],
  });
  const admin: readonly (readonly [what: string, command: Submission, status: number])[] = [
    ['an opcode nobody has', { opcode: 0x80 }, STATUS.INVALID_OPCODE],
    ['SGLs', { opcode: ADMIN.IDENTIFY, form: 0x80 }, STATUS.INVALID_FIELD],
    ['identify what is not there', { opcode: ADMIN.IDENTIFY, prp1: page, dwords: [0x10] }, STATUS.INVALID_FIELD],
    ['identify namespace 0', { opcode: ADMIN.IDENTIFY, prp1: page }, STATUS.INVALID_NAMESPACE],
    [
      'identify all namespaces',
      { opcode: ADMIN.IDENTIFY, namespace: ALL_NAMESPACES, prp1: page },
      STATUS.INVALID_NAMESPACE,
    ],
    [
      'list behind the last',
      { opcode: ADMIN.IDENTIFY, namespace: 0xffff_fffe, prp1: page, dwords: [2] },
      STATUS.INVALID_NAMESPACE,
    ],
    ['identify into nowhere', { opcode: ADMIN.IDENTIFY, prp1: NOWHERE, dwords: [1] }, STATUS.DATA_TRANSFER_ERROR],
    ['a log page nobody has', log(0x77), STATUS.INVALID_LOG_PAGE],
    ['a log page from behind its end', log(LOG.HEALTH, [0, 516]), STATUS.INVALID_FIELD],
    ['a log page from 2^32', log(LOG.HEALTH, [0, 0, 1]), STATUS.INVALID_FIELD],
    ['a log page of 16 GiB', log(LOG.HEALTH | 0xffff_0000, [0xffff]), STATUS.INVALID_FIELD],
    ['completion queue 0', queue(ADMIN.CREATE_CQ, 0x000f_0000, 1), STATUS.INVALID_QUEUE_ID],
    ['a completion queue that exists', queue(ADMIN.CREATE_CQ, 0x000f_0001, 1), STATUS.INVALID_QUEUE_ID],
    ['completion queue 65', queue(ADMIN.CREATE_CQ, 0x000f_0041, 1), STATUS.INVALID_QUEUE_ID],
    ['a queue of one entry', queue(ADMIN.CREATE_CQ, 0x0000_0002, 1), STATUS.INVALID_QUEUE_SIZE],
    ['a queue of 65536 entries', queue(ADMIN.CREATE_CQ, 0xffff_0002, 1), STATUS.INVALID_QUEUE_SIZE],
    ['a queue in pieces', queue(ADMIN.CREATE_CQ, 0x000f_0002, 0), STATUS.INVALID_FIELD],
    ['a queue in the middle of a page', queue(ADMIN.CREATE_CQ, 0x000f_0002, 1, page + 16n), STATUS.INVALID_PRP_OFFSET],
    ['a vector nobody has', queue(ADMIN.CREATE_CQ, 0x000f_0002, 0x0041_0003), STATUS.INVALID_VECTOR],
    ['a queue nowhere', queue(ADMIN.CREATE_CQ, 0x000f_0002, 1, NOWHERE), STATUS.DATA_TRANSFER_ERROR],
    [
      'a queue over the end of memory',
      queue(ADMIN.CREATE_CQ, 0x03ff_0002, 1, RAM + RAM_SIZE - 4096n),
      STATUS.DATA_TRANSFER_ERROR,
    ],
    [
      'a queue at the end of the address space',
      queue(ADMIN.CREATE_CQ, 0x03ff_0002, 1, TOP),
      STATUS.DATA_TRANSFER_ERROR,
    ],
    ['a submission queue without completions', queue(ADMIN.CREATE_SQ, 0x000f_0002, 0x0009_0001), STATUS.CQ_INVALID],
    ['one that completes to the admin queue', queue(ADMIN.CREATE_SQ, 0x000f_0002, 1), STATUS.CQ_INVALID],
    ['a submission queue that exists', queue(ADMIN.CREATE_SQ, 0x000f_0001, 0x0001_0001), STATUS.INVALID_QUEUE_ID],
    [
      'a submission queue nowhere',
      queue(ADMIN.CREATE_SQ, 0x000f_0002, 0x0001_0001, NOWHERE),
      STATUS.DATA_TRANSFER_ERROR,
    ],
    ['delete the admin queue', { opcode: ADMIN.DELETE_SQ }, STATUS.INVALID_QUEUE_ID],
    ['delete the admin completions', { opcode: ADMIN.DELETE_CQ }, STATUS.INVALID_QUEUE_ID],
    ['delete a queue nobody made', { opcode: ADMIN.DELETE_SQ, dwords: [9] }, STATUS.INVALID_QUEUE_ID],
    ['delete completions that are in use', { opcode: ADMIN.DELETE_CQ, dwords: [1] }, STATUS.INVALID_QUEUE_DELETION],
  ];
  for (const [what, command, status] of admin) {
    test(`admin: ${what}`, () =>
      withQueue(({ linux }) => {
        assert.equal(linux.admin.run(command).status, status);
      }));
  }

  test('more than MDTS says', () =>
    withDisk({ size: 4 * MIB }, ({ linux }) => {
      const pair = linux.probe();
      const pages = Array.from({ length: 257 }, () => linux.pages());
      assert.equal(linux.read(pair, 0, pages).status, STATUS.INVALID_FIELD);
      assert.equal(linux.read(pair, 0, pages.slice(1)).status, 0);
      assert.equal(MAX_TRANSFER, MIB);
    }));
});

describe('lists that never end', () => {
  const chain = (linux: LinuxDriver, at: bigint, entry: (index: number) => bigint): void =>
    linux.ram.write(at, new Uint8Array(BigUint64Array.from({ length: 512 }, (_, index) => entry(index)).buffer));

  test('a list that points to itself is walked for as many pages as the command has, no further', () =>
    withQueue(({ linux, queue, page }) => {
      const list = linux.pages();
      chain(linux, list, () => list);
      const command = { opcode: IO.WRITE, namespace: 1, prp1: page, prp2: list, dwords: [0, 0, BLOCKS - 1] };
      linux.good(queue.run(command));
      linux.good(queue.run({ ...command, prp2: list + 2048n }));
    }));

  test('a list of one entry that points to its own last entry', () =>
    withQueue(({ linux, queue, page }) => {
      const list = linux.pages();
      chain(linux, list, () => list + 4088n);
      const command = { opcode: IO.READ, namespace: 1, prp1: page, prp2: list + 4088n, dwords: [0, 0, 63] };
      assert.equal(queue.run(command).status, STATUS.INVALID_PRP_OFFSET);
    }));

  test('one page a hundred times is one page pinned a hundred times, and given back', () =>
    withQueue(({ linux, queue, page, container }) => {
      const list = linux.pages();
      chain(linux, list, () => page);
      const before = container.stats.pinnedPages;
      linux.good(queue.run({ opcode: IO.READ, namespace: 1, prp1: page, prp2: list, dwords: [0, 0, 799] }));
      assert.equal(container.stats.pinnedPages, before);
    }));
});

describe('doorbells', () => {
  const listen = (linux: LinuxDriver): number => linux.admin.submit({ opcode: ADMIN.ASYNC_EVENT });
  const errorLog = (linux: LinuxDriver): Uint8Array => {
    const at = linux.pages();
    linux.good(linux.admin.run({ opcode: ADMIN.GET_LOG_PAGE, prp1: at, dwords: [(15 << 16) | LOG.ERRORS] }));
    return linux.ram.read(at, 64);
  };

  const bad: readonly (readonly [what: string, offset: number, value: number, info: number])[] = [
    ['a submission queue nobody made', 2 * 8, 1, 0],
    ['a completion queue nobody made', 9 * 8 + 4, 1, 0],
    ['the last one of the window', 0xfe8, 1, 0],
    ['a tail that is the queue’s size', 8, 64, 1],
    ['a tail of 2^32 - 1', 8, 0xffff_ffff, 1],
    ['a head over nothing', 8 + 4, 1, 1],
    ['a head behind the queue', 8 + 4, 64, 1],
  ];
  for (const [what, offset, value, info] of bad) {
    test(`${what}: an event, a line in the log, no harm`, () =>
      withQueue(({ linux }) => {
        const id = listen(linux);
        linux.pci.write(0, REGISTER.DOORBELLS + offset, value);
        const event = linux.admin.poll();
        assert.deepEqual([event?.id, event?.status, event?.result], [id, 0, (info << 8) | (LOG.ERRORS << 16)]);
        const again = listen(linux);
        linux.pci.write(0, REGISTER.DOORBELLS + offset, value);
        assert.equal(linux.admin.poll(), undefined, 'masked until the log is read');
        assert.equal(new DataView(errorLog(linux).buffer).getUint16(10, true), 0xffff);
        linux.pci.write(0, REGISTER.DOORBELLS + offset, value);
        assert.equal(linux.admin.poll()?.id, again);
      }));
  }

  test('requests for events: four at most, and they can be called back', () =>
    withQueue(({ linux }) => {
      const ids = [1, 2, 3, 4].map(() => listen(linux));
      assert.equal(linux.admin.run({ opcode: ADMIN.ASYNC_EVENT }).status, STATUS.EVENT_LIMIT);
      const abort = linux.admin.submit({ opcode: ADMIN.ABORT, dwords: [((ids[1] ?? 0) << 16) >>> 0] });
      const [first, second] = [linux.admin.poll(), linux.admin.poll()];
      assert.deepEqual([first?.id, first?.status], [ids[1], STATUS.ABORT_REQUESTED]);
      assert.deepEqual([second?.id, second?.status, second?.result], [abort, 0, 0]);
      assert.equal(linux.good(linux.admin.run({ opcode: ADMIN.ABORT, dwords: [0x7777_0000] })).result, 1);
      assert.equal(linux.good(linux.admin.run({ opcode: ADMIN.ABORT, dwords: [1] })).result, 1);
    }));

  test('before the controller is ready they do nothing', () =>
    withDisk({ size: MIB }, ({ linux, warned }) => {
      linux.enablePci();
      linux.pci.write(0, REGISTER.DOORBELLS, 5);
      linux.enableController();
      assert.deepEqual([linux.admin.poll(), warned], [undefined, []]);
    }));
});

describe('a controller that cannot be started', () => {
  const wrong: readonly (readonly [what: string, aqa: number, queues: bigint, cc: number])[] = [
    ['an admin queue of one entry', 0x001f_0000, RAM, CC.EN],
    ['admin queues nowhere', 0x001f_001f, NOWHERE, CC.EN],
    ['admin queues at the end of the address space', 0x0fff_0fff, TOP, CC.EN],
    ['8 KiB pages', 0x001f_001f, RAM, CC.EN | 0x80],
    ['another command set', 0x001f_001f, RAM, CC.EN | 0x10],
    ['submission entries of 128 bytes', 0x001f_001f, RAM, CC.EN | 0x7_0000],
    ['completion entries of 8 bytes', 0x001f_001f, RAM, CC.EN | 0x30_0000],
  ];
  for (const [what, aqa, queues, cc] of wrong) {
    test(`${what}: fatal status, and the next start works`, () =>
      withDisk({ size: MIB }, ({ linux, pci, warned, container }) => {
        linux.enablePci();
        pci.write(0, REGISTER.AQA, aqa);
        pci.write(0, REGISTER.ASQ_LOW, queues, 8);
        pci.write(0, REGISTER.ACQ_LOW, queues, 8);
        pci.write(0, REGISTER.CC, cc);
        assert.deepEqual([linux.register(REGISTER.CSTS), warned.length], [CSTS.CFS, 1]);
        assert.equal(container.stats.pinnedPages, 0);
        linux.enableController();
      }));
  }
});

describe('a guest that changes its mind', () => {
  test('a command is what it was when it was fetched', () =>
    withQueue(({ linux, queue, page }) => {
      const id = queue.submit({ opcode: IO.READ, namespace: 1, prp1: page, dwords: [0, 0, 0] });
      linux.ram.write(queue.submissions, encode(0x55, { opcode: 0xff }));
      assert.deepEqual([queue.poll()?.id], [id]);
    }));

  test('any 64 bytes in any queue: a completion, or none, but no harm', () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.boolean(), fc.uint8Array({ minLength: 64, maxLength: 64 }), fc.nat(12)), { maxLength: 6 }),
        (commands) =>
          withDisk({ size: MIB }, ({ linux }) => {
            const queue = linux.probe();
            for (const [onAdmin, bytes, opcode] of commands) {
              const pair = onAdmin ? linux.admin : queue;
              const place = pair.submissions + BigInt(pair.next * 64);
              pair.put({ opcode: 0 });
              bytes[0] = opcode;
              bytes[1] = 0;
              linux.ram.write(place, bytes);
              pair.ring();
              while (pair.poll() !== undefined);
            }
            assert.equal(linux.register(REGISTER.CSTS) & CSTS.CFS, 0);
          }),
      ),
      { numRuns: 60 },
    ));

  test('any write to any register: the controller can be reset and started', () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(0x1400), fc.constantFrom(1, 2, 4, 8), fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })), {
          maxLength: 20,
        }),
        (writes) =>
          withDisk({ size: MIB }, async ({ linux, pci, file }) => {
            linux.probe();
            for (const [offset, size, value] of writes) pci.write(0, offset, value, size);
            await file.reset();
            linux.enableController();
          }),
      ),
      { numRuns: 60 },
    ));
});
