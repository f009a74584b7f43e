/** The device as sysfs shows it: attributes by name, values as text. Source: vfio_ap_mdev_attrs in vfio_ap_ops.c; reference C.1. */
import type { ApDevice } from './device.js';
import { errors } from './errors.js';
import { parseIndex, parseMask } from './mask-text.js';
import { type ApMatrix, formatMatrix } from './matrix.js';

/** One attribute: what a read shows, what a write does. */
interface Attribute {
  readonly show?: (device: ApDevice) => string;
  readonly store?: (device: ApDevice, text: string) => void;
}

const DOMAIN_DIGITS = 4;
const linesOf = (lines: readonly string[]): string => lines.map((line) => `${line}\n`).join('');
const index =
  (verb: (device: ApDevice, value: number) => void) =>
  (device: ApDevice, text: string): void =>
    verb(device, parseIndex(text));

const formatConfig = ({ adapters, domains, controlDomains }: ApMatrix): string =>
  `${adapters},${domains},${controlDomains}\n`;

function storeConfig(device: ApDevice, text: string): void {
  const masks = text.replace(/\n$/, '').split(',');
  const [adapters, domains, controlDomains] = masks.map((mask) => parseMask(mask).indices());
  if (masks.length !== 3 || !adapters || !domains || !controlDomains) throw errors.BAD_MASK({ text });
  device.configure({ adapters, domains, controlDomains });
}

/** Every attribute of a device. */
const ATTRIBUTES: Readonly<Record<string, Attribute>> = {
  assign_adapter: { store: index((device, value) => device.assignAdapter(value)) },
  unassign_adapter: { store: index((device, value) => device.unassignAdapter(value)) },
  assign_domain: { store: index((device, value) => device.assignDomain(value)) },
  unassign_domain: { store: index((device, value) => device.unassignDomain(value)) },
  assign_control_domain: { store: index((device, value) => device.assignControlDomain(value)) },
  unassign_control_domain: { store: index((device, value) => device.unassignControlDomain(value)) },
  control_domains: {
    show: ({ matrix }) =>
      linesOf(matrix.controlDomains.indices().map((domain) => domain.toString(16).padStart(DOMAIN_DIGITS, '0'))),
  },
  matrix: { show: ({ matrix }) => linesOf(formatMatrix(matrix)) },
  guest_matrix: { show: ({ guestMatrix }) => linesOf(formatMatrix(guestMatrix)) },
  ap_config: { show: ({ matrix }) => formatConfig(matrix), store: storeConfig },
};

/** Names of the attributes, in the order of sysfs. */
export const AP_ATTRIBUTES: readonly string[] = Object.keys(ATTRIBUTES);

function find(device: ApDevice, attribute: string): Attribute {
  const found = Object.hasOwn(ATTRIBUTES, attribute) ? ATTRIBUTES[attribute] : undefined;
  if (found === undefined) throw errors.NO_ATTRIBUTE({ device: device.name, attribute });
  return found;
}

/** The text of an attribute, with its newlines. @throws AP_NO_ATTRIBUTE (ENOENT), AP_ATTRIBUTE_ACCESS (EACCES) for one that is only written. */
export function readAttribute(device: ApDevice, attribute: string): string {
  const { show } = find(device, attribute);
  if (show === undefined) throw errors.ATTRIBUTE_ACCESS({ device: device.name, attribute, access: 'read' });
  return show(device);
}

/**
 * Writes an attribute. Indices are decimal, `0x` hexadecimal or `0` octal; `ap_config` takes three masks joined by commas. One newline at
 * the end is allowed. @throws AP_NO_ATTRIBUTE (ENOENT), AP_ATTRIBUTE_ACCESS (EACCES), AP_NOT_A_NUMBER, AP_BAD_MASK (EINVAL), and as the
 * typed form (`assignAdapter`, `configure`).
 */
export function writeAttribute(device: ApDevice, attribute: string, text: string): void {
  const { store } = find(device, attribute);
  if (store === undefined) throw errors.ATTRIBUTE_ACCESS({ device: device.name, attribute, access: 'written' });
  store(device, text);
}
