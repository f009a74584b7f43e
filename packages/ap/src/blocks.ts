/** Blocks of a CCA parameter block: a length of two bytes that counts itself, then the content. */

const LENGTH_BYTES = 2;

/** A block around `content`. */
export function encodeBlock(content: Uint8Array): Uint8Array {
  const block = new Uint8Array(LENGTH_BYTES + content.length);
  new DataView(block.buffer).setUint16(0, block.length);
  block.set(content, LENGTH_BYTES);
  return block;
}

/** The contents of `count` blocks that fill `bytes` exactly (views, no copies); undefined if they do not. */
export function decodeBlocks(bytes: Uint8Array, count: number): Uint8Array[] | undefined {
  const contents: Uint8Array[] = [];
  let rest = bytes;
  for (let block = 0; block < count; block++) {
    if (rest.length < LENGTH_BYTES) return undefined;
    const size = new DataView(rest.buffer, rest.byteOffset).getUint16(0);
    if (size < LENGTH_BYTES || size > rest.length) return undefined;
    contents.push(rest.subarray(LENGTH_BYTES, size));
    rest = rest.subarray(size);
  }
  return rest.length === 0 ? contents : undefined;
}
