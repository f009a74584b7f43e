// Clients made by chance, out of messages that are right, nearly right, and noise.
import assert from 'node:assert/strict';
import { iovaFrame, type MigrationOps, PROT_RW } from '@pinion/core';
import { EventFd, type Fd } from '@pinion/sys';
import { COMMAND, encodeDmaMap, encodeDmaUnmap } from '@pinion/vfio-user';
import fc from 'fast-check';
import { type Carried, MESSAGES } from './messages.js';
import { type RawClient, World } from './world.js';

type FdKind = Carried | 'event' | 'socket' | 'many';

interface Shot {
  readonly command: number;
  readonly payload: Uint8Array;
  readonly fds: FdKind;
  readonly noReply: boolean;
}

/** Numbers of the kind that hurt. */
const number = fc.oneof(
  fc.constantFrom(0n, 1n, 4n, 16n, 0x1000n, 0x2000n, 2n ** 32n - 1n, 2n ** 63n, 2n ** 64n - 0x1000n, 2n ** 64n - 1n),
  fc.bigInt(0n, 0x10_000n),
);
const word = fc.oneof(fc.constantFrom(0, 1, 2, 3, 4, 7, 8, 16, 20, 24, 32, 0x24, 0x21, 0xffffffff), fc.nat(64));
const littleEndian = (value: bigint, size: number): number[] =>
  Array.from({ length: size }, (_, n) => Number((value >> BigInt(n * 8)) & 255n));
const field = fc.oneof(
  number.map((n) => littleEndian(n, 8)),
  word.map((n) => littleEndian(BigInt(n), 4)),
);

const mapping = fc.record({
  address: fc.nat(15),
  pages: fc.integer({ min: 1, max: 4 }),
  flags: fc.integer({ min: 1, max: 11 }),
});
const right = fc.oneof(
  mapping.map(({ address, pages, flags }): Shot => {
    const request = { flags, offset: 0n, address: BigInt(address) << 12n, size: BigInt(pages) << 12n };
    return { command: COMMAND.DMA_MAP, payload: encodeDmaMap(request), fds: 'memory', noReply: false };
  }),
  mapping.map(({ address, pages }): Shot => {
    const request = { flags: 0, address: BigInt(address) << 12n, size: BigInt(pages) << 12n };
    return { command: COMMAND.DMA_UNMAP, payload: encodeDmaUnmap(request), fds: 'none', noReply: false };
  }),
  fc.constantFrom(...MESSAGES.slice(1)).map((message): Shot => ({ ...message, noReply: false })),
);

/** A right message with a few fields overwritten, cut short or made longer. */
const nearly = fc
  .record({
    message: fc.constantFrom(...MESSAGES.slice(1)),
    changes: fc.array(fc.tuple(fc.nat(64), field), { minLength: 1, maxLength: 3 }),
    length: fc.option(fc.nat(64), { freq: 4 }),
    fds: fc.option(fc.constantFrom<FdKind>('memory', 'events', 'event', 'socket', 'many'), { freq: 4 }),
    noReply: fc.boolean(),
  })
  .map(({ message, changes, length, fds, noReply }): Shot => {
    const payload = new Uint8Array(length ?? message.payload.length);
    payload.set(message.payload.subarray(0, payload.length));
    for (const [at, bytes] of changes)
      payload.set(bytes.slice(0, Math.max(payload.length - at, 0)), Math.min(at, payload.length));
    return { command: message.command, payload, fds: fds ?? message.fds, noReply };
  });

const noise = fc
  .record({
    command: fc.oneof(fc.integer({ min: 2, max: 19 }), fc.nat(0xffff)),
    payload: fc.array(field, { maxLength: 8 }).map((fields) => Uint8Array.from(fields.flat())),
    fds: fc.constantFrom<FdKind>('none', 'memory', 'event', 'socket', 'many'),
    noReply: fc.boolean(),
  })
  .map((shot): Shot => shot);

/** A device's whole state, for the fuzzer: three bytes. */
const migration: MigrationOps = {
  enter: () => {},
  read: (into) => Math.min(into.length, 3),
  write: () => {},
};

async function fire(client: RawClient, shot: Shot): Promise<number> {
  const { sys } = client;
  const memory = client.memory(4);
  const events = [0, 1].map(() => EventFd.create(sys, 'fuzz'));
  const [one] = events;
  assert.ok(one);
  const carried: Readonly<Record<FdKind, readonly Fd[]>> = {
    none: [],
    memory: [memory],
    events: events.map(({ fd }) => fd),
    event: [one.fd],
    socket: [client.socket.fd],
    many: [one.fd, memory, client.socket.fd],
  };
  const id = client.send(shot.command, shot.payload, { fds: carried[shot.fds], noReply: shot.noReply });
  memory.close();
  for (const event of events) event.close();
  return id;
}

/** The device pins what it finds, so that every unmap has somebody to ask. */
function pinAll(world: World): void {
  for (const { address } of world.space.dma.entries) {
    try {
      world.device.pins.pin(iovaFrame(address), 1, PROT_RW);
    } catch (error) {
      assert.match(String(error), /VFIOUSER_NO_SHARED_MEMORY|TYPE1_/);
    }
  }
}

/** Clients from one seed; the next so many come from the next one. */
const BATCH = 150;

export interface FuzzOptions {
  readonly runs: number;
  readonly seed: number;
  /** Ends soon after that, however many runs were made. */
  readonly seconds?: number;
  readonly onRun?: (runs: number) => void;
}

/**
 * Lets clients made by chance at a server, one after the other: each command is answered once, in order; afterwards nothing
 * is mapped, pinned, locked or open, and the next client is served. @returns how many there were. @throws what it finds, with the seed to repeat it.
 */
export async function fuzz({ runs, seed, seconds, onRun }: FuzzOptions): Promise<number> {
  const world = await World.start({ ops: { migration } });
  let made = 0;
  const end = seconds === undefined ? Number.POSITIVE_INFINITY : performance.now() + seconds * 1000;
  const property = fc.asyncProperty(fc.array(fc.oneof(right, nearly, noise), { maxLength: 12 }), async (shots) => {
    const client = await world.client();
    const wanted: number[] = [];
    for (const shot of shots) {
      const id = await fire(client, shot);
      if (!shot.noReply) wanted.push(id);
      pinAll(world);
    }
    await client.idle();
    assert.deepEqual(
      client.received.map(({ id }) => id),
      wanted,
    );
    await client.close();
    const { mm } = world.space.task;
    assert.deepEqual(
      [world.pages.pieces, world.pages.references, mm.lockedPages, world.space.dma.dirty.active],
      [0, 0, 0, false],
    );
    made += 1;
    onRun?.(made);
  });
  // why batches: a time limit of the library's own would leave a client in the middle of its work
  for (let batch = 0; made < runs && performance.now() < end; batch += 1) {
    await fc.assert(property, { numRuns: Math.min(BATCH, runs - made), seed: seed + batch });
  }
  await world.end();
  return made;
}
