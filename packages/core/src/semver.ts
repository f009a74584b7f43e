/** The version of this package; plugins state which they were made for. */
export const CORE_VERSION = '0.1.0';

const parse = (version: string): readonly number[] | undefined =>
  /^\d+(\.\d+){0,2}$/.test(version) ? version.split('.').map(Number) : undefined;

/**
 * Whether `version` satisfies the caret range `wanted` (`^1.2`, `^0.1.3`): same leftmost non-zero part, not older.
 * Anything but a caret range satisfies nothing: a plugin must say what it was made for.
 */
export function satisfiesCaret(version: string, wanted: string): boolean {
  const have = parse(version);
  const want = wanted.startsWith('^') ? parse(wanted.slice(1)) : undefined;
  if (have === undefined || want === undefined) return false;
  const significant = want.findIndex((part) => part > 0);
  const fixed = significant === -1 ? want.length - 1 : significant;
  for (let i = 0; i <= fixed; i += 1) if ((have[i] ?? 0) !== (want[i] ?? 0)) return false;
  for (let i = fixed + 1; i < 3; i += 1) {
    const difference = (have[i] ?? 0) - (want[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return true;
}
