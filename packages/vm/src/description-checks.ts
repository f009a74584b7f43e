import { EXTENSION, formatRange, frameRange, PAGE_SHIFT } from '@pinion/core';
import type { ContainerConfig, MemoryConfig, Registry, VmDescription } from './description.js';
import type { DeviceConfig, ParentConfig } from './device-kind.js';
import { regionProblem } from './guest-memory.js';
import type { Reader } from './schema.js';

/** What no single value can tell: names that are taken or lead nowhere, memory that overlaps. Reports to `reader`. */
export function checkDescription(description: Partial<VmDescription>, registry: Registry, reader: Reader): void {
  const { memory, groups = [], parents = [], containers = [] } = description;
  const devices = containers.flatMap((container) => container.devices);
  for (const named of [memory ?? [], groups, parents, containers, devices]) checkUnique(named, 'name', reader);
  checkUnique(devices, 'uuid', reader, (uuid) => uuid.toLowerCase());
  if (memory !== undefined) checkMemory(description, memory, reader);
  for (const device of devices) checkDevice(device, description, { registry, parents, reader });
  for (const kind of registry.kinds.values()) {
    const own = devices.filter((device) => device.driver === kind.driver);
    for (const key of kind.uniqueKeys ?? []) checkUnique(own, key, reader);
  }
  checkGroups(description, containers, reader);
  for (const container of containers) checkPins(container, registry, reader);
  checkParents(parents, registry, reader);
}

/** Reports every record but the first that has a value of `key` which another one has, too. */
function checkUnique(
  records: readonly object[],
  key: string,
  reader: Reader,
  fold: (value: string) => string = (value) => value,
): void {
  const seen = new Set<string>();
  for (const each of records) {
    const value: unknown = Object.entries(each).find(([name]) => name === key)?.[1];
    if (value === undefined) continue;
    const folded = fold(String(value));
    if (seen.has(folded)) reader.reportAt(each, key, `'${String(value)}' is taken already`);
    seen.add(folded);
  }
}

function checkMemory(description: object, memory: readonly MemoryConfig[], reader: Reader): void {
  if (memory.length === 0 && !reader.isPartial('memory'))
    reader.reportAt(description, 'memory', 'needs at least one region');
  for (const [index, region] of memory.entries()) {
    const problem = regionProblem(region);
    if (problem !== undefined) reader.reportAt(region, 'size', problem);
    for (const other of memory.slice(0, index)) {
      const overlaps = region.at < other.at + other.size && other.at < region.at + region.size;
      if (overlaps) reader.reportAt(region, 'at', `overlaps region ${other.name} at ${shownRange(other)}`);
    }
  }
}

const shownRange = ({ at, size }: MemoryConfig): string => {
  const shift = BigInt(PAGE_SHIFT);
  return formatRange(frameRange(Number(at >> shift), Math.max(1, Number(size >> shift))));
};

function checkDevice(
  device: DeviceConfig,
  description: Partial<VmDescription>,
  about: { registry: Registry; parents: readonly ParentConfig[]; reader: Reader },
): void {
  const { registry, parents, reader } = about;
  const kind = registry.kinds.get(device.driver);
  const hypervisor = registry.hypervisors.get(description.hypervisor ?? '');
  if (hypervisor !== undefined && kind !== undefined && !hypervisor.deviceApis.includes(kind.deviceApi)) {
    const can = hypervisor.deviceApis.join(', ') || 'none';
    reader.reportAt(
      device,
      'driver',
      `hypervisor ${hypervisor.name} cannot have ${kind.deviceApi} devices; it can have ${can}`,
    );
  }
  if (kind?.mediated !== true || reader.isPartial('parents')) return;
  const parent = parents.find(({ name }) => name === device.parent);
  if (parent === undefined) {
    reader.reportAt(device, 'parent', `there is no parent '${device.parent}'; there is ${shownNames(parents)}`);
  } else if (parent.driver !== device.driver) {
    reader.reportAt(
      device,
      'parent',
      `parent ${parent.name} is of driver ${parent.driver}, the device of ${device.driver}`,
    );
  } else if (kind.offers?.(parent).includes(device.type) === false) {
    const offered = kind.offers(parent).join(', ') || 'none';
    reader.reportAt(device, 'type', `parent ${parent.name} offers no type ${device.type}; it offers ${offered}`);
  }
}

/** type1 in its first version cannot pin, and drivers find out only when they try. */
function checkPins(container: ContainerConfig, registry: Registry, reader: Reader): void {
  if (registry.iommuTypes.get(container.iommu) !== EXTENSION.TYPE1_IOMMU) return;
  const pinning = container.devices.filter(({ driver }) => {
    const kind = registry.kinds.get(driver);
    return kind?.mediated === true && kind.pins !== false;
  });
  if (pinning.length === 0) return;
  reader.reportAt(
    container,
    'iommu',
    `${container.iommu} cannot pin memory for mediated devices (${shownNames(pinning)}); use type1v2`,
  );
}

function checkParents(parents: readonly ParentConfig[], registry: Registry, reader: Reader): void {
  for (const kind of registry.kinds.values()) {
    const most = (kind.mediated ? kind.maxParents : undefined) ?? Number.POSITIVE_INFINITY;
    for (const parent of parents.filter(({ driver }) => driver === kind.driver).slice(most)) {
      reader.reportAt(parent, 'driver', `driver ${kind.driver} serves ${most} parent; there is one already`);
    }
  }
  for (const parent of parents) {
    const kind = registry.kinds.get(parent.driver);
    if (kind?.mediated !== true) continue;
    kind.checkParent?.(parent, (key, message) => reader.reportAt(parent, key, message));
  }
}

/** A group belongs to one container: it is the unit that an IOMMU isolates. */
function checkGroups(
  { groups = [] }: Partial<VmDescription>,
  containers: readonly ContainerConfig[],
  reader: Reader,
): void {
  const owners = new Map<string, string>();
  for (const { name, devices } of containers) {
    for (const device of devices) {
      if (device.group === undefined) continue;
      if (!reader.isPartial('groups') && !groups.some((group) => group.name === device.group)) {
        reader.reportAt(device, 'group', `there is no group '${device.group}'; there is ${shownNames(groups)}`);
      }
      const owner = owners.get(device.group) ?? name;
      if (owner !== name) reader.reportAt(device, 'group', `group ${device.group} is in container ${owner} already`);
      owners.set(device.group, owner);
    }
  }
}

const shownNames = (named: readonly { name: string }[]): string => named.map(({ name }) => name).join(', ') || 'none';
