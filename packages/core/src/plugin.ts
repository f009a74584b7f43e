import type { IommuBackendDriver } from './backend.js';
import { coreErrors } from './errors.js';
import type { Hypervisor } from './hypervisor.js';
import { CORE_VERSION, satisfiesCaret } from './semver.js';
import type { Teardown, Undo } from './teardown.js';
import { BACKENDS, HYPERVISORS, provide, resolve, type Scope, type Token, VENDOR_DRIVERS } from './tokens.js';
import type { VendorDriver } from './vendor-driver.js';

/** What a plugin registers with. Everything it registers or defers is undone when the mediator closes, newest first. */
export interface PluginScope {
  /** @throws CORE_PLUGIN_EXISTS (EEXIST) if a backend of that name is registered. */
  backend(driver: IommuBackendDriver): void;
  /** @throws CORE_PLUGIN_EXISTS (EEXIST), CORE_BAD_PLUGIN (EINVAL) for a driver without name or types. */
  vendorDriver(driver: VendorDriver): void;
  /** @throws CORE_PLUGIN_EXISTS (EEXIST). */
  hypervisor(hypervisor: Hypervisor): void;
  /** Makes a service of the plugin's own known under a token. @throws CORE_PLUGIN_EXISTS (EEXIST). */
  provide<T>(token: Token<T>, make: () => T): void;
  /** A service of core or of a plugin registered before. @throws CORE_NOT_PROVIDED (ENOENT). */
  get<T>(token: Token<T>): T;
  defer(undo: Undo): void;
}

/** A plugin: importing it does nothing, registering it does everything. */
export interface Plugin {
  readonly name: string;
  /** Which core it was made for, as a caret range: `^0.1`. */
  readonly core: string;
  /** Registers everything. A throw or a rejection undoes what it did. */
  register(scope: PluginScope): void | Promise<void>;
}

/** Freezes a plugin after looking at its shape. @throws CORE_BAD_PLUGIN (EINVAL). */
export function definePlugin<const P extends Plugin>(plugin: P): P {
  const name = typeof plugin.name === 'string' ? plugin.name : '';
  if (!/^[a-z][a-z0-9-]*$/.test(name)) {
    throw coreErrors.BAD_PLUGIN({
      plugin: name || '(unnamed)',
      problem: 'its name must be lower-case words joined by -',
    });
  }
  if (typeof plugin.register !== 'function')
    throw coreErrors.BAD_PLUGIN({ plugin: name, problem: 'register is no function' });
  return Object.freeze(plugin);
}

/** Registers a plugin in a mediator's scope; a `register` that throws leaves nothing behind. */
export async function registerPlugin(scope: Scope, plugin: Plugin, teardown: Teardown, own: Teardown): Promise<void> {
  if (!satisfiesCaret(CORE_VERSION, plugin.core)) {
    throw coreErrors.PLUGIN_VERSION({ plugin: plugin.name, wanted: plugin.core, core: CORE_VERSION });
  }
  try {
    await plugin.register(pluginScope(scope, plugin.name, own));
  } catch (cause) {
    await own.run();
    throw cause;
  }
  teardown.defer(() => own.run());
}

function pluginScope(scope: Scope, plugin: string, own: Teardown): PluginScope {
  const exists = (what: string): unknown => coreErrors.PLUGIN_EXISTS({ plugin, what });
  const addNamed = <T>(map: Map<string, T>, name: string, value: T, what: string): void => {
    if (map.has(name)) throw exists(`${what} ${name}`);
    map.set(name, value);
    own.defer(() => void map.delete(name));
  };
  return {
    backend(driver) {
      const backends = resolve(scope, BACKENDS);
      if (backends.some((other) => other.name === driver.name)) throw exists(`backend ${driver.name}`);
      backends.push(driver);
      own.defer(() => void backends.splice(backends.indexOf(driver), 1));
    },
    vendorDriver(driver) {
      checkDriver(plugin, driver);
      addNamed(resolve(scope, VENDOR_DRIVERS), driver.name, driver, 'vendor driver');
    },
    hypervisor(hypervisor) {
      addNamed(resolve(scope, HYPERVISORS), hypervisor.name, hypervisor, 'hypervisor');
    },
    provide: (token, make) => {
      provide(scope, token, make);
      own.defer(() => void scope.remove(token));
    },
    get: (token) => resolve(scope, token),
    defer: (undo) => own.defer(undo),
  };
}

function checkDriver(plugin: string, driver: VendorDriver): void {
  const bad = (problem: string): unknown => coreErrors.BAD_PLUGIN({ plugin, problem });
  if (driver.name === '') throw bad('a vendor driver needs a name');
  if (driver.deviceApi === '') throw bad(`vendor driver ${driver.name} has no deviceApi`);
  if (driver.types.length === 0) throw bad(`vendor driver ${driver.name} offers no types`);
  const ids = new Set(driver.types.map((type) => type.id));
  if (ids.size !== driver.types.length) throw bad(`vendor driver ${driver.name} offers a type twice`);
}
