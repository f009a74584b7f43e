import { catalogue, type FrameRange, formatRange, hex } from '@pinion/core';

/** Every error of this package; README.md has one row for each. */
export const ccwErrors = catalogue('CCW', {
  UNKNOWN_QUIRK: [
    'EINVAL',
    (at: { quirk: string; known: string }) => `unknown ccw quirk ${at.quirk}; there is: ${at.known}`,
  ],
  NO_UNIT: [
    'ENODEV',
    (at: { parent: string; known: string }) =>
      `no control unit behind subchannel ${at.parent}; units were given for: ${at.known || 'none'}`,
  ],
  BAD_PATHS: [
    'EINVAL',
    (at: { unit: string; paths: number }) => `${at.unit}: ${at.paths} channel paths; a subchannel has 1 to 8`,
  ],
  BAD_REGION: [
    'EINVAL',
    (at: { device: string; index: number; offset: number; length: number }) =>
      `${at.device}: ${at.length} bytes at ${at.offset} of region ${at.index} are outside every region of a subchannel`,
  ],
  READ_ONLY_REGION: [
    'EINVAL',
    (at: { device: string; index: number }) => `${at.device}: region ${at.index} can only be read`,
  ],
  REGION_BUSY: ['EAGAIN', (at: { device: string }) => `${at.device}: somebody else is writing to a region; try again`],
  BAD_BUFFER: ['EFAULT', (at: { device: string }) => `${at.device}: the caller’s buffer cannot be reached`],
  STALE_CODE: [
    'EIO',
    (at: { device: string; code: number }) =>
      `${at.device}: return code ${at.code} stands in the region from an earlier write (quirk stale-return-code)`,
  ],
  BAD_ARGSZ: [
    'EINVAL',
    (at: { what: string; argsz: number; least: number }) =>
      `${at.what}: argsz ${at.argsz} is too small; give at least ${at.least}`,
  ],
  NO_INDEX: ['EINVAL', (at: { what: string; index: number }) => `there is no ${at.what} ${at.index}`],
  BAD_IRQ_SET: ['EINVAL', (at: { index: number; why: string }) => `SET_IRQS of interrupt ${at.index}: ${at.why}`],
  NOT_OPERATIONAL: [
    'EIO',
    (at: { device: string; state: string }) => `${at.device}: the subchannel is ${at.state}; it takes no request`,
  ],
  LOST: ['EINVAL', (at: { device: string }) => `${at.device}: the subchannel is gone and cannot be opened or reset`],
  PROCESSING: [
    'EAGAIN',
    (at: { device: string }) => `${at.device}: another start is being prepared; try again when it has returned`,
  ],
  PENDING: [
    'EBUSY',
    (at: { device: string; cpa: number }) =>
      `${at.device}: the channel program at ${hex(at.cpa)} has not ended; wait for its interrupt, or halt or clear it`,
  ],
  SUBCHANNEL_GONE: [
    'ENODEV',
    (at: { device: string; instruction: string }) =>
      `${at.device}: ${at.instruction} answers that there is no such subchannel or no path to its unit`,
  ],
  PATH_LOST: [
    'EACCES',
    (at: { device: string }) => `${at.device}: the paths that the ORB allows are gone; others are left, use them`,
  ],
  STUCK: [
    'EIO',
    (at: { device: string }) =>
      `${at.device}: neither XSCH, HSCH nor CSCH ended the program; its pages stay pinned until its I/O ends`,
  ],
  FUNCTION_BUSY: [
    'EBUSY',
    (at: { device: string }) => `${at.device}: another function has not ended, or its status is not taken`,
  ],
  RANGE_LEAVING: [
    'EAGAIN',
    (at: { device: string; range: FrameRange }) =>
      `${at.device}: the program uses pages of ${formatRange(at.range)}, which are being unmapped`,
  ],
  TRANSPORT_MODE: ['EOPNOTSUPP', (at: { device: string }) => `${at.device}: transport mode (ORB.B) is not supported`],
  USE_ASYNC_REGION: [
    'EOPNOTSUPP',
    (at: { device: string }) => `${at.device}: the io region only starts programs; halt and clear go to region 1`,
  ],
  BAD_ORB: [
    'EIO',
    (at: { device: string; word1: number }) =>
      `${at.device}: reserved bits are set in ORB word 1 ${hex(at.word1)}; SSCH takes an operand exception`,
  ],
  BAD_COMMAND: [
    'EINVAL',
    (at: { device: string; command: number }) =>
      `${at.device}: ${at.command} is no asynchronous command; 1 halts, 2 clears`,
  ],
  CHAIN_TOO_LONG: [
    'EINVAL',
    (at: { head: number; limit: number }) => `the chain at ${hex(at.head)} has more than ${at.limit} CCWs`,
  ],
  TOO_MANY_CHAINS: [
    'EINVAL',
    (at: { cpa: number; limit: number }) => `the program at ${hex(at.cpa)} has more than ${at.limit} chains`,
  ],
  BAD_TRACK: [
    'EINVAL',
    (at: { cylinder: number; head: number; why: string }) =>
      `track ${at.cylinder}.${at.head} cannot be used: ${at.why}`,
  ],
  BAD_IMAGE: ['EINVAL', (at: { image: string; why: string }) => `image ${at.image}: ${at.why}`],
  IMAGE_READ_ONLY: ['EACCES', (at: { image: string }) => `image ${at.image} was opened read-only`],
  IMAGE_RANGE: [
    'ERANGE',
    (at: { image: string; position: number; length: number; size: number }) =>
      `image ${at.image}: ${at.length} bytes at ${at.position} are outside its ${at.size} bytes`,
  ],
  IMAGE_SHORT: [
    'EIO',
    (at: { image: string; position: number }) => `image ${at.image}: the host moved no byte at ${at.position}`,
  ],
});
