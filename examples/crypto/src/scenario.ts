import { generateKeyPairSync } from 'node:crypto';
import { type ApMachine, formatMatrix, ThreadExecutor } from '@pinion/ap';
import type { EmbeddedVm } from '@pinion/vm';
import { COPROCESSOR, matrixOf } from './guests.js';
import { Load } from './load.js';
import type { Check, Report } from './report.js';

const MODULUS_BITS = 2048;
/** Milliseconds between two reports of progress. */
const TICK = 100;
const SECOND = 1000;

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Runs the load through its phases. @returns whether every check held. `seconds`: length of each phase. */
export async function runScenario(vms: readonly EmbeddedVm[], report: Report, seconds: number): Promise<boolean> {
  const key = generateKeyPairSync('rsa', { modulusLength: MODULUS_BITS });
  const loads = vms.map((vm) => new Load(vm, key));
  const checks: Check[] = [];
  const check = (what: string, ok: boolean): void => void checks.push({ what, ok });
  const [first] = vms;
  if (first === undefined) throw new TypeError('there is no guest');
  const { machine } = matrixOf(first);

  report.cards(loads.map(({ vm, cards }) => ({ guest: vm.name, cards: cards.list() })));
  check('every queue holds one page, and nothing else is pinned', pinsOf(vms) === loads.length * 2);
  for (const load of loads) load.start();

  await phase('both adapters', { loads, report, seconds });
  machine.unplugAdapter(COPROCESSOR);
  check(
    'no guest sees a queue of the unplugged adapter',
    vms.every((vm) => formatMatrix(matrixOf(vm).guestMatrix).length === 1),
  );
  check('its notification pages were given back at once', pinsOf(vms) === loads.length);
  await phase('adapter 06 unplugged', { loads, report, seconds });
  machine.plugAdapter({ adapter: COPROCESSOR, mode: 'cca' });
  await phase('adapter 06 back', { loads, report, seconds });

  await Promise.all(loads.map((load) => load.finish()));
  check('queues that stopped hold no page', pinsOf(vms) === 0);
  check(
    'every request was answered or reported',
    loads.every((load) => load.ended === load.tally.submitted),
  );
  check(
    'node:crypto verifies every signature',
    loads.every(({ tally }) => tally.wrong === 0 && tally.signatures > 0),
  );
  check(
    'requests of the unplugged adapter were sent again',
    loads.every(({ cards }) => cards.moved > 0),
  );
  for (const vm of vms) await vm.stop();
  check('no mapping, no pin, no locked page, no thread is left', vms.every(isEmpty) && threadsOf(machine) === 0);
  report.end(
    loads.map(({ vm, tally, cards }) => ({ guest: vm.name, moved: cards.moved, ...tally })),
    checks,
  );
  return checks.every(({ ok }) => ok);
}

/** Lets the load run, then reports what each queue answered meanwhile. */
async function phase(
  name: string,
  { loads, report, seconds }: { loads: readonly Load[]; report: Report; seconds: number },
): Promise<void> {
  const before = loads.map(({ cards }) => cards.answered);
  const begin = performance.now();
  const elapsed = (): number => (performance.now() - begin) / SECOND;
  while (elapsed() < seconds) {
    await wait(TICK);
    report.progress(
      name,
      loads.reduce((sum, load) => sum + load.ended, 0),
    );
  }
  const took = elapsed();
  const rates = loads.flatMap(({ cards }, index) =>
    [...cards.answered].map(([queue, count]): [string, number] => [
      queue,
      (count - (before[index]?.get(queue) ?? 0)) / took,
    ]),
  );
  report.phase(name, new Map(rates));
}

const pinsOf = (vms: readonly EmbeddedVm[]): number =>
  vms.flatMap((vm) => [...vm.accounting.pinnedPages.values()]).reduce((sum, pages) => sum + pages, 0);

function isEmpty({ accounting: { mappings, pinnedPages, lockedPages, heldPages } }: EmbeddedVm): boolean {
  return mappings + pinnedPages.size + lockedPages + heldPages === 0;
}

const threadsOf = ({ hardware: { executor } }: ApMachine): number =>
  executor instanceof ThreadExecutor ? executor.threads : 0;
