import type { TestContext } from 'node:test';

/** Says what took how long, as a note of the test. */
export async function timed<T>(t: TestContext, what: string, work: () => Promise<T>): Promise<T> {
  const began = performance.now();
  const result = await work();
  t.diagnostic(`${what}: ${((performance.now() - began) / 1000).toFixed(2)} s`);
  return result;
}
