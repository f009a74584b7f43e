import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { createMediator } from '@pinion/core';
import { ADMIN, CC, CSTS, FEATURE, IDENTIFY, IO, LOG, MemoryStore, nvme, REGISTER, STATUS } from '@pinion/example-nvme';
import { CAPABILITY, COMMAND, CONFIG, REGION } from '@pinion/pci';
import { SimulatedOs } from '@pinion/testkit';
import { type1 } from '@pinion/type1';
import { LinuxDriver } from './linux-driver.js';
import { withDisk } from './rig.js';

const MIB = 1 << 20;
/** Bytes that differ from page to page and from run to run of the generator. */
function random(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = seed >>> 0;
  for (let at = 0; at < length; at += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}
const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const text = (bytes: Uint8Array, from: number, to: number): string =>
  Buffer.from(bytes.subarray(from, to)).toString('latin1').trim();

describe('nvme under the steps of the stock driver', () => {
  test('golden: configuration header and capability registers', () =>
    withDisk({ size: MIB }, ({ pci, linux }) => {
      assert.equal(pci.config(0), 0x11f5_1234);
      assert.equal(pci.config(8), 0x0108_0201);
      assert.equal(pci.config(CONFIG.BAR0), 0x4);
      assert.deepEqual(
        [CAPABILITY.PM, CAPABILITY.EXPRESS, CAPABILITY.MSIX].map((id) => pci.capability(id)),
        [0x40, 0x48, 0x84],
      );
      assert.equal(linux.register(REGISTER.CSTS), 0xffff_ffff, 'not decoded yet');
      linux.enablePci();
      assert.deepEqual(
        [REGISTER.CAP_LOW, REGISTER.CAP_HIGH, REGISTER.VS, REGISTER.CSTS].map((offset) => linux.register(offset)),
        [0x1401_03ff, 0x20, 0x0001_0400, 0],
      );
    }));

  test('identify: controller, namespace, lists and descriptors', () =>
    withDisk({ size: MIB, blockSize: 4096, serial: 'S1', model: 'M' }, ({ linux }) => {
      linux.enablePci();
      linux.enableController();
      const controller = linux.identify(IDENTIFY.CONTROLLER);
      assert.deepEqual(
        [text(controller, 4, 24), text(controller, 24, 64), text(controller, 64, 72)],
        ['S1', 'M', '1.0'],
      );
      assert.deepEqual([controller[77], controller[512], controller[513], controller[516]], [8, 0x66, 0x44, 1]);
      assert.match(
        text(controller, 768, 1024),
        /^nqn\.2014-08\.org\.nvmexpress:uuid:0b5cbd34-6d51-44b3-8b36-7f6a1c2f1f04/,
      );
      const namespace = new DataView(linux.identify(IDENTIFY.NAMESPACE, 1).buffer);
      assert.deepEqual([namespace.getBigUint64(0, true), namespace.getUint8(130)], [256n, 12]);
      assert.deepEqual([...linux.identify(IDENTIFY.ACTIVE, 0).subarray(0, 8)], [1, 0, 0, 0, 0, 0, 0, 0]);
      assert.equal(linux.identify(IDENTIFY.ACTIVE, 1)[0], 0);
      assert.deepEqual([...linux.identify(IDENTIFY.DESCRIPTORS, 1).subarray(0, 6)], [2, 16, 0, 0, 0x0b, 0x5c]);
    }));

  for (const mode of ['messages', 'pin'] as const) {
    test(`1 MiB of random bytes there and back through PRP lists, by ${mode}`, () =>
      withDisk({ size: 4 * MIB }, ({ linux, container, irqs, pci }) => {
        linux.enablePci(mode === 'messages' ? 2 : 0);
        linux.enableController();
        const queue = linux.createQueues(1, { vector: mode === 'messages' ? 1 : 0 });
        const resting = container.stats.pinnedPages;
        irqs.length = 0;
        const bytes = random(MIB, 7);
        const [from, to] = [linux.pages(512), linux.pages(512)].map((first) =>
          // why the step: neighbours in the list are not neighbours in memory
          Array.from({ length: 256 }, (_, n) => first + BigInt((n * 37) % 512) * 4096n),
        );
        linux.fill(from ?? [], bytes);
        linux.good(linux.write(queue, 8, from ?? []));
        linux.good(linux.read(queue, 8, to ?? []));
        assert.equal(digest(linux.gather(to ?? [])), digest(bytes));
        assert.equal(container.stats.pinnedPages, resting, 'only queues stay pinned');
        assert.deepEqual(irqs, mode === 'messages' ? ['2:1', '2:1'] : ['0:0', '0:0']);
        assert.equal(pci.config(CONFIG.STATUS, 2) & 8, 0, 'the pin is down once completions are taken');
      }));
  }

  for (const [interrupts, signal] of [
    ['msi', '1:0'],
    ['intx', '0:0'],
  ] as const) {
    test(`a disk with ${interrupts} alone has one vector, for all queues`, () =>
      withDisk({ size: MIB, interrupts }, ({ linux, irqs, pci }) => {
        assert.equal(pci.capability(CAPABILITY.MSIX), undefined);
        const msi = pci.capability(CAPABILITY.MSI);
        assert.equal(msi !== undefined, interrupts === 'msi');
        linux.enablePci(0);
        if (msi !== undefined) pci.setConfig(msi + 2, 1, 2);
        linux.enableController();
        const queue = linux.createQueues(1, { vector: 0 });
        irqs.length = 0;
        linux.good(linux.read(queue, 0, [linux.pages()]));
        assert.deepEqual(irqs, [signal]);
        assert.throws(() => linux.createQueues(2, { vector: 1 }), /4108|INVALID_VECTOR|264/);
      }));
  }

  test('transfers of every shape: offsets in the first page, one, two and many pages, a chained list', () =>
    withDisk({ size: 4 * MIB }, ({ linux }) => {
      const queue = linux.probe();
      const bytes = random(MIB, 3);
      const disk = Array.from({ length: 256 }, () => linux.pages());
      linux.fill(disk, bytes);
      linux.good(linux.write(queue, 0, disk));
      const shapes = [
        [512, 0],
        [512, 4],
        [512, 3584],
        [1024, 3840],
        [4096, 512],
        [8192, 0],
        [8192, 4092],
        [65_536, 2048],
      ] as const;
      for (const [length, offset] of shapes) {
        const buffer = linux.pages(Math.ceil((length + offset) / 4096) + 1);
        const pages = Array.from({ length: Math.ceil((length + offset) / 4096) }, (_, n) => buffer + BigInt(n) * 4096n);
        const prp1 = buffer + BigInt(offset);
        const prp2 = pages.length > 2 ? linux.list(pages.slice(1)) : (pages[1] ?? 0n);
        linux.good(queue.run({ opcode: IO.READ, namespace: 1, prp1, prp2, dwords: [5, 0, length / 512 - 1] }));
        assert.equal(digest(linux.ram.read(prp1, length)), digest(bytes.subarray(2560, 2560 + length)));
      }
      // a list that begins 3 entries before the end of its page goes on in another page
      const pages = Array.from({ length: 20 }, () => linux.pages());
      const [first, next] = [linux.pages() + 4096n - 24n, linux.pages()];
      const rest = pages.slice(1);
      linux.ram.write(first, new Uint8Array(BigUint64Array.of(rest[0] ?? 0n, rest[1] ?? 0n, next).buffer));
      linux.ram.write(next, new Uint8Array(BigUint64Array.from(rest.slice(2)).buffer));
      linux.good(queue.run({ opcode: IO.READ, namespace: 1, prp1: pages[0] ?? 0n, prp2: first, dwords: [0, 0, 159] }));
      assert.equal(digest(linux.gather(pages)), digest(bytes.subarray(0, 81_920)));
    }));

  test('random writes and reads beside a model, over several queues', () =>
    withDisk({ size: MIB }, ({ linux }) => {
      linux.enablePci(4);
      linux.enableController();
      linux.good(linux.setFeature(FEATURE.QUEUES, 0x0002_0002));
      const queues = [1, 2, 3].map((id) => linux.createQueues(id, { entries: 8 }));
      const model = new Uint8Array(MIB);
      const pages = Array.from({ length: 8 }, () => linux.pages());
      for (let step = 0; step < 200; step += 1) {
        const dice = random(4, step + 1);
        const queue = queues[step % 3];
        assert.ok(queue !== undefined);
        const used = pages.slice(0, 1 + ((dice[0] ?? 0) % 8));
        const lba = (((dice[1] ?? 0) * 256 + (dice[2] ?? 0)) % (2048 - 64)) as number;
        const length = used.length * 4096;
        if ((dice[3] ?? 0) % 2 === 0) {
          const bytes = random(length, step * 31);
          linux.fill(used, bytes);
          model.set(bytes, lba * 512);
          linux.good(linux.write(queue, lba, used));
        } else {
          linux.good(linux.read(queue, lba, used));
          assert.equal(digest(linux.gather(used)), digest(model.subarray(lba * 512, lba * 512 + length)));
        }
      }
    }));

  test('a doorbell for many commands: all complete, one interrupt, more than a turn goes on later', () =>
    withDisk({ size: MIB }, async ({ linux, irqs, settle }) => {
      linux.enablePci(2);
      linux.enableController();
      const queue = linux.createQueues(1, { entries: 1024 });
      const page = linux.pages();
      irqs.length = 0;
      const ids = Array.from({ length: 600 }, (_, lba) =>
        queue.put({ opcode: IO.READ, namespace: 1, prp1: page, dwords: [lba, 0, 0] }),
      );
      queue.ring();
      assert.equal(irqs.length, 1);
      await settle();
      const done: number[] = [];
      for (let answer = queue.poll(); answer !== undefined; answer = queue.poll()) done.push(linux.good(answer).id);
      assert.deepEqual(done, ids);
      assert.equal(irqs.length, 3, 'one interrupt for each turn of 256');
    }));

  test('a completion queue that is full: nothing is lost, nothing is fetched meanwhile', () =>
    withDisk({ size: MIB }, ({ linux }) => {
      linux.enablePci(2);
      linux.enableController();
      const queue = linux.createQueues(1, { entries: 4 });
      const page = linux.pages();
      const read = { opcode: IO.READ, namespace: 1, prp1: page, dwords: [0, 0, 0] };
      const ids = [queue.submit(read), queue.submit(read), queue.submit(read), queue.submit(read), queue.submit(read)];
      const seen: (number | undefined)[] = [];
      for (let n = 0; n < 5; n += 1) seen.push(queue.poll()?.id);
      assert.deepEqual(seen, ids);
      assert.equal(queue.poll(), undefined);
    }));

  test('flush, write zeroes, force unit access, health log', () =>
    withDisk({ size: MIB }, ({ linux }) => {
      const queue = linux.probe();
      const page = linux.pages();
      linux.ram.write(page, random(4096, 5));
      linux.good(queue.run({ opcode: IO.WRITE, namespace: 1, prp1: page, dwords: [0, 0, 0x4000_0000 | 7] }));
      linux.good(queue.run({ opcode: IO.WRITE_ZEROES, namespace: 1, dwords: [1, 0, 1] }));
      linux.good(queue.run({ opcode: IO.FLUSH, namespace: 0xffff_ffff }));
      linux.good(queue.run({ opcode: IO.FLUSH, namespace: 1 }));
      linux.good(linux.read(queue, 0, [page]));
      const expected = random(4096, 5).fill(0, 512, 1536);
      assert.equal(digest(linux.ram.read(page, 4096)), digest(expected));
      linux.good(linux.admin.run({ opcode: ADMIN.GET_LOG_PAGE, prp1: page, dwords: [(127 << 16) | LOG.HEALTH] }));
      const health = new DataView(linux.ram.read(page, 512).buffer);
      assert.deepEqual([health.getBigUint64(64, true), health.getBigUint64(80, true)], [1n, 1n]);
    }));

  test('shutdown and a new start: the disk keeps its blocks', () =>
    withDisk({ size: MIB }, ({ linux, pci, container }) => {
      const queue = linux.probe();
      const page = linux.pages();
      linux.ram.write(page, random(4096, 9));
      linux.good(linux.write(queue, 0, [page]));
      pci.write(0, REGISTER.CC, linux.register(REGISTER.CC) | 0x4000);
      assert.equal(linux.register(REGISTER.CSTS) & CSTS.SHST, CSTS.SHUT_DOWN);
      pci.write(0, REGISTER.CC, 0);
      assert.deepEqual([linux.register(REGISTER.CSTS), container.stats.pinnedPages], [0, 0]);
      const again = new LinuxDriver(pci, linux.ram);
      const fresh = again.probe();
      const other = again.pages();
      again.good(again.read(fresh, 0, [other]));
      assert.equal(digest(linux.ram.read(other, 4096)), digest(random(4096, 9)));
    }));

  test('features: defaults, changes, what cannot be', () =>
    withDisk({ size: MIB }, ({ linux }) => {
      linux.enablePci(2);
      linux.enableController();
      const get = (feature: number, select = 0) =>
        linux.admin.run({ opcode: ADMIN.GET_FEATURES, dwords: [feature | (select << 8)] });
      assert.equal(linux.good(linux.setFeature(FEATURE.QUEUES, 0x00ff_0003)).result, 0x003f_0003);
      linux.good(linux.setFeature(FEATURE.WRITE_CACHE, 0));
      assert.deepEqual(
        [get(FEATURE.WRITE_CACHE).result, get(FEATURE.WRITE_CACHE, 1).result, get(FEATURE.WRITE_CACHE, 3).result],
        [0, 1, 4],
      );
      const refused: readonly (readonly [number, number, number])[] = [
        [0x7f, 0, STATUS.INVALID_FIELD],
        [FEATURE.QUEUES, 0xffff, STATUS.INVALID_FIELD],
        [FEATURE.QUEUES, 0xffff_0000, STATUS.INVALID_FIELD],
        [FEATURE.POWER, 1, STATUS.INVALID_FIELD],
        [FEATURE.VECTOR, 65, STATUS.INVALID_FIELD],
        [FEATURE.EVENTS | 0x8000_0000, 0, STATUS.NOT_SAVEABLE],
      ];
      for (const [feature, value, status] of refused) assert.equal(linux.setFeature(feature, value).status, status);
      assert.equal(get(0x7f).status, STATUS.INVALID_FIELD);
      assert.equal(get(FEATURE.POWER, 5).status, STATUS.INVALID_FIELD);
      linux.createQueues(1);
      assert.equal(linux.setFeature(FEATURE.QUEUES, 0).status, STATUS.SEQUENCE_ERROR);
    }));

  test('no bus master: commands wait until it is one', () =>
    withDisk({ size: MIB }, ({ linux, pci }) => {
      const queue = linux.probe();
      pci.setConfig(CONFIG.COMMAND, COMMAND.MEMORY, 2);
      queue.submit({ opcode: IO.FLUSH, namespace: 1 });
      assert.equal(queue.poll(), undefined);
      pci.enable(COMMAND.BUS_MASTER);
      assert.equal(queue.poll()?.status, 0);
    }));

  test('function level reset gives everything back, and the controller starts again', () =>
    withDisk({ size: MIB }, async ({ linux, pci, container, settle }) => {
      linux.probe();
      pci.setConfig((pci.capability(CAPABILITY.EXPRESS) ?? 0) + 8, 0x8000, 2);
      await settle();
      assert.deepEqual([container.stats.pinnedPages, pci.config(CONFIG.COMMAND, 2)], [0, 0]);
      linux.enablePci(2);
      assert.equal(linux.register(REGISTER.CC) & CC.EN, 0);
    }));
});

describe('stores', () => {
  const folder = mkdtempSync(join(tmpdir(), 'pinion-nvme-'));
  after(() => rmSync(folder, { recursive: true }));

  test('a file: what the guest writes is in it after a flush', async () => {
    const image = join(folder, 'disk.img');
    writeFileSync(image, random(MIB, 1));
    await withDisk({ image }, async ({ linux, settle }) => {
      const queue = linux.probe();
      const pages = Array.from({ length: 3 }, () => linux.pages());
      linux.good(linux.read(queue, 16, pages));
      assert.equal(digest(linux.gather(pages)), digest(random(MIB, 1).subarray(8192, 20_480)));
      linux.fill(pages, random(12_288, 2));
      linux.good(linux.write(queue, 0, pages));
      linux.good(queue.run({ opcode: IO.WRITE_ZEROES, namespace: 1, dwords: [24, 0, 7] }));
      const id = queue.submit({ opcode: IO.FLUSH, namespace: 1 });
      let answer = queue.poll();
      for (let turn = 0; turn < 200 && answer === undefined; turn += 1) {
        await settle();
        answer = queue.poll();
      }
      assert.deepEqual([answer?.id, answer?.status], [id, 0]);
      const written = readFileSync(image);
      assert.equal(digest(written.subarray(0, 12_288)), digest(random(12_288, 2)));
      assert.ok(written.subarray(12_288, 16_384).every((byte) => byte === 0));
    });
  });

  test('a file that was truncated under us is a media error', async () => {
    const image = join(folder, 'short.img');
    writeFileSync(image, new Uint8Array(MIB));
    await withDisk({ image }, ({ linux, warned }) => {
      const queue = linux.probe();
      truncateSync(image, 512);
      assert.equal(linux.read(queue, 1024, [linux.pages()]).status, STATUS.READ_ERROR);
      assert.equal(warned.length, 1);
    });
  });

  test('a read-only disk refuses writes', () =>
    withDisk({ size: MIB, readOnly: true }, ({ linux }) => {
      const queue = linux.probe();
      assert.equal(linux.write(queue, 0, [linux.pages()]).status, STATUS.READ_ONLY);
      assert.equal(queue.run({ opcode: IO.WRITE_ZEROES, namespace: 1 }).status, STATUS.READ_ONLY);
      assert.equal(linux.identify(IDENTIFY.NAMESPACE, 1)[99], 1);
    }));

  test('a store that throws is a media error, and counted', () => {
    class Broken extends MemoryStore {
      override read(): void {
        throw new RangeError('head crash');
      }
      override write(): void {
        throw new RangeError('head crash');
      }
    }
    return withDisk({ store: () => new Broken(MIB) }, ({ linux, warned, container }) => {
      const queue = linux.probe();
      const resting = container.stats.pinnedPages;
      const page = linux.pages();
      assert.equal(linux.read(queue, 0, [page]).status, STATUS.READ_ERROR);
      assert.equal(linux.write(queue, 0, [page]).status, STATUS.WRITE_FAULT);
      assert.deepEqual([warned.length, container.stats.pinnedPages], [2, resting]);
    });
  });

  const unusable: readonly (readonly [what: string, options: Parameters<typeof nvme>[0], error: object])[] = [
    ['no such file', { image: join(folder, 'none') }, { code: 'ENOENT' }],
    ['an empty file', { image: join(folder, 'empty') }, { name: 'NVME_BAD_IMAGE' }],
    ['half a block', { size: 700 }, { name: 'NVME_BAD_SIZE', errno: 'EINVAL' }],
    ['no bytes', { size: 0 }, { name: 'NVME_BAD_SIZE' }],
    ['half a large block', { size: 512, blockSize: 4096 }, { name: 'NVME_BAD_SIZE' }],
  ];
  for (const [what, options, error] of unusable) {
    test(`${what}: the device is not created`, async () => {
      writeFileSync(join(folder, 'empty'), '');
      const mediator = await createMediator({ memory: new SimulatedOs().host, plugins: [type1(), nvme(options)] });
      const parent = mediator.registerParent('slot', 'nvme');
      await assert.rejects(parent.create('disk', '0b5cbd34-6d51-44b3-8b36-7f6a1c2f1f04'), error);
      await mediator.close();
    });
  }

  test('an image belongs to one device', async () => {
    const image = join(folder, 'one.img');
    writeFileSync(image, new Uint8Array(MIB));
    await withDisk({ image }, async ({ mdev }) => {
      assert.equal(mdev.parent.availableInstances('disk'), 0);
      assert.equal(
        mdev.device.ops.regions?.some(({ index }) => index === REGION.CONFIG),
        true,
      );
    });
  });
});
