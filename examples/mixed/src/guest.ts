import { createHash, generateKeyPairSync, type KeyObject, verify } from 'node:crypto';
import {
  CryptoDriver,
  DasdDriver,
  DISK_BLOCK,
  DiskDriver,
  type GraphicsBuffer,
  GuestHeap,
  type GuestMachine,
  VgpuDriver,
} from '@pinion/vm';
import { drawFrame, FRAME } from './artwork.js';
import type { Bitmap } from './canvas.js';
import { mixedErrors } from './errors.js';
import { PICTURE_MAGIC } from './images.js';

/** Where the guest's kernel keeps its own: low memory behind the first MiB. */
const HEAP = { at: 0x10_0000n, size: 0x3f0_0000n } as const;
/** Memory above 4 GiB: the picture's buffer. */
export const POOL = 0x1_0000_0000n;
const SUBCHANNEL = 0x13;
const QUEUE = { apqn: 0x0547, isc: 3 } as const;
const FRAME_BYTES = FRAME.width * FRAME.height * 4;
const FRAME_BLOCKS = FRAME_BYTES / DISK_BLOCK;
/** Where the result stands on the disk: digest and signature in block 0, the frame from block 8. */
const RESULT = { HEADER: 0, FRAME: 8 } as const;

/** The picture on the DASD. */
interface StoredPicture {
  readonly width: number;
  readonly height: number;
  readonly block: number;
  readonly blocks: number;
}

export interface Signature {
  readonly digest: Uint8Array;
  readonly signature: Uint8Array;
}

/**
 * What runs inside the VM. All it has is `machine`: memory, PCI registers and interrupts, channel and AP instructions. Each
 * method is a piece of the guest's work; the scenario decides when.
 */
export class Guest {
  readonly #machine: GuestMachine;
  readonly #heap = new GuestHeap(HEAP.at, HEAP.size);
  readonly #key: { readonly privateKey: KeyObject; readonly publicKey: KeyObject };
  #dasd: DasdDriver | undefined;
  #picture: StoredPicture | undefined;
  #gpu: VgpuDriver | undefined;
  #frame: GraphicsBuffer | undefined;

  constructor(machine: GuestMachine) {
    this.#machine = machine;
    this.#key = generateKeyPairSync('rsa', { modulusLength: 2048 });
  }

  /** Brings the DASD online and reads the picture's label. */
  async startDasd(): Promise<void> {
    this.#dasd = await DasdDriver.start(this.#machine, this.#heap, SUBCHANNEL);
    const label = this.#heap.allocate(DISK_BLOCK);
    await this.#dasd.read({ block: 0, blocks: 1, at: label });
    this.#picture = readLabel(this.#machine.memory.read(label, DISK_BLOCK));
    this.#heap.free(label);
  }

  /** Reads the picture into the pool by channel programs. */
  async readPicture(): Promise<void> {
    const { block, blocks } = need(this.#picture, 'picture');
    await need(this.#dasd, 'DASD').read({ block, blocks, at: POOL });
  }

  /** SHA-256 of the picture in the pool. */
  pictureDigest(): string {
    const { width, height } = need(this.#picture, 'picture');
    return createHash('sha256')
      .update(this.#machine.memory.read(POOL, width * height * 4))
      .digest('hex');
  }

  /** Takes the vGPU into use, draws the frame, and shows it. */
  async draw(): Promise<void> {
    const { width, height } = need(this.#picture, 'picture');
    const gpu = VgpuDriver.start(this.#machine, this.#heap, 'vgpu');
    const frame: Bitmap = { buffer: gpu.allocate(FRAME_BYTES), ...FRAME };
    const picture: Bitmap = { buffer: gpu.map(POOL, width * height * 4), width, height };
    await drawFrame(gpu, frame, picture);
    gpu.show(frame);
    this.#gpu = gpu;
    this.#frame = frame.buffer;
  }

  /** Copies a picture-sized piece of the frame around, for ever: I/O to be interrupted. */
  async drawForever(): Promise<never> {
    const frame: Bitmap = { buffer: need(this.#frame, 'frame'), ...FRAME };
    for (;;) {
      const { width, height } = need(this.#picture, 'picture');
      await drawFrame(need(this.#gpu, 'vGPU'), frame, {
        buffer: need(this.#gpu, 'vGPU').map(POOL, width * height * 4),
        width,
        height,
      });
    }
  }

  /** The vGPU is about to be unplugged: the memory it used becomes free. */
  stopVgpu(): void {
    this.#gpu?.stop();
    if (this.#frame !== undefined) this.#heap.free(this.#frame.at);
    this.#gpu = undefined;
  }

  frameDigest(): Uint8Array {
    return createHash('sha256')
      .update(this.#machine.memory.read(need(this.#frame, 'frame').at, FRAME_BYTES))
      .digest();
  }

  /** Has the frame's digest signed by the crypto queue. The queue's interrupts stay on. */
  async sign(): Promise<Signature> {
    const crypto = CryptoDriver.start(this.#machine, this.#heap, QUEUE);
    const digest = this.frameDigest();
    return { digest, signature: await crypto.sign(digest, this.#key.privateKey.export({ format: 'jwk' })) };
  }

  /** Whether a signature is one of the frame in memory, as node:crypto sees it. */
  verify({ signature }: Signature): boolean {
    const frame = this.#machine.memory.read(need(this.#frame, 'frame').at, FRAME_BYTES);
    return verify('sha256', frame, this.#key.publicKey, signature);
  }

  /** Writes digest, signature and frame to the passthrough disk. */
  async store({ digest, signature }: Signature): Promise<void> {
    const disk = DiskDriver.start(this.#machine, 'disk');
    const header = this.#heap.allocate(DISK_BLOCK);
    this.#machine.memory.write(header, Buffer.concat([digest, signature], DISK_BLOCK));
    await disk.write({ lba: RESULT.HEADER, blocks: 1, at: header });
    await disk.write({ lba: RESULT.FRAME, blocks: FRAME_BLOCKS, at: need(this.#frame, 'frame').at });
    this.#heap.free(header);
  }

  /** Reads everything back into fresh memory. @returns whether the signature on the disk is one of the frame on the disk. */
  async checkStored(): Promise<boolean> {
    const disk = DiskDriver.start(this.#machine, 'disk');
    const buffer = this.#heap.allocate(FRAME_BYTES);
    await disk.read({ lba: RESULT.HEADER, blocks: 1, at: buffer });
    const signature = this.#machine.memory.read(buffer + 32n, 256);
    await disk.read({ lba: RESULT.FRAME, blocks: FRAME_BLOCKS, at: buffer });
    const frame = this.#machine.memory.read(buffer, FRAME_BYTES);
    this.#heap.free(buffer);
    return verify('sha256', frame, this.#key.publicKey, signature);
  }

  /** Writes the frame to the disk again and again: I/O to be interrupted. */
  async storeForever(): Promise<never> {
    const disk = DiskDriver.start(this.#machine, 'disk');
    for (;;) await disk.write({ lba: RESULT.FRAME, blocks: FRAME_BLOCKS, at: need(this.#frame, 'frame').at });
  }

  /** Reads the picture again and again: I/O to be interrupted. */
  async readForever(): Promise<never> {
    for (;;) await this.readPicture();
  }
}

function readLabel(label: Uint8Array<ArrayBuffer>): StoredPicture {
  const view = new DataView(label.buffer);
  const magic = new TextDecoder().decode(label.subarray(0, PICTURE_MAGIC.length));
  if (magic !== PICTURE_MAGIC) throw mixedErrors.NO_PICTURE({ label: magic });
  const [width, height] = [view.getUint32(8, true), view.getUint32(12, true)];
  return { width, height, block: view.getUint32(16, true), blocks: Math.ceil((width * height * 4) / DISK_BLOCK) };
}

/** What an earlier step has made. */
function need<T>(made: T | undefined, missing: string): T {
  if (made === undefined) throw mixedErrors.WRONG_ORDER({ missing });
  return made;
}
