// The disk of a VM that shares none of its memory, or only a part: everything goes by DMA messages.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createMediator, PinionError } from '@pinion/core';
import { ADMIN, CC, CSTS, IDENTIFY, IO, nvme, REGISTER, STATUS } from '@pinion/example-nvme';
import { COMMAND, CONFIG, MSIX, PciSoftware } from '@pinion/pci';
import { createMemfd, FakeSys, UnixSocket } from '@pinion/sys';
import { FakeClock } from '@pinion/testkit';
import { type1 } from '@pinion/type1';
import { Client, ClientPages, RemoteDevice, Server, SocketTransport, servedDevice, VmSpace } from '@pinion/vfio-user';
import { type Answer, type GuestRam, LinuxDriver, type QueuePair, type Submission } from './linux-driver.js';

const RAM = 0x100_0000n;
const RAM_SIZE = 0x40_0000;
const HALF = RAM_SIZE / 2;
const UUID = '0b5cbd34-6d51-44b3-8b36-7f6a1c2f1f06';

interface Vm {
  readonly client: Client;
  readonly device: RemoteDevice;
  readonly linux: LinuxDriver;
  readonly space: VmSpace;
  readonly irqs: string[];
  /** Guest addresses that the device copied, in order. */
  readonly copied: string[];
  /** While this is set, copies wait for it. */
  hold: Promise<void> | undefined;
  /** What every copy fails with. */
  fail: unknown;
}

interface Options {
  /** The lower half of memory is shared. */
  readonly shared?: boolean;
  /** Doorbells are answered. */
  readonly answered?: boolean;
}

async function settle(turns = 20): Promise<void> {
  for (let turn = 0; turn < turns; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** A VMM that keeps 4 MiB of memory to itself, or the upper half of it. Ends with nothing pinned or open. */
async function withVm(
  run: (vm: Vm) => Promise<void>,
  { shared = false, answered = false }: Options = {},
): Promise<void> {
  const sys = new FakeSys();
  const clock = new FakeClock();
  const pages = new ClientPages();
  const mediator = await createMediator({ memory: pages, clock, plugins: [type1(), nvme({ size: 1 << 20 })] });
  const mdev = await mediator.registerParent('slot', 'nvme').create('disk', UUID);
  const space = new VmSpace({ mediator, pages, name: 'vm' });
  const seat = await space.attach(mdev.group, UUID);
  const server = new Server({ sys, device: servedDevice(seat), space: space.dma, clock, reopen: () => seat.reopen() });
  const [ours, theirs] = UnixSocket.pair(sys);
  server.accept(new SocketTransport(theirs));
  const memory = createMemfd(sys, 'ram', BigInt(RAM_SIZE));
  const copied: string[] = [];
  const copy = async (what: string, address: bigint, action: (offset: bigint) => void): Promise<void> => {
    await vm.hold;
    if (vm.fail !== undefined) throw vm.fail;
    copied.push(`${what} ${(address - RAM).toString(16)}`);
    action(address - RAM);
  };
  const client = await Client.connect({
    transport: new SocketTransport(ours),
    clock,
    memory: {
      read: (address, bytes) => copy('read', address, (offset) => void sys.pread(memory.number, bytes, offset)),
      write: (address, bytes) => copy('write', address, (offset) => void sys.pwrite(memory.number, bytes, offset)),
    },
  });
  const size = BigInt(HALF);
  await client.mapDma({ address: RAM, size, ...(shared && { fd: memory }) });
  await client.mapDma({ address: RAM + size, size });
  const device = await RemoteDevice.open(client, sys, 'disk');
  const irqs: string[] = [];
  await device.connectIrqs((index, vector) => irqs.push(`${index}:${vector}`));
  const guest: GuestRam = {
    first: RAM,
    write: (at, bytes) => void sys.pwrite(memory.number, bytes, at - RAM),
    read(at, length) {
      const bytes = new Uint8Array(length);
      sys.pread(memory.number, bytes, at - RAM);
      return bytes;
    },
  };
  const pci = new PciSoftware({
    writeRegion: (index, offset, bytes) =>
      void client.writeRegion(index, BigInt(offset), bytes.slice(), { posted: !answered }).catch(() => {}),
    readRegion: () => assert.fail('a driver behind a socket reads asynchronously'),
  });
  const linux = new LinuxDriver(pci, guest);
  const vm: Vm = { client, device, linux, space, irqs, copied, hold: undefined, fail: undefined };
  await run(vm);
  device.close();
  client.close();
  for (let turn = 0; turn < 100 && server.session !== undefined; turn += 1) await settle(1);
  assert.equal(space.container.stats.pinnedPages, 0);
  await server.close();
  await space.close();
  await mediator.close();
  memory.close();
  assert.deepEqual(sys.ledger.labels(), []);
}

async function read32(device: RemoteDevice, offset: number): Promise<number> {
  const bytes = new Uint8Array(4);
  await device.readRegion(0, offset, bytes);
  return new DataView(bytes.buffer).getUint32(0, true);
}

/** Submits and waits for the completion. */
async function answerTo(queue: QueuePair, command: Submission): Promise<Answer> {
  const id = queue.submit(command);
  for (let turn = 0; turn < 200; turn += 1) {
    const answer = queue.poll();
    if (answer !== undefined) {
      assert.equal(answer.id, id);
      return answer;
    }
    await settle(1);
  }
  return assert.fail(`command ${id} was not completed`);
}

async function done(queue: QueuePair, command: Submission): Promise<void> {
  assert.equal((await answerTo(queue, command)).status, STATUS.SUCCESS);
}

async function enable({ device, linux }: Vm): Promise<void> {
  const { pci, admin } = linux;
  pci.setConfig(CONFIG.COMMAND, COMMAND.MEMORY | COMMAND.BUS_MASTER, 2);
  pci.setConfig(0x84 + MSIX.CONTROL, MSIX.ENABLE, 2);
  pci.write(0, REGISTER.AQA, 0x001f_001f);
  pci.write(0, REGISTER.ASQ_LOW, admin.submissions, 8);
  pci.write(0, REGISTER.ACQ_LOW, admin.completions, 8);
  pci.write(0, REGISTER.CC, CC.EN | (6 << 16) | (4 << 20));
  assert.equal(await read32(device, REGISTER.CSTS), CSTS.RDY);
}

/** Up to a queue pair of 4 entries, so that rings go round. */
async function probe(vm: Vm): Promise<QueuePair> {
  await enable(vm);
  const { linux } = vm;
  const [completions, submissions] = [linux.pages(), linux.pages()];
  await done(linux.admin, { opcode: ADMIN.CREATE_CQ, prp1: completions, dwords: [0x0003_0001, 0x0001_0003] });
  await done(linux.admin, { opcode: ADMIN.CREATE_SQ, prp1: submissions, dwords: [0x0003_0001, 0x0001_0001] });
  return linux.pair({ id: 1, entries: 4, submissions, completions });
}

const pagesOf = (linux: LinuxDriver, count: number): bigint[] => Array.from({ length: count }, () => linux.pages());
const pattern = (length: number): Uint8Array => Uint8Array.from({ length }, (_, n) => (n * 31 + (n >> 8)) & 0xff);
const readOne = (page: bigint): Submission => ({ opcode: IO.READ, namespace: 1, prp1: page, dwords: [0, 0, 7] });

for (const options of [{}, { answered: true }, { shared: true }, { shared: true, answered: true }]) {
  const { shared = false, answered = false } = options as Options;
  describe(`nvme with memory of which ${shared ? 'half' : 'nothing'} is shared, doorbells ${answered ? 'answered' : 'posted'}`, () => {
    test('probe, identify, 64 KiB there and back, rings that go round, interrupts', () =>
      withVm(async (vm) => {
        const { linux, irqs } = vm;
        const queue = await probe(vm);
        const page = linux.pages();
        await done(linux.admin, { opcode: ADMIN.IDENTIFY, prp1: page, dwords: [IDENTIFY.CONTROLLER] });
        assert.equal(Buffer.from(linux.gather([page])).toString('latin1', 24, 40), 'Pinion NVMe disk');
        await settle();
        irqs.length = 0;
        const [from, to] = [pagesOf(linux, 16), pagesOf(linux, 16)];
        const bytes = pattern(16 * 4096);
        linux.fill(from, bytes);
        for (let round = 0; round < 5; round += 1) {
          const lba = 64 + round;
          await done(queue, linux.transfer(from, { opcode: IO.WRITE, lba, bytes: bytes.length }));
          linux.fill(to, new Uint8Array(bytes.length));
          await done(queue, linux.transfer(to, { opcode: IO.READ, lba, bytes: bytes.length }));
          assert.deepEqual(Buffer.from(linux.gather(to)), Buffer.from(bytes));
        }
        await settle();
        assert.ok(irqs.length > 0 && irqs.every((irq) => irq === '2:1'), irqs.join());
        await done(queue, { opcode: IO.FLUSH, namespace: 1 });
        await done(queue, { opcode: IO.WRITE_ZEROES, namespace: 1, dwords: [64, 0, 7] });
      }, options));
  });
}

describe('nvme with memory that is not shared', () => {
  test('each thing is copied once, and the completion comes after the data', () =>
    withVm(async (vm) => {
      const queue = await probe(vm);
      const page = vm.linux.pages();
      vm.copied.length = 0;
      await done(queue, readOne(page));
      const at = (address: bigint): string => (address - RAM).toString(16);
      assert.deepEqual(vm.copied, [
        `read ${at(queue.submissions)}`,
        `write ${at(page)}`,
        `write ${at(queue.completions)}`,
      ]);
    }));

  test('the interrupt comes when the completion is there', () =>
    withVm(async (vm) => {
      const queue = await probe(vm);
      await settle();
      vm.irqs.length = 0;
      let go = (): void => {};
      vm.hold = new Promise((resolve) => {
        go = resolve;
      });
      queue.submit(readOne(vm.linux.pages()));
      await settle();
      assert.deepEqual([vm.irqs, queue.poll()], [[], undefined]);
      vm.hold = undefined;
      go();
      await settle();
      assert.deepEqual([vm.irqs, queue.poll()?.status], [['2:1'], 0]);
    }));

  const BAD: readonly (readonly [what: string, command: (linux: LinuxDriver) => Submission, status: number])[] = [
    ['data that is not mapped', () => readOne(0x10n), STATUS.DATA_TRANSFER_ERROR],
    ['data that wraps', () => readOne(2n ** 64n - 0x200n), STATUS.DATA_TRANSFER_ERROR],
    ['a pointer that is odd', (linux) => readOne(linux.pages() + 1n), STATUS.INVALID_PRP_OFFSET],
    [
      'a list that is not mapped',
      (linux) => ({ opcode: IO.READ, namespace: 1, prp1: linux.pages(), prp2: 0x1000n, dwords: [0, 0, 63] }),
      STATUS.DATA_TRANSFER_ERROR,
    ],
    [
      'a list of zeros',
      (linux) => ({ opcode: IO.READ, namespace: 1, prp1: linux.pages(), prp2: linux.pages(), dwords: [0, 0, 63] }),
      STATUS.DATA_TRANSFER_ERROR,
    ],
  ];
  for (const [what, command, status] of BAD) {
    test(`${what} is status 0x${status.toString(16)}, and the disk goes on`, () =>
      withVm(async (vm) => {
        const queue = await probe(vm);
        assert.equal((await answerTo(queue, command(vm.linux))).status, status);
        await done(queue, readOne(vm.linux.pages()));
      }));
  }

  test('a client that refuses copies: fatal status, and a reset brings it back', () =>
    withVm(async (vm) => {
      const queue = await probe(vm);
      vm.fail = new PinionError('TEST_FAILED', 'EFAULT', 'as the test said');
      queue.submit(readOne(vm.linux.pages()));
      await settle();
      assert.equal((await read32(vm.device, REGISTER.CSTS)) & CSTS.CFS, CSTS.CFS);
      vm.fail = undefined;
      await vm.device.reset();
      assert.equal(await read32(vm.device, REGISTER.CSTS), 0);
    }));

  test('queues that are not mapped at all: fatal status at the first doorbell', () =>
    withVm(async (vm) => {
      const { pci } = vm.linux;
      pci.setConfig(CONFIG.COMMAND, COMMAND.MEMORY | COMMAND.BUS_MASTER, 2);
      pci.write(0, REGISTER.AQA, 0x001f_001f);
      pci.write(0, REGISTER.ASQ_LOW, 0x1000n, 8);
      pci.write(0, REGISTER.ACQ_LOW, 0x2000n, 8);
      pci.write(0, REGISTER.CC, CC.EN | (6 << 16) | (4 << 20));
      assert.equal((await read32(vm.device, REGISTER.CSTS)) & CSTS.CFS, CSTS.CFS);
    }));

  for (const shared of [false, true]) {
    test(`a reset while copies are not answered does not wait for them (${shared ? 'half' : 'nothing'} shared)`, () =>
      withVm(
        async (vm) => {
          const queue = await probe(vm);
          let go = (): void => {};
          vm.hold = new Promise((resolve) => {
            go = resolve;
          });
          queue.submit(readOne(RAM + BigInt(RAM_SIZE) - 4096n));
          await settle();
          await vm.device.reset();
          assert.equal(await read32(vm.device, REGISTER.CSTS), 0);
          const before = vm.copied.length;
          vm.hold = undefined;
          go();
          await settle();
          assert.ok(vm.copied.length <= before + 1, 'what was under way may come, nothing after it');
        },
        { shared },
      ));

    test(`an unmap while copies are not answered does not wait for them (${shared ? 'half' : 'nothing'} shared)`, () =>
      withVm(
        async (vm) => {
          const queue = await probe(vm);
          let go = (): void => {};
          vm.hold = new Promise((resolve) => {
            go = resolve;
          });
          queue.submit(readOne(RAM + BigInt(RAM_SIZE) - 4096n));
          await settle();
          await vm.client.unmapDma({ address: RAM, size: BigInt(HALF) });
          vm.hold = undefined;
          go();
          await settle();
          assert.equal((await read32(vm.device, REGISTER.CSTS)) & CSTS.CFS, CSTS.CFS, 'its queues have gone');
        },
        { shared },
      ));
  }

  test('the VMM dies in the middle: nothing is left', () =>
    withVm(async (vm) => {
      const queue = await probe(vm);
      vm.hold = new Promise(() => {});
      queue.submit(readOne(vm.linux.pages()));
      await settle();
      vm.client.close();
    }));
});
