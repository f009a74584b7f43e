import { Layout, u16, u32, u64, type Values } from './layout.js';

/** The header of every message. Source: vfio-user specification, "Header". */
export const HEADER = new Layout(16, { id: u16(0), command: u16(2), size: u32(4), flags: u32(8), error: u32(12) });
/** The fixed part of VERSION; JSON follows, its NUL included. Source: "VFIO_USER_VERSION". */
export const VERSION = new Layout(4, { major: u16(0), minor: u16(2) });
/** Source: "VFIO_USER_DMA_MAP". */
export const DMA_MAP = new Layout(32, {
  argsz: u32(0),
  flags: u32(4),
  offset: u64(8),
  address: u64(16),
  size: u64(24),
});
/** Source: "VFIO_USER_DMA_UNMAP". */
export const DMA_UNMAP = new Layout(24, { argsz: u32(0), flags: u32(4), address: u64(8), size: u64(16) });
/** Follows DMA_UNMAP when its flags ask for dirty pages; the bitmap follows in the reply. Source: struct vfio_bitmap without its pointer. */
export const BITMAP = new Layout(16, { pgsize: u64(0), size: u64(8) });
/** Source: "VFIO_USER_DEVICE_GET_INFO". */
export const DEVICE_INFO = new Layout(16, { argsz: u32(0), flags: u32(4), regions: u32(8), irqs: u32(12) });
/** Source: "VFIO_USER_DEVICE_GET_REGION_INFO". */
export const REGION_INFO = new Layout(32, {
  argsz: u32(0),
  flags: u32(4),
  index: u32(8),
  capOffset: u32(12),
  size: u64(16),
  offset: u64(24),
});
/** The header of a capability of REGION_INFO; `next` counts from the start of REGION_INFO. Source: struct vfio_info_cap_header. */
export const CAPABILITY = new Layout(8, { id: u16(0), version: u16(2), next: u32(4) });
/** Follows CAPABILITY 1. Source: struct vfio_region_info_cap_sparse_mmap. */
export const SPARSE_MMAP = new Layout(8, { areas: u32(0), reserved: u32(4) });
/** Follows CAPABILITY 2. Source: struct vfio_region_info_cap_type. */
export const REGION_TYPE = new Layout(8, { type: u32(0), subtype: u32(4) });
/** Source: struct vfio_region_sparse_mmap_area. */
export const AREA = new Layout(16, { offset: u64(0), size: u64(8) });
/** Source: "VFIO_USER_DEVICE_GET_REGION_IO_FDS". */
export const REGION_IO_FDS = new Layout(16, { argsz: u32(0), flags: u32(4), index: u32(8), count: u32(12) });
/** One entry of the reply to GET_REGION_IO_FDS as the specification has it; `data` is the datamatch or the user data. */
export const IO_FD = new Layout(40, {
  offset: u64(0),
  size: u64(8),
  fdIndex: u32(16),
  type: u32(20),
  flags: u32(24),
  padding: u32(28),
  data: u64(32),
});
/** The same entry as libvfio-user sends it: wider by a shadow offset, so `data` stands elsewhere. */
export const IO_FD_WIDE = new Layout(48, {
  offset: u64(0),
  size: u64(8),
  fdIndex: u32(16),
  type: u32(20),
  flags: u32(24),
  shadowFdIndex: u32(28),
  shadowOffset: u64(32),
  data: u64(40),
});
/** Source: "VFIO_USER_DEVICE_GET_IRQ_INFO". */
export const IRQ_INFO = new Layout(16, { argsz: u32(0), flags: u32(4), index: u32(8), count: u32(12) });
/** The fixed part of SET_IRQS; bytes follow for DATA_BOOL. Source: "VFIO_USER_DEVICE_SET_IRQS". */
export const SET_IRQS = new Layout(20, { argsz: u32(0), flags: u32(4), index: u32(8), start: u32(12), count: u32(16) });
/** The fixed part of REGION_READ and REGION_WRITE; data follows. Source: "VFIO_USER_REGION_READ". */
export const REGION_ACCESS = new Layout(16, { offset: u64(0), region: u32(8), count: u32(12) });
/** The fixed part of DMA_READ and DMA_WRITE; data follows. `count` is 8 bytes in both directions, as all peers have it. */
export const DMA_ACCESS = new Layout(16, { address: u64(0), count: u64(8) });
/** The fixed part of REGION_WRITE_MULTI, and its whole reply. */
export const WRITE_MULTI = new Layout(8, { count: u64(0) });
/** One write of REGION_WRITE_MULTI; 8 bytes of data follow, `count` of them valid. */
export const MULTI_WRITE = new Layout(16, { offset: u64(0), region: u32(8), count: u32(12) });
/** Bytes of one write of REGION_WRITE_MULTI with its data. */
export const MULTI_WRITE_SIZE = 24;
/** The fixed part of DEVICE_FEATURE; data follows. Source: struct vfio_device_feature. */
export const FEATURE = new Layout(8, { argsz: u32(0), flags: u32(4) });
/** Data of feature 1. Source: struct vfio_device_feature_migration. */
export const FEATURE_MIGRATION = new Layout(8, { flags: u64(0) });
/** Data of feature 2. Source: struct vfio_device_feature_mig_state. */
export const FEATURE_STATE = new Layout(8, { state: u32(0), dataFd: u32(4) });
/** Data of feature 6; ranges follow. Source: struct vfio_device_feature_dma_logging_control. */
export const FEATURE_LOGGING = new Layout(16, { pageSize: u64(0), ranges: u32(8), reserved: u32(12) });
/** One range of feature 6. Source: struct vfio_device_feature_dma_logging_range. */
export const LOGGING_RANGE = new Layout(16, { iova: u64(0), length: u64(8) });
/** Data of feature 8; the bitmap follows in the reply. Source: struct vfio_device_feature_dma_logging_report. */
export const FEATURE_REPORT = new Layout(24, { iova: u64(0), length: u64(8), pageSize: u64(16) });
/** The fixed part of MIG_DATA_READ and MIG_DATA_WRITE; data follows. */
export const MIG_DATA = new Layout(8, { argsz: u32(0), size: u32(4) });

export type Header = Values<typeof HEADER.fields>;
export type DmaMap = Values<typeof DMA_MAP.fields>;
export type DmaUnmap = Values<typeof DMA_UNMAP.fields>;
export type Bitmap = Values<typeof BITMAP.fields>;
export type DeviceInfo = Values<typeof DEVICE_INFO.fields>;
export type Area = Values<typeof AREA.fields>;
export type IrqInfoWire = Values<typeof IRQ_INFO.fields>;
export type SetIrqs = Values<typeof SET_IRQS.fields>;
export type RegionAccess = Values<typeof REGION_ACCESS.fields>;
export type DmaAccess = Values<typeof DMA_ACCESS.fields>;
export type LoggingRange = Values<typeof LOGGING_RANGE.fields>;
