/** Where diagnostics go. Whoever composes decides; the default says nothing. */
export interface Log {
  info(message: string): void;
  warn(message: string, cause?: unknown): void;
}

/** Says nothing. */
export const silentLog: Log = Object.freeze({ info: () => {}, warn: () => {} });
