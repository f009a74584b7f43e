import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { Registry, VmDescription } from './description.js';
import { checkDescription } from './description-checks.js';
import type { DeviceConfig, DeviceKind, ParentConfig } from './device-kind.js';
import { vmErrors } from './errors.js';
import {
  byteCount,
  list,
  oneOf,
  type Problem,
  parts,
  peek,
  peekText,
  Reader,
  record,
  type Shape,
  text,
} from './schema.js';

export type ReadResult =
  | { readonly ok: true; readonly description: VmDescription }
  | { readonly ok: false; readonly problems: readonly Problem[] };

/** Names are used in messages, tables and paths: short and without blanks. */
export const NAME = text('a name (letters, digits, . : _ -)', /^[\w.:-]{1,64}$/);
export const UUID = text('a UUID', /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i);

/**
 * Reads a description in YAML or JSON. Nothing is started, files are only looked at. Every problem is reported, not only the
 * first. `folder`: where relative paths begin.
 */
export function readDescription(source: { text: string; folder: string }, registry: Registry): ReadResult {
  const reader = new Reader(source.text, source.folder);
  const found = reader.read(shapeOf(registry));
  if (found !== undefined) checkDescription(found, registry, reader);
  const problems = reader.sorted;
  if (found === undefined || problems.length > 0) return { ok: false, problems };
  // why: the shape reports every key that is missing, and there is no report
  return { ok: true, description: found as VmDescription };
}

/** The description in a file. @throws VM_NO_FILE (ENOENT), VM_BAD_DESCRIPTION (EINVAL) with every problem, its line and its path. */
export function loadDescription(file: string, registry: Registry): VmDescription {
  const result = readDescription({ text: readText(file), folder: dirname(resolve(file)) }, registry);
  if (!result.ok) throw vmErrors.BAD_DESCRIPTION({ file, problems: result.problems });
  return result.description;
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw vmErrors.NO_FILE({ file }, cause);
  }
}

function shapeOf(registry: Registry): Shape<Partial<VmDescription>> {
  const iommu = iommuShape(registry);
  const devices = list(deviceShape(registry.kinds));
  return parts(
    {
      name: NAME,
      hypervisor: oneOf('hypervisor', [...registry.hypervisors.keys()]),
      memory: list(record({ name: NAME, at: byteCount, size: byteCount }, {})),
      containers: list(record({ name: NAME, iommu, devices }, {})),
    },
    { groups: list(record({ name: NAME }, {})), parents: list(parentShape(registry.kinds)), memlock: byteCount },
  );
}

/** A type that can serve; one that exists but cannot is refused with what to change. */
const iommuShape =
  ({ iommuTypes, unservedIommuTypes }: Registry): Shape<string> =>
  (place, reader) => {
    const reason = unservedIommuTypes?.get(peekText(place) ?? '');
    if (reason !== undefined) return reader.report(place, reason);
    return oneOf('IOMMU type', [...iommuTypes.keys()])(place, reader);
  };

const parentShape =
  (kinds: ReadonlyMap<string, DeviceKind>): Shape<ParentConfig> =>
  (place, reader) => {
    const kind = kinds.get(peek(place, 'driver') ?? '');
    const driver = oneOf('driver of mediated devices', namesOf(kinds, true));
    const common = { name: NAME, driver };
    const keys = kind?.parentKeys;
    if (keys === undefined) return open(record(common, {}), kind === undefined)(place, reader);
    return record({ ...keys.required, ...common }, keys.optional)(place, reader);
  };

const deviceShape =
  (kinds: ReadonlyMap<string, DeviceKind>): Shape<DeviceConfig> =>
  (place, reader) => {
    const kind = kinds.get(peek(place, 'driver') ?? '');
    const common = { name: NAME, driver: oneOf('device driver', namesOf(kinds)) };
    if (kind === undefined) return open(record({ ...common, type: NAME }, {}), true)(place, reader);
    const type = oneOf(`type of driver ${kind.driver}`, kind.types);
    const owner = kind.mediated ? { parent: NAME, uuid: UUID } : { group: NAME };
    const { required, optional } = kind.deviceKeys;
    return record({ ...required, ...common, ...owner, type }, optional)(place, reader);
  };

/** Of an unknown kind the other keys cannot be judged: only the driver is reported. */
const open =
  <T>(shape: Shape<T>, unknownKind: boolean): Shape<T> =>
  (place, reader) => {
    if (!unknownKind) return shape(place, reader);
    const before = reader.problems.length;
    const value = shape(place, reader);
    const kept = reader.problems.splice(before).filter(({ path }) => path.endsWith('.driver') || path === place.path);
    reader.problems.push(...kept);
    return value;
  };

const namesOf = (kinds: ReadonlyMap<string, DeviceKind>, mediated?: boolean): string[] =>
  [...kinds.values()]
    .filter((kind) => mediated === undefined || kind.mediated === mediated)
    .map(({ driver }) => driver);
