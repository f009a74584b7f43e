import { BIT, FLUSH_GGTT } from '../commands.js';
import { gvtErrors } from '../errors.js';
import { MAX_SURFACE, PVINFO } from '../regs.js';
import { isSlotValue, registerAccess } from './command-registers.js';
import type { CommandInfo, CommandKind } from './command-table.js';
import { decodeFlip } from './display-flip.js';
import type { Engine } from './engines.js';

const PAGE = 4096;
const QWORD = 8;

/** One command, copied: what is judged is what will run. */
export interface AuditedCommand {
  readonly info: CommandInfo;
  readonly words: Uint32Array;
  /** Dwords of `words` that are the command. */
  readonly length: number;
  /** Graphics address it was read from, for messages. */
  readonly address: number;
}

/** Where the command is to run. */
export interface AuditScope {
  readonly engine: Engine;
  /** Whether the context has a per-process table; then a command's bit says which table it means, else it is always the global one. */
  readonly hasPpgtt: boolean;
  /** Whether bytes of the global graphics address space are the vGPU's. */
  ownsGlobal(first: number, last: number): boolean;
}

type Check = (command: AuditedCommand, scope: AuditScope) => void;

const word = ({ words }: AuditedCommand, at: number): number => words[at] ?? 0;
/** A graphics address in two words, without its low bits. */
const address = (command: AuditedCommand, at: number, low: number): number =>
  word(command, at) - (word(command, at) & low) + word(command, at + 1) * 2 ** 32;

const refuse = ({ words, address }: AuditedCommand, what: string) =>
  gvtErrors.BAD_COMMAND({ header: words[0] ?? 0, address, what });

function expectLength(command: AuditedCommand, ...lengths: readonly number[]): void {
  if (!lengths.includes(command.length))
    throw refuse(command, `its length is ${command.length} dwords, not ${lengths.join(' or ')}`);
}

/** Source: cmd_address_audit of i915 gvt. */
function checkGlobal(what: string, first: number, length: number, scope: AuditScope): void {
  const last = first + length - 1;
  if (length > MAX_SURFACE || !scope.ownsGlobal(first, last)) throw gvtErrors.BAD_ADDRESS({ what, first, last });
}

const checkStore: Check = (command, scope) => {
  expectLength(command, (word(command, 0) & BIT.STORE_QWORD) === 0 ? 4 : 5);
  if (!isGlobal(command, BIT.STORE_GGTT, scope)) return;
  checkGlobal('store', address(command, 1, 3), (command.length - 3) * 4, scope);
};

const isGlobal = (command: AuditedCommand, bit: number, scope: AuditScope): boolean =>
  !scope.hasPpgtt || (word(command, 0) & bit) !== 0;

/** The registers of an LRI: pairs of offset and value. A write to the PVINFO page is lost, as GVT-g has it for what it redirects. */
const checkLoadImmediate: Check = (command, { engine }) => {
  if (command.length % 2 === 0) throw refuse(command, 'its last register has no value');
  for (let at = 1; at < command.length; at += 2) {
    const offset = word(command, at) & REGISTER;
    if (isPvinfo(offset)) continue;
    const access = registerAccess(offset);
    if (access === 'forbidden' || access === 'read')
      throw refuse(command, `commands may not write register 0x${offset.toString(16)}`);
    if (access === 'non-privileged-slot' && !isSlotValue(engine, word(command, at + 1)))
      throw gvtErrors.REGISTER_PROTECTED({ offset });
  }
};

const isPvinfo = (offset: number): boolean => offset >= PVINFO.BASE && offset < PVINFO.BASE + PVINFO.SIZE;
const REGISTER = 0x7ffffc;

const checkRegisterToRegister: Check = (command) => {
  expectLength(command, 3);
  const [from, to] = [word(command, 1) & REGISTER, word(command, 2) & REGISTER];
  if (registerAccess(from) === 'forbidden')
    throw refuse(command, `commands may not read register 0x${from.toString(16)}`);
  if (!isWritable(to)) throw refuse(command, `commands may not write register 0x${to.toString(16)}`);
};

const isWritable = (offset: number): boolean => ['open', 'masked', 'ignored'].includes(registerAccess(offset));

const checkMemory =
  (what: string, allowed: (offset: number) => boolean): Check =>
  (command, scope) => {
    expectLength(command, 4);
    const offset = word(command, 1) & REGISTER;
    if (!allowed(offset)) throw gvtErrors.REGISTER_PROTECTED({ offset });
    if (isGlobal(command, BIT.REGISTER_GGTT, scope)) checkGlobal(what, address(command, 2, 3), 4, scope);
  };

const checkFlush: Check = (command, scope) => {
  expectLength(command, 4, 5);
  const postSync = word(command, 0) & BIT.FLUSH_POST_SYNC;
  if (postSync === 0) return;
  if (postSync !== BIT.FLUSH_WRITE && postSync !== BIT.FLUSH_TIMESTAMP)
    throw refuse(command, 'reserved post-sync operation');
  const target = address(command, 1, 7);
  if ((word(command, 0) & BIT.FLUSH_STORE_INDEX) !== 0) checkIndex(target);
  else if (!scope.hasPpgtt || (word(command, 1) & FLUSH_GGTT) !== 0) checkGlobal('store', target, QWORD, scope);
};

function checkIndex(offset: number): void {
  if (offset >= PAGE) throw gvtErrors.BAD_ADDRESS({ what: 'status page index', first: offset, last: offset + 7 });
}

const checkPipeControl: Check = (command, scope) => {
  expectLength(command, 6);
  const flags = word(command, 1);
  if ((flags & BIT.PIPE_REGISTER) !== 0) throw refuse(command, 'a register as its target');
  if ((flags & BIT.PIPE_POST_SYNC) === 0) return;
  const target = address(command, 2, 7);
  if ((flags & BIT.PIPE_STORE_INDEX) !== 0) checkIndex(target);
  else if (!scope.hasPpgtt || (flags & BIT.PIPE_GGTT) !== 0) checkGlobal('store', target, QWORD, scope);
};

const checkAtomic: Check = (command, scope) => {
  expectLength(command, 3, 11);
  if (isGlobal(command, BIT.ATOMIC_GGTT, scope)) checkGlobal('atomic', address(command, 1, 3), QWORD, scope);
};

const checkFlip: Check = (command) => {
  expectLength(command, 3);
  if (decodeFlip(command.words) === undefined) throw refuse(command, 'there is no such plane');
};

const CHECKS: Readonly<Partial<Record<CommandKind, Check>>> = {
  'store-imm': checkStore,
  'load-register-imm': checkLoadImmediate,
  'load-register-reg': checkRegisterToRegister,
  'load-register-mem': checkMemory('load', isWritable),
  'store-register-mem': checkMemory('store', (offset) => registerAccess(offset) !== 'forbidden'),
  flush: checkFlush,
  'pipe-control': checkPipeControl,
  atomic: checkAtomic,
  'display-flip': checkFlip,
  'batch-start': (command) => expectLength(command, 3),
  rejected: (command) => {
    throw refuse(command, `${command.info.name} is not for guests`);
  },
};

/**
 * Refuses a command that could reach beyond its vGPU. It does not run it, and looks at nothing but the copy and the tables of registers.
 * Source: cmd_parser.c of i915 gvt.
 * @throws PinionError GVT_BAD_COMMAND (EBADRQC), GVT_BAD_ADDRESS, GVT_BAD_REGISTER (EFAULT), GVT_REGISTER_PROTECTED (EPERM).
 */
export function auditCommand(command: AuditedCommand, scope: AuditScope): void {
  CHECKS[command.info.kind]?.(command, scope);
}
