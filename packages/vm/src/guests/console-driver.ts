import { CCW_FLAG, CONSOLE_COMMAND, decodeEbcdic, encodeEbcdic } from '@pinion/ccw';
import { PAGE_SIZE } from '@pinion/core';
import type { GuestMachine } from '../guest-machine.js';
import type { GuestHeap } from './heap.js';
import { ProgramPage } from './program-page.js';
import { Turns } from './turns.js';

/** Bytes of a line that the driver reads or writes at most. */
const LINE_MAX = 1920;
const PARAMETER = 0;

/** A guest's driver for a line-mode console (3215). */
export class ConsoleDriver {
  readonly #machine: GuestMachine;
  readonly #page: ProgramPage;
  readonly #programs = new Turns();
  /** Guest-physical address of the line's buffer: a page. */
  readonly #line: bigint;

  private constructor(machine: GuestMachine, heap: GuestHeap, subchannel: number) {
    this.#machine = machine;
    this.#page = new ProgramPage(machine, heap, subchannel);
    this.#line = heap.allocate(PAGE_SIZE);
  }

  /** Enables the subchannel. @throws VM_NO_SUBCHANNEL (ENODEV). */
  static start(machine: GuestMachine, heap: GuestHeap, subchannel: number): ConsoleDriver {
    const driver = new ConsoleDriver(machine, heap, subchannel);
    driver.#page.enable();
    return driver;
  }

  /** Writes one line, of which 1920 characters count; an empty one is a blank. @throws as `ProgramPage.run`. */
  async write(line: string): Promise<void> {
    const bytes = encodeEbcdic(line === '' ? ' ' : line.slice(0, LINE_MAX));
    await this.#programs.run(async () => {
      this.#machine.memory.write(this.#line, bytes);
      await this.#page.run([this.#ccw(CONSOLE_COMMAND.WRITE_RETURN, bytes.length)]);
    });
  }

  /** The next line that somebody types; waits for one. Lines may be written meanwhile. @throws as `write`. */
  async readLine(): Promise<string> {
    for (;;) {
      const line = await this.#programs.run(() => this.#read());
      if (line !== '') return line;
      await this.#page.attention();
    }
  }

  async #read(): Promise<string> {
    this.#machine.memory.write(this.#line, new Uint8Array(LINE_MAX));
    await this.#page.run([this.#ccw(CONSOLE_COMMAND.READ, LINE_MAX)]);
    return decodeEbcdic(this.#machine.memory.read(this.#line, LINE_MAX));
  }

  #ccw(command: number, count: number) {
    return { ...this.#page.ccw(command, PARAMETER, count, CCW_FLAG.SLI), address: Number(this.#line) };
  }
}
