import { describe, test } from 'node:test';

/**
 * One requirement of a plug point's contract, checked against one implementation. `needs` names capabilities; an
 * implementation that does not declare one is skipped visibly, never silently.
 */
export interface ConformanceCase<Harness> {
  readonly name: string;
  readonly needs?: readonly string[];
  /** Settles when the requirement is met. @throws whatever shows that it is not. */
  run(harness: Harness): Promise<void>;
}

/** What every harness says of its implementation. */
export interface Declares {
  /** For the titles of tests. */
  readonly name: string;
  /** Which capabilities it has; a case that needs another one is skipped. */
  readonly capabilities: ReadonlySet<string>;
}

/** How one case ended. */
export type CaseOutcome =
  | { readonly name: string; readonly outcome: 'passed' }
  | { readonly name: string; readonly outcome: 'failed'; readonly error: unknown }
  | { readonly name: string; readonly outcome: 'skipped'; readonly missing: readonly string[] };

const missingOf = (declares: Declares, needs: readonly string[] = []): readonly string[] =>
  needs.filter((need) => !declares.capabilities.has(need));

/** Runs cases one after the other, without a test runner, and answers how each ended. Never rejects. */
export async function runCases<Harness extends Declares>(
  cases: readonly ConformanceCase<Harness>[],
  harness: Harness,
): Promise<readonly CaseOutcome[]> {
  const outcomes: CaseOutcome[] = [];
  for (const { name, needs, run } of cases) {
    const missing = missingOf(harness, needs);
    if (missing.length > 0) {
      outcomes.push({ name, outcome: 'skipped', missing });
      continue;
    }
    try {
      await run(harness);
      outcomes.push({ name, outcome: 'passed' });
    } catch (error) {
      outcomes.push({ name, outcome: 'failed', error });
    }
  }
  return outcomes;
}

/** Names of the cases that failed, in their order. */
export const failedCases = (outcomes: readonly CaseOutcome[]): readonly string[] =>
  outcomes.filter(({ outcome }) => outcome === 'failed').map(({ name }) => name);

/** Registers one test of node:test per case; what an implementation cannot do shows as skipped with the reason. */
export function describeCases<Harness extends Declares>(
  title: string,
  cases: readonly ConformanceCase<Harness>[],
  harness: Harness,
): void {
  describe(`${title}: ${harness.name}`, () => {
    for (const { name, needs, run } of cases) {
      const missing = missingOf(harness, needs);
      test(name, { skip: missing.length > 0 && `it does not declare ${missing.join(', ')}` }, () => run(harness));
    }
  });
}
