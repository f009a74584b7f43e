import { hex, type Log } from '@pinion/core';
import type { Leftover } from './backend.js';
import { describeOwner } from './owner.js';

/** Entries that a log message spells out; the listener gets them all. */
const SHOWN = 8;

/** What was still mapped when a vGPU was closed, reset or removed. */
export interface LeftoverReport {
  readonly device: string;
  readonly leftovers: readonly Leftover[];
}

/** Hears of leftovers. What it throws is logged and otherwise ignored. */
export type LeftoverListener = (report: LeftoverReport) => void;

/** For messages: `gfn 0x5 size 0x1000 refs 2, mapped by GGTT entry 0x7`. */
export const describeLeftover = ({ gfn, size, refs, owner }: Leftover): string =>
  `gfn ${hex(gfn)} size ${hex(size)} refs ${refs}, mapped by ${describeOwner(owner)}`;

interface Hearers {
  readonly context: { readonly name: string; readonly log: Log };
  readonly onLeftovers?: LeftoverListener | undefined;
}

/** What the core had lost track of was released by the backend: the log and the listener hear of it. Nothing happens for an empty list. */
export function yell({ context, onLeftovers }: Hearers, leftovers: readonly Leftover[]): void {
  if (leftovers.length === 0) return;
  const { name: device, log } = context;
  const more = leftovers.length > SHOWN ? `, and ${leftovers.length - SHOWN} more` : '';
  const shown = leftovers.slice(0, SHOWN).map(describeLeftover).join('; ');
  log.warn(`vGPU ${device}: ${leftovers.length} mappings left over, released: ${shown}${more}`);
  try {
    onLeftovers?.({ device, leftovers });
  } catch (cause) {
    log.warn(`vGPU ${device}: the listener of leftovers threw`, cause);
  }
}
