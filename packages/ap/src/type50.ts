/**
 * Layouts of the messages of an accelerator, big endian: type 50 asks for one raw RSA operation, type 80 answers it, types 82
 * and 88 refuse it. Source: reference F.2 (struct type50_hdr and the key blocks behind it, struct type80_hdr, struct error_hdr).
 */
import { errors } from './errors.js';

/** A request. Numbers are big endian; decoded fields are as long as their format says, encoded ones are padded to it. */
export type RsaRequest =
  | { readonly form: 'ME'; readonly exponent: Uint8Array; readonly modulus: Uint8Array; readonly message: Uint8Array }
  | {
      readonly form: 'CRT';
      readonly p: Uint8Array;
      readonly q: Uint8Array;
      readonly dp: Uint8Array;
      readonly dq: Uint8Array;
      /** q^-1 mod p */
      readonly u: Uint8Array;
      readonly message: Uint8Array;
    };

/** Why a card refuses. Source: REP82_ERROR_*, REP88_ERROR_MODULE_FAILURE. */
export const REPLY_CODE = {
  MACHINE_FAILURE: 0x10,
  /** Not a message of type 50. */
  MESSAGE_TYPE: 0x20,
  /** The length field is not the length of the message. */
  MESSAGE_LENGTH: 0x23,
  RESERVED_FIELD: 0x24,
  /** Type 6: an agent or a verb that is not served here. */
  INVALID_COMMAND: 0x30,
  /** Too short for a header, or a key block nobody knows. */
  MALFORMED: 0x40,
  /** Type 6: the request names another domain than its queue's. */
  INVALID_DOMAIN: 0x42,
  /** The message is not below the modulus, or a part of the key cannot be. */
  OPERAND_INVALID: 0x82,
  /** The message is not as long as its key block format. */
  OPERAND_SIZE: 0x84,
  EVEN_MODULUS: 0x85,
  /** Type 6: the reply is longer than the room for it. */
  PACKET_TRUNCATED: 0xa0,
  /** Type 6: random bytes are wanted, but none. */
  ZERO_BUFFER: 0xb0,
} as const;
export type ReplyCode = (typeof REPLY_CODE)[keyof typeof REPLY_CODE];

/** What came back. */
export type RsaReply =
  | { readonly ok: true; readonly result: Uint8Array }
  | { readonly ok: false; readonly type: 0x82 | 0x88; readonly code: number };

const REQUEST = { TYPE: 1, LENGTH: 2, KEYBLOCK: 8, SIZE: 16 } as const;
/** Bytes that must be zero. Byte 5 is ignored by the cards, so it is not among them. */
const REQUEST_RESERVED = [0, 4, 6, 7, 10, 11, 12, 13, 14, 15] as const;
const REPLY = { TYPE: 1, LENGTH: 2, SIZE: 16 } as const;
const ERROR = { TYPE: 1, CODE: 4, SIZE: 8 } as const;
const TYPE = { REQUEST: 0x50, REPLY: 0x80, ERROR: 0x82, MODULE_ERROR: 0x88 } as const;

/** A key block format. `operand`: bytes of the modulus and the message; the parts of a CRT key are half as long. */
interface Format {
  readonly form: RsaRequest['form'];
  readonly keyblock: number;
  readonly operand: number;
  readonly total: number;
}

const OPERAND_SIZES = [128, 256, 512] as const;
const ME_OPERANDS = 3;
const CRT_OPERANDS = 3.5;

/** MEB1, MEB2, MEB3, CRB1, CRB2, CRB3. */
const FORMATS: readonly Format[] = [
  ...OPERAND_SIZES.map((operand, index) => ({
    form: 'ME' as const,
    keyblock: 0x01 + index,
    operand,
    total: REQUEST.SIZE + ME_OPERANDS * operand,
  })),
  ...OPERAND_SIZES.map((operand, index) => ({
    form: 'CRT' as const,
    keyblock: 0x11 + index,
    operand,
    total: REQUEST.SIZE + CRT_OPERANDS * operand,
  })),
];

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Checks in order: header, type, length field, reserved fields, key block type, length of the format. */
function findFormat(message: Uint8Array): Format | ReplyCode {
  if (message.length < REQUEST.SIZE) return REPLY_CODE.MALFORMED;
  const view = viewOf(message);
  if (view.getUint8(REQUEST.TYPE) !== TYPE.REQUEST) return REPLY_CODE.MESSAGE_TYPE;
  if (view.getUint16(REQUEST.LENGTH) !== message.length) return REPLY_CODE.MESSAGE_LENGTH;
  if (REQUEST_RESERVED.some((offset) => view.getUint8(offset) !== 0)) return REPLY_CODE.RESERVED_FIELD;
  const keyblock = view.getUint16(REQUEST.KEYBLOCK);
  const format = FORMATS.find((candidate) => candidate.keyblock === keyblock);
  if (format === undefined) return REPLY_CODE.MALFORMED;
  return format.total === message.length ? format : REPLY_CODE.OPERAND_SIZE;
}

/** Cuts a message into its fields (views, no copies), or says with which code a card refuses it. */
export function decodeRequest(message: Uint8Array): RsaRequest | ReplyCode {
  const format = findFormat(message);
  if (typeof format === 'number') return format;
  let offset: number = REQUEST.SIZE;
  const take = (size: number): Uint8Array => {
    offset += size;
    return message.subarray(offset - size, offset);
  };
  const { form, operand } = format;
  if (form === 'ME') return { form, exponent: take(operand), modulus: take(operand), message: take(operand) };
  const half = operand / 2;
  const key = { p: take(half), q: take(half), dp: take(half), dq: take(half), u: take(half) };
  return { form, ...key, message: take(operand) };
}

/** The fields in the order of the wire, each with the share of an operand it may fill. */
const fieldsOf = (request: RsaRequest): readonly (readonly [bytes: Uint8Array, share: number])[] =>
  request.form === 'ME'
    ? [request.exponent, request.modulus, request.message].map((bytes) => [bytes, 1] as const)
    : [
        ...[request.p, request.q, request.dp, request.dq, request.u].map((bytes) => [bytes, 0.5] as const),
        [request.message, 1],
      ];

/**
 * A message of type 50 in the smallest format that holds every field. What a guest's program sends.
 * @throws AP_OPERAND_TOO_LONG (EINVAL) when even the 4096-bit format is too small.
 */
export function encodeRequest(request: RsaRequest): Uint8Array {
  const fields = fieldsOf(request);
  const fits = (format: Format): boolean => fields.every(([bytes, share]) => bytes.length <= format.operand * share);
  const format = FORMATS.find((candidate) => candidate.form === request.form && fits(candidate));
  if (format === undefined) throw errors.OPERAND_TOO_LONG({ form: request.form });
  const message = new Uint8Array(format.total);
  const view = viewOf(message);
  view.setUint8(REQUEST.TYPE, TYPE.REQUEST);
  view.setUint16(REQUEST.LENGTH, format.total);
  view.setUint16(REQUEST.KEYBLOCK, format.keyblock);
  let end: number = REQUEST.SIZE;
  for (const [bytes, share] of fields) {
    end += format.operand * share;
    message.set(bytes, end - bytes.length);
  }
  return message;
}

/** A reply of type 80; `result` is as long as the request's message field. */
export function encodeReply(result: Uint8Array): Uint8Array {
  const reply = new Uint8Array(REPLY.SIZE + result.length);
  const view = viewOf(reply);
  view.setUint8(REPLY.TYPE, TYPE.REPLY);
  view.setUint16(REPLY.LENGTH, reply.length);
  reply.set(result, REPLY.SIZE);
  return reply;
}

/** A refusal: type 88 when the card itself failed, type 82 for everything the sender did wrong. */
export function encodeError(code: ReplyCode): Uint8Array {
  const reply = new Uint8Array(ERROR.SIZE);
  reply[ERROR.TYPE] = code === REPLY_CODE.MACHINE_FAILURE ? TYPE.MODULE_ERROR : TYPE.ERROR;
  reply[ERROR.CODE] = code;
  return reply;
}

/** Reads what DQAP returned. What a guest's program does. @throws AP_BAD_REPLY (EBADMSG) for anything that is no whole reply. */
export function decodeReply(reply: Uint8Array): RsaReply {
  const type = reply[REPLY.TYPE];
  const code = reply[ERROR.CODE];
  if ((type === TYPE.ERROR || type === TYPE.MODULE_ERROR) && code !== undefined && reply.length >= ERROR.SIZE) {
    return { ok: false, type, code };
  }
  if (type !== TYPE.REPLY || reply.length < REPLY.SIZE || viewOf(reply).getUint16(REPLY.LENGTH) !== reply.length) {
    throw errors.BAD_REPLY({ length: reply.length, type: type ?? 0 });
  }
  return { ok: true, result: reply.subarray(REPLY.SIZE) };
}
