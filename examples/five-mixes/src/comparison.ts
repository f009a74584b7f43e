import { Bench, COLUMNS, type Column, outcomeOf } from './backends.js';

/** Locked pages or an errno, per backend. */
export type Cells = Readonly<Record<Column, number | string>>;

export interface ComparedStep {
  readonly step: string;
  /** What Linux counts or answers. */
  readonly expected: Cells;
  readonly got: Cells;
}

export interface ComparedMix {
  readonly title: string;
  /** Why the columns differ. */
  readonly why: string;
  readonly steps: readonly ComparedStep[];
}

type Row = readonly [
  step: string,
  expected: readonly [number | string, number | string, number | string],
  act: (bench: Bench) => void | Promise<void>,
];

interface Combination {
  readonly title: string;
  readonly why: string;
  /** RLIMIT_MEMLOCK in pages. */
  readonly limit?: number;
  readonly rows: readonly Row[];
}

/** Pages of the 1 GiB window that v1 charges whole, and of the table that every window takes. */
const WINDOW = 262_144;
const TABLE = 512;
const RAM = 1024;
const V1 = WINDOW + TABLE;
const V2 = RAM + TABLE;

const plug = (bench: Bench): void => bench.passthrough();
const ready = (bench: Bench): void => bench.ready();
const map = (bench: Bench): void => bench.map();
const vgpu = (bench: Bench): Promise<void> => bench.vgpu();

const COMBINATIONS: readonly Combination[] = [
  {
    title: '1. passthrough only',
    why: `type1 charges each page when it is mapped. sPAPR charges before: v1 the whole window of 1 GiB (${WINDOW} pages) at ENABLE, v2 the memory when it is registered; both the table of the window (${TABLE}) at the first use. So a map costs nothing there, replaces what was mapped, and any part can be unmapped.`,
    rows: [
      ['plug the passthrough device', [0, 0, 0], plug],
      ['make ready (v1: enable, v2: register memory)', [0, WINDOW, RAM], ready],
      ['map all memory', [RAM, V1, V2], map],
      ['map it again: refused or replaced', ['EEXIST', V1, V2], map],
      ['unmap 10 pages in the middle', ['EINVAL', V1, V2], (bench) => bench.unmap(100, 10)],
      ['unmap everything', [0, V1, V2], (bench) => bench.unmap()],
      ['the device leaves', [0, 0, 0], (bench) => bench.unplug()],
    ],
  },
  {
    title: '2. vGPU only',
    why: 'A vGPU needs somebody to pin its pages. sPAPR cannot, and refuses its group at SET_IOMMU: use a container with type1v2.',
    rows: [
      ['plug the vGPU', [0, 'EINVAL', 'EINVAL'], vgpu],
      ['map all memory', [0, 'EINVAL', 'EINVAL'], map],
    ],
  },
  {
    title: '3. passthrough and vGPU',
    why: 'The same in a container that has a passthrough device: put the vGPU into a container of its own, on a host with type1.',
    rows: [
      [
        'plug both',
        [0, 'EINVAL', 'EINVAL'],
        async (bench) => {
          bench.passthrough();
          await bench.vgpu();
        },
      ],
      [
        'make ready, map all memory',
        [RAM, V1, V2],
        (bench) => {
          bench.ready();
          bench.map();
        },
      ],
    ],
  },
  {
    title: '4. vGPU hot-plugged while a passthrough device exists',
    why: 'The refusal comes at SET_CONTAINER here, and passthrough stays as it is.',
    rows: [
      [
        'passthrough with all memory mapped',
        [RAM, V1, V2],
        (bench) => {
          bench.passthrough();
          bench.ready();
          bench.map();
        },
      ],
      ['plug the vGPU', [RAM, 'EINVAL', 'EINVAL'], vgpu],
      ['unmap everything', [0, V1, V2], (bench) => bench.unmap()],
    ],
  },
  {
    title: '5. passthrough hot-plugged while a vGPU exists',
    why: 'A container that holds a vGPU’s group can never become an sPAPR one, so passthrough cannot come to it.',
    rows: [
      ['plug the vGPU', [0, 'EINVAL', 'EINVAL'], vgpu],
      ['plug the passthrough device', [0, 'EINVAL', 'EINVAL'], plug],
    ],
  },
  {
    title: '6. a second passthrough device',
    why: 'type1 maps what is mapped into the new device’s domain. v1 takes one group per container; in v2 groups stand behind the same tables.',
    rows: [
      [
        'passthrough with all memory mapped',
        [RAM, V1, V2],
        (bench) => {
          bench.passthrough();
          bench.ready();
          bench.map();
        },
      ],
      ['plug a second one', [RAM, 'EBUSY', V2], plug],
    ],
  },
  {
    title: '7. at most 1023 locked pages',
    why: 'The limit is met where the charge is made: at map, at ENABLE (always the whole window), at registration.',
    limit: RAM - 1,
    rows: [
      ['plug the passthrough device', [0, 0, 0], plug],
      ['make ready', [0, 'ENOMEM', 'ENOMEM'], ready],
      ['map all memory', ['ENOMEM', 'EPERM', 'EPERM'], map],
    ],
  },
];

const cells = (values: readonly (number | string)[]): Cells => {
  const [first = 'none', second = 'none', third = 'none'] = values;
  return { type1v2: first, 'sPAPR v1': second, 'sPAPR v2': third };
};

/** Runs every combination on every backend, each in a VM of its own that is ended afterwards. */
export async function compareBackends(): Promise<ComparedMix[]> {
  const mixes: ComparedMix[] = [];
  for (const { title, why, limit, rows } of COMBINATIONS) {
    const columns = await Promise.all(COLUMNS.map((column) => runColumn(column, rows, limit)));
    const steps = rows.map(([step, expected], row) => ({
      step,
      expected: cells(expected),
      got: cells(columns.map((column) => column[row] ?? 'none')),
    }));
    const ended = {
      step: 'VM stopped',
      expected: cells([0, 0, 0]),
      got: cells(columns.map((column) => column.at(-1) ?? 'none')),
    };
    mixes.push({ title, why, steps: [...steps, ended] });
  }
  return mixes;
}

/** The outcome of every row, and what is left at the end. */
async function runColumn(
  column: Column,
  rows: readonly Row[],
  limit: number | undefined,
): Promise<(number | string)[]> {
  const bench = await Bench.start(column, limit);
  const outcomes: (number | string)[] = [];
  for (const [, , act] of rows) outcomes.push(await outcomeOf(bench, act));
  return [...outcomes, await bench.end()];
}

/** Cells that are not what Linux has. */
export const differencesIn = (mixes: readonly ComparedMix[]): number =>
  mixes
    .flatMap(({ steps }) => steps)
    .reduce((sum, { expected, got }) => sum + COLUMNS.filter((column) => expected[column] !== got[column]).length, 0);
