import { type CcwDevice, type CcwDriverOptions, type ControlUnit, createCcwDriver, type Irb } from '@pinion/ccw';
import { FakeGuest } from './fake-guest.js';

export interface Subchannel {
  readonly guest: FakeGuest;
  readonly device: CcwDevice;
  /** Every interrupt as it came, with the IRB of that moment. */
  readonly interrupts: { index: number; irb: Irb }[];
}

/** An open device before `unit`, with 1 MiB of guest memory from 0x10000000 unless another guest is given. */
export function openSubchannel(
  unit: ControlUnit,
  options: Partial<CcwDriverOptions> = {},
  guest: FakeGuest = new FakeGuest(0x10000, 256),
): Subchannel {
  const device = createCcwDriver({ units: { '0.0.1234': unit }, ...options }).create(guest.context());
  const interrupts: { index: number; irb: Irb }[] = [];
  device.setIrqSink((index) => void interrupts.push({ index, irb: device.irb }));
  device.open();
  return { guest, device, interrupts };
}

/** Guest addresses that the tests use. */
export const AT = { ccws: 0x1000_0000, idal: 0x1000_1000, parameters: 0x1000_2000, data: 0x1001_0000 } as const;

/** DEFINE EXTENT and LOCATE parameters, and the three CCWs for `count` blocks from `block` (reads: 42, writes: 41). */
export function fbaProgram(
  guest: FakeGuest,
  what: { write: boolean; block: number; count: number; data: number },
): void {
  const { write, block, count, data } = what;
  const word = (value: number, digits = 8): string => value.toString(16).padStart(digits, '0');
  guest.pokeHex(AT.parameters, `${write ? '00' : '40'} 00 0200 ${word(block)} 00000000 ${word(count - 1)}`);
  guest.pokeHex(AT.parameters + 16, `${write ? '05' : '06'} 00 ${word(count, 4)} 00000000`);
  guest.pokeHex(
    AT.ccws,
    `63 40 0010 ${word(AT.parameters)} 43 40 0008 ${word(AT.parameters + 16)}
     ${write ? '41' : '42'} 00 ${word(count * 512, 4)} ${word(data)}`,
  );
}
