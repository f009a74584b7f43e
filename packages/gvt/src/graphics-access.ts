/**
 * Graphics memory as one of its users reaches it, behind one table: the global one or a process's. Addresses are graphics
 * addresses, bytes, below 2^48. Each access looks the table up anew, so nothing outlives an entry. Where no guest page stands,
 * reads give zeros, writes vanish, and a fault is recorded; nothing throws.
 */
export interface GraphicsAccess {
  /** Whether the bytes `first`..`last` lie in what this table may lead to at all, whether pages stand there or not. */
  owns(first: number, last: number): boolean;
  /** Fills `into` from `address`. */
  read(address: number, into: Uint8Array): void;
  write(address: number, from: Uint8Array): void;
  /** One little-endian dword, unsigned. */
  readDword(address: number): number;
  writeDword(address: number, value: number): void;
}
