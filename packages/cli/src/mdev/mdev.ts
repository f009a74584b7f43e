import { randomUUID } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { MdevParent } from '@pinion/core';
import { deviceKinds } from '@pinion/example-devices';
import {
  createRegistry,
  type DeviceConfig,
  Host,
  loadDescription,
  qemu,
  type Registry,
  type VmDescription,
  withDevice,
  withoutDevice,
} from '@pinion/vm';
import type { Context } from '../context.js';
import { cliErrors } from '../errors.js';
import { EXIT } from '../exit-codes.js';
import { jsonLine } from '../output.js';

interface FileFlags {
  readonly file: string;
}
export interface TypesFlags extends FileFlags {
  readonly parent?: string;
  readonly dumpjson?: true;
}
export interface ListFlags extends FileFlags {
  readonly defined?: true;
  readonly uuid?: string;
  readonly parent?: string;
  readonly verbose?: true;
  readonly dumpjson?: true;
}
export interface DefineFlags extends FileFlags {
  readonly parent: string;
  readonly type: string;
  readonly uuid?: string;
  readonly name?: string;
  readonly container?: string;
  readonly attr: readonly string[];
}
export interface UndefineFlags extends FileFlags {
  readonly uuid: string;
}

/** Keys of a device that are no attributes. */
const COMMON = ['name', 'driver', 'type', 'parent', 'uuid', 'group'];

interface Opened {
  readonly file: string;
  readonly registry: Registry;
  readonly description: VmDescription;
}

/** @throws VM_NO_FILE (ENOENT), VM_BAD_DESCRIPTION (EINVAL). */
function open({ file: path }: FileFlags, { around }: Context): Opened {
  const file = resolve(around.folder, path);
  const registry = createRegistry({ kinds: deviceKinds(), hypervisors: [qemu] });
  return { file, registry, description: loadDescription(file, registry) };
}

/** `mdevctl types`: builds the host of the description and asks its parents. */
export async function types(flags: TypesFlags, context: Context): Promise<number> {
  const { description, registry } = open(flags, context);
  const host = await Host.create(description, { registry, log: context.output });
  try {
    const parents = [...host.mediator.parents.values()].filter(
      ({ name }) => flags.parent === undefined || name === flags.parent,
    );
    const dump = parents.map((parent) => ({
      [parent.name]: parent.types.map((type) => ({ [`${parent.driver.name}-${type.id}`]: factsOf(parent, type.id) })),
    }));
    print(context, { dump, lines: parents.flatMap(typeLines), json: flags.dumpjson });
    return EXIT.OK;
  } finally {
    await host.close();
  }
}

/** What sysfs shows of a type. A driver without a limit has no number, as JSON has none for it. */
function factsOf(parent: MdevParent, id: string): Readonly<Record<string, unknown>> {
  const type = parent.types.find((each) => each.id === id);
  const available = parent.availableInstances(id);
  return {
    ...(Number.isFinite(available) ? { available_instances: available } : {}),
    device_api: parent.driver.deviceApi,
    ...(type?.prettyName === undefined ? {} : { name: type.prettyName }),
    ...(type?.description === undefined ? {} : { description: type.description }),
  };
}

function typeLines(parent: MdevParent): readonly string[] {
  const lines = parent.types.flatMap(({ id, prettyName, description }) => [
    `  ${parent.driver.name}-${id}`,
    `    Available instances: ${factsOf(parent, id)['available_instances'] ?? 'unlimited'}`,
    `    Device API: ${parent.driver.deviceApi}`,
    ...(prettyName === undefined ? [] : [`    Name: ${prettyName}`]),
    ...(description === undefined ? [] : [`    Description: ${description.trim().replaceAll('\n', ' ')}`]),
  ]);
  return [parent.name, ...lines];
}

/** `mdevctl list`. */
export async function list(flags: ListFlags, context: Context): Promise<number> {
  const { description } = open(flags, context);
  const devices = flags.defined === true ? mediated(description).filter((device) => isWanted(device, flags)) : [];
  const parents = [...new Set(devices.map(({ parent }) => parent))];
  const dump = parents.map((parent) => ({
    [parent]: devices
      .filter((device) => device.parent === parent)
      .map((device) => ({ [device.uuid]: definitionOf(device) })),
  }));
  const lines = devices.flatMap((device) => [
    `${device.uuid} ${device.parent} ${device.driver}-${device.type} auto`,
    ...(flags.verbose === true ? attributeLines(device) : []),
  ]);
  print(context, { dump, lines, json: flags.dumpjson });
  return EXIT.OK;
}

type Mediated = DeviceConfig & { readonly parent: string; readonly uuid: string };

const mediated = ({ containers }: VmDescription): readonly Mediated[] =>
  containers
    .flatMap(({ devices }) => devices)
    .flatMap((device) => {
      const { parent, uuid } = device;
      return parent === undefined || uuid === undefined ? [] : [{ ...device, parent, uuid }];
    });

const isWanted = ({ uuid, parent }: Mediated, flags: ListFlags): boolean =>
  (flags.uuid === undefined || flags.uuid.toLowerCase() === uuid.toLowerCase()) &&
  (flags.parent === undefined || flags.parent === parent);

/** A list of records with one key each, because order counts where they are written to sysfs. */
const attributesOf = (device: Mediated): readonly Readonly<Record<string, string>>[] =>
  Object.entries(device)
    .filter(([key]) => !COMMON.includes(key))
    .map(([key, value]) => ({ [key]: JSON.stringify(value) }));

/** A file of /etc/mdevctl.d. A description's devices are plugged in at its start. */
const definitionOf = (device: Mediated): object => ({
  mdev_type: `${device.driver}-${device.type}`,
  start: 'auto',
  attrs: attributesOf(device),
});

function attributeLines(device: Mediated): readonly string[] {
  const attributes = attributesOf(device);
  if (attributes.length === 0) return [];
  return ['  Attrs:', ...attributes.map((attribute, index) => `    @{${index}}: ${JSON.stringify(attribute)}`)];
}

/** `mdevctl define`: the file is changed only into a good description. */
export async function define(flags: DefineFlags, context: Context): Promise<number> {
  const opened = open(flags, context);
  const { description } = opened;
  const parent = description.parents?.find(({ name }) => name === flags.parent);
  if (parent === undefined) {
    const known = description.parents?.map(({ name }) => name).join(', ') ?? '';
    throw cliErrors.BAD_VALUE({
      option: '--parent',
      value: flags.parent,
      wanted: `a parent of the description: ${known || 'it has none'}`,
    });
  }
  const uuid = flags.uuid ?? randomUUID();
  const [first] = uuid.split('-');
  const prefix = `${parent.driver}-`;
  const type = flags.type.startsWith(prefix) ? flags.type.slice(prefix.length) : flags.type;
  const keys = { name: flags.name ?? `mdev-${first}`, driver: parent.driver, type, parent: parent.name, uuid };
  const container = flags.container ?? description.containers[0]?.name ?? '';
  replace(opened, (edit) => withDevice(edit, { container, keys, settings: settingsFrom(flags.attr) }));
  context.output.event(
    { event: 'defined', uuid, parent: parent.name, type: `${prefix}${type}` },
    flags.uuid === undefined ? uuid : undefined,
  );
  return EXIT.OK;
}

function settingsFrom(pairs: readonly string[]): Readonly<Record<string, string>> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=');
      if (at > 0) return [pair.slice(0, at), pair.slice(at + 1)];
      throw cliErrors.BAD_VALUE({ option: '--attr', value: pair, wanted: 'KEY=VALUE' });
    }),
  );
}

/** Text, or the dump: indented as mdevctl has it for `--dumpjson`, on one line for `--json`. */
function print(
  { output, around }: Context,
  about: { dump: unknown; lines: readonly string[]; json: true | undefined },
): void {
  if (output.json) around.out(jsonLine(about.dump));
  else if (about.json === true) around.out(`${JSON.stringify(about.dump, null, 2)}\n`);
  else for (const line of about.lines) around.out(`${line}\n`);
}

/** `mdevctl undefine`. */
export async function undefine(flags: UndefineFlags, context: Context): Promise<number> {
  const opened = open(flags, context);
  replace(opened, (edit) => withoutDevice(edit, flags.uuid));
  context.output.event({ event: 'undefined', uuid: flags.uuid }, undefined);
  return EXIT.OK;
}

/** The file is replaced as a whole: whoever reads it meanwhile sees the old one or the new one. */
function replace({ file, registry }: Opened, change: (edit: Parameters<typeof withDevice>[0]) => string): void {
  const text = change({ text: readFileSync(file, 'utf8'), file, folder: dirname(file), registry });
  const next = `${file}.${process.pid}`;
  writeFileSync(next, text);
  renameSync(next, file);
}
