import type { HostMemory, Log, ReservedRegion } from '@pinion/core';
import { iommuErrors } from './errors.js';
import { checkReserved, X86_MSI_WINDOW } from './reserved.js';

/** What a mapping above the address width gives: ERANGE as Linux 7.3, EFAULT as Linux 6.1 and 6.12. */
export type BeyondWidth = 'ERANGE' | 'EFAULT';

/** What an IOMMU can do; everything but the memory has a default. */
export interface SoftwareIommuOptions {
  /** Where DMA ends up. */
  readonly memory: HostMemory;
  /** Which make it is; domains are shared between IOMMUs of one make that can do the same. Default `software-iommu`. */
  readonly hardware?: string;
  /** Bits of an input address: 21..57. Default 39. */
  readonly addressWidth?: number;
  /** Bitmap of leaf sizes in bytes: 4 KiB and any of 2 MiB, 1 GiB. Default all three (0x40201000). */
  readonly pageSizes?: bigint;
  /** DMA snoops the caches. Default true. */
  readonly coherent?: boolean;
  /** Interrupts are remapped; a group may differ. Default true. */
  readonly isolatedInterrupts?: boolean;
  /** What no mapping may cover; a group may differ. Default: the x86 interrupt window. */
  readonly reserved?: readonly ReservedRegion[];
  /** Default ERANGE. */
  readonly beyondWidth?: BeyondWidth;
  /** Faults that are kept; older ones are dropped. Default 256. */
  readonly faultLogSize?: number;
  /** Where a fault listener's failure is reported. Default: nowhere. */
  readonly log?: Log;
}

/** The options of one IOMMU, checked and complete. */
export interface IommuModel {
  readonly memory: HostMemory;
  readonly hardware: string;
  readonly addressWidth: number;
  readonly pageSizes: bigint;
  readonly coherent: boolean;
  readonly isolatedInterrupts: boolean;
  readonly reserved: readonly ReservedRegion[];
  readonly beyondWidth: BeyondWidth;
  /** Levels of tables: each adds 9 bits to the 12 of a page. */
  readonly levels: number;
  /** Which leaf sizes exist. */
  readonly leaves: readonly [true, boolean, boolean];
  /** The last frame of the width. */
  readonly lastFrame: number;
}

const SIZE_4K = 0x1000n;
const SIZE_2M = 0x20_0000n;
const SIZE_1G = 0x4000_0000n;
const ALL_SIZES = SIZE_4K | SIZE_2M | SIZE_1G;
const NARROWEST = 21;
const WIDEST = 57;

/** Checks the options. @throws IOMMU_BAD_OPTION (EINVAL) naming the option. */
export function iommuModel(options: SoftwareIommuOptions): IommuModel {
  const addressWidth = options.addressWidth ?? 39;
  if (!Number.isInteger(addressWidth) || addressWidth < NARROWEST || addressWidth > WIDEST) {
    throw iommuErrors.BAD_OPTION({
      option: 'addressWidth',
      problem: `${addressWidth} is not within ${NARROWEST}..${WIDEST} bits`,
    });
  }
  const levels = Math.ceil((addressWidth - 12) / 9);
  return Object.freeze({
    memory: options.memory,
    hardware: options.hardware ?? 'software-iommu',
    addressWidth,
    ...pageSizes(options.pageSizes ?? ALL_SIZES, levels),
    coherent: options.coherent ?? true,
    isolatedInterrupts: options.isolatedInterrupts ?? true,
    reserved: checkReserved(options.reserved ?? [X86_MSI_WINDOW]),
    beyondWidth: options.beyondWidth ?? 'ERANGE',
    levels,
    lastFrame: 2 ** (addressWidth - 12) - 1,
  });
}

/** The sizes that tables of so many levels can hold. */
function pageSizes(asked: bigint, levels: number): Pick<IommuModel, 'pageSizes' | 'leaves'> {
  if ((asked & SIZE_4K) === 0n || (asked & ~ALL_SIZES) !== 0n) {
    throw iommuErrors.BAD_OPTION({
      option: 'pageSizes',
      problem: `0x${asked.toString(16)}: 4 KiB is needed, 2 MiB and 1 GiB are possible, nothing else is`,
    });
  }
  const leaves = [true, levels > 1 && (asked & SIZE_2M) !== 0n, levels > 2 && (asked & SIZE_1G) !== 0n] as const;
  return { leaves, pageSizes: SIZE_4K | (leaves[1] ? SIZE_2M : 0n) | (leaves[2] ? SIZE_1G : 0n) };
}
