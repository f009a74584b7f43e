import { ERRNO } from '@pinion/core';
import { COMMAND, type Fault, type FaultRule } from '@pinion/vfio-user';
import { cliErrors } from '../errors.js';

const COMMANDS: ReadonlyMap<string, number> = new Map(Object.entries(COMMAND));
const ERRNOS: ReadonlyMap<string, number> = new Map(Object.entries(ERRNO));
const HIGHEST_ERRNO = 4095;
const HIGHEST_COMMAND = 0xffff;
/** The most bytes that a fault adds to a message: it stays one that the codec could carry. */
const MOST_BYTES = 64 << 20;
const LONGEST_DELAY = 3_600_000;

/** A rule as it is read: problems are collected, not thrown one by one. */
class RuleText {
  readonly problems: string[] = [];
  readonly #values: ReadonlyMap<string, string>;

  constructor(pairs: readonly (readonly [string, string])[]) {
    this.#values = new Map(pairs);
    if (this.#values.size < pairs.length) this.problems.push('a key is given twice');
  }

  unknownKeys(known: readonly string[]): void {
    const odd = [...this.#values.keys()].filter((key) => !known.includes(key));
    if (odd.length > 0) this.problems.push(`there is no ${odd.join(', ')}; there is ${known.join(', ')}`);
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  whole(key: string, [min, max]: readonly [number, number]): number | undefined {
    return this.#read(key, `a whole number from ${min} to ${max}`, (value) => {
      const number = Number(value);
      return /^\d+$/.test(value) && number >= min && number <= max ? number : undefined;
    });
  }

  chance(): number | undefined {
    return this.#read('chance', 'a number from 0 to 1', (value) => {
      const number = Number(value);
      return value !== '' && number >= 0 && number <= 1 ? number : undefined;
    });
  }

  /** A name of the table, or a number. */
  named(key: string, names: ReadonlyMap<string, number>, max: number): number | undefined {
    return this.#read(key, `one of ${[...names.keys()].join(', ')}, or a number`, (value) => {
      const number = names.get(value.toUpperCase()) ?? (/^\d+$/.test(value) ? Number(value) : undefined);
      return number !== undefined && number <= max ? number : undefined;
    });
  }

  choice<const T extends string>(key: string, known: readonly T[]): T | undefined {
    return this.#read(key, known.join(' or '), (value) => known.find((each) => each === value));
  }

  #read<T>(key: string, wanted: string, parse: (value: string) => T | undefined): T | undefined {
    const value = this.#values.get(key);
    if (value === undefined) return undefined;
    const parsed = parse(value);
    if (parsed === undefined) this.problems.push(`${key} wants ${wanted}, is '${value}'`);
    return parsed;
  }
}

const KEYS = ['command', 'direction', 'kind', 'nth', 'skip', 'times', 'chance'] as const;
const COUNT = [0, Number.MAX_SAFE_INTEGER] as const;

/** What each fault is, from the value behind its name. */
const FAULTS: Readonly<Record<string, (text: RuleText, key: string) => Fault | undefined>> = {
  drop: () => ({ kind: 'drop' }),
  close: () => ({ kind: 'close' }),
  delay: (text, key) => given(text.whole(key, [0, LONGEST_DELAY]), (milliseconds) => ({ kind: 'delay', milliseconds })),
  short: (text, key) => given(text.whole(key, [1, MOST_BYTES]), (bytes) => ({ kind: 'short', bytes })),
  oversized: (text, key) => given(text.whole(key, [1, MOST_BYTES]), (bytes) => ({ kind: 'oversized', bytes })),
  cut: (text, key) => given(text.whole(key, [0, MOST_BYTES]), (bytes) => ({ kind: 'cut', bytes })),
  error: (text, key) => given(text.named(key, ERRNOS, HIGHEST_ERRNO), (errno) => ({ kind: 'error', errno })),
};
/** Those that stand alone. */
const BARE = ['drop', 'close'];

const given = <T>(value: T | undefined, make: (value: T) => Fault): Fault | undefined =>
  value === undefined ? undefined : make(value);

/**
 * Reads `FAULT[=VALUE][,KEY=VALUE]...`: `drop,command=REGION_READ,kind=reply,nth=3`. `nth=N` is `skip=N-1,times=1`.
 * @throws CLI_BAD_RULE (EINVAL) with every problem.
 */
export function parseRule(rule: string): FaultRule {
  const pairs = rule.split(',').map((part) => {
    const at = part.indexOf('=');
    return at < 0 ? ([part, ''] as const) : ([part.slice(0, at), part.slice(at + 1)] as const);
  });
  const text = new RuleText(pairs);
  const [name, value] = pairs[0] ?? ['', ''];
  const fault = faultOf(text, name, value);
  text.unknownKeys([name, ...KEYS]);
  const where = whichMessages(text);
  if (fault === undefined || text.problems.length > 0) throw cliErrors.BAD_RULE({ rule, problems: text.problems });
  return { ...where, fault };
}

function faultOf(text: RuleText, name: string, value: string): Fault | undefined {
  const make = Object.hasOwn(FAULTS, name) ? FAULTS[name] : undefined;
  if (make === undefined) {
    text.problems.push(`there is no fault '${name}'; there is ${Object.keys(FAULTS).join(', ')}`);
  } else if (BARE.includes(name) && value !== '') {
    text.problems.push(`${name} has no value`);
  }
  return make?.(text, name);
}

function whichMessages(text: RuleText): Omit<FaultRule, 'fault'> {
  const command = text.named('command', COMMANDS, HIGHEST_COMMAND);
  const direction = text.choice('direction', ['to-server', 'to-client']);
  const kind = text.choice('kind', ['command', 'reply']);
  const nth = text.whole('nth', [1, Number.MAX_SAFE_INTEGER]);
  const skip = nth === undefined ? text.whole('skip', COUNT) : nth - 1;
  const times = nth === undefined ? text.whole('times', COUNT) : 1;
  if (nth !== undefined && (text.has('skip') || text.has('times'))) {
    text.problems.push('nth stands for skip and times; use it alone');
  }
  const chance = text.chance();
  return {
    ...(command === undefined ? {} : { command }),
    ...(direction === undefined ? {} : { direction }),
    ...(kind === undefined ? {} : { reply: kind === 'reply' }),
    ...(skip === undefined ? {} : { skip }),
    ...(times === undefined ? {} : { times }),
    ...(chance === undefined ? {} : { chance }),
  };
}
