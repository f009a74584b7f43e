/** A context as a guest names it to the submit port. Source: Intel PRM, "Context descriptor format". */
export interface ContextDescriptor {
  /** Both dwords as they were written. */
  readonly low: number;
  /** The context's id. */
  readonly high: number;
}

const VALID = 1 << 0;
const PRIVILEGE = 1 << 8;
const LRCA = 0xfffff000;
/** Addressing mode, bits 4:3: what the context's roots are. */
const LEVELS: ReadonlyMap<number, 3 | 4> = new Map([
  [1, 3],
  [3, 4],
]);

export const NO_CONTEXT: ContextDescriptor = Object.freeze({ low: 0, high: 0 });

export const isValid = ({ low }: ContextDescriptor): boolean => (low & VALID) !== 0;

/** Whether the context runs in a per-process address space. */
export const hasPpgtt = ({ low }: ContextDescriptor): boolean => (low & PRIVILEGE) !== 0;

/** Graphics address of the context image, bytes. */
export const lrcaOf = ({ low }: ContextDescriptor): number => (low & LRCA) >>> 0;

/** Levels of the context's per-process table; undefined for an addressing mode that is not supported. */
export const levelsOf = ({ low }: ContextDescriptor): 3 | 4 | undefined => LEVELS.get((low >>> 3) & 3);

/** Whether both name the same context image under the same id. */
export const isSameContext = (a: ContextDescriptor, b: ContextDescriptor): boolean =>
  a.high === b.high && lrcaOf(a) === lrcaOf(b);
