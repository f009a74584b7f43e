/** What an assignment makes of a matrix. Indices are checked against the machine's highest, not against what is plugged. */
import { errors } from './errors.js';
import { ApMask, type ApMatrix } from './matrix.js';
import type { Limits } from './queue-info.js';

/** Indices of a whole matrix, as a configuration names them. */
export interface MatrixIndices {
  readonly adapters?: readonly number[];
  readonly domains?: readonly number[];
  readonly controlDomains?: readonly number[];
}

/** One bit of one of the three masks. */
export type MatrixBit = readonly [mask: keyof ApMatrix, index: number];

const LABEL = { adapters: 'adapter', domains: 'domain', controlDomains: 'control domain' } as const;

/** @throws AP_NOT_AN_INDEX (EINVAL), then AP_NO_SUCH_INDEX (ENODEV). */
function check([mask, value]: MatrixBit, { maxAdapter, maxDomain }: Limits): void {
  const max = mask === 'adapters' ? maxAdapter : maxDomain;
  if (!Number.isInteger(value) || value < 0) throw errors.NOT_AN_INDEX({ what: LABEL[mask], value });
  if (value > max) throw errors.NO_SUCH_INDEX({ what: LABEL[mask], value, max });
}

/** The matrix with the bit; the same object if it is set. @throws AP_NOT_AN_INDEX, AP_NO_SUCH_INDEX. */
export function withBit(matrix: ApMatrix, bit: MatrixBit, limits: Limits): ApMatrix {
  check(bit, limits);
  const [mask, index] = bit;
  return matrix[mask].has(index) ? matrix : { ...matrix, [mask]: matrix[mask].with(index) };
}

/** The matrix without the bit; the same object if it is not set. @throws AP_NOT_AN_INDEX, AP_NO_SUCH_INDEX. */
export function withoutBit(matrix: ApMatrix, bit: MatrixBit, limits: Limits): ApMatrix {
  check(bit, limits);
  const [mask, index] = bit;
  return matrix[mask].has(index) ? { ...matrix, [mask]: matrix[mask].without(index) } : matrix;
}

/** The matrix of these indices. @throws AP_NOT_AN_INDEX, AP_NO_SUCH_INDEX. */
export function matrixOf(indices: MatrixIndices, limits: Limits): ApMatrix {
  const mask = (name: keyof ApMatrix): ApMask => {
    const values = indices[name] ?? [];
    for (const value of values) check([name, value], limits);
    return ApMask.of(values);
  };
  return { adapters: mask('adapters'), domains: mask('domains'), controlDomains: mask('controlDomains') };
}
