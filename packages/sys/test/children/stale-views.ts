/** Uses raw views of memory after its mapping is gone, in every way there is. Alive at the end = no crash by that road. */
import { createMemfd, linuxSys, mapFile } from '@pinion/sys';

const PAGE = 4096;
const sys = linuxSys();
const fd = createMemfd(sys, 'ram', BigInt(16 * PAGE));
const mapOne = (label: string) => mapFile({ fd, offset: 0n, length: 16 * PAGE, writable: true, label });

const first = mapOne('first');
const raw = first.window(0);
raw.fill(7);
const { address } = first;
const kept = {
  bytes: raw,
  part: raw.subarray(PAGE, 2 * PAGE),
  words: new Int32Array(raw.buffer),
  buffer: Buffer.from(raw.buffer, 8, 8),
};
const fields = new DataView(raw.buffer, 16, 64);
first.close();

/** Reads and stores through everything that was kept. Detached views throw in some ways of use and do nothing in others. */
function useAll(): unknown {
  const uses: readonly (() => unknown)[] = [
    () => fields.setUint32(0, 0xdead, true),
    () => fields.getUint32(0, true),
    () => kept.part.fill(99),
    () => kept.buffer.fill(99),
    () => kept.bytes.set([99, 99], 8),
  ];
  const outcomes = uses.map((use) => {
    try {
      use();
      return 'done';
    } catch (error) {
      return error instanceof Error ? error.name : 'something';
    }
  });
  kept.bytes[0] = 99;
  return {
    first: outcomes[0],
    lengths: Object.values(kept).map((view) => view.length),
    last: kept.words[kept.words.length - 1] ?? null,
  };
}

const before = raw.length === 0 ? 'detached' : raw.every((byte) => byte === 0) ? 'zeros' : 'old bytes';
const used = useAll();
// Whoever is mapped next, perhaps at the same place, is not reached by the old views.
const next = Array.from({ length: 50 }, (_, i) => mapOne(`next ${i}`));
for (const mapping of next) mapping.window(0).fill(1);
useAll();
const touched = next.some((mapping) => mapping.window(0).some((byte) => byte !== 1));
const reused = next.some((mapping) => mapping.address === address);

// A view can be moved to a new buffer without a copy; we do not see where it went.
const thief = mapOne('thief');
const loot = thief.window(0);
const transfer: unknown = Reflect.get(loot.buffer, 'transfer');
const stolen = typeof transfer === 'function' ? new Uint8Array(transfer.call(loot.buffer)) : undefined;
stolen?.fill(5);
const second = new Uint8Array(1);
thief.read(0, second); // the mapping itself still works
thief.close();
const lootSum = stolen?.reduce((sum, byte) => sum + byte, 0) ?? 0;
stolen?.fill(3);

for (const mapping of next) mapping.close();
fd.close();
process.stdout.write(
  JSON.stringify({
    before,
    used,
    touched,
    reused,
    lootSum,
    stolen: stolen?.length ?? null,
    second: second[0],
    open: sys.ledger.labels(),
  }),
);
