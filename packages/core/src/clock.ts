/** Time as a parameter: nothing in this project reads the wall clock on its own. Milliseconds. */
export interface Clock {
  now(): number;
  /** Runs `action` once after `delay` ms. @returns the undo: a cancelled timer never fires. */
  after(delay: number, action: () => void): () => void;
}
