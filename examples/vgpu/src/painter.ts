import { GvtDevice, miBatchBufferStart } from '@pinion/gvt';
import {
  type EmbeddedVm,
  GpuDriver,
  type GpuQueue,
  type GraphicsBuffer,
  GuestHeap,
  type SpaceBuffer,
} from '@pinion/vm';
import { type Commands, FRAME_BYTES, SIZE } from './artwork.js';

/** Batch start, bit 8: an address in the queue's own space. */
const PPGTT = 1 << 8;

/** What a guest draws, over and over: frame by frame with a phase that moves on. */
export type Artwork = (screen: number, scratch: number, phase: number) => Commands;

/** The guest program of one VM: a screen that its queue draws on, and the pixels of which the display shows. */
export class Painter {
  readonly vm: EmbeddedVm;
  readonly #driver: GpuDriver;
  readonly #artwork: Artwork;
  readonly #front: GraphicsBuffer;
  readonly #queue: GpuQueue;
  /** The same pages as the front, in the queue's address space. */
  readonly #screen: SpaceBuffer;
  readonly #scratch: SpaceBuffer;
  #drawing: Promise<void> | undefined;
  #stopping = false;
  /** Frames that were finished. */
  frames = 0;

  constructor(vm: EmbeddedVm, artwork: Artwork) {
    this.vm = vm;
    this.#artwork = artwork;
    const heap = new GuestHeap(0x10_0000n, 0xe0_0000n);
    this.#driver = GpuDriver.start(vm.machine, heap, { slot: 'vgpu' });
    this.#front = this.#driver.allocate(FRAME_BYTES);
    this.#queue = this.#driver.createQueue();
    this.#screen = this.#queue.space.map(this.#front.at, FRAME_BYTES);
    this.#scratch = this.#queue.space.allocate(FRAME_BYTES);
    this.#driver.show({ buffer: this.#front, width: SIZE, height: SIZE });
  }

  /** The device behind the driver: what the host knows of it. */
  get device(): GvtDevice {
    const ops = this.vm.slots[0]?.device.ops;
    if (ops instanceof GvtDevice) return ops;
    throw new TypeError('the first device of this VM is no vGPU');
  }

  /** Draws one frame. @throws what the driver throws. */
  async drawFrame(): Promise<void> {
    await this.#queue.run(this.#artwork(this.#screen.address, this.#scratch.address, this.frames / 60));
    this.frames += 1;
  }

  /** Draws frame after frame until `rest`. */
  begin(): void {
    this.#stopping = false;
    this.#drawing = (async () => {
      while (!this.#stopping) await this.drawFrame();
    })();
    this.#drawing.catch(() => {}); // why: whoever rests or kills hears of it there
  }

  /** Finishes the frame that is being drawn. @returns why drawing ended, if it failed. */
  async rest(): Promise<unknown> {
    this.#stopping = true;
    return this.#drawing?.then(
      () => undefined,
      (reason: unknown) => reason,
    );
  }

  /** A batch that jumps to its own beginning, for ever. @returns how the driver found out. */
  async hang(): Promise<unknown> {
    const [start = 0, ...address] = miBatchBufferStart(this.#scratch.address);
    this.vm.memory.write(this.#scratch.at, new Uint8Array(Uint32Array.of(start | PPGTT, ...address).buffer));
    return this.#queue.run([[start | PPGTT, ...address]]).then(
      () => undefined,
      (reason: unknown) => reason,
    );
  }

  /** To sleep and awake again, with a reset of the device in between, as a laptop's lid does it. */
  async sleepAndWake(): Promise<void> {
    this.#driver.suspend();
    await this.vm.reset('vgpu');
    this.#driver.resume();
    this.#driver.show({ buffer: this.#front, width: SIZE, height: SIZE });
  }

  /** Gives everything back. */
  stop(): void {
    this.#queue.release();
    this.#driver.free(this.#front);
    this.#driver.stop();
  }
}
