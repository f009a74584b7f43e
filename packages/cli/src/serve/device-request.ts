import { type DeviceOptions, INTERRUPTS, type Interrupts } from '@pinion/example-devices';
import {
  byteCount,
  file,
  flag,
  integer,
  NAME,
  oneOf,
  type Place,
  type Reader,
  record,
  type Shape,
  text,
  UUID,
} from '@pinion/vm';

/** Settings for a plugin's factory, as they were written. */
export type PluginOptions = Readonly<Record<string, string | number | boolean>>;

/** A device that somebody wants served: what `--device` and an entry of a file of devices both say. */
export interface DeviceRequest {
  /** A name of the table of devices, or a vendor driver of a plugin. */
  readonly device: string;
  /** For messages; default: `device`, with a number from the second on. */
  readonly name?: string;
  /** Which of the driver's types; default: its only one. */
  readonly type?: string;
  /** Devices of one VM share a container. */
  readonly vm?: string;
  /** Default: made of the names of VM and device, so that it is the same at every start. */
  readonly uuid?: string;
  readonly socket?: string;
  readonly fd?: number;
  readonly image?: string;
  readonly size?: bigint;
  readonly readOnly?: boolean;
  readonly interrupts?: Interrupts;
  readonly options?: PluginOptions;
}

/** Highest descriptor number that anybody inherits. */
const MAX_FD = 65_535;

/** Any keys with plain values. */
const settings: Shape<PluginOptions> = ({ node, path }, reader) => {
  const value: unknown = node?.toJSON();
  const plain = (each: unknown): boolean => ['string', 'number', 'boolean', 'bigint'].includes(typeof each);
  if (typeof value !== 'object' || value === null || Array.isArray(value) || !Object.values(value).every(plain)) {
    return reader.report({ node, path }, 'wants a record of plain values');
  }
  const entries = Object.entries(value).map(([key, each]) => [key, typeof each === 'bigint' ? Number(each) : each]);
  return Object.fromEntries(entries);
};

const shape = record(
  { device: text('the name of a device') },
  {
    name: NAME,
    type: text('the name of a type'),
    vm: NAME,
    uuid: UUID,
    socket: text('the path of a socket'),
    fd: integer(0, MAX_FD),
    image: file,
    size: byteCount,
    readOnly: flag,
    interrupts: oneOf('kind of interrupt', INTERRUPTS),
    options: settings,
  },
);

/** One device. Paths of images come out absolute; unknown keys are problems. */
export const deviceShape: Shape<DeviceRequest> = (place: Place, reader: Reader) => shape(place, reader);

/** The part of a request that a device of the table understands. */
export const deviceOptionsOf = ({ image, size, readOnly, interrupts }: DeviceRequest): DeviceOptions => ({
  ...(image === undefined ? {} : { image }),
  ...(size === undefined ? {} : { size: Number(size) }),
  ...(readOnly === undefined ? {} : { readOnly }),
  ...(interrupts === undefined ? {} : { interrupts }),
});
