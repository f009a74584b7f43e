/** What happens to a channel path. Source: enum of CHP_* events. */
export type PathEvent = 'online' | 'offline' | 'vary-on' | 'vary-off';

const ALL_PATHS = 0xff;

/** The paths of one subchannel, one bit each: which are installed, which a start may use, which the operator allows. */
export class ChannelPaths {
  readonly installed: number;
  #usable: number;
  #allowed = ALL_PATHS;

  constructor(installed: number) {
    this.installed = installed;
    this.#usable = installed;
  }

  /** Paths that a start uses by default. Source: sch->lpm. */
  get usable(): number {
    return this.#usable;
  }

  /** Source: sch->opm. */
  get allowed(): number {
    return this.#allowed;
  }

  /** A start found these paths (0: all of them) not operational. */
  lose(tried: number): void {
    this.#usable = tried === 0 ? 0 : this.#usable & ~tried;
  }

  /** @returns whether what runs on the path has to stop. */
  change(event: PathEvent, mask: number): boolean {
    if (event === 'vary-on') this.#allowed |= mask;
    if (event === 'vary-off') {
      this.#allowed &= ~mask;
      this.#usable &= ~mask;
    }
    const comes = event === 'vary-on' || event === 'online';
    if (comes) this.#usable |= mask & this.#allowed;
    return !comes;
  }
}
