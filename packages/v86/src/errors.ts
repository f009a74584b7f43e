import { catalogue, hex } from '@pinion/core';

/** What this hypervisor refuses. README.md has one row for each. */
export const v86Errors = catalogue('V86', {
  WRONG_VERSION: [
    'EINVAL',
    (d: { found: string; wanted: string }) =>
      `the installed v86 is ${d.found}; its inner interface is only known for ${d.wanted}: install exactly that`,
  ],
  OTHER_INTERFACE: [
    'EINVAL',
    (d: { missing: readonly string[] }) =>
      `the emulator's module has no ${d.missing.join(', ')}: it is not the version that this adapter was written for`,
  ],
  NOT_STARTED: ['EIO', (d: { why: string }) => `the emulator did not start: ${d.why}`],
  SELF_TEST: [
    'EIO',
    (d: { step: string; expected: string; found: string }) =>
      `self-test of the emulator failed at '${d.step}': expected ${d.expected}, found ${d.found}; is it another version?`,
  ],
  BAD_IMAGE: ['EINVAL', (d: { problem: string }) => `no kernel that can be booted: ${d.problem}`],
  BAD_MEMORY: ['EINVAL', (d: { problem: string }) => `memory that this CPU cannot have: ${d.problem}`],
  NOT_A_PC_DEVICE: [
    'EINVAL',
    (d: { devices: readonly string[]; hypervisor: string }) =>
      `hypervisor ${d.hypervisor} has a PCI bus and nothing else; it cannot have: ${d.devices.join(', ')}`,
  ],
  NO_SLOT: [
    'ENOSPC',
    (d: { name: string; slots: number }) => `no slot for ${d.name}: the bus has ${d.slots}, all in use`,
  ],
  CPU_FAULT: [
    'EFAULT',
    (d: { why: string }) => `the guest stopped its CPU with a fault that nobody handles (a PC would reset): ${d.why}`,
  ],
  RUNAWAY: [
    'ETIMEDOUT',
    (d: { accesses: number }) =>
      `the guest made ${d.accesses} accesses outside of RAM without giving anybody else a turn; the CPU was stopped`,
  ],
  MEMORY_MOVED: [
    'EFAULT',
    (d: { from: number; to: number }) =>
      `the emulator moved its memory (${hex(d.from)} to ${hex(d.to)} bytes) under pages that devices may hold; the CPU was stopped`,
  ],
  STOPPED: ['ECANCELED', (d: { guest: string }) => `the CPU of guest ${d.guest} was stopped`],
  RUNNING: ['EBUSY', (d: { guest: string }) => `the CPU of guest ${d.guest} was started already; start another VM`],
});
