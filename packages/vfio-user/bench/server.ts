/** The server's process of the benchmark: one device with a register file, through the mediator and the type1 backend. argv: the socket's path, and how often to spin. */
import { createMediator, defineDriver, definePlugin } from '@pinion/core';
import { linuxSys } from '@pinion/sys';
import { type1 } from '@pinion/type1';
import { ClientPages, Server, ServerListener, servedDevice, VmSpace } from '@pinion/vfio-user';

const UUID = '00000000-0000-4000-8000-000000000001';
const BAR = 4096;

const driver = defineDriver({
  name: 'registers',
  deviceApi: 'vfio-pci',
  types: [{ id: 'only' }],
  pins: true,
  create: () => {
    const registers = new Uint8Array(BAR);
    return {
      regions: [{ index: 0, name: 'BAR0', size: BAR, readable: true, writable: true }],
      irqs: [],
      readRegion: (_index, offset, bytes) => bytes.set(registers.subarray(offset, offset + bytes.length)),
      writeRegion: (_index, offset, bytes) => registers.set(bytes, offset),
      dmaUnmap: () => {},
    };
  },
});

const [, , path = '', spin = '0'] = process.argv;
const pages = new ClientPages();
const plugin = definePlugin({ name: 'registers', core: '^0.1', register: (scope) => scope.vendorDriver(driver) });
const mediator = await createMediator({ memory: pages, plugins: [type1(), plugin] });
const mdev = await mediator.registerParent('hardware', 'registers').create('only', UUID);
const vm = new VmSpace({ mediator, pages, name: 'vm' });
const seat = await vm.attach(mdev.group, UUID);
const server = new Server({ device: servedDevice(seat), space: vm.dma, reopen: () => seat.reopen() });
const listener = new ServerListener({ sys: linuxSys(), server, on: { path }, transport: { spin: Number(spin) } });
process.once('disconnect', () => void listener.close().then(() => process.exit()));
process.send?.('ready');
