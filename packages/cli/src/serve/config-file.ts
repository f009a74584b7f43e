import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { PROFILES } from '@pinion/type1';
import { byteCount, list, NAME, oneOf, Reader, record, type Shape, text } from '@pinion/vm';
import { cliErrors } from '../errors.js';
import { type DeviceRequest, deviceShape } from './device-request.js';

/** What to serve, as a file says it. */
export interface ServeConfig {
  readonly devices: readonly DeviceRequest[];
  readonly plugins?: readonly string[];
  /** The VM of devices that name none. */
  readonly vm?: string;
  /** RLIMIT_MEMLOCK of every VM, bytes; absent: unlimited. */
  readonly memlock?: bigint;
  readonly profile?: (typeof PROFILES)[number];
}

const shape: Shape<ServeConfig> = record(
  { devices: list(deviceShape) },
  {
    plugins: list(text('a path or the name of a package')),
    vm: NAME,
    memlock: byteCount,
    profile: oneOf('profile', PROFILES),
  },
);

/** Reads a file of devices, YAML or JSON. Relative paths in it begin at its folder. @throws CLI_NO_FILE (ENOENT), CLI_BAD_CONFIG (EINVAL) with every problem. */
export function loadConfig(path: string): ServeConfig {
  const folder = dirname(resolve(path));
  const reader = new Reader(readText(path), folder);
  const config = reader.read(shape);
  if (config === undefined || reader.problems.length > 0) {
    throw cliErrors.BAD_CONFIG({ file: path, problems: reader.sorted });
  }
  const absolute = ({ socket, ...rest }: DeviceRequest): DeviceRequest =>
    socket === undefined ? rest : { ...rest, socket: resolve(folder, socket) };
  return { ...config, devices: config.devices.map(absolute) };
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw cliErrors.NO_FILE({ file: path, problem: cause instanceof Error ? cause.message : String(cause) }, cause);
  }
}
