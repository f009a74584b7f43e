/**
 * The envelope of requests to a CCA coprocessor, big endian: type 6 carries a CPRB with a parameter block, type 86 carries the answer.
 * Source: reference F.2 (struct type6_hdr, struct CPRBX, struct type86_hdr, struct type86_fmt2_ext).
 */
import { errors } from './errors.js';
import { REPLY_CODE, type ReplyCode } from './type50.js';

/** A request, taken apart. */
export interface CprbRequest {
  /** Two letters: which verb. */
  readonly verb: string;
  /** Usage domain whose master keys are meant. */
  readonly domain: number;
  /** Rule array, verb data and key block, behind the verb's letters. */
  readonly parameters: Uint8Array;
  /** Bytes that the reply's CPRB with its parameters, and the reply's data, may have. */
  readonly room: { readonly cprb: number; readonly data: number };
}

/** An answer, taken apart. `rtcode` 0: it worked. Otherwise `rscode` says why not, and there is nothing else. */
export interface CprbReply {
  readonly rtcode: number;
  readonly rscode: number;
  readonly parameters: Uint8Array;
  readonly data: Uint8Array;
}

const HEADER = { TYPE: 1, OFFSET: 0x10, AGENT: 0x20, VERB: 0x34, TO_CARD: 0x38, FROM_CARD: 0x48, SIZE: 0x58 } as const;
/** First and last byte of the fields that must be zero: around the type, further offsets and further lengths. */
const RESERVED = [
  [0x00, 0x00],
  [0x02, 0x0b],
  [0x14, 0x1f],
  [0x22, 0x2f],
  [0x32, 0x33],
  [0x36, 0x37],
  [0x3c, 0x47],
] as const;
const CPRB = { LENGTH: 0, VERSION: 2, FUNCTION: 6, REQUEST_PARAMETERS: 12, REPLY_SIZE: 20, SIZE: 220 } as const;
const CPRB_CODES = { REPLY_PARAMETERS: 24, REPLY_DATA: 32, RTCODE: 144, RSCODE: 146, DOMAIN: 170 } as const;
const CPRB_VERSION = 2;
const REPLY = { TYPE: 1, FORMAT: 2, CODE: 4, COUNT1: 16, OFFSET1: 20, COUNT2: 24, OFFSET2: 28, SIZE: 48 } as const;
const TYPE = { REQUEST: 0x06, REPLY: 0x86 } as const;
const FORMAT = { ERROR: 1, CPRB: 2 } as const;
const VERB_BYTES = 2;
const AGENT = 'CA';
const FUNCTION = 'T2';

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const letters = (bytes: Uint8Array, at: number): string => String.fromCharCode(bytes[at] ?? 0, bytes[at + 1] ?? 0);

function setLetters(bytes: Uint8Array, at: number, text: string): void {
  bytes.set(Buffer.from(text, 'latin1'), at);
}

/** Checks the header, in order: length, type, reserved fields, place of the CPRB, agent, length of the whole. */
function headerProblem(message: Uint8Array): ReplyCode | undefined {
  if (message.length < HEADER.SIZE)
    return message[HEADER.TYPE] === TYPE.REQUEST ? REPLY_CODE.MALFORMED : REPLY_CODE.MESSAGE_TYPE;
  if (message[HEADER.TYPE] !== TYPE.REQUEST) return REPLY_CODE.MESSAGE_TYPE;
  if (RESERVED.some(([first, last]) => message.subarray(first, last + 1).some((byte) => byte !== 0))) {
    return REPLY_CODE.RESERVED_FIELD;
  }
  const view = viewOf(message);
  if (view.getUint32(HEADER.OFFSET) !== HEADER.SIZE) return REPLY_CODE.MALFORMED;
  if (letters(message, HEADER.AGENT) !== AGENT) return REPLY_CODE.INVALID_COMMAND;
  return view.getUint32(HEADER.TO_CARD) === message.length - HEADER.SIZE ? undefined : REPLY_CODE.MESSAGE_LENGTH;
}

/** Checks the CPRB, in order: size, kind, length of the parameters, verb. */
function cprbProblem(message: Uint8Array): ReplyCode | undefined {
  const cprb = message.subarray(HEADER.SIZE);
  if (cprb.length < CPRB.SIZE + VERB_BYTES) return REPLY_CODE.MALFORMED;
  const view = viewOf(cprb);
  const known =
    view.getUint16(CPRB.LENGTH) === CPRB.SIZE &&
    view.getUint8(CPRB.VERSION) === CPRB_VERSION &&
    letters(cprb, CPRB.FUNCTION) === FUNCTION;
  if (!known) return REPLY_CODE.MALFORMED;
  if (view.getUint32(CPRB.REQUEST_PARAMETERS) !== cprb.length - CPRB.SIZE) return REPLY_CODE.MESSAGE_LENGTH;
  return letters(message, HEADER.VERB) === letters(cprb, CPRB.SIZE) ? undefined : REPLY_CODE.MALFORMED;
}

/** Takes a request apart (views, no copies), or says with which code a card refuses it. The domain is not checked. */
export function decodeCprb(message: Uint8Array): CprbRequest | ReplyCode {
  const problem = headerProblem(message) ?? cprbProblem(message);
  if (problem !== undefined) return problem;
  const view = viewOf(message);
  return {
    verb: letters(message, HEADER.VERB),
    domain: view.getUint16(HEADER.SIZE + CPRB_CODES.DOMAIN),
    parameters: message.subarray(HEADER.SIZE + CPRB.SIZE + VERB_BYTES),
    room: { cprb: view.getUint32(HEADER.FROM_CARD), data: view.getUint32(HEADER.FROM_CARD + 4) },
  };
}

/** A message of type 6. What a guest's program sends. */
export function encodeCprb({ verb, domain, parameters, room }: CprbRequest): Uint8Array {
  const message = new Uint8Array(HEADER.SIZE + CPRB.SIZE + VERB_BYTES + parameters.length);
  const view = viewOf(message);
  view.setUint8(HEADER.TYPE, TYPE.REQUEST);
  view.setUint32(HEADER.OFFSET, HEADER.SIZE);
  setLetters(message, HEADER.AGENT, AGENT);
  setLetters(message, HEADER.VERB, verb);
  view.setUint32(HEADER.TO_CARD, message.length - HEADER.SIZE);
  view.setUint32(HEADER.FROM_CARD, room.cprb);
  view.setUint32(HEADER.FROM_CARD + 4, room.data);
  const cprb = message.subarray(HEADER.SIZE);
  fillCprb(cprb, domain);
  viewOf(cprb).setUint32(CPRB.REQUEST_PARAMETERS, VERB_BYTES + parameters.length);
  viewOf(cprb).setUint32(CPRB.REPLY_SIZE, room.cprb);
  setLetters(cprb, CPRB.SIZE, verb);
  cprb.set(parameters, CPRB.SIZE + VERB_BYTES);
  return message;
}

function fillCprb(cprb: Uint8Array, domain: number): void {
  const view = viewOf(cprb);
  view.setUint16(CPRB.LENGTH, CPRB.SIZE);
  view.setUint8(CPRB.VERSION, CPRB_VERSION);
  setLetters(cprb, CPRB.FUNCTION, FUNCTION);
  view.setUint16(CPRB_CODES.DOMAIN, domain);
}

/** Bytes of a reply's CPRB with these parameters: what the sender must have made room for. */
export const replySize = (parameters: Uint8Array): number => CPRB.SIZE + VERB_BYTES + parameters.length;

/** An answer of type 86, format 2. */
export function encodeCprbReply(request: CprbRequest, reply: CprbReply): Uint8Array {
  const size = replySize(reply.parameters);
  const message = new Uint8Array(REPLY.SIZE + size + reply.data.length);
  const view = viewOf(message);
  view.setUint8(REPLY.TYPE, TYPE.REPLY);
  view.setUint8(REPLY.FORMAT, FORMAT.CPRB);
  view.setUint32(REPLY.COUNT1, size);
  view.setUint32(REPLY.OFFSET1, REPLY.SIZE);
  view.setUint32(REPLY.COUNT2, reply.data.length);
  view.setUint32(REPLY.OFFSET2, reply.data.length === 0 ? 0 : REPLY.SIZE + size);
  const cprb = message.subarray(REPLY.SIZE);
  fillCprb(cprb, request.domain);
  const codes = viewOf(cprb);
  codes.setUint32(CPRB_CODES.REPLY_PARAMETERS, size - CPRB.SIZE);
  codes.setUint32(CPRB_CODES.REPLY_DATA, reply.data.length);
  codes.setUint16(CPRB_CODES.RTCODE, reply.rtcode);
  codes.setUint16(CPRB_CODES.RSCODE, reply.rscode);
  setLetters(cprb, CPRB.SIZE, request.verb);
  cprb.set(reply.parameters, CPRB.SIZE + VERB_BYTES);
  cprb.set(reply.data, size);
  return message;
}

/** Reads an answer of type 86. A guest's program does. @throws AP_BAD_REPLY (EBADMSG) for anything that is no whole reply. */
export function decodeCprbReply(reply: Uint8Array): CprbReply | { readonly code: number } {
  const bad = (): unknown => errors.BAD_REPLY({ length: reply.length, type: reply[REPLY.TYPE] ?? 0 });
  if (reply[REPLY.TYPE] !== TYPE.REPLY || reply.length < REPLY.CODE + 1) throw bad();
  if (reply[REPLY.FORMAT] === FORMAT.ERROR) return { code: reply[REPLY.CODE] ?? 0 };
  if (reply.length < REPLY.SIZE + CPRB.SIZE + VERB_BYTES) throw bad();
  const view = viewOf(reply);
  const part = (count: number, offset: number): Uint8Array => {
    const [from, size] = [view.getUint32(offset), view.getUint32(count)];
    if (from + size > reply.length) throw bad();
    return reply.subarray(from, from + size);
  };
  const cprb = part(REPLY.COUNT1, REPLY.OFFSET1);
  if (cprb.length < CPRB.SIZE + VERB_BYTES) throw bad();
  return {
    rtcode: viewOf(cprb).getUint16(CPRB_CODES.RTCODE),
    rscode: viewOf(cprb).getUint16(CPRB_CODES.RSCODE),
    parameters: cprb.subarray(CPRB.SIZE + VERB_BYTES),
    data: part(REPLY.COUNT2, REPLY.OFFSET2),
  };
}
