// DEVICE_FEATURE for migration, MIG_DATA_READ and MIG_DATA_WRITE, from both ends.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MIGRATION_STATE, type MigrationOps, migrationStateName } from '@pinion/core';
import { UnixSocket } from '@pinion/sys';
import {
  Client,
  COMMAND,
  decodeFeature,
  decodeMigData,
  encodeFeature,
  encodeMigData,
  encodeMigRead,
  FEATURE_STATE,
  RemoteDevice,
  RemoteMigration,
  SocketTransport,
} from '@pinion/vfio-user';
import { failing, type RawClient, World } from './world.js';

const { ERROR, STOP, RUNNING, STOP_COPY, RESUMING, PRE_COPY } = MIGRATION_STATE;
const none = new Uint8Array(0);
const [MIGRATION, STATE, START, STOP_LOG, REPORT] = [1, 2, 6, 7, 8];
const GET = { get: true, set: false, probe: false };
const SET = { get: false, set: true, probe: false };

/** A device whose whole state is ten bytes; it gives four at a time at most. */
class SmallState implements MigrationOps {
  readonly preCopy = true;
  readonly steps: string[] = [];
  readonly taken: number[] = [];
  fail: unknown;
  #at = 0;

  enter(to: number, from: number): void {
    if (this.fail !== undefined) throw this.fail;
    this.#at = 0;
    this.steps.push(`${migrationStateName(from)}>${migrationStateName(to)}`);
  }
  read(into: Uint8Array): number {
    const count = Math.min(into.length, 4, 10 - this.#at);
    for (let n = 0; n < count; n += 1) into[n] = this.#at + n;
    this.#at += count;
    return count;
  }
  write(bytes: Uint8Array): void {
    this.taken.push(...bytes);
  }
}

interface Rig {
  readonly world: World;
  readonly client: RawClient;
  readonly state: SmallState;
}

async function withDevice(body: (rig: Rig) => Promise<void>): Promise<void> {
  const state = new SmallState();
  const world = await World.start({ ops: { migration: state } });
  const client = await world.client();
  await body({ world, client, state });
  await client.close();
  await world.end();
}

const setState = (state: number): Uint8Array =>
  encodeFeature({ ...SET, feature: STATE, data: FEATURE_STATE.encode({ state, dataFd: 0xffff_ffff }) });
const getState = encodeFeature({ ...GET, feature: STATE, argsz: 16, data: none });

describe('a device that can be migrated', () => {
  test('says so, and in which state it is', () =>
    withDevice(async ({ client, state }) => {
      const flags = await client.call(
        COMMAND.DEVICE_FEATURE,
        encodeFeature({ ...GET, feature: MIGRATION, argsz: 16, data: none }),
      );
      assert.deepEqual(decodeFeature(flags.payload).data, Uint8Array.of(5, 0, 0, 0, 0, 0, 0, 0));
      assert.equal(decodeFeature(flags.payload).argsz, 16);
      const now = await client.call(COMMAND.DEVICE_FEATURE, getState);
      assert.deepEqual(FEATURE_STATE.read(decodeFeature(now.payload).data), { state: RUNNING, dataFd: 0xffff_ffff });
      const asked = setState(STOP_COPY);
      assert.deepEqual((await client.call(COMMAND.DEVICE_FEATURE, asked)).payload, asked, 'SET echoes the request');
      assert.deepEqual(state.steps, ['RUNNING>STOP', 'STOP>STOP_COPY']);
    }));

  test('gives its state in pieces; fewer bytes than asked for are the last', () =>
    withDevice(async ({ client }) => {
      await client.call(COMMAND.DEVICE_FEATURE, setState(STOP_COPY));
      const read = async (size: number): Promise<number[]> => [
        ...decodeMigData(17, (await client.call(COMMAND.MIG_DATA_READ, encodeMigRead(size))).payload),
      ];
      assert.deepEqual(await read(6), [0, 1, 2, 3, 4, 5]);
      assert.deepEqual(await read(6), [6, 7, 8, 9]);
      assert.deepEqual(await read(6), []);
      assert.deepEqual(await read(0), []);
    }));

  test('takes a state', () =>
    withDevice(async ({ client, state }) => {
      await client.call(COMMAND.DEVICE_FEATURE, setState(RESUMING));
      const reply = await client.call(COMMAND.MIG_DATA_WRITE, encodeMigData(Uint8Array.of(1, 2, 3)));
      assert.deepEqual([reply.flags, reply.payload.length, state.taken], [1, 0, [1, 2, 3]]);
      assert.equal(await client.errno(COMMAND.MIG_DATA_WRITE, encodeMigData(none)), 0);
    }));

  test('runs again after a reset, whatever it was in', () =>
    withDevice(async ({ client, world }) => {
      await client.call(COMMAND.DEVICE_FEATURE, setState(RESUMING));
      await client.call(COMMAND.DEVICE_RESET, none);
      assert.equal(await world.served.migration?.state(), RUNNING);
    }));

  test('keeps its state for the next client', () =>
    withDevice(async ({ client, world }) => {
      await client.call(COMMAND.DEVICE_FEATURE, setState(STOP));
      await client.close();
      const next = await world.client();
      const now = await next.call(COMMAND.DEVICE_FEATURE, getState);
      assert.equal(FEATURE_STATE.read(decodeFeature(now.payload).data).state, STOP);
      await next.close();
    }));

  test('that fails on the way is an error, and stays where it got', () =>
    withDevice(async ({ client, world, state }) => {
      state.fail = failing;
      assert.equal(await client.errno(COMMAND.DEVICE_FEATURE, setState(STOP)), 28);
      assert.equal(await world.served.migration?.state(), RUNNING);
    }));

  const PROBES: readonly (readonly [what: string, feature: number, bits: object, errno: number])[] = [
    ['MIGRATION', MIGRATION, {}, 0],
    ['MIGRATION GET', MIGRATION, { get: true }, 0],
    ['MIGRATION SET', MIGRATION, { set: true }, 22],
    ['MIG_DEVICE_STATE GET and SET', STATE, { get: true, set: true }, 0],
    ['DMA_LOGGING_START SET', START, { set: true }, 0],
    ['DMA_LOGGING_START GET', START, { get: true }, 22],
    ['DMA_LOGGING_STOP SET', STOP_LOG, { set: true }, 0],
    ['DMA_LOGGING_REPORT GET', REPORT, { get: true }, 0],
    ['DMA_LOGGING_REPORT SET', REPORT, { set: true }, 22],
    ['feature 0', 0, {}, 25],
    ['feature 3 (low power)', 3, {}, 25],
    ['feature 65535', 0xffff, {}, 25],
  ];
  for (const [what, feature, bits, errno] of PROBES) {
    test(`a probe of ${what} is answered with ${errno === 0 ? 'an echo' : `errno ${errno}`}, and does nothing`, () =>
      withDevice(async ({ client, state }) => {
        const probe = encodeFeature({ get: false, set: false, ...bits, probe: true, feature, data: none });
        const reply = await client.call(COMMAND.DEVICE_FEATURE, probe);
        assert.deepEqual([reply.error, reply.payload], [errno, errno === 0 ? probe : none]);
        assert.deepEqual(state.steps, []);
      }));
  }

  const BAD: readonly (readonly [what: string, command: number, payload: Uint8Array, errno: number, from?: number])[] =
    [
      ['into ERROR', COMMAND.DEVICE_FEATURE, setState(ERROR), 22],
      ['into a peer-to-peer state', COMMAND.DEVICE_FEATURE, setState(5), 22],
      ['into a state of the future', COMMAND.DEVICE_FEATURE, setState(8), 22],
      ['into state 2^32-1', COMMAND.DEVICE_FEATURE, setState(0xffff_ffff), 22],
      ['from STOP_COPY to PRE_COPY', COMMAND.DEVICE_FEATURE, setState(PRE_COPY), 22, STOP_COPY],
      ['SET without its data', COMMAND.DEVICE_FEATURE, encodeFeature({ ...SET, feature: STATE, data: none }), 22],
      [
        'SET of half its data',
        COMMAND.DEVICE_FEATURE,
        encodeFeature({ ...SET, feature: STATE, data: new Uint8Array(7) }),
        22,
      ],
      [
        'GET without room',
        COMMAND.DEVICE_FEATURE,
        encodeFeature({ ...GET, feature: STATE, argsz: 15, data: none }),
        22,
      ],
      ['GET with room for less than the head', COMMAND.DEVICE_FEATURE, Uint8Array.of(7, 0, 0, 0, 2, 0, 1, 0), 22],
      [
        'SET of what can be read only',
        COMMAND.DEVICE_FEATURE,
        encodeFeature({ ...SET, feature: MIGRATION, data: new Uint8Array(8) }),
        22,
      ],
      ['a flag of the future', COMMAND.DEVICE_FEATURE, Uint8Array.of(16, 0, 0, 0, 2, 0, 0x11, 0), 22],
      ['a read while it runs', COMMAND.MIG_DATA_READ, encodeMigRead(4), 22],
      ['a read in STOP', COMMAND.MIG_DATA_READ, encodeMigRead(4), 22, STOP],
      ['a read of more than a message holds', COMMAND.MIG_DATA_READ, encodeMigRead((1 << 20) + 1), 7, STOP_COPY],
      ['a write while it runs', COMMAND.MIG_DATA_WRITE, encodeMigData(none), 22],
      ['a write in STOP_COPY', COMMAND.MIG_DATA_WRITE, encodeMigData(none), 22, STOP_COPY],
      ['a write that promises more', COMMAND.MIG_DATA_WRITE, Uint8Array.of(8, 0, 0, 0, 1, 0, 0, 0), 22, RESUMING],
    ];
  for (const [what, command, payload, errno, from = RUNNING] of BAD) {
    test(`${what} is errno ${errno}, and changes nothing`, () =>
      withDevice(async ({ client, world, state }) => {
        await client.call(COMMAND.DEVICE_FEATURE, setState(from));
        const before = state.steps.length;
        assert.equal(await client.errno(command, payload), errno);
        assert.deepEqual([await world.served.migration?.state(), state.steps.length, state.taken], [from, before, []]);
      }));
  }
});

test('a device that cannot be migrated answers with ENOTTY', async () => {
  const world = await World.start();
  const client = await world.client();
  for (const feature of [MIGRATION, STATE]) {
    const ask = encodeFeature({ ...GET, feature, argsz: 64, data: none });
    assert.equal(await client.errno(COMMAND.DEVICE_FEATURE, ask), 25);
  }
  assert.equal(await client.errno(COMMAND.MIG_DATA_READ, encodeMigRead(4)), 25);
  assert.equal(await client.errno(COMMAND.MIG_DATA_WRITE, encodeMigData(none)), 25);
  await client.close();
  await world.end();
});

describe('a client of ours', () => {
  async function withClient(
    ops: { migration?: MigrationOps },
    body: (client: Client, world: World) => Promise<void>,
  ): Promise<void> {
    const world = await World.start({ ops });
    const [ours, theirs] = UnixSocket.pair(world.sys);
    const session = world.server.accept(new SocketTransport(theirs));
    const client = await Client.connect({ transport: new SocketTransport(ours), clock: world.clock });
    await body(client, world);
    client.close();
    await session.done;
    await world.end();
  }

  test('walks a device through its states, and moves its state', async () => {
    const state = new SmallState();
    await withClient({ migration: state }, async (client, world) => {
      const { migration } = await RemoteDevice.open(client, world.sys, 'far');
      assert.ok(migration);
      assert.deepEqual([migration.flags, await migration.state()], [5, RUNNING]);
      await migration.enter(STOP_COPY);
      const bytes = new Uint8Array(64);
      assert.equal(await migration.read(bytes), 10);
      assert.deepEqual([...bytes.subarray(0, 10)], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
      assert.equal(await migration.read(bytes), 0);
      await migration.enter(RESUMING);
      await migration.write(bytes.subarray(0, 10));
      assert.equal(state.taken.length, 10);
      await assert.rejects(migration.enter(ERROR), { name: 'VFIOUSER_REFUSED', errno: 'EINVAL' });
    });
  });

  test('finds that a device has none', () =>
    withClient({}, async (client, world) => {
      assert.equal(await RemoteMigration.open(client), undefined);
      assert.equal((await RemoteDevice.open(client, world.sys, 'far')).migration, undefined);
    }));
});
