import { resolve } from 'node:path';
import { Teardown } from '@pinion/core';
import { linuxSys } from '@pinion/sys';
import type { Command } from 'commander';
import type { Context, Runner } from '../context.js';
import { cliErrors } from '../errors.js';
import { EXIT } from '../exit-codes.js';
import { parseWhole } from '../option-values.js';
import type { Output } from '../output.js';
import { clearSocketPath, ownSocketPath } from '../socket-path.js';
import { stopSignal } from '../stop-signal.js';
import type { Surroundings } from '../surroundings.js';
import { Recording } from './recording.js';
import { Relay } from './relay.js';
import { parseRule } from './rule-text.js';
import { seededRandom } from './seeded-random.js';
import { Traffic } from './traffic.js';

interface ProxyFlags {
  readonly record?: string;
  readonly rule: readonly string[];
  readonly seed: string;
}

const EXAMPLES = `
A rule is FAULT[=VALUE][,KEY=VALUE]...; the first one that is for a message decides, and rules count anew for every client.
  FAULT: drop, delay=MILLISECONDS, short=BYTES, oversized=BYTES, error=ERRNO, cut=BYTES, close
  KEY:   command=NAME or number, direction=to-server|to-client, kind=command|reply,
         nth=N, or skip=N and times=N; chance=0..1

  pinion proxy --record trace.jsonl front.sock back.sock
  pinion proxy --rule drop,command=REGION_READ,kind=reply,nth=3 front.sock back.sock
  pinion proxy --rule delay=6000,command=DMA_MAP,chance=0.01 --seed 7 front.sock back.sock`;

/** Adds `pinion proxy`. */
export function addProxy(program: Command, run: Runner): void {
  const command = program
    .command('proxy')
    .description('stand between a client and a server: record what passes, and break it by rule')
    .argument('<LISTEN>', 'where clients connect')
    .argument('<UPSTREAM>', 'where the server listens')
    .option('--record <FILE>', 'write every message to a file, as JSON lines')
    .option(
      '--rule <RULE>',
      'a fault, and which messages it is for; again for more',
      (rule, before: readonly string[]) => [...before, rule],
      [],
    )
    .option('--seed <N>', 'of the dice of rules with a chance', '1')
    .addHelpText('after', EXAMPLES);
  run(command, proxy);
}

/** Passes messages on until a signal comes. @returns the exit code. */
async function proxy(flags: ProxyFlags, { output, around }: Context, args: readonly string[]): Promise<number> {
  const [listen = '', upstream = ''] = args.map((path) => resolve(around.folder, path));
  if (listen === upstream) throw cliErrors.BAD_PLAN({ problem: `${listen} would be its own server; listen elsewhere` });
  const rules = flags.rule.map(parseRule);
  const random = seededRandom(parseWhole('--seed', flags.seed, [0, 0xffff_ffff]));
  const sys = linuxSys();
  const steps = new Teardown();
  try {
    clearSocketPath(sys, listen);
    const recording = await openRecording(flags.record, around, steps);
    const { listeners } = new Traffic(output, recording);
    const relay = new Relay({ sys, clock: around.clock, log: output, listen, upstream, rules, random, ...listeners });
    steps.defer(ownSocketPath(listen));
    steps.defer(() => relay.close());
    output.event(
      { event: 'listening', listen, upstream, rules: rules.length },
      `listening on ${listen}, for ${upstream}`,
    );
    await untilStopped(output, around, recording);
  } finally {
    await steps.run();
  }
  const open = sys.ledger.labels();
  output.event({ event: 'stopped', open, ok: open.length === 0 }, `stopped: ${open.length} descriptors left`);
  return open.length === 0 ? EXIT.OK : EXIT.LEFTOVERS;
}

async function openRecording(
  path: string | undefined,
  around: Surroundings,
  steps: Teardown,
): Promise<Recording | undefined> {
  if (path === undefined) return undefined;
  const recording = await Recording.open(resolve(around.folder, path));
  steps.defer(() => recording.close());
  return recording;
}

/** @throws what writing the recording threw: what passes unrecorded would be missed later. */
async function untilStopped(output: Output, around: Surroundings, recording: Recording | undefined): Promise<void> {
  const signal = stopSignal(around);
  try {
    const reason = await Promise.race([signal.heard, ...(recording === undefined ? [] : [recording.failed])]);
    output.event({ event: 'stopping', reason }, `stopping: ${reason}`);
  } finally {
    signal.ignore();
  }
}
