export { answer } from './answer.js';
export type { MatrixIndices } from './assignment.js';
export { AP_ATTRIBUTES, readAttribute, writeAttribute } from './attributes.js';
export type { ApCardOptions, ApMode } from './card.js';
export { CCA_REASON } from './cca.js';
export type { CcaPrivateKey, CcaPublicKey } from './cca-key.js';
export { type CcaReply, type CcaRequest, decodeCcaReply, encodeCcaRequest } from './cca-message.js';
export { AP_IRQ, ApDevice } from './device.js';
export { type ApDriverOptions, ap, createApDriver } from './driver.js';
export { errors } from './errors.js';
export { type CardExecutor, type CardOutcome, type CardWork, inlineExecutor } from './executor.js';
export type { ApFacilities, ApGuest } from './guest.js';
export type { ApCard, ApConfiguration } from './hardware.js';
export type { PqapResult } from './instructions.js';
export type { ApInterrupt } from './interrupts.js';
export { ApMachine, type ApMachineOptions, type HostMasks, type QueueUse } from './machine.js';
export { parseIndex, parseMask, parseMaskChange } from './mask-text.js';
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
export type { CardCondition, DqapResult, Latency, QueueInstruction } from './queue.js';
export { CONFIG_INFO_SIZE, decodeConfigInfo, decodeQueueInfo, type QueueDescription } from './queue-info.js';
export { AP_QUIRKS, type ApQuirk } from './quirks.js';
export { ThreadExecutor } from './thread-executor.js';
export { decodeReply, encodeRequest, REPLY_CODE, type ReplyCode, type RsaReply, type RsaRequest } from './type50.js';
