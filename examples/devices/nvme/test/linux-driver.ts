import assert from 'node:assert/strict';
import { ADMIN, BAR, CC, CSTS, FEATURE, IDENTIFY, IO, REGISTER } from '@pinion/example-nvme';
import { COMMAND, CONFIG, type PciSoftware } from '@pinion/pci';

/** The guest's memory by its own addresses, bytes. */
export interface GuestRam {
  readonly first: bigint;
  write(at: bigint, bytes: Uint8Array): void;
  read(at: bigint, length: number): Uint8Array;
}

/** A command; fields left out are zero. */
export interface Submission {
  readonly opcode: number;
  readonly form?: number;
  readonly namespace?: number;
  readonly prp1?: bigint;
  readonly prp2?: bigint;
  readonly dwords?: readonly number[];
}

export interface Answer {
  readonly id: number;
  readonly status: number;
  readonly result: number;
  readonly head: number;
  readonly queue: number;
}

const PAGE = 4096n;

export function encode(id: number, command: Submission): Uint8Array {
  const bytes = new Uint8Array(64);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, command.opcode);
  view.setUint8(1, command.form ?? 0);
  view.setUint16(2, id, true);
  view.setUint32(4, command.namespace ?? 0, true);
  view.setBigUint64(24, command.prp1 ?? 0n, true);
  view.setBigUint64(32, command.prp2 ?? 0n, true);
  for (const [index, dword] of (command.dwords ?? []).entries()) view.setUint32(40 + index * 4, dword >>> 0, true);
  return bytes;
}

/** A pair of queues as the host has it. */
export class QueuePair {
  readonly id: number;
  readonly entries: number;
  readonly submissions: bigint;
  readonly completions: bigint;
  readonly #pci: PciSoftware;
  readonly #ram: GuestRam;
  #tail = 0;
  #head = 0;
  #phase = 1;
  #nextId = 0;

  constructor(
    host: { pci: PciSoftware; ram: GuestRam },
    about: { id: number; entries: number; submissions: bigint; completions: bigint },
  ) {
    this.#pci = host.pci;
    this.#ram = host.ram;
    this.id = about.id;
    this.entries = about.entries;
    this.submissions = about.submissions;
    this.completions = about.completions;
  }

  /** No entry has the phase of the first round. */
  clear(): void {
    this.#ram.write(this.completions, new Uint8Array(this.entries * 16));
  }

  /** Index of the entry that the next command goes to. */
  get next(): number {
    return this.#tail;
  }

  /** Writes a command into the ring without telling the controller. @returns its id. */
  put(command: Submission): number {
    const id = this.#nextId;
    this.#nextId = (this.#nextId + 1) % 0x8000;
    this.#ram.write(this.submissions + BigInt(this.#tail * 64), encode(id, command));
    this.#tail = (this.#tail + 1) % this.entries;
    return id;
  }

  ring(): void {
    this.#pci.write(0, REGISTER.DOORBELLS + this.id * 8, this.#tail);
  }

  submit(command: Submission): number {
    const id = this.put(command);
    this.ring();
    return id;
  }

  /** The next completion, if there is one; the controller is told that it was taken unless `keep`. */
  poll(keep = false): Answer | undefined {
    const bytes = this.#ram.read(this.completions + BigInt(this.#head * 16), 16);
    const view = new DataView(bytes.buffer);
    const last = view.getUint32(12, true);
    if (((last >>> 16) & 1) !== this.#phase) return undefined;
    this.#head += 1;
    if (this.#head === this.entries) {
      this.#head = 0;
      this.#phase ^= 1;
    }
    if (!keep) this.taken();
    const heads = view.getUint32(8, true);
    return {
      id: last & 0xffff,
      status: last >>> 17,
      result: view.getUint32(0, true),
      head: heads & 0xffff,
      queue: heads >>> 16,
    };
  }

  taken(): void {
    this.#pci.write(0, REGISTER.DOORBELLS + this.id * 8 + 4, this.#head);
  }

  /** Submits and takes the completion, which must be there at once. */
  run(command: Submission): Answer {
    const id = this.submit(command);
    const answer = this.poll();
    assert.ok(answer !== undefined, 'the command completed');
    assert.equal(answer.id, id);
    return answer;
  }
}

/** What the stock Linux driver does with a controller, step by step. Source: drivers/nvme/host/pci.c, core.c (order of steps). */
export class LinuxDriver {
  readonly pci: PciSoftware;
  readonly ram: GuestRam;
  readonly admin: QueuePair;
  #nextPage: bigint;

  constructor(pci: PciSoftware, ram: GuestRam) {
    this.pci = pci;
    this.ram = ram;
    this.#nextPage = ram.first;
    this.admin = this.#pair(0, 32);
  }

  /** Guest pages nobody else uses. @returns the address of the first. */
  pages(count = 1): bigint {
    const at = this.#nextPage;
    this.#nextPage += BigInt(count) * PAGE;
    return at;
  }

  register(offset: number): number {
    return this.pci.read(0, offset);
  }

  /** BARs, bus mastering, MSI-X: before the driver talks to the controller. */
  enablePci(vectors = 0): void {
    assert.deepEqual(this.pci.sizeBars(), [
      { index: 0, kind: 'memory64', size: BigInt(BAR.SIZE), prefetchable: false },
    ]);
    this.pci.assignBars({ memory: 0xfe00_0000n, io: 0n });
    this.pci.enable(COMMAND.MEMORY | COMMAND.BUS_MASTER);
    const entries = Array.from({ length: vectors }, (_, vector) => ({
      vector,
      address: 0xfee0_0000n,
      data: 0x40 + vector,
    }));
    if (vectors > 0) assert.ok(this.pci.enableMsix(entries) >= vectors);
    assert.equal(this.pci.config(CONFIG.CLASS_CODE - 1) >>> 8, 0x010802);
  }

  /** Disable, program the admin queues, enable, wait for ready. */
  enableController(): void {
    this.pci.write(0, REGISTER.CC, 0);
    assert.equal(this.register(REGISTER.CSTS) & CSTS.RDY, 0);
    this.admin.clear();
    this.pci.write(0, REGISTER.AQA, ((this.admin.entries - 1) << 16) | (this.admin.entries - 1));
    this.pci.write(0, REGISTER.ASQ_LOW, this.admin.submissions, 8);
    this.pci.write(0, REGISTER.ACQ_LOW, this.admin.completions, 8);
    this.pci.write(0, REGISTER.CC, CC.EN | (6 << 16) | (4 << 20));
    assert.equal(this.register(REGISTER.CSTS), CSTS.RDY);
  }

  identify(subject: number, namespace = 0): Uint8Array {
    const page = this.pages();
    this.good(this.admin.run({ opcode: ADMIN.IDENTIFY, namespace, prp1: page, dwords: [subject] }));
    return this.ram.read(page, 4096);
  }

  setFeature(feature: number, value: number): Answer {
    return this.admin.run({ opcode: ADMIN.SET_FEATURES, dwords: [feature, value] });
  }

  createQueues(id: number, about: { entries?: number; vector?: number } = {}): QueuePair {
    const { entries = 64, vector = id } = about;
    const pair = this.#pair(id, entries);
    const size = ((entries - 1) << 16) | id;
    pair.clear();
    this.good(this.admin.run({ opcode: ADMIN.CREATE_CQ, prp1: pair.completions, dwords: [size, (vector << 16) | 3] }));
    this.good(this.admin.run({ opcode: ADMIN.CREATE_SQ, prp1: pair.submissions, dwords: [size, (id << 16) | 1] }));
    return pair;
  }

  /** The whole probe: one pair of I/O queues on vector 1. */
  probe(): QueuePair {
    this.enablePci(2);
    this.enableController();
    this.identify(IDENTIFY.CONTROLLER);
    this.good(this.setFeature(FEATURE.QUEUES, 0));
    const pair = this.createQueues(1);
    this.identify(IDENTIFY.NAMESPACE, 1);
    return pair;
  }

  /** Reads or writes through pages anywhere in memory, with a PRP list when it takes one. */
  transfer(
    pages: readonly bigint[],
    about: { opcode: number; lba: number; bytes: number; blockSize?: number },
  ): Submission {
    const { opcode, lba, bytes, blockSize = 512 } = about;
    const [prp1 = 0n, second = 0n] = pages;
    const prp2 = pages.length > 2 ? this.list(pages.slice(1)) : second;
    return { opcode, namespace: 1, prp1, prp2, dwords: [lba, 0, bytes / blockSize - 1] };
  }

  /** PRP lists for these pages, chained if they need more than one page. @returns the first one's address. */
  list(pages: readonly bigint[]): bigint {
    const at = this.pages();
    const here = pages.length > 512 ? [...pages.slice(0, 511), this.list(pages.slice(511))] : pages;
    this.ram.write(at, new Uint8Array(BigUint64Array.from(here).buffer));
    return at;
  }

  /** Writes into pages, in order. */
  fill(pages: readonly bigint[], bytes: Uint8Array): void {
    for (const [index, page] of pages.entries()) this.ram.write(page, bytes.subarray(index * 4096, (index + 1) * 4096));
  }

  gather(pages: readonly bigint[]): Uint8Array {
    return Buffer.concat(pages.map((page) => this.ram.read(page, 4096)));
  }

  good(answer: Answer): Answer {
    assert.equal(answer.status, 0, `status 0x${answer.status.toString(16)}`);
    return answer;
  }

  read(queue: QueuePair, lba: number, pages: readonly bigint[]): Answer {
    return queue.run(this.transfer(pages, { opcode: IO.READ, lba, bytes: pages.length * 4096 }));
  }

  write(queue: QueuePair, lba: number, pages: readonly bigint[]): Answer {
    return queue.run(this.transfer(pages, { opcode: IO.WRITE, lba, bytes: pages.length * 4096 }));
  }

  /** The host's side of queues that were created in some other way. */
  pair(about: { id: number; entries: number; submissions: bigint; completions: bigint }): QueuePair {
    return new QueuePair(this, about);
  }

  #pair(id: number, entries: number): QueuePair {
    const submissions = this.pages(Math.ceil((entries * 64) / 4096));
    const completions = this.pages(Math.ceil((entries * 16) / 4096));
    return new QueuePair(this, { id, entries, submissions, completions });
  }
}
