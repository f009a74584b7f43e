/** What a guest's program says to a CCA coprocessor, and how it reads the answer. */
import { decodeBlocks, encodeBlock } from './blocks.js';
import { CCA_RULE, CCA_VERB } from './cca.js';
import { type CcaPrivateKey, type CcaPublicKey, encodeKey } from './cca-key.js';
import { errors } from './errors.js';
import { decodeCprbReply, encodeCprb } from './type6.js';
import { decodeReply, encodeError } from './type50.js';

/** A request. `domain` is the usage domain of the queue it will be put into; a message is as long as the modulus. */
export type CcaRequest =
  | { readonly verb: 'encrypt'; readonly domain: number; readonly key: CcaPublicKey; readonly message: Uint8Array }
  | { readonly verb: 'decrypt'; readonly domain: number; readonly key: CcaPrivateKey; readonly message: Uint8Array }
  | { readonly verb: 'random'; readonly domain: number; readonly length: number };

/** What came back. `code`: of a reply of type 82, 88 or 86 format 1; `rtcode` and `rscode`: of CCA. */
export type CcaReply =
  | { readonly ok: true; readonly result: Uint8Array }
  | { readonly ok: false; readonly code: number }
  | { readonly ok: false; readonly rtcode: number; readonly rscode: number };

const VERB = { encrypt: CCA_VERB.ENCRYPT, decrypt: CCA_VERB.DECRYPT, random: CCA_VERB.RANDOM } as const;
const NONE = new Uint8Array(0);
/** Room for a CPRB with a result of 4096 bits. */
const REPLY_ROOM = 1024;
const ERROR_SIZE = encodeError(0x10).length;
const CPRB_TYPE = 0x86;

/** A message of type 6. */
export function encodeCcaRequest(request: CcaRequest): Uint8Array {
  const verb = VERB[request.verb];
  const [text, key] = request.verb === 'random' ? [NONE, NONE] : [request.message, encodeKey(request.key)];
  const rule = Buffer.from(CCA_RULE[verb] ?? '', 'latin1');
  return encodeCprb({
    verb,
    domain: request.domain,
    parameters: Buffer.concat([rule, text, key].map(encodeBlock)),
    room: { cprb: REPLY_ROOM, data: request.verb === 'random' ? request.length : 0 },
  });
}

/** Reads what DQAP returned. @throws AP_BAD_REPLY (EBADMSG) for anything that is no whole reply. */
export function decodeCcaReply(reply: Uint8Array): CcaReply {
  if (reply[1] !== CPRB_TYPE) {
    const refused = decodeReply(reply.subarray(0, ERROR_SIZE));
    if (!refused.ok) return { ok: false, code: refused.code };
  }
  const answer = decodeCprbReply(reply);
  if ('code' in answer) return { ok: false, code: answer.code };
  const { rtcode, rscode, parameters, data } = answer;
  if (rtcode !== 0) return { ok: false, rtcode, rscode };
  if (data.length > 0) return { ok: true, result: data };
  const [, result] = decodeBlocks(parameters, 2) ?? [];
  if (result === undefined) throw errors.BAD_REPLY({ length: reply.length, type: CPRB_TYPE });
  return { ok: true, result };
}
