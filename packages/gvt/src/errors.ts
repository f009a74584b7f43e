import { catalogue, formatRange, hex } from '@pinion/core';

interface Where {
  readonly device: string;
  readonly offset: number;
  readonly length: number;
}
interface Span {
  readonly first: number;
  readonly last: number;
}

const span = ({ first, last }: Span): string => `[${hex(first)}, ${hex(last)}]`;

/** Everything this driver refuses. Errnos are those of the i915 GVT-g functions named in each docstring. */
export const gvtErrors = catalogue('GVT', {
  BAD_APERTURE: [
    'EINVAL',
    (d: { apertureMb: number }) => `a GPU has an aperture of 256, 512, 1024 or 2048 MB, not ${d.apertureMb} MB`,
  ],
  BAD_LIMIT: ['EINVAL', (d: { option: string; value: number }) => `${d.option} is a number above 0, not ${d.value}`],
  UNKNOWN_QUIRK: ['EINVAL', (d: { quirk: string }) => `'${d.quirk}' is no quirk of this driver; see GVT_QUIRKS`],
  UNKNOWN_TYPE: [
    'EINVAL',
    (d: { type: string; offered: string }) => `type '${d.type}' is not offered; there are ${d.offered}`,
  ],
  NO_SPACE: [
    'ENOSPC',
    (d: { type: string; what: string }) =>
      `no vGPU of type '${d.type}' fits: ${d.what} is used up; remove another vGPU first`,
  ],
  NOT_OPEN: ['EINVAL', (d: { device: string }) => `vGPU ${d.device} is not open, so it cannot map guest pages`],
  NO_HANDLE: ['ENODEV', (d: { device: string }) => `vGPU ${d.device} is not open, so it holds no mapping to pin`],
  NO_GUEST: [
    'ESRCH',
    (d: { device: string; what: string }) => `vGPU ${d.device} is not open, so it cannot ${d.what} its guest`,
  ],
  NO_PAGE_TRACK: [
    'ENOTTY',
    (d: { device: string; gfn: number }) =>
      `the hypervisor of vGPU ${d.device} cannot report guest writes to frame ${hex(d.gfn)}; ask capabilities.pageTrack`,
  ],
  NO_PAGE: ['EINVAL', (d: { gfn: number }) => `the guest has no memory at frame ${hex(d.gfn)}`],
  BAD_PAGE_SIZE: ['EINVAL', (d: { size: number }) => `a guest page is mapped as 4096 or 2097152 bytes, not ${d.size}`],
  NOT_CONTIGUOUS: [
    'EINVAL',
    (d: { first: number; last: number }) =>
      `guest pages ${formatRange(d)} are not one run of host pages; map them as 4 KiB pages`,
  ],
  DMA_UNKNOWN: ['ENOMEM', (d: { dma: number }) => `no mapping has the DMA frame ${hex(d.dma)}, so it cannot be pinned`],
  OUT_OF_REGION: [
    'EINVAL',
    (d: Where & { index: number }) =>
      `access to ${d.length} bytes at ${hex(d.offset)} is outside region ${d.index} of vGPU ${d.device}`,
  ],
  REGION_FAULT: [
    'EFAULT',
    (d: Where) => `access to ${d.length} bytes at ${hex(d.offset)} of BAR0 of vGPU ${d.device} failed`,
  ],
  GGTT_ACCESS: [
    'EINVAL',
    (d: { offset: number; length: number }) =>
      `a GGTT entry is accessed by 4 or 8 aligned bytes, not ${d.length} at ${hex(d.offset)}`,
  ],
  MMIO_ACCESS: [
    'EINVAL',
    (d: { offset: number; length: number }) =>
      `registers are accessed by 1, 2, 4 or 8 aligned bytes, not ${d.length} at ${hex(d.offset)}`,
  ],
  FENCE: [
    'EINVAL',
    (d: { fence: number; count: number }) => `fence ${d.fence} is not this vGPU's, which has ${d.count}; see PVINFO`,
  ],
  CONFIG_ACCESS: [
    'EINVAL',
    (d: { offset: number; length: number }) =>
      `config space is written by at most 4 bytes at a time, not ${d.length} at ${hex(d.offset)}`,
  ],
  FOREIGN_APERTURE: [
    'EINVAL',
    (d: Where) =>
      `${d.length} bytes at ${hex(d.offset)} of BAR2 are not inside the aperture slice of vGPU ${d.device}; see PVINFO`,
  ],
  BAD_RING: ['EINVAL', (d: { what: string }) => `ring buffer refused: ${d.what}`],
  BAD_COMMAND: [
    'EBADRQC',
    (d: { header: number; address: number; what: string }) =>
      `command ${hex(d.header)} at ${hex(d.address)} refused: ${d.what}`,
  ],
  BAD_ADDRESS: [
    'EFAULT',
    (d: Span & { what: string }) => `${d.what} ${span(d)} is not inside the graphics memory of this vGPU`,
  ],
  BLIT_TOO_BIG: [
    'EFAULT',
    (d: { bytes: number; most: number }) => `a blit of ${d.bytes} bytes; at most ${d.most} are allowed`,
  ],
  BAD_REGISTER: ['EFAULT', (d: { offset: number }) => `a command names ${hex(d.offset)}, where there is no register`],
  REGISTER_PROTECTED: ['EPERM', (d: { offset: number }) => `commands may not move register ${hex(d.offset)} this way`],
  BATCH_TOO_DEEP: ['EFAULT', (d: { address: number }) => `batch at ${hex(d.address)} nests deeper than two levels`],
  BAD_BATCH: ['EFAULT', (d: { address: number; what: string }) => `batch at ${hex(d.address)} refused: it ${d.what}`],
  TOO_MANY_ROOTS: ['E2BIG', (d: { most: number }) => `a submission switches to more than ${d.most} address spaces`],
  TOO_MANY_BATCHES: ['E2BIG', (d: { most: number }) => `a submission leads to more than ${d.most} global batches`],
  BAD_SUBMISSION: [
    'EINVAL',
    (d: { engine: string; what: string }) => `submission to engine ${d.engine} refused: ${d.what}`,
  ],
  ENGINE_HUNG: [
    'EIO',
    (d: { milliseconds: number }) =>
      `a submission kept its engine for ${d.milliseconds} ms; the engine is halted until it is reset`,
  ],
  JOB_TOO_LONG: [
    'E2BIG',
    (d: { most: number }) => `a batch ran over ${d.most} dwords without reaching its end; engine stopped`,
  ],
  PLANE_START: [
    'EFAULT',
    (d: { address: number }) => `the plane's surface begins at ${hex(d.address)}, which is not the beginning of a page`,
  ],
  BAD_QUERY: ['EINVAL', (d: { problem: string }) => `query of a plane refused: ${d.problem}`],
  NO_BUFFER: ['EINVAL', (d: { id: number }) => `there is no display buffer ${d.id}; query the plane first`],
  NO_EXPORT: [
    'ENOTTY',
    (d: { kind: string }) =>
      `the ${d.kind} hypervisor cannot hold the pages of a display buffer; ask capabilities.dmaPin`,
  ],
  EXPORT_PAGE: [
    'EINVAL',
    (d: { address: number }) => `no guest page that can be held stands behind graphics address ${hex(d.address)}`,
  ],
  EXPORT_RANGE: [
    'EINVAL',
    (d: { id: number; offset: number; length: number; size: number }) =>
      `${d.length} bytes at ${d.offset} do not fit into display buffer ${d.id} of ${d.size} bytes`,
  ],
  EXPORT_REVOKED: [
    'EFAULT',
    (d: { id: number }) => `pages of display buffer ${d.id} went back to the guest; they read as zero`,
  ],
  EDID_ACCESS: [
    'EINVAL',
    (d: { offset: number; length: number }) =>
      `${d.length} bytes at ${hex(d.offset)} of the EDID region are neither whole fields nor inside the block`,
  ],
  BAD_EDID: ['EINVAL', (d: { problem: string }) => `the monitor's EDID is refused: ${d.problem}`],
  EDID_READ_ONLY: ['EPERM', (d: { offset: number }) => `field ${hex(d.offset)} of the EDID region is read-only`],
  NO_REGION: [
    'EINVAL',
    (d: { index: number; count: number }) => `there is no region ${d.index}; a vGPU has 0 to ${d.count - 1}`,
  ],
  NO_IRQ: ['EINVAL', (d: { index: number }) => `there is no interrupt ${d.index}; a vGPU has INTx (0) and MSI (1)`],
  READ_ONLY_REGION: [
    'EINVAL',
    (d: { device: string; index: number }) => `region ${d.index} of vGPU ${d.device} is read-only`,
  ],
  BAD_MMAP: ['EINVAL', (d: { device: string; problem: string }) => `mmap of vGPU ${d.device} refused: ${d.problem}`],
  GUEST_HAS_VGPU: [
    'EEXIST',
    (d: { device: string; guest: string; other: string }) =>
      `vGPU ${d.device} cannot open: its guest ${d.guest} has vGPU ${d.other} open, and a guest has one`,
  ],
  BUSY: ['EBUSY', (d: { device: string }) => `vGPU ${d.device} is open; close it before it is removed`],
  BAD_PLANE: ['EINVAL', (d: { what: string }) => `the plane cannot be shown: ${d.what}`],
  PLANE_RANGE: ['EFAULT', (d: Span) => `the plane's surface ${span(d)} is not inside the graphics memory of this vGPU`],
  PPGTT_ROOT: [
    'EFAULT',
    (d: { address: number }) => `the root of a per-process table at ${hex(d.address)} is not in guest memory`,
  ],
  HUGE_ENTRY: [
    'EINVAL',
    (d: { table: number; index: number; gfn: number }) =>
      `entry ${d.index} of the per-process table in guest frame ${hex(d.table)} is a page of 1 GiB at frame ${hex(d.gfn)}; there are none`,
  ],
  NO_TABLES: [
    'ENOMEM',
    (d: { most: number }) => `all ${d.most} shadow tables are in use by tables that engines run on; raise maxTables`,
  ],
  TOO_MANY_MMS: ['ENOMEM', (d: { most: number }) => `the guest uses more than ${d.most} per-process tables at once`],
  MM_GONE: ['ENOENT', (d: { root: string }) => `the per-process table ${d.root} was ended by a reset`],
  NO_MM: ['EINVAL', (d: { root: string }) => `the guest has not announced the per-process table ${d.root}`],
  NOT_TRACKED: ['ENXIO', (d: { gpa: bigint }) => `a write at ${hex(d.gpa)} was trapped, but no table stands there`],
  TRACK_ACCESS: [
    'EINVAL',
    (d: { gpa: bigint; length: number }) =>
      `a per-process entry is written by 4 or 8 aligned bytes, not ${d.length} at ${hex(d.gpa)}`,
  ],
  MSI_CONTROL: [
    'EINVAL',
    (d: { control: number }) =>
      `MSI control ${hex(d.control)} is more than one plain 32-bit message; no interrupt sent`,
  ],
});
