import { ECKD_OPERATION as OP, ORIENTATION } from './eckd-wire.js';

/** What a locate's operation means: whether it writes, which orientations it knows, and what its count counts. */
export interface Operation {
  readonly writes: 'nothing' | 'data' | 'records';
  readonly orientations: readonly number[];
  readonly counts: 'records' | 'tracks' | 'nothing';
  /** A read count may end the domain. */
  readonly suffix?: boolean;
  /** The parameter is a map of tracks. */
  readonly mapped?: boolean;
}

const { COUNT, HOME_ADDRESS, DATA, INDEX } = ORIENTATION;

/** Source: IBM internal disk subsystem reference, table of operation byte values; dasd_eckd.c fill_LRE_data(). */
export const OPERATIONS: ReadonlyMap<number, Operation> = new Map<number, Operation>([
  [OP.ORIENT, { writes: 'nothing', orientations: [COUNT, HOME_ADDRESS, DATA, INDEX], counts: 'nothing' }],
  [OP.WRITE, { writes: 'data', orientations: [COUNT, DATA], counts: 'records', suffix: true }],
  [OP.FORMAT, { writes: 'records', orientations: [COUNT, HOME_ADDRESS, INDEX], counts: 'records' }],
  [OP.READ, { writes: 'nothing', orientations: [COUNT, DATA], counts: 'records' }],
  [OP.WRITE_TRACK, { writes: 'records', orientations: [COUNT], counts: 'records' }],
  [OP.READ_TRACKS, { writes: 'nothing', orientations: [COUNT, HOME_ADDRESS], counts: 'tracks' }],
  [
    OP.READ_ANY,
    { writes: 'nothing', orientations: [COUNT, HOME_ADDRESS, DATA, INDEX], counts: 'records', suffix: true },
  ],
  [OP.WRITE_RECORDS, { writes: 'data', orientations: [COUNT], counts: 'records', suffix: true }],
  [OP.READ_RECORDS, { writes: 'nothing', orientations: [COUNT], counts: 'records', suffix: true }],
  [OP.READ_TRACKSET, { writes: 'nothing', orientations: [COUNT, HOME_ADDRESS], counts: 'tracks', mapped: true }],
  [OP.WRITE_TRACKSET, { writes: 'records', orientations: [COUNT], counts: 'tracks', mapped: true }],
  [OP.WRITE_TRACK_DATA, { writes: 'data', orientations: [COUNT], counts: 'tracks' }],
]);
