import { catalogue } from '@pinion/core';

/** Every error of this package; README.md has one row for each. */
export const errors = catalogue('AP', {
  NOT_AN_INDEX: [
    'EINVAL',
    (at: { what: string; value: number }) => `${at.what} ${at.value} is not a whole number >= 0`,
  ],
  NO_SUCH_INDEX: [
    'ENODEV',
    (at: { what: string; value: number; max: number }) =>
      `${at.what} ${at.value} is above the machine's maximum ${at.max}`,
  ],
  RESERVED: [
    'EADDRNOTAVAIL',
    (at: { device: string; apqn: string }) =>
      `device ${at.device}: queue ${at.apqn} is reserved for the host's own driver; take its bit out of hostAdapters or hostDomains`,
  ],
  IN_USE: [
    'EADDRINUSE',
    (at: { device: string; apqn: string; owner: string }) =>
      `device ${at.device}: queue ${at.apqn} belongs to device ${at.owner}; unassign it there first`,
  ],
  MASK_IN_USE: [
    'EADDRINUSE',
    (at: { apqn: string; owner: string }) =>
      `queue ${at.apqn} cannot go to the host's own driver: it belongs to device ${at.owner}; unassign it there first`,
  ],
  NO_QUEUE: ['ENODEV', (at: { apqn: string }) => `the AP driver has no queue ${at.apqn}`],
  NOT_A_NUMBER: ['EINVAL', (at: { text: string }) => `${JSON.stringify(at.text)} is no number`],
  BAD_MASK: [
    'EINVAL',
    (at: { text: string }) =>
      `${JSON.stringify(at.text)} is no mask; want 0x and up to 64 hex digits, or changes such as +5,-0x10,+8-15`,
  ],
  NO_ATTRIBUTE: [
    'ENOENT',
    (at: { device: string; attribute: string }) => `device ${at.device} has no attribute ${at.attribute}`,
  ],
  ATTRIBUTE_ACCESS: [
    'EACCES',
    (at: { device: string; attribute: string; access: string }) =>
      `attribute ${at.attribute} of device ${at.device} cannot be ${at.access}`,
  ],
  RESET_FAILED: [
    'EIO',
    (at: { device: string; queues: string }) =>
      `device ${at.device}: no reset of ${at.queues}; unbind and bind these queues before a guest can have them again`,
  ],
  REMOVED: ['ENODEV', (at: { device: string }) => `device ${at.device} was removed; its matrix cannot change any more`],
  NO_GUEST: ['EINVAL', (at: { device: string }) => `device ${at.device} has no guest; call setGuest() before open`],
  GUEST_TAKEN: [
    'EPERM',
    (at: { device: string; other: string }) =>
      `device ${at.device}: its guest already uses device ${at.other}; a guest has one AP matrix`,
  ],
  OPEN: [
    'EBUSY',
    (at: { device: string }) => `device ${at.device} is open; its guest can only change while it is closed`,
  ],
  BAD_LENGTH: ['EINVAL', (at: { device: string; max: number }) => `device ${at.device}: DQAP of ${at.max} bytes`],
  OPERATION_EXCEPTION: [
    'EOPNOTSUPP',
    (at: { device: string; code: number }) => `device ${at.device}: PQAP function ${at.code} is not installed`,
  ],
  PRIVILEGED_OPERATION: [
    'EPERM',
    (at: { device: string }) => `device ${at.device}: an AP instruction in problem state`,
  ],
  SPECIFICATION_EXCEPTION: [
    'EINVAL',
    (at: { device: string; gr0: string }) =>
      `device ${at.device}: PQAP with bits in general register 0 that this guest must not set: ${at.gr0}`,
  ],
  ADDRESSING_EXCEPTION: [
    'EFAULT',
    (at: { device: string; at: string }) => `device ${at.device}: PQAP(QCI) cannot store at ${at.at}`,
  ],
  THREAD_LOST: ['EIO', (at: { code: number }) => `a thread of the crypto cards ended with exit code ${at.code}`],
  OPERAND_TOO_LONG: [
    'EINVAL',
    (at: { form: string }) => `no ${at.form} key block holds operands of more than 4096 bits`,
  ],
  BAD_REPLY: [
    'EBADMSG',
    (at: { length: number; type: number }) =>
      `${at.length} bytes of type 0x${at.type.toString(16)} are no reply of a crypto card`,
  ],
  BAD_OPTION: [
    'EINVAL',
    (at: { option: string; value: unknown; want: string }) =>
      `AP driver option ${at.option} is ${String(at.value)}; want ${at.want}`,
  ],
  UNKNOWN_QUIRK: [
    'EINVAL',
    (at: { quirk: string; known: string }) => `unknown AP quirk ${at.quirk}; there is: ${at.known}`,
  ],
});
