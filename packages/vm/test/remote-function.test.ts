import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createMediator, defineDriver, definePlugin, type GuestMemory, type IrqSink } from '@pinion/core';
import { linuxSys, type Sys } from '@pinion/sys';
import { type1 } from '@pinion/type1';
import { ClientPages } from '@pinion/vfio-user';
import { type EmbeddedVm, ServedDevices } from '@pinion/vm';
import { startSmallVm } from './small-vm.js';

const [STATUS, ADDRESS] = [0, 8];
const DONE = 1;
const FAILED = 2;

/** Register 8 takes a guest address: 16 bytes there are read, each is increased, and they are written back; then it interrupts. */
const driver = defineDriver({
  name: 'adder',
  deviceApi: 'vfio-pci',
  types: [{ id: 'one' }],
  pins: false,
  create({ clock }) {
    let memory: GuestMemory | undefined;
    let sink: IrqSink | undefined;
    let status = 0;
    const work = async (address: bigint): Promise<void> => {
      const bytes = new Uint8Array(16);
      await memory?.read(address, bytes);
      await memory?.write(
        address,
        bytes.map((byte) => byte + 1),
      );
    };
    const begin = (address: bigint): void => {
      status = 0;
      const end = (how: number): void => {
        status = how;
        sink?.(0, 0);
      };
      work(address).then(
        () => end(DONE),
        () => end(FAILED),
      );
    };
    return {
      regions: [{ index: 0, name: 'bar0', size: 16, readable: true, writable: true }],
      irqs: [{ index: 0, name: 'done', count: 1 }],
      readRegion: (_index, offset, bytes) => void bytes.fill(0).set(offset === STATUS ? [status] : []),
      writeRegion(_index, offset, bytes) {
        const address = new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
        if (offset === ADDRESS) clock.after(0, () => begin(address)); // the reply goes first
      },
      reset() {
        status = 0;
      },
      setIrqSink(next) {
        sink = next;
      },
      setGuestMemory(next) {
        memory = next;
      },
    };
  },
});
const plugin = definePlugin({ name: 'adder', core: '^0.1', register: (scope) => scope.vendorDriver(driver) });

/** The device at a socket, with a mediator of its own: what another process would be. */
async function serve(
  folder: string,
): Promise<{ path: string; served: ServedDevices; end: () => Promise<void>; sys: Sys }> {
  const sys = linuxSys();
  const pages = new ClientPages();
  const mediator = await createMediator({ memory: pages, plugins: [type1(), plugin] });
  const served = new ServedDevices({ sys, mediator, pages });
  const mdev = await mediator.registerParent('far', 'adder').create('one', '00000000-0000-4000-8000-000000000009');
  await served.add({ name: 'adder', mdev, vm: 'one' });
  const path = join(folder, 'adder.sock');
  served.listen('adder', { path });
  return {
    path,
    served,
    sys,
    async end() {
      await served.close();
      await mediator.close();
      assert.deepEqual(served.leftovers, { mappings: 0, pins: 0, lockedPages: 0, open: [] });
      assert.deepEqual(sys.ledger.labels(), []);
    },
  };
}

async function start(t: TestContext) {
  const { vm, folder } = await startSmallVm(t, { plug: [] });
  return { vm, folder, ...(await serve(folder)) };
}

const wide = (value: bigint): Uint8Array => new Uint8Array(BigUint64Array.of(value).buffer);
const AT = 0x20_0000n;
/** Lets the device work on the bytes at `at`. @returns its status afterwards. */
async function add(remote: Awaited<ReturnType<EmbeddedVm['plugRemote']>>, at: bigint): Promise<number> {
  await remote.write(0, ADDRESS, wide(at));
  assert.deepEqual(await remote.interrupt(), { index: 0, vector: 0 });
  await remote.unmask(0);
  return (await remote.read32(0, STATUS)) & 0xff;
}

test('a guest program uses a device of another process: registers, an interrupt, and its own memory by messages', async (t) => {
  const { vm, path, served, sys, end } = await start(t);
  const remote = await vm.plugRemote('far', path, { sys });
  assert.deepEqual([remote.regionSize(0), remote.regionSize(3)], [16, 0]);
  assert.deepEqual(
    remote.irqs.filter(({ index }) => index === 0).map(({ count }) => count),
    [1],
  );
  vm.memory.write(AT, new Uint8Array(16).fill(41));
  assert.equal(await add(remote, AT), DONE);
  assert.deepEqual(vm.memory.read(AT, 17), Uint8Array.from([...new Array<number>(16).fill(42), 0]));
  assert.equal(served.accounting('one').mappings, 2, 'both regions of the VM');
  await remote.reset();
  assert.equal((await remote.read32(0, STATUS)) & 0xff, 0);
  await assert.rejects(remote.read(0, 12, 8), { name: 'VFIOUSER_REFUSED', errno: 'EINVAL' });
  await vm.unplugRemote('far');
  await vm.unplugRemote('far');
  await served.disconnected('adder');
  await end();
});

test('memory that is plugged later is reached, memory that is unplugged is not any more', async (t) => {
  const { vm, path, sys, end } = await start(t);
  const remote = await vm.plugRemote('far', path, { sys });
  const hot = 0x2_0000_0000n;
  assert.equal(await add(remote, hot), FAILED);
  await vm.plugMemory({ name: 'hot', at: hot, size: 0x1_0000n });
  assert.equal(await add(remote, hot), DONE);
  assert.equal(vm.memory.read(hot, 1)[0], 1);
  await vm.unplugMemory('hot');
  assert.equal(await add(remote, hot), FAILED);
  await vm.unplugRemote('far');
  await end();
});

for (const ending of ['stop', 'kill'] as const)
  test(`a VM that is ended by ${ending} takes its connection along, and whoever waits is told`, async (t) => {
    const { vm, path, served, sys, end } = await start(t);
    const remote = await vm.plugRemote('far', path, { sys });
    const waiting = remote.interrupt().catch((reason: unknown) => (reason instanceof Error ? reason.name : 'thrown'));
    await vm[ending]();
    assert.match(String(await waiting), /^VM_(STOPPED|KILLED)$/);
    await served.disconnected('adder');
    await assert.rejects(remote.read32(0, STATUS), { errno: 'ENODEV' });
    await end();
  });

test('a process that dies: the guest is told, and memory can still be taken from the VM', async (t) => {
  const { vm, path, end } = await start(t);
  const sys = linuxSys();
  const remote = await vm.plugRemote('far', path, { sys });
  await vm.plugMemory({ name: 'hot', at: 0x2_0000_0000n, size: 0x1_0000n });
  await end();
  await assert.rejects(remote.read32(0, STATUS), { errno: 'ENODEV' });
  await vm.unplugMemory('hot');
  await vm.unplugRemote('far');
  assert.deepEqual(sys.ledger.labels(), []);
});

test('nobody there, a name that is taken, a VM that has ended', async (t) => {
  const { vm, path, sys, folder, end } = await start(t);
  await assert.rejects(vm.plugRemote('far', join(folder, 'nowhere.sock'), { sys }), { errno: 'ENOENT' });
  await vm.plugRemote('far', path, { sys });
  await assert.rejects(vm.plugRemote('far', path, { sys }), { name: 'VM_DEVICE_EXISTS', errno: 'EEXIST' });
  await vm.stop();
  await assert.rejects(vm.plugRemote('far', path, { sys }), { name: 'VM_STOPPED' });
  await end();
});
