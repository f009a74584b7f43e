import {
  type HostMemory,
  type IommuDomain,
  type IommuGroup,
  PAGE_SIZE,
  PROT_READ,
  PROT_WRITE,
  type Prot,
} from '@pinion/core';
import { tceErrors } from '../errors.js';
import type { Bridge } from './bridge.js';

/** The functions behind one bridge of a POWER machine. They have tables, no paging domains. */
export class PowerGroup implements IommuGroup {
  readonly id: number;
  readonly reserved = [];
  readonly isolatedInterrupts = true;
  readonly bridge: Bridge;
  readonly #memory: HostMemory;
  #owner: object | undefined;

  constructor(id: number, bridge: Bridge, memory: HostMemory) {
    this.id = id;
    this.bridge = bridge;
    this.#memory = memory;
  }

  get ownerClaimed(): boolean {
    return this.#owner !== undefined;
  }

  /** @throws TCE_GROUP_OWNED (EPERM) if somebody else owns the group. */
  claimOwner(owner: object): void {
    if (this.#owner !== undefined && this.#owner !== owner) throw tceErrors.GROUP_OWNED({ group: this.id });
    this.#owner = owner;
  }

  releaseOwner(owner: object): void {
    if (this.#owner === owner) this.#owner = undefined;
  }

  /** @throws TCE_NO_DOMAIN (ENODEV), always: backends that need domains cannot take this group. */
  allocDomain(): IommuDomain {
    throw tceErrors.NO_DOMAIN({ group: this.id });
  }

  attach(): void {
    throw tceErrors.NO_DOMAIN({ group: this.id });
  }

  detach(): void {}

  /** A device reads memory: fills `bytes` from `iova` on; parts it cannot reach read as zeros. @returns whether all could be reached. */
  dmaRead(iova: bigint, bytes: Uint8Array): boolean {
    bytes.fill(0);
    return this.#eachPiece(iova, bytes, PROT_READ, (memory, piece) => piece.set(memory));
  }

  /** A device writes memory; parts it cannot reach stay as they are. @returns whether all could be reached. */
  dmaWrite(iova: bigint, bytes: Uint8Array): boolean {
    return this.#eachPiece(iova, bytes, PROT_WRITE, (memory, piece) => memory.set(piece));
  }

  #eachPiece(
    iova: bigint,
    bytes: Uint8Array,
    prot: Prot,
    copy: (memory: Uint8Array, piece: Uint8Array) => void,
  ): boolean {
    let reached = true;
    for (let done = 0; done < bytes.length; ) {
      const at = iova + BigInt(done);
      const length = Math.min(bytes.length - done, PAGE_SIZE - Number(at & 0xfffn));
      const memory = this.#memoryAt(at, prot);
      if (memory === undefined) reached = false;
      else copy(memory.subarray(0, length), bytes.subarray(done, done + length));
      done += length;
    }
    return reached;
  }

  /** The rest of the page behind an iova. */
  #memoryAt(iova: bigint, prot: Prot): Uint8Array | undefined {
    for (const table of this.bridge.inUse()) {
      const found = table.translate(iova, prot);
      if (found !== undefined) return this.#memory.bytes(found.pfn, 1).subarray(found.offset);
    }
    return undefined;
  }
}
