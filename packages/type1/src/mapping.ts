import type { AddressSpace, FrameRange, IovaFrame, Prot, Task, VaddrFrame } from '@pinion/core';
import type { DirtyBits } from './dirty-bits.js';
import type { OddPins } from './odd-pins.js';
import type { PinTable } from './pin-table.js';

/** One user mapping; never merged, never split. Source: struct vfio_dma. */
export class Mapping implements FrameRange {
  readonly first: IovaFrame;
  readonly last: IovaFrame;
  readonly prot: Prot;
  /** Where the memory is in its address space; replaced by MAP with the VADDR flag. */
  vaddr: VaddrFrame;
  vaddrInvalid = false;
  /** Every page is pinned and mapped into every domain. */
  iommuMapped = false;
  /** CAP_IPC_LOCK at the time of MAP: no limit for this mapping, ever. */
  lockCap: boolean;
  /** Whose limit counts; read at every charge. */
  task: Task;
  /** Who is charged; grabbed, so that the counter outlives the process (threads/2016-10). */
  mm: AddressSpace;
  /** Pages of this mapping that are charged to `mm`. */
  lockedPages = 0;
  /** Pages drivers pinned; made at the first pin. */
  pins: PinTable | undefined;
  /** Pins at byte addresses inside pages (quirk unaligned-pins). */
  oddPins: OddPins | undefined;
  /** Present while dirty pages are tracked. */
  dirty: DirtyBits | undefined;
  /** Set once it goes: observers are told in the middle of loops over mappings, and may unmap themselves. */
  gone = false;

  constructor(about: {
    first: IovaFrame;
    last: IovaFrame;
    vaddr: VaddrFrame;
    prot: Prot;
    task: Task;
    mm: AddressSpace;
  }) {
    this.first = about.first;
    this.last = about.last;
    this.vaddr = about.vaddr;
    this.prot = about.prot;
    this.task = about.task;
    this.mm = about.mm;
    this.lockCap = about.task.ipcLock;
    about.mm.grab();
  }

  get pages(): number {
    return this.last - this.first + 1;
  }

  /** Distinct pinned pages, whatever their references. */
  get pinnedPages(): number {
    return (this.pins?.pages ?? 0) + (this.oddPins?.pages ?? 0);
  }
}
