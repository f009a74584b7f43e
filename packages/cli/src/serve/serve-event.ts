import { type FrameRange, formatRange, frameAddress, type Mediator } from '@pinion/core';
import type { ListenOn } from '@pinion/vfio-user';
import type { Leftovers, ServedDevicesOptions } from '@pinion/vm';
import type { Output } from '../output.js';
import type { PlannedDevice } from './plan.js';

export const nothingLeft = ({ mappings, pins, lockedPages, open }: Leftovers): boolean =>
  mappings === 0 && pins === 0 && lockedPages === 0 && open.length === 0;

const placeOf = (on: ListenOn): string => ('path' in on ? on.path : `descriptor ${on.fd}`);

/** The option that connects a QEMU to the device. */
const qemuOption = (path: string): string =>
  `-device '${JSON.stringify({ driver: 'vfio-user-pci', socket: { path, type: 'unix' } })}'`;

export function sayListening(output: Output, { name, vm, uuid, request, on }: PlannedDevice): void {
  const how = 'path' in on ? `\n  QEMU: ${qemuOption(on.path)}` : '';
  const event = { event: 'listening', device: name, kind: request.device, vm, uuid };
  output.event(
    { ...event, ...('path' in on ? { socket: on.path } : { fd: on.fd }) },
    `${name}: listening on ${placeOf(on)}${how}`,
  );
}

/** Tells of the clients that come and go. */
export const clientEvents = (output: Output): Pick<ServedDevicesOptions, 'connected' | 'disconnected'> => ({
  connected: (device, client) =>
    output.event({ event: 'connected', device, client }, `${device}: client ${client} connected`),
  disconnected: (device, client) =>
    output.event({ event: 'disconnected', device, client }, `${device}: client ${client} is gone`),
});

export function sayStopped(output: Output, left: Leftovers): void {
  const { mappings, pins, lockedPages, open } = left;
  const counts = `${mappings} mappings, ${pins} pins, ${lockedPages} locked pages, ${open.length} descriptors`;
  const names = open.length === 0 ? '' : ` (${open.join(', ')})`;
  output.event({ event: 'stopped', left, ok: nothingLeft(left) }, `stopped: ${counts} left${names}`);
}

const bytesOf = (range: FrameRange): object => ({
  first: frameAddress(range.first),
  last: frameAddress(range.last) + 0xfffn,
});

/** Tells what goes wrong in the mediator, and (at level `debug` only: there is one for every transfer) what is mapped and pinned. */
export function followFacts(output: Output, mediator: Mediator, nameOf: (uuid: string) => string): void {
  const { bus } = mediator;
  bus.on('pages:leaked', ({ device, driver, frames }) => {
    output.warn(`${nameOf(device)} (driver ${driver}) left pins on ${frames.length} pages`);
  });
  bus.on('driver:failed', ({ device, driver, duty, error }) => {
    output.warn(`${duty} of ${nameOf(device)} (driver ${driver}) failed`, error);
  });
  bus.on('backend:warned', ({ container, message }) => output.warn(`${container}: ${message}`));
  if (output.level === 'debug') followTransfers(output, mediator, nameOf);
}

function followTransfers(output: Output, { bus }: Mediator, nameOf: (uuid: string) => string): void {
  const say = (event: string, who: string, range: FrameRange): void =>
    output.debug({ event, who, ...bytesOf(range) }, `${who}: ${event} ${formatRange(range)}`);
  bus.on('dma:mapped', ({ container, range }) => say('dma:mapped', container, range));
  bus.on('dma:unmapped', ({ container, range }) => say('dma:unmapped', container, range));
  bus.on('pages:pinned', ({ device, range }) => say('pages:pinned', nameOf(device), range));
  bus.on('pages:unpinned', ({ device, range }) => say('pages:unpinned', nameOf(device), range));
}
