import { appendFileSync, readFileSync } from 'node:fs';
import {
  CARD_SIZE,
  CardUnit,
  ConsoleUnit,
  type ControlUnit,
  decodeEbcdic,
  EckdDisk,
  encodeEbcdic,
  FbaDisk,
  openFileImage,
  openHerculesVolume,
  openSparseVolume,
} from '@pinion/ccw';
import type { HostResources, ParentConfig } from '../device-kind.js';

/**
 * What stands behind a subchannel. A disk: `image`, `disk`, `readOnly`. A console: `console` (what the guest writes is appended,
 * line by line), `typed` (lines that are typed at once). Cards: `cards` (a deck, one line a card), `punch` (cards are appended).
 * Files are text in UTF-8; the guest sees EBCDIC.
 */
export interface CcwUnitConfig extends ParentConfig {
  readonly image?: string;
  readonly disk?: 'fba' | 'hercules' | 'sparse';
  readonly readOnly?: boolean;
  readonly console?: string;
  readonly typed?: string;
  readonly cards?: string;
  readonly punch?: string;
}

/** Which keys belong together; one of `main` must be there. */
export const UNIT_KEYS: readonly {
  readonly name: string;
  readonly main: readonly string[];
  readonly keys: readonly string[];
}[] = [
  { name: 'disk', main: ['image'], keys: ['image', 'disk', 'readOnly'] },
  { name: 'console', main: ['console'], keys: ['console', 'typed'] },
  { name: 'reader and punch', main: ['cards', 'punch'], keys: ['cards', 'punch'] },
];

/** The unit of a checked parent. What it opens, `resources` closes. */
export function openUnit(config: CcwUnitConfig, resources: HostResources): ControlUnit | Promise<ControlUnit> {
  const { image, console: transcript, typed, cards, punch } = config;
  if (image !== undefined) return openDisk(image, config, resources);
  if (transcript !== undefined) return openConsole(transcript, typed);
  return openCards(cards, punch);
}

async function openDisk(
  path: string,
  { disk = 'fba', readOnly = false }: CcwUnitConfig,
  { log, defer }: HostResources,
): Promise<ControlUnit> {
  const image = await openFileImage(path, { readOnly });
  defer(() => image.close());
  if (disk === 'fba') return new FbaDisk(image, { log });
  const volume = disk === 'hercules' ? await openHerculesVolume(image) : openSparseVolume(image);
  return new EckdDisk(volume, { log });
}

function openConsole(transcript: string, typed: string | undefined): ControlUnit {
  const unit = new ConsoleUnit((line) => appendFileSync(transcript, `${decodeEbcdic(line)}\n`));
  for (const line of linesOf(typed)) unit.type(encodeEbcdic(line));
  return unit;
}

function openCards(deck: string | undefined, stacker: string | undefined): ControlUnit {
  const cards = linesOf(deck).map((line) => encodeEbcdic(line.padEnd(CARD_SIZE)));
  if (stacker === undefined) return new CardUnit(cards);
  return new CardUnit(cards, { punched: (card) => appendFileSync(stacker, `${decodeEbcdic(card).trimEnd()}\n`) });
}

/** The lines of a text file without the one that an ending newline begins; none without a file. */
function linesOf(path: string | undefined): readonly string[] {
  if (path === undefined) return [];
  const lines = readFileSync(path, 'utf8').split('\n');
  return lines.at(-1) === '' ? lines.slice(0, -1) : lines;
}
