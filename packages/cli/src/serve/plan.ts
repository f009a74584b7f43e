import { createHash } from 'node:crypto';
import type { ActivatedSocket, ListenOn } from '@pinion/vfio-user';
import { cliErrors } from '../errors.js';
import type { DeviceRequest } from './device-request.js';

/** One device as it will be served: every default is filled in. */
export interface PlannedDevice {
  readonly request: DeviceRequest;
  readonly name: string;
  readonly vm: string;
  readonly uuid: string;
  readonly on: ListenOn;
}

export const DEFAULT_VM = 'vm';
/** As `vm`: recognised by the memory that clients map. */
export const AUTO_VM = 'auto';
/** As `device`: the only vendor driver of the plugins that were named. */
export const ONLY_DRIVER = '*';
/** What such a device is called, unless it says so itself. */
const PLUGIN_NAME = 'plugin';

/**
 * Gives every device its name, VM, UUID and socket. Devices without `socket` or `fd` take the sockets that systemd passed: the
 * one of their name, or else the next one that is of no other's. @throws CLI_BAD_PLAN (EINVAL) when a name or socket is missing or taken.
 */
export function planDevices(
  requests: readonly DeviceRequest[],
  about: { readonly vm?: string; readonly activated: readonly ActivatedSocket[] },
): readonly PlannedDevice[] {
  const names = namesOf(requests);
  const sockets = new Sockets(about.activated, new Set(names));
  const planned = requests.map((request, index) => {
    const name = names[index] ?? request.device;
    const vm = request.vm ?? about.vm ?? DEFAULT_VM;
    return {
      request,
      name,
      vm,
      uuid: request.uuid?.toLowerCase() ?? uuidOf(vm, name),
      on: sockets.take(request, name),
    };
  });
  checkUnique(
    'UUID',
    planned.map(({ uuid }) => uuid),
  );
  sockets.checkAllTaken();
  return planned;
}

function namesOf(requests: readonly DeviceRequest[]): readonly string[] {
  const taken = new Set(requests.flatMap(({ name }) => name ?? []));
  checkUnique(
    'name',
    requests.flatMap(({ name }) => name ?? []),
  );
  return requests.map(({ name, device }) => {
    if (name !== undefined) return name;
    const base = device === ONLY_DRIVER ? PLUGIN_NAME : device;
    let free = base;
    for (let number = 2; taken.has(free); number += 1) free = `${base}.${number}`;
    taken.add(free);
    return free;
  });
}

function checkUnique(what: string, values: readonly (string | number)[]): void {
  const twice = values.find((value, index) => values.indexOf(value) !== index);
  if (twice !== undefined)
    throw cliErrors.BAD_PLAN({ problem: `two devices have the ${what} ${twice}; each needs its own` });
}

/** A UUID (version 8: of our own making) that is the same whenever the names are. Source: RFC 9562, section 5.8. */
export function uuidOf(vm: string, name: string): string {
  const bytes = createHash('sha256').update(`pinion/${vm}/${name}`).digest();
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = bytes.toString('hex', 0, 16);
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** Which socket is whose. */
class Sockets {
  readonly #activated: ActivatedSocket[];
  readonly #names: ReadonlySet<string>;
  readonly #taken = new Set<string>();

  constructor(activated: readonly ActivatedSocket[], names: ReadonlySet<string>) {
    this.#activated = [...activated];
    this.#names = names;
  }

  take({ socket, fd }: DeviceRequest, name: string): ListenOn {
    if (socket !== undefined && fd !== undefined) {
      throw cliErrors.BAD_PLAN({ problem: `device ${name} has both socket and fd; it is served on one of them` });
    }
    if (socket !== undefined) return this.#own({ path: socket }, `socket ${socket}`);
    if (fd !== undefined) return this.#own({ fd }, `descriptor ${fd}`);
    const passed =
      this.#activated.find((each) => each.name === name) ??
      this.#activated.find((each) => each.name === undefined || !this.#names.has(each.name));
    if (passed !== undefined) {
      this.#activated.splice(this.#activated.indexOf(passed), 1);
      return this.#own({ fd: passed.fd }, `descriptor ${passed.fd}`);
    }
    throw cliErrors.BAD_PLAN({
      problem: `device ${name} has no socket; give it one (--socket-path or socket=PATH, --fd or fd=N), or let systemd pass one`,
    });
  }

  checkAllTaken(): void {
    const [left] = this.#activated;
    if (left === undefined) return;
    throw cliErrors.BAD_PLAN({
      problem: `systemd passed socket ${left.name ?? left.fd}, and no device is left for it`,
    });
  }

  #own(on: ListenOn, what: string): ListenOn {
    if (this.#taken.has(what)) throw cliErrors.BAD_PLAN({ problem: `two devices have ${what}; each needs its own` });
    this.#taken.add(what);
    return on;
  }
}
