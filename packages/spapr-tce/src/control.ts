import type { Container, Task } from '@pinion/core';
import { tceErrors } from './errors.js';
import { type CreateRequest, TCE_ARGSZ, TCE_IOCTL, type TceInfo } from './requests.js';

/** Memory of the caller, bytes. */
interface Memory {
  readonly vaddr: bigint;
  readonly size: bigint;
}

/**
 * What only a TCE container has, as typed calls instead of ioctl numbers. Each throws what core's `Container.ioctl` and this
 * package's `ioctl` throw; a positive answer that a quirk gives is an error here.
 */
export class TceControl {
  readonly #container: Container;
  readonly #caller: Task;

  constructor(container: Container, caller: Task = container.opener) {
    this.#container = container;
    this.#caller = caller;
  }

  /** v1: charges the whole 32-bit window; mapping is possible from now on. */
  enable(): void {
    this.#ask(TCE_IOCTL.ENABLE);
  }

  /** v1: gives the charge back; mappings stay. Does nothing if it is not enabled. */
  disable(): void {
    this.#ask(TCE_IOCTL.DISABLE);
  }

  /** v2: pins and charges memory, so that it can be mapped. */
  registerMemory(memory: Memory): void {
    const pinned = this.#ask(TCE_IOCTL.REGISTER_MEMORY, memory);
    if (typeof pinned === 'number' && pinned > 0) throw tceErrors.MEMORY_FAULT({ ...memory, pinned });
  }

  /** v2: exactly what was registered. */
  unregisterMemory(memory: Memory): void {
    this.#ask(TCE_IOCTL.UNREGISTER_MEMORY, memory);
  }

  /** v2: @returns the first byte of IOVA of the new window. */
  createWindow(request: CreateRequest): bigint {
    // why: CREATE answers with the struct that it writes back (ioctl.ts)
    const { start } = this.#ask(TCE_IOCTL.CREATE, request) as { readonly start: bigint };
    return start;
  }

  /** v2: the window that begins at `start`, with everything mapped in it. */
  removeWindow(start: bigint): void {
    this.#ask(TCE_IOCTL.REMOVE, { start });
  }

  info(): TceInfo {
    // why: GET_INFO answers with the struct that it writes back (ioctl.ts)
    return this.#ask(TCE_IOCTL.GET_INFO, { argsz: TCE_ARGSZ.INFO_WINDOWS }) as TceInfo;
  }

  #ask(number: number, argument?: unknown): unknown {
    return this.#container.ioctl(number, argument, this.#caller);
  }
}
