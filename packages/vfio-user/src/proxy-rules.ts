import type { Message } from './message.js';
import { isReply } from './message.js';

/** Which way a message goes. */
export type Direction = 'to-server' | 'to-client';

/**
 * What a proxy does to a message instead of passing it on.
 * - `drop`: nobody gets it.
 * - `delay`: it and everything behind it in its direction waits `milliseconds`.
 * - `short`: the last `bytes` of its payload are missing; its header says so.
 * - `oversized`: `bytes` zeros follow its payload; its header says so.
 * - `error`: a command is answered at once with an error reply of `errno` and goes no further; a reply becomes one.
 * - `cut`: only its first `bytes` are passed on, then both connections are closed.
 * - `close`: both connections are closed.
 */
export type Fault =
  | { readonly kind: 'drop' }
  | { readonly kind: 'delay'; readonly milliseconds: number }
  | { readonly kind: 'short'; readonly bytes: number }
  | { readonly kind: 'oversized'; readonly bytes: number }
  | { readonly kind: 'error'; readonly errno: number }
  | { readonly kind: 'cut'; readonly bytes: number }
  | { readonly kind: 'close' };

/** Which messages a fault is for. What is absent does not matter. */
export interface FaultRule {
  readonly direction?: Direction;
  readonly command?: number;
  readonly reply?: boolean;
  /** Matching messages that are passed on before the first one is not. Default 0. */
  readonly skip?: number;
  /** How many matching messages it is for, after those. Default: all. */
  readonly times?: number;
  /** How likely each of them is to meet the fault, 0 to 1. Default 1. */
  readonly chance?: number;
  readonly fault: Fault;
}

/** The rules of one proxy, with their counters. The first rule that is for a message decides. */
export class FaultRules {
  readonly #rules: readonly (readonly [FaultRule, { seen: number }])[];
  readonly #random: () => number;

  /** `random`: the dice of rules with a chance, 0 to below 1; seed them, and a run can be repeated. */
  constructor(rules: readonly FaultRule[], random: () => number = Math.random) {
    this.#rules = rules.map((rule) => [rule, { seen: 0 }]);
    this.#random = random;
  }

  /**
   * Every rule that matches counts the message (and one with a chance throws its dice), also when another one decides.
   * @returns undefined: pass it on.
   */
  decide(direction: Direction, message: Message<unknown>): Fault | undefined {
    let decided: Fault | undefined;
    for (const [rule, count] of this.#rules) {
      if (!matches(rule, direction, message)) continue;
      count.seen += 1;
      const { skip = 0, times = Number.POSITIVE_INFINITY, chance } = rule;
      if (count.seen <= skip || count.seen > skip + times) continue;
      if (chance === undefined || this.#random() < chance) decided ??= rule.fault;
    }
    return decided;
  }
}

function matches(rule: FaultRule, direction: Direction, message: Message<unknown>): boolean {
  return (
    (rule.direction ?? direction) === direction &&
    (rule.command ?? message.command) === message.command &&
    (rule.reply ?? isReply(message)) === isReply(message)
  );
}
