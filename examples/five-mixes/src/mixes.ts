import { PinionError } from '@pinion/core';
import { EmbeddedVm, type Host, type VmDescription } from '@pinion/vm';
import { PageTable } from './page-table.js';
import type { Mix, Row } from './table.js';

/** A VM of one combination, and the rows it has written so far. */
class Run {
  readonly rows: Row[] = [];
  readonly vm: EmbeddedVm;

  constructor(vm: EmbeddedVm) {
    this.vm = vm;
  }

  get locked(): number {
    return this.vm.memory.lockedPages;
  }

  /** Writes down what is locked now. */
  row(step: string, expected: number): void {
    this.rows.push({ step, expected, got: this.locked });
  }

  /** Writes down how an attempt ended, by errno. */
  async refused(step: string, expected: string, attempt: () => void | Promise<void>): Promise<void> {
    try {
      await attempt();
      this.rows.push({ step, expected, got: 'success' });
    } catch (cause) {
      this.rows.push({ step, expected, got: cause instanceof PinionError ? cause.errno : String(cause) });
    }
  }

  /** The vGPU's translation table: what a guest driver writes to make the driver pin pages. */
  get gpu(): PageTable {
    return new PageTable(this.vm.machine.pci('vgpu'));
  }

  /** Locked pages at each of the next events of that name, while `action` runs. */
  async lockedAt(
    event: 'pages:unpinned' | 'device:closed' | 'group:detached',
    action: () => Promise<unknown>,
  ): Promise<number[]> {
    const seen: number[] = [];
    const listener = (): void => void seen.push(this.locked);
    const { bus } = this.vm.host.mediator;
    bus.on(event, listener);
    await action();
    bus.off(event, listener);
    return seen;
  }
}

interface Combination {
  readonly title: string;
  /** What is plugged in from the start. */
  readonly devices: readonly ('passthrough' | 'vgpu')[];
  /** RLIMIT_MEMLOCK in pages; default: unlimited. */
  readonly limit?: number;
  readonly steps: (run: Run) => Promise<void>;
}

/** The combinations that Kirti Wankhede tested in October 2016, with two limits that decide between success and ENOMEM. */
const COMBINATIONS: readonly Combination[] = [
  {
    title: '1. passthrough only',
    devices: ['passthrough'],
    async steps(run) {
      run.row('map', 1024);
      await run.vm.unmapMemory('ram');
      run.row('unmap', 0);
    },
  },
  {
    title: '2. vGPU only',
    devices: ['vgpu'],
    async steps(run) {
      run.row('map', 0);
      run.gpu.point(0, 10);
      run.row('pin 10 pages', 10);
      run.gpu.point(0, 10, 100);
      run.row('pin the same 10 again', 10);
      run.gpu.clear(10, 100);
      run.row('unpin once', 10);
      run.gpu.clear(10);
      run.row('unpin again', 0);
      run.gpu.point(0, 10);
      const [atCallback] = (await run.lockedAt('pages:unpinned', () => run.vm.unmapMemory('ram'))).slice(-1);
      run.rows.push({
        step: 'unmap with 10 pinned: after the dmaUnmap callback',
        expected: 0,
        got: atCallback ?? 'none',
      });
      run.row('unmapped', 0);
    },
  },
  {
    title: '2b. vGPU only, at most 8 locked pages',
    devices: ['vgpu'],
    limit: 8,
    async steps(run) {
      run.gpu.point(0, 8);
      run.row('pin 8 pages', 8);
      run.gpu.point(8, 2, 8);
      run.row('pin 2 more: refused, the entries lead nowhere', 8);
      run.gpu.clear(10);
      run.row('unpin', 0);
    },
  },
  {
    title: '3. passthrough and vGPU',
    devices: ['passthrough', 'vgpu'],
    async steps(run) {
      run.row('map', 1024);
      run.gpu.point(0, 10);
      run.row('pin 10 pages', 1024);
      run.gpu.clear(10);
      run.row('unpin', 1024);
      run.gpu.point(0, 10);
      const [atCallback] = (await run.lockedAt('pages:unpinned', () => run.vm.unmapMemory('ram'))).slice(-1);
      run.rows.push({
        step: 'unmap with 10 pinned: after the dmaUnmap callback',
        expected: 1024,
        got: atCallback ?? 'none',
      });
      run.row('unmapped', 0);
    },
  },
  {
    title: '4. vGPU hot-plugged while a passthrough device exists',
    devices: ['passthrough'],
    async steps(run) {
      run.row('before', 1024);
      await run.vm.plug('vgpu');
      run.row('plug the vGPU', 1024);
      run.gpu.point(0, 10);
      run.row('pin 10 pages', 1024);
      const [closed] = await run.lockedAt('device:closed', () => run.vm.unplug('vgpu'));
      run.rows.push({ step: 'unplug the vGPU: it is closed and has unpinned', expected: 1024, got: closed ?? 'none' });
      run.row('its group has left', 1024);
    },
  },
  {
    title: '5. passthrough hot-plugged while a vGPU exists',
    devices: ['vgpu'],
    async steps(run) {
      run.row('map', 0);
      run.gpu.point(0, 10);
      run.row('pin 10 pages', 10);
      await run.vm.plug('passthrough');
      run.row('plug the passthrough device', 1024);
      run.gpu.point(10, 5, 10);
      run.row('pin 5 more', 1024);
      await run.vm.unplug('passthrough');
      run.row('unplug the passthrough device', 15);
      run.gpu.clear(15);
      run.row('unpin all', 0);
    },
  },
  {
    title: '5b. the same with at most 1023 locked pages',
    devices: ['vgpu'],
    limit: 1023,
    async steps(run) {
      run.gpu.point(0, 10);
      run.row('pin 10 pages', 10);
      await run.refused('plug the passthrough device', 'ENOMEM', () => run.vm.plug('passthrough'));
      run.row('nothing has changed', 10);
      run.gpu.clear(10);
      run.row('unpin all', 0);
    },
  },
];

/** Runs all combinations, each in a VM of its own that is stopped afterwards. */
export async function runMixes(description: VmDescription, createHost: () => Promise<Host>): Promise<Mix[]> {
  const mixes: Mix[] = [];
  for (const { title, devices, limit, steps } of COMBINATIONS) {
    const host = await createHost();
    try {
      const memlock = limit === undefined ? {} : { memlock: BigInt(limit) << 12n };
      const run = new Run(await EmbeddedVm.start(host, { ...description, ...memlock }, { plug: devices }));
      await steps(run);
      await run.vm.stop();
      run.row('VM stopped', 0);
      mixes.push({ title, rows: run.rows });
    } finally {
      await host.close();
    }
  }
  return mixes;
}
