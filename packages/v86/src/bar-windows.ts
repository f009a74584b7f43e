import { BAR_COUNT, COMMAND, CONFIG } from '@pinion/pci';

/** What a BAR answers to at the moment; `first` and `last` are addresses or ports. */
export interface BarWindow {
  readonly region: number;
  readonly space: 'memory' | 'io';
  readonly first: number;
  readonly last: number;
}

const IO = 1;
const WIDE = 0b100;
const TYPE = 0b110;
const ADDRESS_LIMIT = 2 ** 32;

/**
 * The windows that a function's configuration says are open: decoding on, an address given, and below 4 GiB, which is all that this
 * CPU reaches. `config` reads a register of 32 bits; `sizes` are the regions' sizes by BAR. Source: PCI 3.0 section 6.2.5.1.
 */
export function openWindows(
  config: (offset: number) => number,
  sizes: ReadonlyMap<number, number>,
): readonly BarWindow[] {
  const command = config(CONFIG.COMMAND) & 0xffff;
  const windows: BarWindow[] = [];
  for (let region = 0; region < BAR_COUNT; region += 1) {
    const low = config(CONFIG.BAR0 + region * 4);
    const size = sizes.get(region) ?? 0;
    const space = (low & IO) === 0 ? 'memory' : 'io';
    const wide = space === 'memory' && (low & TYPE) === WIDE;
    const high = wide ? config(CONFIG.BAR0 + region * 4 + 4) : 0;
    const first = (space === 'io' ? low & ~0b11 & 0xffff : low & ~0b1111) >>> 0;
    const decodes = (command & (space === 'io' ? COMMAND.IO : COMMAND.MEMORY)) !== 0;
    if (size > 0 && decodes && first !== 0 && high === 0 && first + size <= ADDRESS_LIMIT)
      windows.push({ region, space, first, last: first + size - 1 });
    if (wide) region += 1;
  }
  return windows;
}
