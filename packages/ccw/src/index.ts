export { CARD_COMMAND, CARD_SIZE, CardUnit, type CardUnitOptions } from './card-unit.js';
export { CHAIN_MAX, CHAINS_MAX, type Chain, readChains } from './ccw-chains.js';
export { CcwData, type DataSpan } from './ccw-data.js';
export { ChannelEngine, type EnginePhase, type EngineRequest, type ProgramEnd, STEPS_MAX } from './channel-engine.js';
export type { PathEvent } from './channel-paths.js';
export { ChannelProgram, type HostOrb, type Position, type PreparedCcw } from './channel-program.js';
export {
  type CkdRecord,
  decodeTrack,
  emptyTrack,
  encodeCount,
  encodeTrack,
  fitsTrack,
  recordsPerTrack,
} from './ckd-track.js';
export {
  type CkdVolume,
  HEADS_3390,
  herculesHeader,
  openHerculesVolume,
  openSparseVolume,
  TRACK_SIZE_3390,
} from './ckd-volume.js';
export { CONSOLE_COMMAND, ConsoleUnit } from './console.js';
export {
  type ChannelData,
  type ControlUnit,
  fetchBytes,
  SENSE0,
  SENSE1,
  senseBytes,
  storeBytes,
} from './control-unit.js';
export { CcwDevice, type CcwDeviceOptions, type CopyBytes, type RegionAccess } from './device.js';
export { type DiskImage, memoryImage, openFileImage } from './disk-image.js';
export { type CcwDriver, type CcwDriverOptions, ccw, createCcwDriver } from './driver.js';
export { decodeEbcdic, encodeEbcdic } from './ebcdic.js';
export { EckdDisk, type EckdDiskOptions } from './eckd-disk.js';
export { DiskShare } from './eckd-share.js';
export { PSF_ORDER, PSF_SUBORDER } from './eckd-subsystem.js';
export * from './eckd-wire.js';
export { EngineSubchannel } from './engine-subchannel.js';
export { ccwErrors } from './errors.js';
export { FBA_BLOCK_SIZE, FbaDisk } from './fba-disk.js';
export * from './fba-wire.js';
export { directIdal, type IdalFormat, idalFormat, idawCount } from './idal.js';
export { IRQ_SET, type IrqSet, IrqTriggers, type Trigger } from './irq-triggers.js';
export { CancelHaltClear, type Cancelled, CLEARS, QUIESCE_WAIT } from './quiesce.js';
export { CCW_PROFILES, CCW_QUIRKS, type CcwProfile, type CcwQuirk, ccwQuirksOf, quirkSet } from './quirks.js';
export { type CcwState, StateMachine, type StateMachineRequest } from './state-machine.js';
export type { ConditionCode, Subchannel, SubchannelStatus } from './subchannel.js';
export {
  type DeviceInfo,
  deviceInfo,
  irqInfo,
  OFFSET_SHIFT,
  type RegionDescription,
  regionInfo,
} from './vfio-info.js';
export * from './wire.js';
