export { GemAddressSpace } from './address-space.js';
export type { Backing, BackingPages, ObjectKind, PagesRequest } from './backing.js';
export { GemDevice, type GemDeviceOptions } from './device.js';
export type { DmaBufAttachment } from './dma-buf.js';
export { gemErrors } from './errors.js';
export { type Fence, GemObject, type Madvise, type ObjectState } from './object.js';
export { GEM_QUIRKS, type GemQuirk } from './quirks.js';
export { type MappingStrategy, STRATEGIES, type StrategyName } from './strategies.js';
export type { UserRange } from './userptr.js';
