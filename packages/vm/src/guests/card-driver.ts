import { CARD_COMMAND, CARD_SIZE, CCW_FLAG, DEVICE_STATUS, decodeEbcdic, encodeEbcdic, SENSE0 } from '@pinion/ccw';
import type { GuestMachine } from '../guest-machine.js';
import type { GuestHeap } from './heap.js';
import { ProgramPage } from './program-page.js';
import { Turns } from './turns.js';

/** Where a card stands in the program page: below the instructions' blocks, which begin at 0x80. */
const CARD = 0;

/** A guest's driver for a card reader and punch (2540). */
export class CardDriver {
  readonly #page: ProgramPage;
  readonly #programs = new Turns();

  private constructor(machine: GuestMachine, heap: GuestHeap, subchannel: number) {
    this.#page = new ProgramPage(machine, heap, subchannel);
  }

  /** Enables the subchannel. @throws VM_NO_SUBCHANNEL (ENODEV). */
  static start(machine: GuestMachine, heap: GuestHeap, subchannel: number): CardDriver {
    const driver = new CardDriver(machine, heap, subchannel);
    driver.#page.enable();
    return driver;
  }

  /** The next card, its trailing blanks left out; undefined when the hopper is empty. @throws as `ProgramPage.run`. */
  async read(): Promise<string | undefined> {
    return this.#programs.run(async () => {
      const irb = await this.#page.execute([this.#page.ccw(CARD_COMMAND.READ, CARD, CARD_SIZE, CCW_FLAG.SLI)]);
      const empty = (irb.deviceStatus & DEVICE_STATUS.UNIT_EXCEPTION) !== 0 || irb.sense?.[0] === SENSE0.INTERVENTION;
      if (empty) return undefined;
      this.#page.check(irb);
      return decodeEbcdic(this.#page.read(CARD, CARD_SIZE)).trimEnd();
    });
  }

  /** Punches one card; 80 characters count. @throws as `ProgramPage.run`. */
  async punch(text: string): Promise<void> {
    await this.#programs.run(async () => {
      this.#page.put(CARD, encodeEbcdic(text.slice(0, CARD_SIZE).padEnd(CARD_SIZE)));
      await this.#page.run([this.#page.ccw(CARD_COMMAND.PUNCH, CARD, CARD_SIZE, 0)]);
    });
  }
}
