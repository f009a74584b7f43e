import { COMMAND, SET_IRQS_FLAG } from './commands.js';
import { vfioUserErrors } from './errors.js';
import { checkArgsz, checkExactSize, checkFlags, checkSize } from './sizes.js';
import { SET_IRQS } from './structs.js';

const DATA = SET_IRQS_FLAG.NONE | SET_IRQS_FLAG.BOOL | SET_IRQS_FLAG.EVENTFD;
const ACTION = SET_IRQS_FLAG.MASK | SET_IRQS_FLAG.UNMASK | SET_IRQS_FLAG.TRIGGER;

/** A request of DEVICE_SET_IRQS: one kind of data, one action, for the vectors `start` to `start + count - 1`. */
export interface IrqRequest {
  readonly index: number;
  readonly start: number;
  readonly count: number;
  readonly data: 'none' | 'bool' | 'eventfd';
  readonly action: 'mask' | 'unmask' | 'trigger';
  /** Of `bool`: one byte a vector. Else empty. */
  readonly selected: Uint8Array;
}

const DATA_OF = new Map<number, IrqRequest['data']>([
  [SET_IRQS_FLAG.NONE, 'none'],
  [SET_IRQS_FLAG.BOOL, 'bool'],
  [SET_IRQS_FLAG.EVENTFD, 'eventfd'],
]);
const ACTION_OF = new Map<number, IrqRequest['action']>([
  [SET_IRQS_FLAG.MASK, 'mask'],
  [SET_IRQS_FLAG.UNMASK, 'unmask'],
  [SET_IRQS_FLAG.TRIGGER, 'trigger'],
]);

const bitOf = <T>(names: ReadonlyMap<number, T>, name: T): number => {
  for (const [bit, other] of names) if (other === name) return bit;
  return 0;
};

/** @throws VFIOUSER_BAD_SIZE, VFIOUSER_BAD_ARGSZ, VFIOUSER_BAD_FLAGS (EINVAL): not exactly one kind of data and one action. */
export function decodeSetIrqs(payload: Uint8Array): IrqRequest {
  const command = COMMAND.DEVICE_SET_IRQS;
  checkSize(command, payload, SET_IRQS.size);
  const { argsz, flags, index, start, count } = SET_IRQS.read(payload);
  checkArgsz(command, argsz, SET_IRQS.size);
  checkFlags(command, flags, DATA | ACTION);
  const data = DATA_OF.get(flags & DATA);
  const action = ACTION_OF.get(flags & ACTION);
  if (data === undefined || action === undefined) {
    throw vfioUserErrors.BAD_FLAGS({ command, flags, problem: 'one kind of data and one action are needed' });
  }
  checkExactSize(command, payload, SET_IRQS.size + (data === 'bool' ? count : 0));
  return { index, start, count, data, action, selected: payload.subarray(SET_IRQS.size) };
}

export function encodeSetIrqs(request: IrqRequest): Uint8Array<ArrayBuffer> {
  const { index, start, count, selected } = request;
  const flags = bitOf(DATA_OF, request.data) | bitOf(ACTION_OF, request.action);
  const bytes = SET_IRQS.encode(
    { argsz: SET_IRQS.size + selected.length, flags, index, start, count },
    selected.length,
  );
  bytes.set(selected, SET_IRQS.size);
  return bytes;
}
