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
  SPECIFICATION_EXCEPTION: [
    'EINVAL',
    (at: { device: string; gr0: string }) =>
      `device ${at.device}: PQAP with reserved bits in general register 0: ${at.gr0}`,
  ],
  OPERAND_TOO_LONG: [
    'EINVAL',
    (at: { form: string }) => `no ${at.form} key block holds operands of more than 4096 bits`,
  ],
  BAD_REPLY: [
    'EBADMSG',
    (at: { length: number; type: number }) =>
      `${at.length} bytes of type 0x${at.type.toString(16)} are no reply to a type 50 message`,
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
