import { PAGE_SIZE, pageOffset } from '@pinion/core';
import { STATUS, type Status } from './registers.js';

/** A piece of guest memory inside one page. Bytes. */
export interface Piece {
  readonly address: bigint;
  readonly length: number;
}

/** Reads `count` bytes of guest memory into a copy; undefined if they cannot be reached. */
export type ReadGuest = (address: bigint, count: number) => Uint8Array | undefined;

const ENTRY_SIZE = 8;
const PER_PAGE = PAGE_SIZE / ENTRY_SIZE;

/**
 * The pieces that a command's PRPs name for `length` bytes (at least 1), in order, or the status that refuses them.
 *
 * Each page of a list is copied once. Walking ends whatever the guest wrote: a pointer to the next page of the list must have offset 0, so
 * every page but the first yields 511 pieces, and pieces are counted down from `length`. Source: NVMe 1.4 section 4.3.
 */
export function collectPieces(data: { prp1: bigint; prp2: bigint; length: number }, read: ReadGuest): Piece[] | Status {
  const { prp1, prp2, length } = data;
  if ((prp1 & 3n) !== 0n) return STATUS.INVALID_PRP_OFFSET;
  const first = Math.min(PAGE_SIZE - pageOffset(prp1), length);
  const pieces = [{ address: prp1, length: first }];
  const left = length - first;
  if (left === 0) return pieces;
  if (left > PAGE_SIZE) return walkList(pieces, { list: prp2, left }, read);
  if (pageOffset(prp2) !== 0) return STATUS.INVALID_PRP_OFFSET;
  pieces.push({ address: prp2, length: left });
  return pieces;
}

function walkList(pieces: Piece[], start: { list: bigint; left: number }, read: ReadGuest): Piece[] | Status {
  let { list, left } = start;
  if ((list & 7n) !== 0n) return STATUS.INVALID_PRP_OFFSET;
  for (;;) {
    const wanted = Math.ceil(left / PAGE_SIZE);
    const room = PER_PAGE - pageOffset(list) / ENTRY_SIZE;
    const count = Math.min(wanted, room);
    const entries = read(list, count * ENTRY_SIZE);
    if (entries === undefined) return STATUS.DATA_TRANSFER_ERROR;
    const view = new DataView(entries.buffer, entries.byteOffset, entries.length);
    const chained = wanted > room;
    for (let index = 0; index < (chained ? count - 1 : count); index += 1) {
      const address = view.getBigUint64(index * ENTRY_SIZE, true);
      if (pageOffset(address) !== 0) return STATUS.INVALID_PRP_OFFSET;
      pieces.push({ address, length: Math.min(PAGE_SIZE, left) });
      left -= PAGE_SIZE;
    }
    if (!chained) return pieces;
    list = view.getBigUint64((count - 1) * ENTRY_SIZE, true);
    if (pageOffset(list) !== 0) return STATUS.INVALID_PRP_OFFSET;
  }
}
