import type { AddressSpace, Task } from './memory.js';

/** A running guest, as its starter sees it. */
export interface RunningGuest {
  readonly name: string;
  readonly task: Task;
  readonly memory: AddressSpace;
  /** Ends the guest at once, mid-I/O: its memory is gone before its files close. */
  kill(): Promise<void>;
  /** Settles when the guest's program ended. */
  readonly done: Promise<void>;
}

/**
 * The third plug point: who runs the guest. It owns guest memory, maps it into containers, traps register accesses and
 * channel or crypto instructions, receives interrupts and hot-plugs. Source: the VMM side of VFIO (QEMU's hw/vfio).
 */
export interface Hypervisor {
  readonly name: string;
  /** Which device APIs its guests can have, e.g. `vfio-pci`; a description that wants another is refused before start. */
  readonly deviceApis: readonly string[];
}
