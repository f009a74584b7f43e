import {
  type CaseOutcome,
  type ConformanceCase,
  type Declares,
  iommuBackendCases,
  runCases,
  vendorDriverCases,
} from '@pinion/testkit';
import type { Context } from '../context.js';
import { cliErrors } from '../errors.js';
import { EXIT } from '../exit-codes.js';
import { failureLine } from '../failure-text.js';
import { Progress } from '../progress.js';
import { type Harness, loadHarnesses } from './harness-module.js';

export interface ConformFlags {
  readonly case?: string;
}

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** One suite against one harness, case by case. */
interface Suite {
  readonly title: string;
  readonly names: readonly string[];
  run(name: string): Promise<CaseOutcome | undefined>;
}

function suiteOf<H extends Declares>(title: string, cases: readonly ConformanceCase<H>[], harness: H): Suite {
  return {
    title: `${title} ${harness.name}`,
    names: cases.map(({ name }) => name),
    run: async (name) =>
      (
        await runCases(
          cases.filter((each) => each.name === name),
          harness,
        )
      )[0],
  };
}

const suiteFor = (each: Harness): Suite =>
  each.suite === 'backend'
    ? suiteOf('backend', iommuBackendCases, each.harness)
    : suiteOf('vendor driver', vendorDriverCases, each.harness);

/** Runs the suites of a module's harnesses. @returns the exit code: 1 if a case failed. */
export async function conform(flags: ConformFlags, context: Context, args: readonly string[]): Promise<number> {
  const { output, around } = context;
  const harnesses = await loadHarnesses(args[0] ?? '', around.folder);
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  for (const suite of harnesses.map(suiteFor)) {
    const names = suite.names.filter((name) => name.includes(flags.case ?? ''));
    if (names.length === 0)
      throw cliErrors.BAD_VALUE({ option: '--case', value: flags.case ?? '', wanted: 'text of a case' });
    output.event({ event: 'suite', suite: suite.title, cases: names.length }, `${suite.title}: ${names.length} cases`);
    await runSuite(suite, { names, counts, context });
  }
  const { passed, failed, skipped } = counts;
  output.event(
    { event: 'summary', ...counts, ok: failed === 0 },
    `${passed} passed, ${failed} failed, ${skipped} skipped`,
  );
  return failed === 0 ? EXIT.OK : EXIT.FAILED;
}

async function runSuite(
  suite: Suite,
  { names, counts, context }: { names: readonly string[]; counts: Counts; context: Context },
): Promise<void> {
  const progress = new Progress(context.around, context.output);
  for (const [index, name] of names.entries()) {
    progress.show(`${suite.title} ${index + 1} of ${names.length}: ${name}`);
    const outcome = await suite.run(name);
    progress.clear();
    if (outcome === undefined) continue;
    counts[outcome.outcome] += 1;
    say(suite, outcome, context);
  }
}

function say({ title }: Suite, outcome: CaseOutcome, { output }: Context): void {
  const event = { event: 'case', suite: title, name: outcome.name, outcome: outcome.outcome };
  if (outcome.outcome === 'failed') {
    const error = outcome.error instanceof Error ? outcome.error.message : failureLine(outcome.error);
    output.event({ ...event, error }, `  FAIL ${outcome.name}\n       ${error.replaceAll('\n', '\n       ')}`);
  } else if (outcome.outcome === 'skipped') {
    output.event(
      { ...event, missing: outcome.missing },
      `  skip ${outcome.name} (it does not declare ${outcome.missing.join(', ')})`,
    );
  } else {
    output.event(event, `  ok   ${outcome.name}`);
  }
}
