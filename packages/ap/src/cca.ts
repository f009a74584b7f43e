/**
 * The verbs of a CCA coprocessor: public-key encrypt (PK), public-key decrypt (PD), random numbers (RL). Keys come with every request,
 * in the clear. What is wrong with the envelope gets a reply of type 82, what is wrong inside gets return and reason codes of CCA.
 */
import { randomBytes } from 'node:crypto';
import { decodeBlocks, encodeBlock } from './blocks.js';
import { type CcaKey, decodeKey } from './cca-key.js';
import type { CardWork } from './executor.js';
import { crt, modExpo, toBytes } from './rsa.js';
import { type CprbReply, type CprbRequest, decodeCprb, encodeCprbReply, replySize } from './type6.js';
import { encodeError, REPLY_CODE, type ReplyCode } from './type50.js';

/** Reason codes under return code 8. Source: the cases that zcrypt's convert_type86_ica() knows; CCA's list of reason codes. */
export const CCA_REASON = {
  /** The rule array does not hold the one word that the verb takes. */
  RULE: 33,
  /** The key block is no clear RSA key of the form that the verb takes, or its numbers are no key. */
  KEY: 65,
  /** The message is not below the modulus. */
  DATA: 66,
  /** The message is not as long as the modulus, the blocks do not fill the parameters, or too many random bytes are wanted. */
  LENGTH: 72,
} as const;

const RTCODE_ERROR = 8;
export const CCA_VERB = { ENCRYPT: 'PK', DECRYPT: 'PD', RANDOM: 'RL' } as const;
/** The one rule of each verb, padded to eight letters. */
export const CCA_RULE: Readonly<Record<string, string>> = { PK: 'MRP     ', PD: 'ZERO-PAD', RL: 'RANDOM  ' };
const FORM: Readonly<Record<string, CcaKey['form']>> = { PK: 'ME', PD: 'CRT' };
const BLOCKS = 3;
const RANDOM_MAX = 8192;
/** 4096 bits: what the cards' engines take. */
const MODULUS_MAX = 512;
const NONE = new Uint8Array(0);

type Parts = { readonly request: CprbRequest; readonly text: Uint8Array; readonly key: Uint8Array };
type Reason = (typeof CCA_REASON)[keyof typeof CCA_REASON];

const refuse = (request: CprbRequest, rscode: Reason): Uint8Array =>
  encodeCprbReply(request, { rtcode: RTCODE_ERROR, rscode, parameters: encodeBlock(NONE), data: NONE });

/** Takes a request apart as far as its form goes; the reply if it is refused. */
function open({ message, domain }: CardWork): Parts | Uint8Array {
  const request = decodeCprb(message);
  if (typeof request === 'number') return encodeError(request);
  const problem = roomProblem(request) ?? (request.domain === domain ? undefined : REPLY_CODE.INVALID_DOMAIN);
  if (problem !== undefined) return encodeError(problem);
  const blocks = decodeBlocks(request.parameters, BLOCKS);
  const [rule, text, key] = blocks ?? [];
  if (rule === undefined || text === undefined || key === undefined) return refuse(request, CCA_REASON.LENGTH);
  if (Buffer.from(rule).toString('latin1') !== CCA_RULE[request.verb]) return refuse(request, CCA_REASON.RULE);
  return { request, text, key };
}

function roomProblem({ verb, room }: CprbRequest): ReplyCode | undefined {
  if (CCA_RULE[verb] === undefined) return REPLY_CODE.INVALID_COMMAND;
  if (room.cprb < replySize(encodeBlock(NONE))) return REPLY_CODE.PACKET_TRUNCATED;
  return verb === CCA_VERB.RANDOM && room.data === 0 ? REPLY_CODE.ZERO_BUFFER : undefined;
}

/** The reply to a request whose form is wrong; undefined if there is something to compute. */
export function refuseCca(work: CardWork): Uint8Array | undefined {
  const opened = open(work);
  return opened instanceof Uint8Array ? opened : undefined;
}

/** The whole reply to a message for a CCA card. Computes on the calling stack. */
export function answerCca(work: CardWork): Uint8Array {
  const opened = open(work);
  if (opened instanceof Uint8Array) return opened;
  const { request } = opened;
  const outcome = request.verb === CCA_VERB.RANDOM ? random(request) : compute(opened);
  if (typeof outcome === 'number') return refuse(request, outcome);
  return replySize(outcome.parameters) > request.room.cprb
    ? encodeError(REPLY_CODE.PACKET_TRUNCATED)
    : encodeCprbReply(request, outcome);
}

function random({ room }: CprbRequest): CprbReply | Reason {
  if (room.data > RANDOM_MAX) return CCA_REASON.LENGTH;
  return { rtcode: 0, rscode: 0, parameters: encodeBlock(NONE), data: randomBytes(room.data) };
}

function compute({ request, text, key: block }: Parts): CprbReply | Reason {
  const key = decodeKey(block);
  if (key === undefined || key.form !== FORM[request.verb]) return CCA_REASON.KEY;
  const size = key.form === 'ME' ? key.modulus.length : key.modulusBytes;
  if (size > MODULUS_MAX || longestPart(key) > size) return CCA_REASON.KEY;
  if (text.length !== size) return CCA_REASON.LENGTH;
  const result = key.form === 'ME' ? modExpo({ ...key, message: text }) : crt({ ...key, message: text });
  if (result === 'message') return CCA_REASON.DATA;
  if (typeof result === 'string') return CCA_REASON.KEY;
  const bytes = toBytes(result, size);
  if (bytes.length > size) return CCA_REASON.KEY; // p * q is longer than the key says
  return { rtcode: 0, rscode: 0, parameters: Buffer.concat([encodeBlock(NONE), encodeBlock(bytes)]), data: NONE };
}

const longestPart = (key: CcaKey): number =>
  key.form === 'ME'
    ? key.exponent.length
    : Math.max(...[key.p, key.q, key.dp, key.dq, key.u].map((part) => part.length));
