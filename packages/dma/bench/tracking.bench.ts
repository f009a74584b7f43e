// The question of the thread of May 2016: one IOVA per page, or a contiguous range per region? And in what does one remember
// which pages are there: a tree, a table rooted in the region, or an array? Over densities, because that is what they argued about.
import { asPfn, type HostMemory } from '@pinion/core';
import { DeviceDma, DmaDevice, type FrameMapper, IommuDma, PerPageMapper, RegionMapper } from '@pinion/dma';
import { createSoftwareIommu, IovaAllocator } from '@pinion/iommu';
import { createPinTable, type PinTableKind } from '@pinion/type1';
import { measure, publish, type Row } from './measure.js';

const page = new Uint8Array(4096);
const memory: HostMemory = {
  pageClass: () => 'normal',
  bytes: () => page,
  contiguous: () => false,
  unpinPage: () => {},
};

/** A region of the thread's size: 512 MiB. */
const REGION = 1 << 17;
/** One page in so many. */
const DENSITIES = [1, 4, 16, 64, 256] as const;
const TABLES: readonly PinTableKind[] = ['tree', 'radix', 'flat'];

const mappers: readonly (readonly [name: string, make: () => FrameMapper])[] = [
  ['per page', () => perPage()],
  ['per region', () => perRegion()],
];

function device(): { readonly device: DmaDevice; readonly ops: IommuDma } {
  const domain = createSoftwareIommu({ memory, addressWidth: 48 }).allocDomain();
  const nic = new DmaDevice('vgpu');
  nic.mask = (1n << 48n) - 1n;
  return { device: nic, ops: new IommuDma({ domain, iovas: new IovaAllocator(), memory }) };
}
function perPage(): FrameMapper {
  const mapper = new PerPageMapper(new DeviceDma(device()));
  mapper.addRegion(0, REGION);
  return mapper;
}
function perRegion(): FrameMapper {
  const { device: nic, ops } = device();
  const mapper = new RegionMapper(nic, ops);
  mapper.addRegion(0, REGION);
  return mapper;
}

function mapAll(mapper: FrameMapper, step: number): FrameMapper {
  for (let gfn = 0; gfn < REGION; gfn += step) mapper.map(gfn, asPfn(gfn ^ 1));
  return mapper;
}

const rows: Row[] = [];
const facts: string[] = [];
const bytes = new Map<string, number>();
for (const step of DENSITIES) {
  const pages = REGION / step;
  for (const [name, make] of mappers) {
    rows.push(
      measure(`1 page in ${step}: map, one IOVA ${name}`, pages, {
        prepare: make,
        round: (mapper) => mapAll(mapper, step),
      }),
    );
    const { ranges, iovaFrames, entries } = mapAll(make(), step).stats;
    facts.push(`1 page in ${step}, IOVA ${name}: ${entries} entries, ${ranges} ranges, ${iovaFrames} frames of IOVA`);
  }
  for (const kind of TABLES) {
    const table = createPinTable(kind, REGION);
    const fill = (): void => {
      for (let index = 0; index < REGION; index += step) table.insert(index, index ^ 1);
    };
    rows.push(
      measure(`1 page in ${step}: pin table ${kind}, first pin`, pages, { prepare: () => table.clear(), round: fill }),
    );
    bytes.set(`${kind} ${step}`, table.byteSize());
    facts.push(`1 page in ${step}, pin table ${kind}: ${(table.byteSize() / pages).toFixed(1)} bytes per pinned page`);
  }
}

const nsOf = (name: string): number => rows.find((row) => row.name === name)?.ns ?? Number.NaN;

/** The thread's questions with the figures above. */
function answer(): string {
  const ratio = (step: number): string =>
    (nsOf(`1 page in ${step}: map, one IOVA per page`) / nsOf(`1 page in ${step}: map, one IOVA per region`)).toFixed(
      1,
    );
  const best = (step: number): string =>
    [...TABLES].sort(
      (a, b) =>
        nsOf(`1 page in ${step}: pin table ${a}, first pin`) - nsOf(`1 page in ${step}: pin table ${b}, first pin`),
    )[0] ?? '';
  return [
    'The answer to May 2016, for a region of 512 MiB:',
    `- A contiguous IOVA per region needs 1 entry instead of up to ${REGION}, and its map is ${ratio(1)} times as fast with every page mapped, ${ratio(256)} times with one in 256;`,
    `  it takes ${REGION} frames of IOVA at once, so with one page in 256 it holds ${256} times what is used: cheap with 48 bits, not with 32.`,
    `- "Is the array ugly?" It is the fastest at densities ${
      DENSITIES.filter((step) => best(step) === 'flat')
        .map((step) => `1 in ${step}`)
        .join(', ') || '(none)'
    }, the table rooted in the region at ${
      DENSITIES.filter((step) => best(step) === 'radix')
        .map((step) => `1 in ${step}`)
        .join(', ') || '(none)'
    }, the tree at ${
      DENSITIES.filter((step) => best(step) === 'tree')
        .map((step) => `1 in ${step}`)
        .join(', ') || '(none)'
    }.`,
    `  It takes ${mib('flat', 1)} MiB whatever is pinned; the tree ${mib('tree', 1)} MiB with every page pinned, ${mib('tree', 16)} MiB with one in 16, ${mib('tree', 256)} MiB with one in 256.`,
    '  Time and memory do not choose alike at all densities, so type1 has an adaptive one: npm run bench -- pin-table.',
  ].join('\n');
}

function mib(kind: PinTableKind, step: number): string {
  return ((bytes.get(`${kind} ${step}`) ?? 0) / 2 ** 20).toFixed(2);
}

publish('tracking', rows);
process.stdout.write(`\n${facts.join('\n')}\n\n${answer()}\n`);
