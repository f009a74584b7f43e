import { resolve } from 'node:path';
import { Reader } from '@pinion/vm';
import { cliErrors } from '../errors.js';
import { type DeviceRequest, deviceShape } from './device-request.js';

/** KEY=VALUE. */
export type Pair = readonly [key: string, value: string];

/** Values that are no text. */
const PLAIN = /^(?:true|false|\d+)$/;
/** Keys of `options` are written `option.KEY=VALUE`. */
const OPTION = 'option.';

/**
 * Reads `KIND[,KEY=VALUE]...`; two commas stand for one inside a value, as QEMU has it. A key without a value is `true`.
 * `about.folder`: where relative paths begin; `about.more`: pairs that were given elsewhere. Sockets come out absolute. @throws CLI_BAD_DEVICE (EINVAL) with every problem.
 */
export function parseDeviceSpec(spec: string, about: { folder: string; more?: readonly Pair[] }): DeviceRequest {
  const { folder, more = [] } = about;
  const [device = '', ...pairs] = spec.split(/(?<!,),(?!,)/).map((part) => part.replaceAll(',,', ','));
  const entries = [...pairs.map(splitPair), ...more];
  const problems = repeated(entries.map(([key]) => key)).map((key) => `${key} is given twice`);
  const reader = new Reader(documentOf(device, entries), folder);
  const request = reader.read(deviceShape);
  problems.push(...reader.sorted.map(({ path, message }) => `${path === '' ? '' : `${path} `}${message}`));
  if (request === undefined || problems.length > 0) throw cliErrors.BAD_DEVICE({ spec, problems });
  return request.socket === undefined ? request : { ...request, socket: resolve(folder, request.socket) };
}

function splitPair(pair: string): Pair {
  const at = pair.indexOf('=');
  return at < 0 ? [pair, 'true'] : [pair.slice(0, at), pair.slice(at + 1)];
}

const repeated = (keys: readonly string[]): string[] => [
  ...new Set(keys.filter((key, index) => keys.indexOf(key) !== index)),
];

/** The same as an entry of a file, so that both are read by one shape. */
function documentOf(device: string, entries: readonly Pair[]): string {
  const member = ([key, value]: Pair): string =>
    `${JSON.stringify(key)}: ${PLAIN.test(value) ? value : JSON.stringify(value)}`;
  const own = entries.filter(([key]) => !key.startsWith(OPTION));
  const options = entries.filter(([key]) => key.startsWith(OPTION));
  const inner = options.map(([key, value]) => member([key.slice(OPTION.length), value]));
  const members = [`"device": ${JSON.stringify(device)}`, ...own.map(member)];
  if (inner.length > 0) members.push(`"options": {${inner.join(', ')}}`);
  return `{${members.join(', ')}}`;
}
