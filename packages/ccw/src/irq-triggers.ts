import { ccwErrors } from './errors.js';
import { CCW_IRQ } from './wire.js';

/** What an interrupt signals. Source: struct eventfd_ctx. */
export interface Trigger {
  signal(): void;
}

/** struct vfio_irq_set; `data`: the bytes behind the header. */
export interface IrqSet {
  readonly argsz: number;
  readonly flags: number;
  readonly index: number;
  readonly start: number;
  readonly count: number;
  readonly data: Uint8Array;
}

/** Source: include/uapi/linux/vfio.h, VFIO_IRQ_SET_*. */
export const IRQ_SET = { NONE: 1, BOOL: 2, EVENTFD: 4, MASK: 8, UNMASK: 16, TRIGGER: 32 } as const;
const DATA_TYPE = IRQ_SET.NONE | IRQ_SET.BOOL | IRQ_SET.EVENTFD;
const KNOWN_FLAGS = DATA_TYPE | IRQ_SET.MASK | IRQ_SET.UNMASK | IRQ_SET.TRIGGER;
const HEADER_SIZE = 20;
const U32_MAX = 2 ** 32 - 1;
const INDEXES = Object.keys(CCW_IRQ).length;

const unitSize = (flags: number): number | undefined =>
  ({ [IRQ_SET.NONE]: 0, [IRQ_SET.BOOL]: 1, [IRQ_SET.EVENTFD]: 4 })[flags & DATA_TYPE];

/**
 * VFIO_DEVICE_SET_IRQS for the three interrupts, one vector each. The triggers outlive reset and close of the device.
 * Source: vfio_set_irqs_validate_and_prepare(), vfio_ccw_mdev_set_irqs().
 */
export class IrqTriggers {
  readonly #triggers: (Trigger | undefined)[] = [];
  readonly #countIgnored: boolean;

  constructor(countIgnored: boolean) {
    this.#countIgnored = countIgnored;
  }

  /** Whether a trigger is attached. */
  has(index: number): boolean {
    return this.#triggers[index] !== undefined;
  }

  signal(index: number): void {
    this.#triggers[index]?.signal();
  }

  /**
   * DATA_NONE and DATA_BOOL (true) signal at once; DATA_EVENTFD attaches what `open` finds behind the descriptor (-1:
   * nothing). A failure changes nothing. Count 0 does nothing, unless the quirk `irq-count-ignored` is on.
   * @throws PinionError CCW_BAD_IRQ_SET (EINVAL), and what `open` throws.
   */
  set(request: IrqSet, open: (descriptor: number) => Trigger): void {
    checkHeader(request);
    const { flags, index, count, data } = request;
    if ((flags & IRQ_SET.TRIGGER) === 0) throw badSet(request, 'only triggers can be set');
    if (count === 0 && !this.#countIgnored) return;
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    switch (flags & DATA_TYPE) {
      case IRQ_SET.NONE:
        this.signal(index);
        return;
      case IRQ_SET.BOOL:
        if (data.length > 0 && view.getUint8(0) !== 0) this.signal(index);
        return;
      default:
        this.#attach(request, data.length >= 4 ? view.getInt32(0) : 0, open);
    }
  }

  #attach(request: IrqSet, descriptor: number, open: (descriptor: number) => Trigger): void {
    if (descriptor < -1) throw badSet(request, `${descriptor} is no descriptor`);
    this.#triggers[request.index] = descriptor === -1 ? undefined : open(descriptor);
  }
}

function checkHeader(request: IrqSet): void {
  const { argsz, flags, index, start, count } = request;
  if (argsz < HEADER_SIZE) throw badSet(request, 'the header is not all there');
  if (index >= INDEXES) throw badSet(request, 'there is no such interrupt');
  if (count >= U32_MAX - start || start >= 1 || start + count > 1) throw badSet(request, 'there is one vector');
  if ((flags & ~KNOWN_FLAGS) !== 0) throw badSet(request, 'unknown flags');
  const size = unitSize(flags);
  if (size === undefined) throw badSet(request, 'name one type of data');
  if (argsz - HEADER_SIZE < count * size) throw badSet(request, 'the data is not all there');
}

const badSet = ({ index }: IrqSet, why: string): Error => ccwErrors.BAD_IRQ_SET({ index, why });
