import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { definePlugin, type Plugin } from '@pinion/core';
import { cliErrors } from '../errors.js';
import type { PluginOptions } from './device-request.js';

/** What a module gives: one plugin for all its devices, or a function that makes one per device with that device's options. */
export type PluginSource =
  | { readonly module: string; readonly plugin: Plugin }
  | { readonly module: string; readonly make: (options: PluginOptions) => Plugin };

/** A path or a package, and the folder that it is seen from. */
export interface ModuleName {
  readonly name: string;
  readonly folder: string;
}

/**
 * Loads a plugin: a path (that begins with a dot or slash, or leads to a file), or the name of a package as `folder` sees it. The plugin is the default
 * export, or the only export that is a plugin; a function in that place is called once per device.
 * @throws CLI_NO_PLUGIN (ENOENT), CLI_NOT_A_PLUGIN (EINVAL).
 */
export async function loadPlugin({ name: module, folder }: ModuleName): Promise<PluginSource> {
  const exports = await importModule(module, folder);
  const candidates = 'default' in exports ? [exports['default']] : Object.values(exports);
  const plugins = candidates.filter(isPlugin);
  const [plugin] = plugins;
  if (plugin !== undefined && plugins.length === 1) return { module, plugin };
  const functions = candidates.filter(isFactory);
  const [factory] = functions;
  if (plugin === undefined && factory !== undefined && functions.length === 1) {
    return { module, make: (options) => checked(module, factory(options)) };
  }
  throw cliErrors.NOT_A_PLUGIN({
    module,
    problem: `it exports ${plugins.length} plugins and ${functions.length} functions`,
  });
}

/** A module's exports. @throws CLI_NO_PLUGIN (ENOENT) with why it cannot be loaded. */
export async function importModule(module: string, folder: string): Promise<Readonly<Record<string, unknown>>> {
  try {
    return await import(urlOf(module, folder));
  } catch (cause) {
    throw cliErrors.NO_PLUGIN({ module, problem: cause instanceof Error ? cause.message : String(cause) }, cause);
  }
}

function urlOf(module: string, folder: string): string {
  const path = resolve(folder, module);
  if (/^[./]/.test(module) || existsSync(path)) return pathToFileURL(path).href;
  return pathToFileURL(createRequire(join(folder, 'package.json')).resolve(module)).href;
}

const isFactory = (value: unknown): value is (options: PluginOptions) => unknown => typeof value === 'function';

function isPlugin(value: unknown): value is Plugin {
  const about: { name?: unknown; core?: unknown; register?: unknown } = Object(value);
  return typeof about.name === 'string' && typeof about.core === 'string' && typeof about.register === 'function';
}

/** @throws CLI_NOT_A_PLUGIN (EINVAL), CORE_BAD_PLUGIN (EINVAL). */
function checked(module: string, made: unknown): Plugin {
  if (!isPlugin(made)) throw cliErrors.NOT_A_PLUGIN({ module, problem: 'what its function makes is none' });
  return definePlugin({ name: made.name, core: made.core, register: (scope) => made.register(scope) });
}
