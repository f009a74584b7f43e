import { type ContainerInstance, Container as RootContainer, Token } from 'typedi';
import type { IommuBackendDriver } from './backend.js';
import { MediatorBus } from './bus.js';
import type { Clock } from './clock.js';
import { coreErrors } from './errors.js';
import type { Hypervisor } from './hypervisor.js';
import type { Log } from './log.js';
import type { HostMemory } from './memory.js';
import type { VendorDriver } from './vendor-driver.js';

/**
 * The only file that knows typedi. Typed tokens and factories, one scope per mediator, nothing in the global container,
 * no decorators. typedi overwrites a second value silently and does not check a factory's type: `provide` does both.
 */

export { Token };

/** A typedi container, called scope because container is a VFIO word here. */
export type Scope = ContainerInstance;

/** The bus of facts: one per mediator. */
export const BUS: Token<MediatorBus> = new Token('pinion.bus');
/** Where diagnostics go. */
export const LOG: Token<Log> = new Token('pinion.log');
/** Time, for watchdogs and repeated requests. */
export const CLOCK: Token<Clock> = new Token('pinion.clock');
/** The pages that addresses lead to. */
export const HOST_MEMORY: Token<HostMemory> = new Token('pinion.host-memory');
/** Registered backends, in order of registration. */
export const BACKENDS: Token<IommuBackendDriver[]> = new Token('pinion.backends');
/** Registered vendor drivers by name. */
export const VENDOR_DRIVERS: Token<Map<string, VendorDriver>> = new Token('pinion.vendor-drivers');
/** Registered hypervisors by name. */
export const HYPERVISORS: Token<Map<string, Hypervisor>> = new Token('pinion.hypervisors');

let scopes = 0;

/** A fresh scope with the services every mediator has. End it with `endScope`. */
export function createScope(services: { memory: HostMemory; clock: Clock; log: Log }): Scope {
  scopes += 1;
  const scope = RootContainer.of(`pinion-${scopes}`);
  provide(scope, HOST_MEMORY, () => services.memory);
  provide(scope, CLOCK, () => services.clock);
  provide(scope, LOG, () => services.log);
  provide(scope, BUS, () => new MediatorBus());
  provide(scope, BACKENDS, () => []);
  provide(scope, VENDOR_DRIVERS, () => new Map());
  provide(scope, HYPERVISORS, () => new Map());
  return scope;
}

/** Registers how to make the service behind `token`; made at first `get`. @throws CORE_PLUGIN_EXISTS (EEXIST). */
export function provide<T>(scope: Scope, token: Token<T>, make: (scope: Scope) => T): void {
  if (scope.has(token))
    throw coreErrors.PLUGIN_EXISTS({ plugin: scope.id.toString(), what: token.name ?? 'a service' });
  scope.set({ id: token, factory: () => make(scope) });
}

/** The service behind `token`. @throws CORE_NOT_PROVIDED (ENOENT). */
export function resolve<T>(scope: Scope, token: Token<T>): T {
  if (!scope.has(token)) throw coreErrors.NOT_PROVIDED({ what: token.name ?? 'the service' });
  return scope.get(token);
}

/** Forgets the scope and all its services. Undoing what they started is the mediator's teardown, not typedi's. */
export function endScope(scope: Scope): void {
  RootContainer.reset(scope.id);
}
