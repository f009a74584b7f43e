import { catalogue, hex } from '@pinion/core';
import type { Problem } from './schema.js';

/** What VMs and their guests refuse. README.md has one row for each. */
export const vmErrors = catalogue('VM', {
  BAD_REGION: ['EINVAL', (d: { region: string; problem: string }) => `memory region ${d.region}: ${d.problem}`],
  REGION_EXISTS: [
    'EEXIST',
    (d: { region: string; other: string }) => `memory region ${d.region} overlaps region ${d.other}; move one of them`,
  ],
  NO_REGION: ['ENOENT', (d: { region: string }) => `there is no memory region named ${d.region}`],
  NO_MEMORY_AT: [
    'EFAULT',
    (d: { guest: string; address: bigint; length: number }) =>
      `guest ${d.guest} touched ${d.length} bytes at guest-physical ${hex(d.address)}, where it has no memory`,
  ],
  KILLED: [
    'ECANCELED',
    (d: { guest: string; what: string }) => `guest ${d.guest} was killed before or during: ${d.what}`,
  ],
  STOPPED: [
    'ECANCELED',
    (d: { guest: string; what: string }) => `guest ${d.guest} was stopped before or during: ${d.what}`,
  ],
  NO_DEVICE: ['ENODEV', (d: { device: string }) => `the VM has no device named ${d.device}`],
  WRONG_DRIVER: [
    'EINVAL',
    (d: { device: string; wanted: string }) =>
      `device ${d.device} was not made by the ${d.wanted} driver of this project`,
  ],
  DEVICE_EXISTS: ['EEXIST', (d: { device: string }) => `the VM has a device '${d.device}' of another process already`],
  UNPLUGGED: ['ENODEV', (d: { device: string }) => `device ${d.device} was unplugged`],
  GUEST_MEMORY_FULL: [
    'ENOMEM',
    (d: { size: number; used: bigint }) => `the guest's heap has no ${d.size} bytes in one piece; ${d.used} are in use`,
  ],
  BAD_PICTURE: ['EINVAL', (d: { problem: string }) => `not a picture: ${d.problem}`],
  SUBCHANNEL_TAKEN: ['EEXIST', (d: { subchannel: number }) => `subchannel ${hex(d.subchannel)} has a device already`],
  NO_SUBCHANNEL: ['ENODEV', (d: { subchannel: number }) => `there is no subchannel ${hex(d.subchannel)}`],
  NO_FUNCTION: [
    'ENODEV',
    (d: { slot: string; there: readonly string[] }) =>
      `no PCI function '${d.slot}'; there is ${d.there.join(', ') || 'none'}`,
  ],
  NOT_A_VGPU: [
    'ENODEV',
    (d: { slot: string }) => `PCI function '${d.slot}' is no GVT-g vGPU: PVINFO has no magic number`,
  ],
  NO_EXECLISTS: [
    'ENODEV',
    (d: { slot: string; caps: number }) =>
      `the vGPU '${d.slot}' announces no per-process tables or no status page (PVINFO capabilities ${hex(d.caps)})`,
  ],
  TOO_MANY_QUEUES: [
    'ENOSPC',
    (d: { slot: string; most: number }) => `the driver of '${d.slot}' has ${d.most} queues, more it cannot follow`,
  ],
  GPU_HUNG: [
    'EIO',
    (d: { slot: string; error: number; header: string }) =>
      `the blitter of '${d.slot}' stopped at command ${d.header} (EIR ${hex(d.error)})`,
  ],
  NO_QUEUE: [
    'ENODEV',
    (d: { queue: string; code: number | undefined }) =>
      `crypto queue ${d.queue} refused: ${d.code === undefined ? 'the guest has no AP matrix' : `response code ${hex(d.code)}`}`,
  ],
  NO_MATRIX: ['ENODEV', (_: object) => 'the guest has no AP matrix'],
  NO_HOST_MEMORY: [
    'ENOMEM',
    (d: { pages: number }) => `the host has no memory for ${d.pages} pages in one piece; use a smaller region`,
  ],
  NO_CARD: ['ENODEV', (d: { what: string }) => `no crypto card of this guest can make ${d.what}`],
  CRYPTO_FAILED: [
    'EIO',
    (d: { queue: string; code: number }) =>
      `the card behind queue ${d.queue} refused the message: reply code ${hex(d.code)}`,
  ],
  BAD_KEY: ['EINVAL', (d: { problem: string }) => `not a key to sign with: ${d.problem}`],
  NOT_A_DISK: ['ENODEV', (d: { slot: string }) => `PCI function '${d.slot}' is no passthrough disk`],
  DISK_FAILED: [
    'EIO',
    (d: { slot: string; status: string; at: bigint }) =>
      `disk '${d.slot}' ended a transfer at ${hex(d.at)} with status ${d.status}`,
  ],
  NOT_A_DASD: [
    'ENODEV',
    (d: { subchannel: number; type: number }) =>
      `the device behind subchannel ${hex(d.subchannel)} is a ${d.type.toString(16)}, which this driver does not know`,
  ],
  NO_IPL: [
    'EINVAL',
    (d: { command: number; count: number }) =>
      `the disk has no program to load: its first command is ${hex(d.command)} with ${d.count} bytes`,
  ],
  SUBCHANNEL_BUSY: [
    'EBUSY',
    (d: { subchannel: number; cc: number }) => `subchannel ${hex(d.subchannel)} is busy (condition code ${d.cc})`,
  ],
  IO_FAILED: [
    'EIO',
    (d: { subchannel: number; device: string; channel: string; sense: string }) =>
      `a channel program of subchannel ${hex(d.subchannel)} ended with device status ${d.device}, channel status ${d.channel}, sense ${d.sense}`,
  ],
  IO_LOST: [
    'ECANCELED',
    (d: { subchannel: number }) =>
      `the host cleared the channel program of subchannel ${hex(d.subchannel)}: memory it used was unmapped`,
  ],
  BAD_DESCRIPTION: [
    'EINVAL',
    (d: { file: string; problems: readonly Problem[] }) =>
      [
        `${d.problems.length} problem(s), nothing was started`,
        ...d.problems.map((each) => formatProblem(d.file, each)),
      ].join('\n  '),
  ],
  NO_CONTAINER: ['ENOENT', (d: { container: string }) => `the description has no container '${d.container}'`],
  NO_FILE: ['ENOENT', (d: { file: string }) => `VM description ${d.file} cannot be read`],
  NO_QEMU: ['ENOENT', (d: { folder: string }) => `no QEMU is set up in ${d.folder}; run 'npm run qemu:setup' once`],
  NO_MODULE: [
    'ENOENT',
    (d: { module: string; kernel: string }) => `the kit's kernel ${d.kernel} has no module ${d.module}`,
  ],
  NOT_FOR_QEMU: [
    'EINVAL',
    (d: { device: string; reason: string }) => `device ${d.device} cannot be in a VM of a real QEMU: ${d.reason}`,
  ],
  QEMU_FAILED: [
    'EIO',
    (d: { qemu: string; how: string; last: string }) =>
      `QEMU of ${d.qemu} ended by ${d.how}${d.last === '' ? '' : `; the last it said:\n${d.last}`}`,
  ],
  QEMU_TIMEOUT: [
    'ETIMEDOUT',
    (d: { what: string; limit: number; last: string }) =>
      `${d.what} took longer than ${d.limit} ms${d.last === '' ? '' : `; the last that was seen:\n${d.last}`}`,
  ],
  QMP_REFUSED: [
    'EIO',
    (d: { command: string; kind: string; problem: string }) =>
      `QEMU refused ${d.command}: ${d.problem}${d.kind === '' ? '' : ` (${d.kind})`}`,
  ],
  QMP_BROKEN: ['EIO', (d: { problem: string }) => `the connection to QEMU's monitor is broken: ${d.problem}`],
  GUEST_COMMAND: [
    'EIO',
    (d: { guest: string; code: string; status: number; output: string }) =>
      `guest ${d.guest}: '${d.code.trim().split('\n')[0]}' ended with status ${d.status}:\n${d.output}`,
  ],
  GUEST_REBOOTED: ['ECANCELED', (d: { guest: string }) => `guest ${d.guest} was rebooted during a command`],
});

/** A problem for people: `file:line:column path: what`. */
export const formatProblem = (file: string, { line, column, path, message }: Problem): string =>
  `${file}:${line}:${column} ${path === '' ? '' : `${path}: `}${message}`;
