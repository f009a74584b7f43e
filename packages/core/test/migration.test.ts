import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  isMigrationState,
  MIGRATION_FLAG,
  MIGRATION_STATE,
  Migration,
  type MigrationOps,
  type MigrationState,
  migrationPath,
  migrationStateName,
} from '@pinion/core';

const { ERROR, STOP, RUNNING, STOP_COPY, RESUMING, PRE_COPY } = MIGRATION_STATE;
const ALL = Object.values(MIGRATION_STATE);

/** Every way there is; whatever is not here is refused. Source: linux/vfio.h, "The FSM". */
const WAYS: readonly (readonly [from: MigrationState, ...way: MigrationState[]])[] = [
  [RUNNING, STOP],
  [RUNNING, STOP, STOP_COPY],
  [RUNNING, STOP, RESUMING],
  [RUNNING, PRE_COPY],
  [STOP, RUNNING],
  [STOP, STOP_COPY],
  [STOP, RESUMING],
  [STOP, RUNNING, PRE_COPY],
  [STOP_COPY, STOP],
  [STOP_COPY, STOP, RUNNING],
  [STOP_COPY, STOP, RESUMING],
  [RESUMING, STOP],
  [RESUMING, STOP, RUNNING],
  [RESUMING, STOP, STOP_COPY],
  [RESUMING, STOP, RUNNING, PRE_COPY],
  [PRE_COPY, RUNNING],
  [PRE_COPY, STOP_COPY],
  [PRE_COPY, RUNNING, STOP],
  [PRE_COPY, RUNNING, STOP, RESUMING],
];

describe('the ways between migration states', () => {
  for (const from of ALL) {
    for (const to of ALL) {
      const [, ...way] = WAYS.find((each) => each[0] === from && each.at(-1) === to) ?? [from];
      const expected = from === to ? [] : way.length > 0 ? way : undefined;
      const text = expected === undefined ? 'none' : expected.map(migrationStateName).join(', ') || 'nothing to do';
      test(`${migrationStateName(from)} to ${migrationStateName(to)}: ${text}`, () => {
        assert.deepEqual(migrationPath(from, to, true), expected);
      });
    }
  }

  test('without PRE_COPY nothing leads into it, and nothing else changes', () => {
    for (const [from, ...way] of WAYS) {
      const to = way.at(-1) ?? from;
      if (from === PRE_COPY) continue;
      assert.deepEqual(migrationPath(from, to, false), way.includes(PRE_COPY) ? undefined : way);
    }
  });

  test('the peer-to-peer states, and numbers from the future, are no states', () => {
    assert.deepEqual([5, 7, 8, 255, -1, 1.5].filter(isMigrationState), []);
  });
});

function machine(changes: Partial<MigrationOps> = {}): { readonly it: Migration; readonly steps: string[] } {
  const steps: string[] = [];
  const it = new Migration(
    'd',
    {
      enter: (to, from) => void steps.push(`${migrationStateName(from)}>${migrationStateName(to)}`),
      read: (into) => into.fill(7).length,
      write: (bytes) => void steps.push(`${bytes.length} bytes`),
      ...changes,
    },
    (section) => section(),
  );
  return { it, steps };
}

describe('the migration of a device', () => {
  test('goes arc by arc', async () => {
    const { it, steps } = machine();
    assert.deepEqual([it.state, it.flags], [RUNNING, MIGRATION_FLAG.STOP_COPY]);
    await it.enter(STOP_COPY);
    await it.enter(STOP_COPY);
    assert.deepEqual([it.state, steps], [STOP_COPY, ['RUNNING>STOP', 'STOP>STOP_COPY']]);
    assert.equal(machine({ preCopy: true }).it.flags, 5);
  });

  test('reads and writes in the states for that alone', async () => {
    const { it, steps } = machine({ preCopy: true });
    const bad = { name: 'CORE_BAD_MIGRATION', errno: 'EINVAL' };
    for (const state of [RUNNING, STOP, RESUMING] as const) {
      await it.enter(state);
      await assert.rejects(it.read(new Uint8Array(4)), bad);
      if (state !== RESUMING) await assert.rejects(it.write(new Uint8Array(4)), bad);
    }
    await it.write(new Uint8Array(3));
    assert.equal(steps.at(-1), '3 bytes');
    for (const state of [PRE_COPY, STOP_COPY] as const) {
      await it.enter(state);
      assert.equal(await it.read(new Uint8Array(4)), 4);
      await assert.rejects(it.write(new Uint8Array(4)), bad);
    }
  });

  test('that fails on the way stays where it got', async () => {
    const failure = new RangeError('no');
    const { it } = machine({
      enter: (to) => {
        if (to === STOP_COPY) throw failure;
      },
    });
    await assert.rejects(it.enter(STOP_COPY), failure);
    assert.equal(it.state, STOP);
    await it.enter(RUNNING);
  });

  test('that fails to leave RESUMING is broken until it is reset', async () => {
    const { it } = machine({
      enter: (_to, from) => {
        if (from === RESUMING) throw new RangeError('bad data');
      },
    });
    await it.enter(RESUMING);
    await assert.rejects(it.enter(RUNNING), RangeError);
    assert.equal(it.state, ERROR);
    for (const state of ALL.filter((each) => each !== ERROR)) {
      await assert.rejects(it.enter(state), { name: 'CORE_BAD_MIGRATION' });
    }
    it.reset();
    assert.equal(it.state, RUNNING);
  });
});
