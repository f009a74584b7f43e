export { AP_IRQ, ApDevice, type MatrixIndices, type PqapResult } from './device.js';
export { type ApDriverOptions, ap, createApDriver } from './driver.js';
export { errors } from './errors.js';
export type { ApGuest, ApInterrupt } from './interrupts.js';
export type { ApCard, ApMachineOptions } from './machine.js';
export * from './matrix.js';
export {
  type ApStatus,
  aqicRegister1,
  conditionCode,
  PQAP_FUNCTION,
  pqapRegister0,
  RESPONSE,
  type ResponseCode,
  statusWord,
} from './pqap.js';
export type { DqapResult } from './queue.js';
export { AP_QUIRKS, type ApQuirk } from './quirks.js';
export { decodeReply, encodeRequest, REPLY_CODE, type ReplyCode, type RsaReply, type RsaRequest } from './type50.js';
