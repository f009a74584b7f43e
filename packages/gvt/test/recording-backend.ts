import { type BackendParts, gvtErrors, KvmBackend } from '@pinion/gvt';

/** What a Xen-like hypervisor is asked to do beside memory, as lines. */
export class RecordingBackend extends KvmBackend {
  readonly calls: string[] = [];
  /** Calls that fail from now on, by their name. */
  readonly failing = new Set<string>();
  readonly #name: string;

  constructor(parts: BackendParts, failing: readonly string[] = []) {
    super(parts);
    this.#name = parts.device;
    for (const call of failing) this.failing.add(call);
  }

  setTrapArea({ first, last, trap }: { first: bigint; last: bigint; trap: boolean }): void {
    this.#call('setTrapArea', `${trap ? 'trap' : 'untrap'} ${first.toString(16)}..${last.toString(16)}`);
  }

  mapGfnToPfn({ gfn, count, map }: { gfn: number; count: number; map: boolean }): void {
    this.#call('mapGfnToPfn', `${map ? 'map' : 'unmap'} ${gfn.toString(16)}+${count.toString(16)}`);
  }

  setOpregion(bytes: Uint8Array): void {
    this.#call('setOpregion', `opregion ${bytes.length}`);
  }

  setEdid(port: number, bytes: Uint8Array): void {
    this.#call('setEdid', `edid ${port} ${bytes.length}`);
  }

  holdDevice(): () => void {
    this.#call('holdDevice', 'hold');
    return () => this.calls.push('let go');
  }

  override attach(): void {
    this.#call('attach', 'attach');
    super.attach();
  }

  /** The calls since the last time. */
  take(): readonly string[] {
    return this.calls.splice(0);
  }

  #call(name: string, line: string): void {
    if (this.failing.has(name)) throw gvtErrors.NO_GUEST({ device: this.#name, what: name });
    this.calls.push(line);
  }
}
