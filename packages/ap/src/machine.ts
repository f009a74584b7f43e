import type { Clock, Log } from '@pinion/core';
import { OLDEST_TYPE } from './card.js';
import { errors } from './errors.js';
import { type ApConfiguration, ApHardware, type ApHardwareOptions, checkIndices } from './hardware.js';
import { parseMaskChange } from './mask-text.js';
import { ApMask, type ApMatrix, type Apqn, apqnsOf, formatApqn, hasApqn, intersect } from './matrix.js';
import { RESPONSE } from './pqap.js';
import type { CardCondition } from './queue.js';
import { type BoundQueue, isUsable } from './resets.js';

export interface ApMachineOptions extends ApHardwareOptions {
  /** sysfs apmask and aqmask: a queue whose adapter **and** domain are listed belongs to the host's own driver. Default: none. */
  readonly hostAdapters?: readonly number[];
  readonly hostDomains?: readonly number[];
}

/** sysfs apmask and aqmask. */
export interface HostMasks {
  readonly adapters: ApMask;
  readonly domains: ApMask;
}

/** A matrix device, as the machine sees it. */
export interface MatrixDevice {
  /** What an error names. */
  readonly name: string;
  /** What is assigned to it: nobody else can have these queues. */
  readonly matrix: ApMatrix;
  readonly guestMatrix: ApMatrix;
  /** Whether a guest can reach its queues now. */
  readonly isOpen: boolean;
  /** Cards, domains or queues changed: looks again at what the guest may see. */
  refilter(): void;
}

/** What sysfs shows for a queue of this driver. Source: status_show() in vfio_ap_drv.c. */
export type QueueUse = 'unassigned' | 'assigned' | 'in use';

/**
 * The host: which queues this driver has and which the host keeps, which device owns which, and who has to be told when the machine
 * changes. Source: struct ap_matrix_dev, the AP bus with apmask and aqmask; reference C.1, C.2.
 */
export class ApMachine {
  readonly hardware: ApHardware;
  readonly #bound = new Map<Apqn, BoundQueue>();
  readonly #devices = new Set<MatrixDevice>();
  readonly #guests = new Map<object, MatrixDevice>();
  #hostMasks: HostMasks;
  /** What guests may be shown: during a scan only what was there before and still is. */
  #shown: ApMatrix;

  /** @throws AP_BAD_OPTION (EINVAL). */
  constructor(options: ApMachineOptions) {
    this.hardware = new ApHardware(options);
    this.#hostMasks = {
      adapters: checkIndices('hostAdapters', options.hostAdapters ?? [], this.hardware.maxAdapter),
      domains: checkIndices('hostDomains', options.hostDomains ?? [], this.hardware.maxDomain),
    };
    this.#shown = this.hardware.matrix;
    this.#probeAll();
  }

  // Host masks.

  get hostMasks(): HostMasks {
    return this.#hostMasks;
  }

  /**
   * Gives queues to the host's own driver or takes them from it. All or nothing.
   * @throws AP_MASK_IN_USE (EADDRINUSE) if the host would get a queue that a device has. Source: vfio_ap_mdev_resource_in_use().
   */
  setHostMasks(masks: Partial<HostMasks>): void {
    const wanted = { ...this.#hostMasks, ...masks };
    for (const { name, matrix } of this.#devices) {
      const taken = apqnsOf(matrix).find((apqn) => isReserved(wanted, apqn));
      if (taken !== undefined) throw errors.MASK_IN_USE({ apqn: formatApqn(taken), owner: name });
    }
    this.#hostMasks = wanted;
    for (const apqn of [...this.#bound.keys()]) if (isReserved(wanted, apqn)) this.#unbind(apqn);
    this.#probeAll();
    this.#refilter();
  }

  /** The same by text, as sysfs takes it: `0x...` or `+5,-6`. @throws also AP_BAD_MASK, AP_NOT_A_NUMBER (EINVAL). */
  writeHostMask(mask: 'apmask' | 'aqmask', text: string): void {
    const which = mask === 'apmask' ? 'adapters' : 'domains';
    this.setHostMasks({ [which]: parseMaskChange(text, this.#hostMasks[which]) });
  }

  // Cards, domains and queues come and go.

  /**
   * The hardware changes: what goes is taken from guests at once, with everything in it; what comes is probed, but no guest sees it
   * before `completeScan`. @throws AP_BAD_OPTION (EINVAL), nothing changed. Source: vfio_ap_on_cfg_changed().
   */
  changeConfiguration(configuration: ApConfiguration): void {
    const next = this.hardware.check(configuration);
    this.hardware.configure(next);
    this.#shown = intersect(this.#shown, next.matrix);
    for (const [apqn, { queue }] of this.#bound) if (queue.condition === 'gone') this.#bound.delete(apqn);
    this.#refilter();
    this.#probeAll();
  }

  /** Every new queue was probed: guests see what came. Source: vfio_ap_on_scan_complete(). */
  completeScan(): void {
    this.#shown = this.hardware.matrix;
    this.#refilter();
  }

  /** A change and its scan. */
  reconfigure(configuration: ApConfiguration): void {
    this.changeConfiguration(configuration);
    this.completeScan();
  }

  /** Takes a card out. Does nothing if it is not there. */
  unplugAdapter(adapter: number): void {
    const { cards, matrix } = this.hardware;
    this.reconfigure({ ...indicesOf(matrix), adapters: cards.filter((card) => card.adapter !== adapter) });
  }

  /** Puts a card in, or exchanges one. @throws AP_BAD_OPTION. */
  plugAdapter(card: ApConfiguration['adapters'][number]): void {
    const { cards, matrix } = this.hardware;
    const adapter = typeof card === 'number' ? card : card.adapter;
    this.reconfigure({ ...indicesOf(matrix), adapters: [...cards.filter((other) => other.adapter !== adapter), card] });
  }

  /** A card stops or starts to work where it is: its queues answer 03 or 04, or are empty and ready. */
  setCondition(adapter: number, condition: Exclude<CardCondition, 'gone'>): void {
    this.hardware.setCondition(adapter, condition);
  }

  /** Gives a queue to this driver. Does nothing if it has it. @throws AP_NO_QUEUE (ENODEV). Source: vfio_ap_mdev_probe_queue(). */
  bindQueue(apqn: Apqn): void {
    if (this.hardware.queue(apqn) === undefined) throw errors.NO_QUEUE({ apqn: formatApqn(apqn) });
    this.#probe(apqn);
    this.#refilter();
  }

  /** Takes a queue from this driver; a guest that has it loses the whole adapter. @throws AP_NO_QUEUE (ENODEV). Source: vfio_ap_mdev_remove_queue(). */
  unbindQueue(apqn: Apqn): void {
    if (!this.#bound.has(apqn)) throw errors.NO_QUEUE({ apqn: formatApqn(apqn) });
    this.#unbind(apqn);
    this.#refilter();
  }

  /** The queue, if this driver has it. */
  bound(apqn: Apqn): BoundQueue | undefined {
    return this.#bound.get(apqn);
  }

  /** @throws AP_NO_QUEUE (ENODEV) for a queue that this driver does not have. */
  queueUse(apqn: Apqn): QueueUse {
    if (!this.#bound.has(apqn)) throw errors.NO_QUEUE({ apqn: formatApqn(apqn) });
    const owner = [...this.#devices].find(({ matrix }) => hasApqn(matrix, apqn));
    if (owner === undefined) return 'unassigned';
    return owner.isOpen && hasApqn(owner.guestMatrix, apqn) ? 'in use' : 'assigned';
  }

  // Devices and their guests.

  /** What a guest may be shown of the machine, and whether one of its queues can be given away. */
  get shown(): ApMatrix {
    return this.#shown;
  }

  isUsable(apqn: Apqn): boolean {
    const bound = this.#bound.get(apqn);
    return bound !== undefined && isUsable(bound);
  }

  /** A device was created. */
  attach(device: MatrixDevice, services: { readonly clock: Clock; readonly log: Log }): void {
    this.hardware.use(services);
    this.#devices.add(device);
  }

  /** A device was removed: its queues are free for others. */
  detach(device: MatrixDevice): void {
    this.#devices.delete(device);
  }

  /**
   * Whether `owner` may have `wanted`. Nothing is checked while there is no adapter or no domain, because then there is no queue.
   * Control domains are shared freely.
   * @throws AP_RESERVED (EADDRNOTAVAIL), then AP_IN_USE (EADDRINUSE). Source: vfio_ap_mdev_validate_masks().
   */
  checkClaim(owner: MatrixDevice, wanted: ApMatrix): void {
    const apqns = apqnsOf(wanted);
    const reserved = apqns.find((apqn) => isReserved(this.#hostMasks, apqn));
    if (reserved !== undefined) throw errors.RESERVED({ device: owner.name, apqn: formatApqn(reserved) });
    for (const other of this.#devices) {
      const shared = other === owner ? undefined : apqns.find((apqn) => hasApqn(other.matrix, apqn));
      if (shared === undefined) continue;
      throw errors.IN_USE({ device: owner.name, apqn: formatApqn(shared), owner: other.name });
    }
  }

  /** Gives `guest` the matrix of `owner`. @throws AP_GUEST_TAKEN (EPERM) if it has another's. Source: vfio_ap_mdev_set_kvm(). */
  enter(guest: object, owner: MatrixDevice): void {
    const other = this.#guests.get(guest);
    if (other !== undefined) throw errors.GUEST_TAKEN({ device: owner.name, other: other.name });
    this.#guests.set(guest, owner);
  }

  /** Whatever computed for guests ends with the last of them. */
  async leave(guest: object): Promise<void> {
    this.#guests.delete(guest);
    if (this.#guests.size === 0) await this.hardware.executor.close();
  }

  /** Other devices may have waited for a queue to be ready. */
  refilterAll(): void {
    this.#refilter();
  }

  #refilter(): void {
    for (const device of this.#devices) device.refilter();
  }

  #probeAll(): void {
    for (const apqn of apqnsOf(this.hardware.matrix)) if (!isReserved(this.#hostMasks, apqn)) this.#probe(apqn);
  }

  #probe(apqn: Apqn): void {
    const queue = this.hardware.queue(apqn);
    if (queue === undefined || this.#bound.has(apqn) || queue.card.type < OLDEST_TYPE) return;
    const lastReset = queue.status().empty ? RESPONSE.NORMAL : queue.reset().code; // nobody finds what somebody left
    this.#bound.set(apqn, { queue, lastReset });
  }

  /** A queue that a guest has is reset by its device; any other one here. */
  #unbind(apqn: Apqn): void {
    const used = this.queueUse(apqn) === 'in use';
    const bound = this.#bound.get(apqn);
    this.#bound.delete(apqn);
    if (!used) bound?.queue.reset();
  }
}

const isReserved = (masks: HostMasks, apqn: Apqn): boolean => hasApqn({ ...masks, controlDomains: ApMask.empty }, apqn);

const indicesOf = (matrix: ApMatrix): { domains: number[]; controlDomains: number[] } => ({
  domains: matrix.domains.indices(),
  controlDomains: matrix.controlDomains.indices(),
});
