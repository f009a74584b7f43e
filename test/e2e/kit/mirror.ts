import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Missing } from './missing.js';

/** Where packages come from, and whose signature they must have. */
export interface Mirror {
  readonly address: string;
  /** A file of keys. */
  readonly keyring: string;
}

const KEYRINGS = ['/usr/share/keyrings/debian-archive-keyring.gpg', '/usr/share/keyrings/debian-archive-keyring.pgp'];
/** A suite of Debian itself: not its security archive, whose layout is another. */
const SUITE = /^(?:bookworm|trixie|forky|sid|stable|testing|unstable)(?:-updates|-backports)?$/;

/** `Key: value` paragraphs. Source: sources.list(5), "deb822-style format". */
export function deb822(text: string): ReadonlyMap<string, string>[] {
  const paragraphs = text
    .split(/\n\s*\n/)
    .map((paragraph) => paragraph.split('\n').filter((line) => !line.startsWith('#')));
  return paragraphs.map((lines) => {
    const fields = new Map<string, string>();
    let key = '';
    for (const line of lines) {
      const [, name, value = ''] = /^([\w-]+):\s*(.*)$/.exec(line) ?? [];
      if (name === undefined) fields.set(key, `${fields.get(key) ?? ''} ${line.trim()}`.trim());
      else {
        key = name.toLowerCase();
        fields.set(key, value.trim());
      }
    }
    return fields;
  });
}

/** The address of Debian's archive in a file of apt's; undefined if the file has none. */
export function addressIn(file: string, text: string): string | undefined {
  if (file.endsWith('.sources')) {
    const source = deb822(text).find(
      (fields) =>
        fields.get('enabled') !== 'no' &&
        (fields.get('types') ?? '').split(/\s+/).includes('deb') &&
        (fields.get('suites') ?? '').split(/\s+/).some((suite) => SUITE.test(suite)),
    );
    return source?.get('uris')?.split(/\s+/)[0];
  }
  for (const line of text.split('\n')) {
    const [, address, suite = ''] = /^\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)/.exec(line) ?? [];
    if (address !== undefined && SUITE.test(suite)) return address;
  }
  return undefined;
}

/** The mirror that this machine's apt uses. @throws Missing if it uses none of Debian's, or has not Debian's keys. */
export function findMirror(root = '/'): Mirror {
  const lists = join(root, 'etc/apt/sources.list.d');
  const files = [join(root, 'etc/apt/sources.list')];
  if (existsSync(lists))
    files.push(
      ...readdirSync(lists)
        .sort()
        .map((name) => join(lists, name)),
    );
  const addresses = files.filter((file) => existsSync(file)).map((file) => addressIn(file, readFileSync(file, 'utf8')));
  const address = addresses.find((each) => each !== undefined);
  if (address === undefined) throw new Missing("a Debian mirror: apt's sources name none");
  const keyring = KEYRINGS.map((path) => join(root, path)).find((path) => existsSync(path));
  if (keyring === undefined) throw new Missing("Debian's keys: install the package debian-archive-keyring");
  return { address, keyring };
}
