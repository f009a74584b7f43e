import { existsSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, type YAMLMap } from 'yaml';

/** What is wrong in a description, and where. */
export interface Problem {
  /** 1-based. */
  readonly line: number;
  readonly column: number;
  /** Such as `containers[0].devices[1].type`; empty for the whole document. */
  readonly path: string;
  readonly message: string;
}

/** A value in the document: its node (absent where a key is missing, then that of the record) and its path. */
export interface Place {
  readonly node: Node | null | undefined;
  readonly path: string;
}

/** Turns a node into a value, or reports why it cannot and returns undefined. Never throws for what a document says. */
export type Shape<T> = (place: Place, reader: Reader) => T | undefined;

/** Reads one YAML (or JSON, which is YAML) document and collects every problem instead of stopping at the first. */
export class Reader {
  /** Paths of files are relative to this folder. */
  readonly folder: string;
  readonly problems: Problem[] = [];
  readonly #lines = new LineCounter();
  readonly #root: Node | null;
  readonly #partial = new Set<string>();
  readonly #records = new WeakMap<object, { place: Place; map: YAMLMap }>();

  constructor(text: string, folder: string) {
    this.folder = folder;
    const document = parseDocument(text, { lineCounter: this.#lines, intAsBigInt: true, prettyErrors: false });
    this.#root = document.contents;
    for (const { pos, message } of [...document.errors, ...document.warnings]) this.#add(pos[0], '', message);
  }

  /** The problems in the order of the text. */
  get sorted(): readonly Problem[] {
    return this.problems.toSorted((a, b) => a.line - b.line || a.column - b.column);
  }

  /** The whole document as a `T`, or undefined; in both cases look at `problems`. */
  read<T>(shape: Shape<T>): T | undefined {
    if (this.problems.length > 0) return undefined;
    return shape({ node: this.#root, path: '' }, this);
  }

  report(place: Place, message: string): undefined {
    this.#add(place.node?.range?.[0] ?? 0, place.path, message);
    return undefined;
  }

  /** Reports a problem with `key` of a record that was read earlier (or with the record, if the key is not there). */
  reportAt(record: object, key: string, message: string): void {
    const known = this.#records.get(record);
    if (known === undefined) this.report({ node: this.#root, path: key }, message);
    else this.report(child(known, key), message);
  }

  /** The list at `path` lacks items that could not be read: that something is not in it means nothing. */
  markPartial(path: string): void {
    this.#partial.add(path);
  }

  isPartial(path: string): boolean {
    return this.#partial.has(path);
  }

  remember(record: object, place: Place, map: YAMLMap): void {
    this.#records.set(record, { place, map });
  }

  #add(offset: number, path: string, message: string): void {
    const { line, col } = this.#lines.linePos(offset);
    this.problems.push({ line: Math.max(line, 1), column: Math.max(col, 1), path, message });
  }
}

const child = ({ place, map }: { place: Place; map: YAMLMap }, key: string): Place => ({
  node: map.get(key, true) ?? place.node,
  path: place.path === '' ? key : `${place.path}.${key}`,
});

const shown = (node: Node | null | undefined): string => {
  if (isMap(node)) return 'a record';
  if (isSeq(node)) return 'a list';
  if (isAlias(node)) return `an alias (*${node.source}), which descriptions cannot use`;
  return isScalar(node) && node.value !== null ? `'${String(node.value)}'` : 'nothing';
};

/** Text, of a form if one is given; `what` names the form for people. */
export const text =
  (what = 'text', form = /^.+$/s): Shape<string> =>
  ({ node, path }, reader) => {
    const value = isScalar(node) ? node.value : undefined;
    const plain = typeof value === 'bigint' ? String(value) : value;
    if (typeof plain === 'string' && form.test(plain)) return plain;
    return reader.report({ node, path }, `wants ${what}, is ${shown(node)}`);
  };

export const flag: Shape<boolean> = ({ node, path }, reader) =>
  isScalar(node) && typeof node.value === 'boolean'
    ? node.value
    : reader.report({ node, path }, `wants true or false, is ${shown(node)}`);

/** A whole number in a closed range. */
export const integer =
  (min: number, max: number): Shape<number> =>
  ({ node, path }, reader) => {
    const value = isScalar(node) && typeof node.value === 'bigint' ? node.value : undefined;
    if (value !== undefined && value >= BigInt(min) && value <= BigInt(max)) return Number(value);
    return reader.report({ node, path }, `wants a whole number ${min}..${max}, is ${shown(node)}`);
  };

const UNITS: Readonly<Record<string, bigint>> = { '': 1n, K: 1n << 10n, M: 1n << 20n, G: 1n << 30n, T: 1n << 40n };

/** Bytes: a whole number, or one with a unit: `64M`, `4 GiB`, `0x1000`. */
export const byteCount: Shape<bigint> = ({ node, path }, reader) => {
  const value = isScalar(node) ? node.value : undefined;
  if (typeof value === 'bigint' && value >= 0n) return value;
  const match = typeof value === 'string' ? /^(\d+|0x[\da-f]+) ?([KMGT]?)(?:i?B)?$/i.exec(value) : null;
  const unit = UNITS[match?.[2]?.toUpperCase() ?? ''];
  if (match?.[1] !== undefined && unit !== undefined) return BigInt(match[1]) * unit;
  return reader.report({ node, path }, `wants bytes such as 4096, 0x1000 or 64M, is ${shown(node)}`);
};

export const oneOf =
  <const T extends string>(what: string, known: readonly T[]): Shape<T> =>
  (place, reader) => {
    const value = text(what)(place, reader);
    const found = known.find((name) => name === value);
    if (found !== undefined || value === undefined) return found;
    return reader.report(place, `there is no ${what} '${value}'; there is ${known.join(', ') || 'none'}`);
  };

/** A path to a regular file that exists, relative to the description's folder. @returns it absolute. */
export const file: Shape<string> = (place, reader) => {
  const name = text('the path of a file')(place, reader);
  if (name === undefined) return undefined;
  const path = resolve(reader.folder, name);
  if (!existsSync(path)) return reader.report(place, `there is no file ${path}`);
  return statSync(path).isFile() ? path : reader.report(place, `${path} is no regular file`);
};

/** A path where a file may be made or continued, relative to the description's folder: its folder exists. @returns it absolute. */
export const outputFile: Shape<string> = (place, reader) => {
  const name = text('the path of a file')(place, reader);
  if (name === undefined) return undefined;
  const path = resolve(reader.folder, name);
  if (existsSync(path)) return statSync(path).isFile() ? path : reader.report(place, `${path} is no regular file`);
  return existsSync(dirname(path)) ? path : reader.report(place, `there is no folder ${dirname(path)}`);
};

/** A list. Items that could not be read are left out (the document is refused anyway), so that the others can be looked at. */
export const list =
  <T>(item: Shape<T>): Shape<readonly T[]> =>
  ({ node, path }, reader) => {
    if (!isSeq(node)) {
      reader.markPartial(path);
      return reader.report({ node, path }, `wants a list, is ${shown(node)}`);
    }
    const items = node.items.map((entry, index) =>
      // why: items of a parsed sequence are nodes; the library types them unknown for documents built by hand
      item({ node: entry as Node | null, path: `${path}[${index}]` }, reader),
    );
    const good = items.filter((value) => value !== undefined);
    if (good.length < items.length) reader.markPartial(path);
    return good;
  };

type Values<R extends Record<string, Shape<unknown>>> = { [K in keyof R]: R[K] extends Shape<infer T> ? T : never };

/** What can be read of a record with exactly these keys. An unknown key is a problem, so a misspelt option never passes silently. */
export const parts =
  <const R extends Record<string, Shape<unknown>>, const O extends Record<string, Shape<unknown>>>(
    required: R,
    optional: O,
  ): Shape<Partial<Values<R> & Values<O>>> =>
  (place, reader) => {
    const { node } = place;
    if (!isMap(node)) return reader.report(place, `wants a record, is ${shown(node)}`);
    const shapes: Record<string, Shape<unknown>> = { ...required, ...optional };
    reportUnknownKeys({ place, map: node }, Object.keys(shapes), reader);
    const value: Record<string, unknown> = {};
    for (const [key, shape] of Object.entries(shapes)) {
      const at = child({ place, map: node }, key);
      const read = node.has(key) ? shape(at, reader) : undefined;
      if (read !== undefined) value[key] = read;
      else if (!node.has(key) && key in required) reader.report(at, 'is missing');
    }
    reader.remember(value, place, node);
    // why: the loop above filled in only keys of the two tables, each from the shape of its type
    return value as Partial<Values<R> & Values<O>>;
  };

/** A record as `parts` reads it, but undefined if a required key is missing or any value could not be read. */
export const record =
  <const R extends Record<string, Shape<unknown>>, const O extends Record<string, Shape<unknown>>>(
    required: R,
    optional: O,
  ): Shape<Values<R> & Partial<Values<O>>> =>
  (place, reader) => {
    const value = parts(required, optional)(place, reader);
    if (value === undefined || !isMap(place.node)) return undefined;
    const { node } = place;
    const wanted = [...Object.keys(required), ...Object.keys(optional).filter((key) => node.has(key))];
    // why: nothing that the type requires is missing, as the line before found
    return wanted.every((key) => key in value) ? (value as Values<R> & Partial<Values<O>>) : undefined;
  };

function reportUnknownKeys(at: { place: Place; map: YAMLMap }, known: readonly string[], reader: Reader): void {
  for (const { key } of at.map.items) {
    const name = isScalar(key) ? String(key.value) : '';
    if (known.includes(name)) continue;
    const path = at.place.path === '' ? name : `${at.place.path}.${name}`;
    // why: keys of a parsed mapping are nodes; the library types them unknown for documents built by hand
    reader.report({ node: key as Node, path }, `unknown key; there is ${known.join(', ')}`);
  }
}

/** The value as plain text, if it is that: to say something better than that it is unknown. */
export const peekText = ({ node }: Place): string | undefined =>
  isScalar(node) && typeof node.value === 'string' ? node.value : undefined;

/** The record's key as plain text, if it is there: to choose the shape of the rest by it. */
export const peek = (place: Place, key: string): string | undefined => {
  const value = isMap(place.node) ? place.node.get(key) : undefined;
  return typeof value === 'string' ? value : undefined;
};
