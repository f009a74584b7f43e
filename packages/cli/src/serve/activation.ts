import { cliErrors } from '../errors.js';

/** A socket that systemd passed. */
export interface ActivatedSocket {
  readonly fd: number;
  /** FileDescriptorName= of the socket unit. */
  readonly name: string | undefined;
}

/** The first passed descriptor. Source: sd_listen_fds(3), SD_LISTEN_FDS_START. */
const FIRST = 3;
/** More than any unit passes; a larger number is noise. */
const MOST = 1024;
/** What systemd calls a socket that its unit does not name: no name at all. */
const UNNAMED = 'unknown';

/**
 * The sockets that systemd passed to this process, in order; none if LISTEN_PID names another one.
 * @throws CLI_BAD_PLAN (EINVAL) for a LISTEN_FDS that is no count. Source: sd_listen_fds_with_names(3).
 */
export function activatedSockets(
  environment: Readonly<Record<string, string | undefined>>,
  pid: number,
): readonly ActivatedSocket[] {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES } = environment;
  if (LISTEN_PID !== String(pid) || LISTEN_FDS === undefined) return [];
  const count = Number(LISTEN_FDS);
  if (!/^\d+$/.test(LISTEN_FDS) || count > MOST) {
    throw cliErrors.BAD_PLAN({ problem: `LISTEN_FDS is '${LISTEN_FDS}', which is no count of descriptors` });
  }
  const names = LISTEN_FDNAMES?.split(':') ?? [];
  const nameOf = (name: string | undefined): string | undefined =>
    name === undefined || name === '' || name === UNNAMED ? undefined : name;
  return Array.from({ length: count }, (_, index) => ({ fd: FIRST + index, name: nameOf(names[index]) }));
}
