import type { IrqSink } from '@pinion/core';
import { type CapabilityMap, MSI, MSIX, type MsiForm, type MsixPlace } from './capabilities.js';
import type { ConfigSpace } from './config-space.js';
import { pciErrors } from './errors.js';
import { type MsiMessage, MsixTable } from './msix-table.js';
import { COMMAND, CONFIG, IRQ, STATUS } from './registers.js';

/** What a function can signal with. */
export interface InterruptParts {
  readonly config: ConfigSpace;
  readonly places: CapabilityMap;
  readonly msi: MsiForm | undefined;
  readonly msix: MsixPlace | undefined;
}

/**
 * How a function's interrupts get out: by MSI-X if that is enabled, else by MSI, else by the pin. A message that is masked, or
 * that may not leave because the function is no bus master, stays pending and goes out when it may. Whoever listens gets
 * `(index, vector)`; what is pending inside the listener (an eventfd without receiver, a masked index) is the listener's business.
 * Sources: PCI 3.0 sections 6.2.2, 6.2.3 and 6.8.
 */
export class Interrupts {
  readonly #config: ConfigSpace;
  readonly #msi: { readonly at: number; readonly form: MsiForm } | undefined;
  readonly #msixAt: number | undefined;
  readonly msix: MsixTable | undefined;
  #sink: IrqSink | undefined;
  #asserted = false;
  #told = false;
  #telling = false;
  #msiPending = 0;

  constructor({ config, places, msi, msix }: InterruptParts) {
    this.#config = config;
    const at = places.get('msi');
    this.#msi = at === undefined || msi === undefined ? undefined : { at, form: msi };
    this.#msixAt = places.get('msix');
    this.msix = msix === undefined ? undefined : new MsixTable(msix.vectors, () => this.update());
  }

  set sink(sink: IrqSink | undefined) {
    this.#sink = sink;
    this.#told = false;
    this.update();
  }

  /** Which of the two kinds of messages is on. */
  get mode(): 'intx' | 'msi' | 'msix' {
    if (this.#msixAt !== undefined && (this.#config.get16(this.#msixAt + MSIX.CONTROL) & MSIX.ENABLE) !== 0)
      return 'msix';
    if (this.#msi !== undefined && (this.#config.get16(this.#msi.at + MSI.CONTROL) & MSI.ENABLE) !== 0) return 'msi';
    return 'intx';
  }

  /** Whether the device holds its pin's line, enabled or not. */
  get asserted(): boolean {
    return this.#asserted;
  }

  /**
   * Sends message `vector` (folded into as many as software enabled for MSI). @returns false when messages are off: use the pin.
   * @throws PCI_BAD_VECTOR (EINVAL).
   */
  signal(vector: number): boolean {
    const { mode } = this;
    if (mode === 'intx') return false;
    const count = mode === 'msix' ? (this.msix?.vectors ?? 0) : (this.#msi?.form.vectors ?? 0);
    if (!Number.isInteger(vector) || vector < 0 || vector >= count) throw pciErrors.BAD_VECTOR({ vector, count });
    if (mode === 'msix') this.msix?.setPending(vector, true);
    else this.#setMsiPending(this.#msiPending | (1 << (vector % this.#msiEnabled())));
    this.update();
    return true;
  }

  /** Raises an error or request interrupt. */
  raise(index: number): void {
    this.#sink?.(index, 0);
  }

  /**
   * The level of the pin. STATUS bit 3 follows it always; the listener hears of it while the pin is not disabled and messages are
   * off: when it goes up, and again at each call that says it is still up - a listener that masks the line at every interrupt (VFIO's
   * automask) would miss what happens meanwhile. Calls from inside the listener are not told again. The line stays up until the device
   * lowers it: who unmasks it may ask `intxDue` whether to raise it anew.
   */
  setIntx(asserted: boolean): void {
    if (!asserted && !this.#asserted) return;
    this.#asserted = asserted;
    const status = this.#config.get16(CONFIG.STATUS);
    this.#config.set16(CONFIG.STATUS, asserted ? status | STATUS.INTERRUPT : status & ~STATUS.INTERRUPT);
    this.#told = false;
    this.update();
  }

  /** Whether the line is up as seen from outside. */
  get intxDue(): boolean {
    const disabled = (this.#config.get16(CONFIG.COMMAND) & COMMAND.INTX_DISABLE) !== 0;
    return this.#asserted && !disabled && this.mode === 'intx';
  }

  /** Sends whatever may go now: after each change of masks, enable bits or bus mastering. */
  update(): void {
    if (!this.intxDue) this.#told = false;
    else if (!this.#told) this.#tell();
    if (this.mode === 'msix') this.#sendMsix();
    else if (this.mode === 'msi') this.#sendMsi();
  }

  /** Address and data of a message, for a listener that has to write it. Undefined when messages are off. */
  message(vector: number): MsiMessage | undefined {
    if (this.mode === 'msix') return this.msix?.message(vector);
    if (this.mode !== 'msi' || this.#msi === undefined) return undefined;
    const { at, form } = this.#msi;
    const high = form.wide ? BigInt(this.#config.get32(at + MSI.ADDRESS + 4)) << 32n : 0n;
    const data = this.#config.get16(at + (form.wide ? 12 : 8));
    const enabled = this.#msiEnabled();
    return {
      address: high | BigInt(this.#config.get32(at + MSI.ADDRESS)),
      data: (data & ~(enabled - 1)) | (vector % enabled),
    };
  }

  /** Nothing asserted, nothing pending. Configuration space is reset by its owner. */
  reset(): void {
    this.msix?.reset();
    this.clear();
  }

  /** Forgets what was signalled, keeps what software set up. */
  clear(): void {
    for (let vector = 0; vector < (this.msix?.vectors ?? 0); vector += 1) this.msix?.setPending(vector, false);
    this.#setMsiPending(0);
    this.setIntx(false);
  }

  #tell(): void {
    this.#told = true;
    if (this.#telling) return;
    this.#telling = true;
    try {
      this.#sink?.(IRQ.INTX, 0);
    } finally {
      this.#telling = false;
    }
  }

  get #mayMaster(): boolean {
    return (this.#config.get16(CONFIG.COMMAND) & COMMAND.BUS_MASTER) !== 0;
  }

  #sendMsix(): void {
    if (this.msix === undefined || !this.msix.anyPending || this.#msixAt === undefined) return;
    if (!this.#mayMaster || this.#sink === undefined) return;
    if ((this.#config.get16(this.#msixAt + MSIX.CONTROL) & MSIX.FUNCTION_MASK) !== 0) return;
    for (let vector = 0; vector < this.msix.vectors; vector += 1) {
      if (!this.msix.pending(vector) || this.msix.masked(vector)) continue;
      this.msix.setPending(vector, false);
      this.#sink(IRQ.MSIX, vector);
    }
  }

  #sendMsi(): void {
    if (this.#msi === undefined || !this.#mayMaster || this.#sink === undefined) return;
    const { at, form } = this.#msi;
    const mask = form.maskable ? this.#config.get32(at + (form.wide ? 16 : 12)) : 0;
    const due = this.#msiPending & ~mask;
    this.#setMsiPending(this.#msiPending & mask);
    for (let vector = 0; vector < form.vectors; vector += 1)
      if ((due & (1 << vector)) !== 0) this.#sink(IRQ.MSI, vector);
  }

  /** Messages that software enabled: a power of two. */
  #msiEnabled(): number {
    if (this.#msi === undefined) return 1;
    const wanted = 1 << ((this.#config.get16(this.#msi.at + MSI.CONTROL) >> 4) & 0b111);
    return Math.min(wanted, this.#msi.form.vectors);
  }

  #setMsiPending(pending: number): void {
    this.#msiPending = pending;
    if (this.#msi?.form.maskable === true) {
      this.#config.set32(this.#msi.at + (this.#msi.form.wide ? 20 : 16), pending >>> 0);
    }
  }
}
