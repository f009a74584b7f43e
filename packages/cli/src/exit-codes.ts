/** How the command ends. Tests and scripts rely on the numbers. */
export const EXIT = {
  OK: 0,
  /** Something failed; the error says what. */
  FAILED: 1,
  /** The command line, or a file that it names, is wrong: nothing was started. */
  USAGE: 2,
  /** Everything ended, but mappings, pins or descriptors were left. */
  LEFTOVERS: 3,
  /** A second signal came while stopping: 128 and its number. */
  INTERRUPTED: 130,
} as const;
