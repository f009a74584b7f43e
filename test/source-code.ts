import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The checkout: the folder that holds `packages` and `test`. */
export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** Names of the folders inside `folder` of the checkout, sorted. */
export const foldersIn = (folder: string): string[] =>
  readdirSync(join(ROOT, folder), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
    .sort();

export const readText = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

/** Parses a JSON file. @returns whatever is in it: the caller looks at it. */
export const readJson = (path: string): Readonly<Record<string, unknown>> => JSON.parse(readText(path));

/** Paths of the TypeScript files below `folder`, from the checkout's root, sorted. */
export function sourcesBelow(folder: string): string[] {
  const all = readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' });
  return all
    .filter((path) => path.endsWith('.ts') && !path.includes('node_modules') && !path.endsWith('.d.ts'))
    .map((path) => relative(ROOT, join(ROOT, folder, path)))
    .sort();
}

const REGEX_MAY_FOLLOW = /(?:^|[(,=:[!&|?{};+\-*%<>~^]|\b(?:return|typeof|case|in|of|do|else|throw|await|yield))\s*$/;

/**
 * Source text with the content of comments, strings and regular expressions blanked out, line by line as before; code inside a
 * template's `${}` stays. What is left can be searched for words of the language.
 */
export function codeOnly(source: string): string {
  let code = '';
  let at = 0;
  const depths: number[] = []; // open braces of each `${` that we are inside of
  const blankUntil = (end: number): void => {
    code += source.slice(at, end).replace(/[^\n]/g, ' ');
    at = end;
  };
  const template = (): void => {
    const match = /`|\$\{/g;
    match.lastIndex = at;
    for (;;) {
      const found = match.exec(source);
      if (found !== null && isEscaped(source, found.index)) continue;
      if (found === null) {
        blankUntil(source.length);
        return;
      }
      blankUntil(found.index + found[0].length);
      if (found[0] === '${') depths.push(0);
      return;
    }
  };
  while (at < source.length) {
    const rest = source.slice(at, at + 2);
    const char = rest[0] ?? '';
    if (rest === '//') blankUntil(indexOr(source, '\n', at));
    else if (rest === '/*') blankUntil(indexOr(source, '*/', at + 2) + 2);
    else if (char === "'" || char === '"') blankUntil(closing(source, char, at + 1));
    else if (char === '/' && REGEX_MAY_FOLLOW.test(code.slice(-40))) blankUntil(closingRegex(source, at + 1));
    else if (char === '`') {
      blankUntil(at + 1);
      template();
    } else {
      const depth = depths.at(-1);
      if (char === '{' && depth !== undefined) depths[depths.length - 1] = depth + 1;
      if (char === '}' && depth !== undefined) {
        if (depth === 0) {
          depths.pop();
          blankUntil(at + 1);
          template();
          continue;
        }
        depths[depths.length - 1] = depth - 1;
      }
      code += char;
      at += 1;
    }
  }
  return code;
}

const indexOr = (text: string, what: string, from: number): number => {
  const found = text.indexOf(what, from);
  return found < 0 ? text.length : found;
};

function isEscaped(text: string, at: number): boolean {
  let slashes = 0;
  while (text[at - 1 - slashes] === '\\') slashes += 1;
  return slashes % 2 === 1;
}

function closing(text: string, quote: string, from: number): number {
  let end = from;
  while (end < text.length && (text[end] !== quote || isEscaped(text, end))) end += 1;
  return end + 1;
}

function closingRegex(text: string, from: number): number {
  let inClass = false;
  let end = from;
  for (; end < text.length; end += 1) {
    if (isEscaped(text, end)) continue;
    if (text[end] === '[') inClass = true;
    else if (text[end] === ']') inClass = false;
    else if (text[end] === '/' && !inClass) break;
  }
  return end + 1;
}

/** One import or re-export of a file. `typeOnly`: nothing of it is left at run time. */
export interface Import {
  readonly specifier: string;
  readonly typeOnly: boolean;
}

const IMPORT =
  /^\s*(?:import|export)\s+(type\s+)?(?:[\w*\s{},$]*?\sfrom\s+)?['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]\s*\)/gm;

/** What a file imports. Comments are looked at too: an import that is commented out has no business being there. */
export function importsOf(source: string): Import[] {
  return [...source.matchAll(IMPORT)].map(([, type, from, dynamic]) => ({
    specifier: from ?? dynamic ?? '',
    typeOnly: type !== undefined,
  }));
}

/** `line` (from 1) of an offset. */
export const lineOf = (text: string, offset: number): number => text.slice(0, offset).split('\n').length;
