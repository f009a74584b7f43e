/**
 * The commands of the engines: how each is recognised, how long it is, and what the audit makes of it. A command that is not here is refused.
 * Names, opcodes and lengths are those of the Intel PRM (Skylake), "Command reference"; which are refused: i915 gvt cmd_parser.c.
 */
import { MI, XY } from '../commands.js';
import type { EngineName } from '../faults.js';
import type { CommandClient, Engine } from './engines.js';

/** What is done with a command beyond taking its length; `rejected` ones may stand only where nobody audits. */
export type CommandKind =
  | 'plain'
  | 'rejected'
  | 'user-interrupt'
  | 'batch-start'
  | 'batch-end'
  | 'store-imm'
  | 'load-register-imm'
  | 'load-register-reg'
  | 'load-register-mem'
  | 'store-register-mem'
  | 'flush'
  | 'pipe-control'
  | 'atomic'
  | 'math'
  | 'display-flip'
  | 'blit';

export interface CommandInfo {
  readonly name: string;
  readonly kind: CommandKind;
  /** Dwords, or how many low bits of the header hold the dwords less two. */
  readonly length: { readonly fixed: number } | { readonly bits: number };
  /** Undefined: every engine that has the client. */
  readonly only?: readonly EngineName[] | undefined;
}

/** Where the opcode stands in a header, by client. */
const OPCODE: Readonly<Record<CommandClient, { readonly shift: number; readonly mask: number }>> = {
  mi: { shift: 23, mask: 0x3f },
  blitter: { shift: 22, mask: 0x7f },
  render: { shift: 16, mask: 0x1fff },
  media: { shift: 16, mask: 0x1fff },
};

const ONE = Object.freeze({ fixed: 1 });
const BITS8 = Object.freeze({ bits: 8 });
/** Above these bits a flush has its flags. */
const BITS6 = Object.freeze({ bits: 6 });
const RCS: readonly EngineName[] = ['rcs'];
const DISPLAYING: readonly EngineName[] = ['rcs', 'bcs'];

type Row = readonly [
  opcode: number,
  name: string,
  kind?: CommandKind,
  length?: CommandInfo['length'],
  only?: readonly EngineName[],
];

const MI_ROWS: readonly Row[] = [
  [MI.NOOP, 'MI_NOOP', 'plain', ONE],
  [MI.SET_PREDICATE, 'MI_SET_PREDICATE', 'plain', ONE],
  [MI.USER_INTERRUPT, 'MI_USER_INTERRUPT', 'user-interrupt', ONE],
  [0x03, 'MI_WAIT_FOR_EVENT', 'plain', ONE, DISPLAYING],
  [0x04, 'MI_FLUSH', 'plain', ONE],
  [MI.ARB_CHECK, 'MI_ARB_CHECK', 'plain', ONE],
  [0x06, 'MI_RS_CONTROL', 'plain', ONE, RCS],
  [0x07, 'MI_REPORT_HEAD', 'plain', ONE],
  [MI.ARB_ON_OFF, 'MI_ARB_ON_OFF', 'plain', ONE],
  [0x09, 'MI_URB_ATOMIC_ALLOC', 'plain', ONE, RCS],
  [MI.BATCH_BUFFER_END, 'MI_BATCH_BUFFER_END', 'batch-end', ONE],
  [0x0b, 'MI_SUSPEND_FLUSH', 'plain', ONE],
  [0x0c, 'MI_PREDICATE', 'plain', ONE, RCS],
  [0x0d, 'MI_TOPOLOGY_FILTER', 'plain', ONE, RCS],
  [0x0e, 'MI_SET_APPID', 'plain', ONE],
  [0x0f, 'MI_RS_CONTEXT', 'plain', ONE, RCS],
  [0x12, 'MI_LOAD_SCAN_LINES_INCL', 'plain', BITS8, DISPLAYING],
  [0x13, 'MI_LOAD_SCAN_LINES_EXCL', 'plain', BITS8, DISPLAYING],
  [MI.DISPLAY_FLIP, 'MI_DISPLAY_FLIP', 'display-flip', BITS8, DISPLAYING],
  [0x18, 'MI_SET_CONTEXT', 'plain', BITS8, RCS],
  [MI.MATH, 'MI_MATH', 'math', BITS8],
  [0x1b, 'MI_SEMAPHORE_SIGNAL', 'plain', BITS8],
  [MI.SEMAPHORE_WAIT, 'MI_SEMAPHORE_WAIT', 'rejected', BITS8],
  [MI.STORE_DWORD_IMM, 'MI_STORE_DATA_IMM', 'store-imm', BITS8],
  [0x21, 'MI_STORE_DATA_INDEX', 'rejected', BITS8],
  [MI.LOAD_REGISTER_IMM, 'MI_LOAD_REGISTER_IMM', 'load-register-imm', BITS8],
  [0x23, 'MI_UPDATE_GTT', 'rejected', BITS8],
  [MI.STORE_REGISTER_MEM, 'MI_STORE_REGISTER_MEM', 'store-register-mem', BITS8],
  [MI.FLUSH_DW, 'MI_FLUSH_DW', 'flush', BITS6, ['bcs', 'vcs', 'vcs2', 'vecs']],
  [0x27, 'MI_CLFLUSH', 'rejected', BITS8],
  [0x28, 'MI_REPORT_PERF_COUNT', 'rejected', BITS8],
  [MI.LOAD_REGISTER_MEM, 'MI_LOAD_REGISTER_MEM', 'load-register-mem', BITS8],
  [MI.LOAD_REGISTER_REG, 'MI_LOAD_REGISTER_REG', 'load-register-reg', BITS8],
  [0x2b, 'MI_RS_STORE_DATA_IMM', 'plain', BITS8, RCS],
  [0x2c, 'MI_LOAD_URB_MEM', 'plain', BITS8, RCS],
  [0x2d, 'MI_STORE_URB_MEM', 'plain', BITS8, RCS],
  [0x2e, 'MI_OP_2E', 'rejected', BITS8],
  [MI.ATOMIC, 'MI_ATOMIC', 'atomic', BITS8],
  [MI.BATCH_BUFFER_START, 'MI_BATCH_BUFFER_START', 'batch-start', BITS8],
  [MI.CONDITIONAL_BATCH_BUFFER_END, 'MI_CONDITIONAL_BATCH_BUFFER_END', 'rejected', BITS8],
];

const BLITTER_ROWS: readonly Row[] = [
  [XY.SETUP, 'XY_SETUP_BLT', 'blit'],
  [XY.SETUP_CLIP, 'XY_SETUP_CLIP_BLT', 'blit'],
  [XY.PIXEL, 'XY_PIXEL_BLT', 'blit'],
  [XY.SCANLINES, 'XY_SCANLINES_BLT', 'blit'],
  [XY.FAST_COPY, 'XY_FAST_COPY_BLT', 'rejected'],
  [XY.COLOR, 'XY_COLOR_BLT', 'blit'],
  [XY.PATTERN, 'XY_PAT_BLT', 'blit'],
  [XY.MONO_PATTERN, 'XY_MONO_PAT_BLT', 'blit'],
  [XY.SRC_COPY, 'XY_SRC_COPY_BLT', 'blit'],
  [XY.PATTERN_IMMEDIATE, 'XY_PAT_BLT_IMMEDIATE', 'blit'],
];

const render = (subtype: number, opcode: number, sub: number): number => (subtype << 11) | (opcode << 8) | sub;
/** State commands of the 3D pipeline that differ in their last byte alone. */
const states = (opcode: number, subs: readonly number[]): Row[] =>
  subs.map((sub) => [render(3, opcode, sub), `3DSTATE_${opcode}_${sub.toString(16)}`]);
const span = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, at) => first + at);
const BITS16 = Object.freeze({ bits: 16 });

/** The render engine draws nothing here: its commands are measured and passed over, so that a guest's state setup runs through. */
const RENDER_ROWS: readonly Row[] = [
  [render(0, 1, 1), 'STATE_BASE_ADDRESS'],
  [render(0, 1, 2), 'STATE_SIP'],
  [render(0, 1, 4), 'GPGPU_CSR_BASE_ADDRESS'],
  [render(1, 0, 0x0b), '3DSTATE_VF_STATISTICS', 'plain', ONE],
  [render(1, 1, 4), 'PIPELINE_SELECT', 'plain', ONE],
  [render(2, 0, 0), 'MEDIA_VFE_STATE', 'plain', BITS16],
  [render(2, 0, 1), 'MEDIA_CURBE_LOAD', 'plain', BITS16],
  [render(2, 0, 2), 'MEDIA_INTERFACE_DESCRIPTOR_LOAD', 'plain', BITS16],
  [render(2, 0, 3), 'MEDIA_GATEWAY_STATE', 'plain', BITS16],
  [render(2, 0, 4), 'MEDIA_STATE_FLUSH', 'plain', BITS16],
  [render(2, 1, 0), 'MEDIA_OBJECT', 'plain', BITS16],
  [render(2, 1, 2), 'MEDIA_OBJECT_PRT', 'plain', BITS16],
  [render(2, 1, 3), 'MEDIA_OBJECT_WALKER', 'plain', BITS16],
  [render(2, 1, 5), 'GPGPU_WALKER'],
  ...states(0, [...span(0x04, 0x0a), ...span(0x0c, 0x21), ...span(0x23, 0x58)]),
  ...states(1, [0x00, 0x02, 0x04, ...span(0x06, 0x08), ...span(0x0a, 0x1d)]),
  [render(3, 2, 0), 'PIPE_CONTROL', 'pipe-control'],
  [render(3, 3, 0), '3DPRIMITIVE'],
];

const BITS12 = Object.freeze({ bits: 12 });
const media = (opcode: number, subA: number, subB: number): number => (2 << 11) | (opcode << 8) | (subA << 5) | subB;
/** Commands of one codec: those of a sub-opcode B in the list, under one sub-opcode A. */
const codec = (name: string, opcode: number, subA: number, subs: readonly number[]): Row[] =>
  subs.map((sub) => [media(opcode, subA, sub), `${name}_${subA}_${sub.toString(16)}`, 'plain', BITS12]);

/** As above: measured and passed over. */
const MEDIA_ROWS: readonly Row[] = [
  [1 << 11, 'MFX_WAIT', 'plain', ONE],
  ...codec('MFX_COMMON', 0, 0, span(0x00, 0x08)),
  ...codec('MFD_COMMON', 0, 1, [0x09]),
  ...codec('MFX_PAK', 0, 2, [0x08, 0x0a]),
  ...codec('MFX_AVC', 1, 0, span(0x00, 0x05)),
  ...codec('MFD_AVC', 1, 1, span(0x05, 0x08)),
  ...codec('MFC_AVC', 1, 2, [0x04, 0x09]),
  ...codec('MFX_VC1', 2, 0, span(0x00, 0x02)),
  ...codec('MFD_VC1', 2, 1, [0x00, 0x08, 0x0a]),
  ...codec('MFX_MPEG2', 3, 0, [0x00]),
  ...codec('MFD_MPEG2', 3, 1, [0x08]),
  ...codec('MFC_MPEG2', 3, 2, [0x03, 0x09]),
  ...codec('VEB', 4, 0, [0x00, 0x02, 0x03]),
  ...codec('MFX_JPEG', 7, 0, [0x00, 0x02]),
  ...codec('MFD_JPEG', 7, 1, [0x08]),
];

const tableOf = (rows: readonly Row[]): ReadonlyMap<number, CommandInfo> =>
  new Map(
    rows.map(([opcode, name, kind = 'plain', length = BITS8, only]) => [
      opcode,
      Object.freeze({ name, kind, length, only }),
    ]),
  );

const TABLES: Readonly<Record<CommandClient, ReadonlyMap<number, CommandInfo>>> = {
  mi: tableOf(MI_ROWS),
  blitter: tableOf(BLITTER_ROWS),
  render: tableOf(RENDER_ROWS),
  media: tableOf(MEDIA_ROWS),
};

/** The command with this header on this engine; undefined for one that it does not have. */
export function findCommand(engine: Engine, header: number): CommandInfo | undefined {
  if (header === 0) return NOOP; // why: most of what an engine reads is this one
  const client = engine.clients[header >>> 29];
  if (client === undefined) return undefined;
  const { shift, mask } = OPCODE[client];
  const info = TABLES[client].get((header >>> shift) & mask);
  return info?.only === undefined || info.only.includes(engine.name) ? info : undefined;
}

const NOOP = TABLES.mi.get(MI.NOOP);

/** Dwords of a command, its header included. */
export const lengthOf = ({ length }: CommandInfo, header: number): number =>
  'fixed' in length ? length.fixed : (header & (2 ** length.bits - 1)) + 2;
