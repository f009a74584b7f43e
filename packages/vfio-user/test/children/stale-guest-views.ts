/** A device that keeps everything it ever saw of its guest's memory, and uses it when that is gone. Alive at the end = no crash by that road. */
import { asPfn, iovaFrame, PROT_RW } from '@pinion/core';
import { linuxSys } from '@pinion/sys';
import { COMMAND, encodeDmaMap, encodeDmaUnmap } from '@pinion/vfio-user';
import { type RawClient, World } from '../world.js';

const PAGES = 16;
const SIZE = BigInt(PAGES * 4096);
const ROADS: Readonly<Record<string, (client: RawClient) => Promise<unknown>>> = {
  'an unmap': (client) => client.call(COMMAND.DMA_UNMAP, encodeDmaUnmap({ flags: 0, address: 0n, size: SIZE })),
  'an unmap of all': (client) => client.call(COMMAND.DMA_UNMAP, encodeDmaUnmap({ flags: 2, address: 0n, size: 0n })),
  'the end of the client': (client) => client.close(),
};

const sys = linuxSys();
const world = await World.start({ sys });
const outcome = (use: () => unknown): string => {
  try {
    use();
    return 'done';
  } catch (error) {
    return error instanceof Error ? `${error.name}: ${error.message}` : 'something';
  }
};

async function mapped(client: RawClient, address: bigint): Promise<ReturnType<RawClient['memory']>> {
  const file = client.memory(PAGES);
  await client.call(COMMAND.DMA_MAP, encodeDmaMap({ flags: 3, offset: 0n, address, size: SIZE }), [file]);
  return file;
}

const results: Record<string, unknown> = {};
for (const [road, go] of Object.entries(ROADS)) {
  const client = await world.client();
  (await mapped(client, 0n)).close();
  const pins = world.device.pins.pin(iovaFrame(0n), PAGES, PROT_RW);
  const [frame] = pins.frames;
  const [view] = pins.views();
  if (view === undefined || frame === undefined) throw new RangeError('nothing was pinned');
  view.fill(7);
  const kept = [view, view.subarray(4096, 8192), new Uint8Array(view.buffer), Buffer.from(view.buffer, 8, 64)];
  const words = new BigUint64Array(view.buffer);
  const fields = new DataView(view.buffer, 16, 64);
  await go(client);
  const next = await world.client().catch(() => client);
  const files = [await mapped(next, 1n << 32n), await mapped(next, 1n << 33n)];
  for (const bytes of kept) outcome(() => bytes.fill(99));
  outcome(() => words.fill(99n));
  outcome(() => fields.setUint32(0, 99));
  const seen = new Uint8Array(PAGES * 4096);
  const touched = files.some((file) => {
    sys.pread(file.number, seen, 0n);
    return seen.some((byte) => byte !== 0);
  });
  results[road] = {
    old: kept.some((bytes) => bytes[0] === 7 || bytes[63] === 7),
    touched,
    accessors: [() => pins.views(), () => pins.read(0, 1), () => pins.write(0, Uint8Array.of(1))].map(outcome),
    frames: outcome(() => world.pages.bytes(asPfn(frame), 1)),
    copy: outcome(() => world.space.container.dmaRw(0n, new Uint8Array(1), false)),
  };
  for (const file of files) file.close();
  await next.close();
  if (next !== client) await client.close();
}
await world.end();
process.stdout.write(JSON.stringify(results));
