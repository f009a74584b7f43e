/**
 * Addresses. Inside, an address is a page frame number: a branded `number`, because a 64-bit address has a 52-bit
 * frame number and every one of those is an exact double. Byte addresses are `bigint` and appear only where bytes do.
 * All ranges in this project are closed: `first`..`last`, both inside.
 */

declare const unit: unique symbol;
type Frame<Name extends string> = number & { readonly [unit]: Name };

/** Frame number of an address that a device emits: iova >> 12. */
export type IovaFrame = Frame<'iova'>;
/** Frame number of an address in the address space of the process that mapped: vaddr >> 12. */
export type VaddrFrame = Frame<'vaddr'>;
/** Host page frame number. Means nothing once the page is unpinned. */
export type Pfn = Frame<'pfn'>;
/** Guest page frame number. Equal to the iova frame only as long as the guest has no IOMMU of its own. */
export type Gfn = Frame<'gfn'>;

/** log2 of the page size in bytes. */
export const PAGE_SHIFT = 12;
/** Bytes in a page, for counting inside pages. */
export const PAGE_SIZE = 4096;
/** The last frame of a 64-bit address space: the page at 2^64 - 4096. */
export const LAST_FRAME = 2 ** 52 - 1;
/** One past the last byte of a 64-bit address space. */
export const ADDRESS_SPACE_SIZE = 1n << 64n;

const SHIFT = 12n;
const OFFSET_MASK = 0xfffn;

/** The frame that holds the byte at `address` (bytes, 0..2^64-1; the caller has checked that). */
const frameOf = (address: bigint): number => Number(address >> SHIFT);

// why (the casts below): a brand has no runtime form; these five functions are the only places where one is put on.
/** Frame of the byte at `iova`; the offset inside the page is dropped. `iova`: bytes, 0..2^64-1. */
export const iovaFrame = (iova: bigint): IovaFrame => frameOf(iova) as IovaFrame;
/** Frame of the byte at `vaddr`; the offset inside the page is dropped. `vaddr`: bytes, 0..2^64-1. */
export const vaddrFrame = (vaddr: bigint): VaddrFrame => frameOf(vaddr) as VaddrFrame;
/** Frame of the byte at guest physical address `gpa`; the offset inside the page is dropped. */
export const gpaFrame = (gpa: bigint): Gfn => frameOf(gpa) as Gfn;
/** Brands a frame number. Only for numbers that were computed from frames of the same address space. */
export const asIovaFrame = (frame: number): IovaFrame => frame as IovaFrame;
/** Brands a frame number. Only for numbers that were computed from frames of the same address space. */
export const asVaddrFrame = (frame: number): VaddrFrame => frame as VaddrFrame;
/** Brands a frame number. Only for numbers that were computed from frames of the same address space. */
export const asPfn = (frame: number): Pfn => frame as Pfn;
/** Brands a frame number. Only for numbers that were computed from frames of the same address space. */
export const asGfn = (frame: number): Gfn => frame as Gfn;

/** The byte address at which `frame` begins. */
export const frameAddress = (frame: number): bigint => BigInt(frame) << SHIFT;
/** The offset of a byte address inside its page: 0..4095. */
export const pageOffset = (address: bigint): number => Number(address & OFFSET_MASK);
/** Bytes in `pages` pages. */
export const pagesToBytes = (pages: number): bigint => BigInt(pages) << SHIFT;

/** A closed range of frames: `last` is inside, so the page that ends at 2^64 is an ordinary page. */
export interface FrameRange<F extends number = IovaFrame> {
  readonly first: F;
  readonly last: F;
}

/** The range of `count` frames (at least 1) that begins at `first`. */
export const frameRange = <F extends number>(first: F, count: number): FrameRange<F> => ({
  first,
  last: (first + count - 1) as F, // why: a sum of a frame and a count is a frame of the same space
});
/** Number of frames in a range. */
export const frameCount = (range: FrameRange<number>): number => range.last - range.first + 1;
/** Whether a frame is in a range; both ends belong to it. */
export const rangeHolds = (range: FrameRange<number>, frame: number): boolean =>
  range.first <= frame && frame <= range.last;
/** Whether two ranges have a frame in common; both ends belong to each. */
export const rangesOverlap = (a: FrameRange<number>, b: FrameRange<number>): boolean =>
  a.first <= b.last && b.first <= a.last;

/** A byte address for people: hex. */
export const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
/** A range of frames for people: its first and last byte, hex. */
export const formatRange = (range: FrameRange<number>): string =>
  `[${hex(frameAddress(range.first))}, ${hex(frameAddress(range.last) + OFFSET_MASK)}]`;
