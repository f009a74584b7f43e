import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { IovaReplay, parseScenario } from './iova-replay.js';

const root = fileURLToPath(new URL('../../../../', import.meta.url));
const own = join(root, 'packages', 'iommu', 'test', 'data');
const shared = join(root, '..', 'shared', 'golden-dma');

const recordings = (folder: string): string[] =>
  existsSync(folder) ? readdirSync(folder).filter((name) => /^iova.*\.jsonl$/.test(name)) : [];

/** Replays every scenario of a file. @returns [scenarios, operations] that were compared. */
function replay(file: string): readonly [scenarios: number, operations: number] {
  const scenarios = readFileSync(file, 'utf8').trim().split('\n').map(parseScenario);
  let operations = 0;
  for (const scenario of scenarios) {
    const run = new IovaReplay();
    for (const [index, op] of scenario.ops.entries()) {
      const [ours, recorded] = run.step(op);
      assert.deepEqual(ours, recorded, `${scenario.name}, operation ${index}: ${JSON.stringify(op)}`);
      operations += 1;
    }
  }
  return [scenarios.length, operations];
}

for (const name of recordings(own)) {
  test(`the allocator answers as recorded from Linux: ${name}`, () => {
    const [scenarios] = replay(join(own, name));
    assert.ok(scenarios >= 12);
  });
}

test('the package has recordings of its own', () => assert.ok(recordings(own).length > 0));

const elsewhere = recordings(shared);
test('the allocator answers as recorded in ../shared/golden-dma', {
  skip:
    elsewhere.length === 0
      ? 'no ../shared/golden-dma beside the project: only its own recordings were replayed'
      : false,
}, (context) => {
  for (const name of elsewhere) {
    const [scenarios, operations] = replay(join(shared, name));
    context.diagnostic(`${name}: ${scenarios} scenarios, ${operations} operations`);
    assert.ok(operations > 0);
  }
});
