import type { Kernel } from './kernel.js';
import { MAX_MESSAGE_FDS } from './sys.js';

/** struct msghdr on 64-bit Linux, glibc and musl (whose narrower fields have zero padding behind them). Source: sys/socket.h. */
const MSGHDR = { size: 56, iov: 16, iovlen: 24, control: 32, controllen: 40, flags: 48 } as const;
/** struct iovec. */
const IOVEC = { size: 16, base: 0, len: 8 } as const;
/** struct cmsghdr; entries are aligned to 8 bytes. */
const CMSG = { header: 16, len: 0, level: 8, type: 12, align: 8 } as const;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_CTRUNC = 0x8;
const FD_SIZE = 4;
const CONTROL_SIZE = CMSG.header + MAX_MESSAGE_FDS * FD_SIZE;
const HIGH = 2 ** 32;

/**
 * One msghdr with its iovec and control buffer, built once for a thread: a call fills in four fields. JavaScript has one
 * stack per thread and the calls do not call back, so one is enough.
 */
export class MessageHeader {
  /** The struct msghdr, as sendmsg and recvmsg take it. */
  readonly bytes = new Uint8Array(MSGHDR.size);
  readonly #header = new DataView(this.bytes.buffer);
  readonly #iovec = new DataView(new ArrayBuffer(IOVEC.size));
  readonly #control = new DataView(new ArrayBuffer(CONTROL_SIZE));
  readonly #kernel: Kernel;
  readonly #controlAddress: number;
  #lastBuffer: ArrayBufferLike | undefined;
  #lastAddress = 0;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    this.#controlAddress = this.#address(this.#control.buffer);
    this.#setWord(this.#header, MSGHDR.iov, this.#address(this.#iovec.buffer));
    this.#setWord(this.#header, MSGHDR.iovlen, 1);
  }

  /** Makes the header describe bytes to send with fds on them. */
  prepareSend(bytes: Uint8Array, fds: readonly number[]): void {
    this.#pointTo(bytes);
    const length = CMSG.header + fds.length * FD_SIZE;
    this.#setWord(this.#control, CMSG.len, length);
    this.#control.setInt32(CMSG.level, SOL_SOCKET, true);
    this.#control.setInt32(CMSG.type, SCM_RIGHTS, true);
    for (const [i, fd] of fds.entries()) this.#control.setInt32(CMSG.header + i * FD_SIZE, fd, true);
    this.#offerControl(fds.length === 0 ? 0 : length);
  }

  /**
   * Makes the header describe where to put bytes and at most `fds` fds.
   * why no padding: CMSG_SPACE of an odd number would have room for one fd more than we said.
   */
  prepareReceive(into: Uint8Array, fds: number): void {
    this.#pointTo(into);
    this.#offerControl(fds === 0 ? 0 : CMSG.header + fds * FD_SIZE);
  }

  /** Whether the last receive lost control data. */
  get truncated(): boolean {
    return (this.#header.getUint32(MSGHDR.flags, true) & MSG_CTRUNC) !== 0;
  }

  /** Whether the last receive brought control data of any kind. */
  get hasControl(): boolean {
    return this.#header.getUint32(MSGHDR.controllen, true) !== 0;
  }

  /** The fds of the last receive; control messages of other kinds are passed over. */
  receivedFds(): number[] {
    const end = this.#header.getUint32(MSGHDR.controllen, true);
    const fds: number[] = [];
    for (let at = 0; at + CMSG.header <= end; ) {
      const length = this.#control.getUint32(at + CMSG.len, true);
      if (length < CMSG.header) break;
      if (this.#isRights(at)) {
        for (let fd = at + CMSG.header; fd + FD_SIZE <= Math.min(at + length, end); fd += FD_SIZE) {
          fds.push(this.#control.getInt32(fd, true));
        }
      }
      at += Math.ceil(length / CMSG.align) * CMSG.align;
    }
    return fds;
  }

  #isRights(at: number): boolean {
    const level = this.#control.getInt32(at + CMSG.level, true);
    return level === SOL_SOCKET && this.#control.getInt32(at + CMSG.type, true) === SCM_RIGHTS;
  }

  #offerControl(length: number): void {
    this.#setWord(this.#header, MSGHDR.control, length === 0 ? 0 : this.#controlAddress);
    this.#setWord(this.#header, MSGHDR.controllen, length);
  }

  #pointTo(bytes: Uint8Array): void {
    // The address of a buffer is asked for once in a row of calls with the same one; asking costs a tenth of a call.
    if (bytes.buffer !== this.#lastBuffer) {
      this.#lastAddress = this.#address(bytes.buffer);
      this.#lastBuffer = bytes.buffer;
    }
    this.#setWord(this.#iovec, IOVEC.base, this.#lastAddress + bytes.byteOffset);
    this.#setWord(this.#iovec, IOVEC.len, bytes.byteLength);
  }

  #address(buffer: ArrayBufferLike): number {
    return Number(this.#kernel.native.koffi.address(new Uint8Array(buffer)));
  }

  #setWord(view: DataView, at: number, value: number): void {
    view.setUint32(at, value % HIGH, true);
    view.setUint32(at + 4, Math.floor(value / HIGH), true);
  }
}
