import { type Document, isMap, isNode, isSeq, parseDocument, stringify, type YAMLSeq } from 'yaml';
import type { Registry } from './description.js';
import { vmErrors } from './errors.js';
import { readDescription } from './read-description.js';

/** A change of a description's text. */
interface Edit {
  readonly text: string;
  /** For messages; relative paths in the text begin at its folder. */
  readonly file: string;
  readonly folder: string;
  readonly registry: Registry;
}

/** The lines of an item of a list that has a line for each, from its dash on. */
interface Lines {
  /** What stands before the item: blanks and the dash. */
  readonly prefix: string;
  readonly first: number;
  /** Behind the newline of the last line. */
  readonly end: number;
}

/** Undefined where there are no such lines: a list in brackets. */
function linesOf(text: string, item: unknown): Lines | undefined {
  const range = isNode(item) ? item.range : undefined;
  if (range === undefined || range === null) return undefined;
  const [start, valueEnd] = range;
  const first = text.lastIndexOf('\n', start - 1) + 1;
  const prefix = text.slice(first, start);
  if (!/^ *- +$/.test(prefix)) return undefined;
  const newline = text[valueEnd - 1] === '\n' ? valueEnd - 1 : text.indexOf('\n', valueEnd);
  return { prefix, first, end: newline < 0 ? text.length : newline + 1 };
}

/** As a line of its own where the others have one; else the whole document is written anew. */
function added(text: string, about: { document: Document; devices: YAMLSeq; device: object }): string {
  const { document, devices, device } = about;
  const last = linesOf(text, devices.items.at(-1));
  if (last === undefined) {
    devices.add(document.createNode(device, { flow: true }));
    return document.toString(UNFOLDED);
  }
  const line = `${last.prefix}${stringify(device, { ...UNFOLDED, collectionStyle: 'flow' })}`;
  const before = text.slice(0, last.end);
  return `${before}${before.endsWith('\n') ? '' : '\n'}${line}${text.slice(last.end)}`;
}

/** The last item of a list does not go by its lines: an empty list needs its brackets. */
function removed(text: string, about: { document: Document; devices: YAMLSeq; index: number }): string {
  const { document, devices, index } = about;
  const lines = devices.items.length > 1 ? linesOf(text, devices.items[index]) : undefined;
  if (lines !== undefined) return text.slice(0, lines.first) + text.slice(lines.end);
  devices.delete(index);
  if (devices.items.length === 0) devices.flow = true;
  return document.toString(UNFOLDED);
}

/** Without a limit, so that a record on one line stays there. */
const UNFOLDED = { lineWidth: 0 } as const;

/** A device to add. */
export interface NewDevice {
  readonly container: string;
  /** Keys that all devices have. */
  readonly keys: Readonly<Record<string, string>>;
  /** Keys of its kind, each value as YAML: `[5, 6]`, `0x13`. */
  readonly settings?: Readonly<Record<string, string>>;
}

/**
 * The text with one more device in a container; comments and order stay.
 * @throws VM_NO_CONTAINER (ENOENT), VM_BAD_DESCRIPTION (EINVAL) with every problem that the description would have.
 */
export function withDevice(edit: Edit, { container, keys, settings = {} }: NewDevice): string {
  const document = parseDocument(edit.text, { intAsBigInt: true });
  const devices = devicesOf(document.get('containers'), container);
  if (!isSeq(devices)) throw vmErrors.NO_CONTAINER({ container });
  const values = Object.entries(settings).map(([key, text]) => [
    key,
    parseDocument(text, { intAsBigInt: true }).toJS(),
  ]);
  return checked({
    ...edit,
    text: added(edit.text, { document, devices, device: { ...keys, ...Object.fromEntries(values) } }),
  });
}

/** The text without the device that has this UUID. @throws VM_NO_DEVICE (ENODEV), VM_BAD_DESCRIPTION (EINVAL). */
export function withoutDevice(edit: Edit, uuid: string): string {
  const document = parseDocument(edit.text, { intAsBigInt: true });
  const containers: unknown = document.get('containers');
  for (const container of isSeq(containers) ? containers.items : []) {
    const devices: unknown = isMap(container) ? container.get('devices') : undefined;
    if (!isSeq(devices)) continue;
    const index = devices.items.findIndex(
      (device) => isMap(device) && String(device.get('uuid')).toLowerCase() === uuid.toLowerCase(),
    );
    if (index < 0) continue;
    return checked({ ...edit, text: removed(edit.text, { document, devices, index }) });
  }
  throw vmErrors.NO_DEVICE({ device: uuid });
}

function devicesOf(containers: unknown, name: string): unknown {
  const all = isSeq(containers) ? containers.items : [];
  const found = all.find((container) => isMap(container) && container.get('name') === name);
  return isMap(found) ? found.get('devices') : undefined;
}

function checked({ text, file, folder, registry }: Edit): string {
  const result = readDescription({ text, folder }, registry);
  if (!result.ok) throw vmErrors.BAD_DESCRIPTION({ file, problems: result.problems });
  return text;
}
