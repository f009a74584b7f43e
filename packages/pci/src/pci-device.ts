import { type DeviceOps, type IrqInfo, type IrqSink, type Log, type RegionInfo, silentLog } from '@pinion/core';
import { memoryBar, type Overlay, overlaid } from './bar-handlers.js';
import { type BarHandler, type BarSpec, type BarWindow, barAddress, decodeBit, defineBars } from './bars.js';
import { type Capability, type CapabilityMap, EXPRESS, MSI, MSIX, PM, placeCapabilities } from './capabilities.js';
import { ConfigSpace } from './config-space.js';
import { defineHeader, defineRom, type Identity, romSize } from './header.js';
import { Interrupts } from './interrupts.js';
import { checkMsix } from './msix-place.js';
import type { MsiMessage } from './msix-table.js';
import { COMMAND, CONFIG, EXPRESS_CONFIG_SIZE, IRQ, REGION } from './registers.js';

/** Why a function is reset: VFIO_DEVICE_RESET (configuration stays), function level reset, last close. */
export type ResetCause = 'device' | 'flr' | 'close';

/** A PCI function in data: who it is, its windows, its capabilities, and what happens at a reset. */
export interface PciDeviceSpec {
  readonly identity: Identity;
  readonly bars?: readonly BarSpec[];
  /** Contents of the expansion ROM. */
  readonly rom?: Uint8Array;
  readonly capabilities?: readonly Capability[];
  /** The function's own state goes back to power-on. May wait for DMA to end; registers read as ones until it settles. */
  reset?(cause: ResetCause): void | Promise<void>;
  /** Software wrote the command register: bus mastering may have come or gone. */
  commandChanged?(command: number): void;
  readonly log?: Log;
  readonly name?: string;
}

/**
 * A PCI function: turns registers behind BARs into what core calls a device. Regions are VFIO's: BARs 0..5, ROM 6,
 * configuration 7. A window that software switched off (COMMAND, ROM enable, D3hot, reset under way) reads as ones and takes no
 * writes. Sources: PCI 3.0 chapter 6, PCI Express Base 4.0 section 7.5, VFIO (region and interrupt indexes).
 */
export class PciDevice {
  readonly config: ConfigSpace;
  readonly interrupts: Interrupts;
  readonly places: CapabilityMap;
  readonly #spec: PciDeviceSpec;
  readonly #bars: ReadonlyMap<number, { readonly spec: BarSpec; readonly handler: BarHandler }>;
  readonly #rom: BarHandler | undefined;
  #resets = 0;

  /** @throws PCI_BAD_IDENTITY, PCI_BAD_BAR, PCI_BAD_CAPABILITY, PCI_BAD_ROM (EINVAL), PCI_BAR_TAKEN, PCI_CAPABILITY_TWICE (EEXIST), PCI_CONFIG_FULL (ENOSPC). */
  constructor(spec: PciDeviceSpec) {
    const capabilities = spec.capabilities ?? [];
    const bars = spec.bars ?? [];
    this.#spec = spec;
    this.config = new ConfigSpace(
      capabilities.some(({ name, version }) => name === 'express' || version !== undefined),
    );
    defineHeader(this.config, { identity: spec.identity, bars, hasRom: spec.rom !== undefined });
    defineBars(this.config, bars);
    if (spec.rom !== undefined) defineRom(this.config, spec.rom);
    this.places = placeCapabilities(this.config, capabilities);
    const { msix } = capabilities.find(({ name }) => name === 'msix') ?? {};
    const { msi } = capabilities.find(({ name }) => name === 'msi') ?? {};
    this.interrupts = new Interrupts({ config: this.config, places: this.places, msi, msix });
    if (msix !== undefined) checkMsix(msix, bars);
    this.#bars = new Map(bars.map((bar) => [bar.index, { spec: bar, handler: this.#withMsix(bar, msix) }]));
    this.#rom = spec.rom === undefined ? undefined : memoryBar(spec.rom);
    this.#watch();
  }

  /** Whether the function may do DMA now. Ask before each. */
  get busMaster(): boolean {
    return (this.#command & COMMAND.BUS_MASTER) !== 0 && !this.#asleep;
  }

  /** The windows that answer now, with the addresses software gave them: what a VMM traps. */
  get windows(): readonly BarWindow[] {
    const specs = [...this.#bars.values()].map(({ spec }) => spec).filter((spec) => this.#decodes(spec));
    return specs.map((spec) => ({
      index: spec.index,
      kind: spec.kind,
      size: spec.size,
      address: barAddress(this.config, spec),
    }));
  }

  /** Sends message `vector`. @returns false when messages are off: use `setIntx`. @throws PCI_BAD_VECTOR (EINVAL). */
  signal(vector: number): boolean {
    return this.interrupts.signal(vector);
  }

  /** The level of the interrupt pin. */
  setIntx(asserted: boolean): void {
    this.interrupts.setIntx(asserted);
  }

  /** Address and data that software programmed for a message; undefined when messages are off. */
  message(vector: number): MsiMessage | undefined {
    return this.interrupts.message(vector);
  }

  /** What core drives. A driver adds `open` and `dmaUnmap`, and wraps the others if it must. */
  ops(): DeviceOps & Required<Pick<DeviceOps, 'reset' | 'close' | 'readRegion' | 'writeRegion' | 'setIrqSink'>> {
    return {
      regions: this.#regions(),
      irqs: this.#irqs(),
      readRegion: (index, offset, bytes) => this.#read(index, offset, bytes),
      writeRegion: (index, offset, bytes) => this.#write(index, offset, bytes),
      setIrqSink: (sink: IrqSink | undefined) => {
        this.interrupts.sink = sink;
      },
      request: () => this.interrupts.raise(IRQ.REQ),
      reset: () => this.#reset('device'),
      close: () => this.#reset('close'),
    };
  }

  get #command(): number {
    return this.config.get16(CONFIG.COMMAND);
  }

  /** In D3hot only configuration space answers. Source: PCI PM 1.2 section 5.4.1. */
  get #asleep(): boolean {
    const at = this.places.get('pm');
    return at !== undefined && (this.config.get16(at + PM.CONTROL) & PM.STATE_MASK) === PM.D3HOT;
  }

  #decodes(bar: BarSpec): boolean {
    return (this.#command & decodeBit(bar.kind)) !== 0 && !this.#asleep && this.#resets === 0;
  }

  get #romDecodes(): boolean {
    return (this.#command & COMMAND.MEMORY) !== 0 && (this.config.get32(CONFIG.ROM) & 1) !== 0 && !this.#asleep;
  }

  #read(index: number, offset: number, bytes: Uint8Array): void {
    const handler = this.#answering(index);
    if (index === REGION.CONFIG) this.config.read(offset, bytes);
    else if (handler === undefined) bytes.fill(0xff);
    else handler.read(offset, bytes);
  }

  #write(index: number, offset: number, bytes: Uint8Array): void {
    if (index === REGION.CONFIG) this.config.write(offset, bytes);
    else if (index !== REGION.ROM) this.#answering(index)?.write(offset, bytes);
  }

  #answering(index: number): BarHandler | undefined {
    if (index === REGION.ROM) return this.#romDecodes ? this.#rom : undefined;
    const bar = this.#bars.get(index);
    return bar !== undefined && this.#decodes(bar.spec) ? bar.handler : undefined;
  }

  #regions(): readonly RegionInfo[] {
    const bars = [...this.#bars.values()].map(({ spec: { index, size } }) => ({
      index,
      name: `bar${index}`,
      size,
      readable: true,
      writable: true,
    }));
    const { rom } = this.#spec;
    const region = { index: REGION.ROM, name: 'rom', readable: true, writable: false };
    const roms = rom === undefined ? [] : [{ ...region, size: romSize(rom.length) }];
    const config = { index: REGION.CONFIG, name: 'config', size: this.config.size, readable: true, writable: true };
    return [...bars, ...roms, config];
  }

  #irqs(): readonly IrqInfo[] {
    const { capabilities = [], identity } = this.#spec;
    const counts = [
      { index: IRQ.INTX, name: 'intx', count: identity.interruptPin === undefined ? 0 : 1 },
      { index: IRQ.MSI, name: 'msi', count: capabilities.find(({ msi }) => msi)?.msi?.vectors ?? 0 },
      { index: IRQ.MSIX, name: 'msix', count: capabilities.find(({ msix }) => msix)?.msix?.vectors ?? 0 },
      { index: IRQ.ERR, name: 'err', count: this.config.size === EXPRESS_CONFIG_SIZE ? 1 : 0 },
      { index: IRQ.REQ, name: 'req', count: 1 },
    ];
    return counts.filter(({ count }) => count > 0);
  }

  #watch(): void {
    const { config } = this;
    config.watch(CONFIG.COMMAND, 2, () => this.#commandWritten());
    const [msi, msix, express, pm] = ['msi', 'msix', 'express', 'pm'].map((name) => this.places.get(name));
    if (msi !== undefined) config.watch(msi + MSI.CONTROL, 24, () => this.interrupts.update());
    if (msix !== undefined) config.watch(msix + MSIX.CONTROL, 2, () => this.interrupts.update());
    if (pm !== undefined) config.watch(pm + PM.CONTROL, 2, () => this.#commandWritten());
    if (express !== undefined) config.watch(express + EXPRESS.DEVICE_CONTROL, 2, () => this.#expressWritten(express));
  }

  #commandWritten(): void {
    this.#spec.commandChanged?.(this.#command);
    this.interrupts.update();
  }

  #expressWritten(at: number): void {
    const control = this.config.get16(at + EXPRESS.DEVICE_CONTROL);
    if ((control & EXPRESS.INITIATE_FLR) === 0) return;
    this.config.set16(at + EXPRESS.DEVICE_CONTROL, control & ~EXPRESS.INITIATE_FLR);
    void this.#reset('flr').catch((cause: unknown) => {
      (this.#spec.log ?? silentLog).warn(`${this.#spec.name ?? 'pci'}: function level reset failed`, cause);
    });
  }

  /** The kernel saves and restores configuration around VFIO_DEVICE_RESET, so that one leaves it; the others do not. */
  async #reset(cause: ResetCause): Promise<void> {
    if (cause === 'device') this.interrupts.clear();
    else {
      this.config.reset();
      this.interrupts.reset();
    }
    this.#resets += 1;
    try {
      await this.#spec.reset?.(cause);
    } finally {
      this.#resets -= 1;
      this.interrupts.clear();
    }
  }

  #withMsix(bar: BarSpec, place: Capability['msix']): BarHandler {
    const { msix } = this.interrupts;
    if (msix === undefined || place === undefined) return bar.handler;
    const overlays: Overlay[] = [];
    if (place.table.bar === bar.index)
      overlays.push({ first: place.table.offset, size: msix.tableSize, handler: msix.table });
    if (place.pba.bar === bar.index) overlays.push({ first: place.pba.offset, size: msix.pbaSize, handler: msix.pba });
    return overlays.length === 0
      ? bar.handler
      : overlaid(
          bar.handler,
          overlays.sort((a, b) => a.first - b.first),
        );
  }
}
