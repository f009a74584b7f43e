export { CHAIN_MAX, CHAINS_MAX, type Chain, readChains } from './ccw-chains.js';
export { CcwData, type DataSpan } from './ccw-data.js';
export { ChannelEngine, type EngineRequest, type ProgramEnd, STEPS_MAX } from './channel-engine.js';
export { ChannelProgram, type Position, type PreparedCcw } from './channel-program.js';
export {
  type ChannelData,
  type ControlUnit,
  fetchBytes,
  SENSE0,
  SENSE1,
  senseBytes,
  storeBytes,
} from './control-unit.js';
export { CcwDevice, type CcwDeviceOptions, type CcwState } from './device.js';
export { type DiskImage, memoryImage, openFileImage } from './disk-image.js';
export { type CcwDriver, type CcwDriverOptions, ccw, createCcwDriver } from './driver.js';
export { ccwErrors } from './errors.js';
export { FBA_BLOCK_SIZE, FbaDisk } from './fba-disk.js';
export * from './fba-wire.js';
export { directIdal, type IdalFormat, idalFormat, idawCount } from './idal.js';
export { CCW_QUIRKS, type CcwQuirk, quirkSet } from './quirks.js';
export * from './wire.js';
