import {
  type ChannelProgram,
  type ConditionCode,
  encodeIrb,
  SCHIB_SIZE,
  SCSW,
  type Subchannel,
  type SubchannelStatus,
} from '@pinion/ccw';

type Script = Partial<Record<'msch' | 'ssch' | 'hsch' | 'csch' | 'xsch', readonly ConditionCode[]>>;

/** A subchannel that answers what a test wrote down, then 0, and remembers what it was asked. */
export class FakeSubchannel implements Subchannel {
  onInterrupt: (irb: Uint8Array) => void = () => {};
  readonly calls: string[] = [];
  gone = false;
  enabled = false;
  activity = 0;
  program: ChannelProgram | undefined;
  /** Runs inside each SSCH. */
  onStart: () => void = () => {};
  readonly #script: Map<string, ConditionCode[]>;

  constructor(script: Script = {}) {
    this.#script = new Map(Object.entries(script).map(([name, codes]) => [name, [...codes]]));
  }

  stsch(): SubchannelStatus | undefined {
    if (this.gone) return undefined;
    const { enabled, activity } = this;
    return { enabled, activity, lastPathUsed: 0x80, schib: new Uint8Array(SCHIB_SIZE) };
  }

  enable(enabled: boolean): ConditionCode {
    const cc = this.#answer('msch', this.activity === 0 ? 0 : 2);
    if (cc === 0) this.enabled = enabled;
    return cc;
  }

  ssch(_orb: unknown, program: ChannelProgram): ConditionCode {
    this.onStart();
    const cc = this.#answer('ssch', 0);
    if (cc !== 0) return cc;
    this.program = program;
    this.activity = SCSW.SUBCHANNEL_ACTIVE | SCSW.DEVICE_ACTIVE;
    return cc;
  }

  hsch(): ConditionCode {
    return this.#stop('hsch', SCSW.HALT_PENDING);
  }

  csch(): ConditionCode {
    return this.#stop('csch', SCSW.CLEAR_PENDING);
  }

  xsch(): ConditionCode {
    const cc = this.#answer('xsch', 2);
    if (cc === 0) this.activity = 0;
    return cc;
  }

  vanish(): undefined {
    this.gone = true;
  }

  /** A status comes. */
  interrupt(word0: number, cpa = 0): void {
    if ((word0 & (SCSW.SUBCHANNEL_ACTIVE | SCSW.DEVICE_ACTIVE)) === 0) this.activity = 0;
    this.onInterrupt(encodeIrb({ word0, cpa, deviceStatus: 0x0c, channelStatus: 0, count: 0 }));
  }

  #stop(name: 'hsch' | 'csch', pending: number): ConditionCode {
    const cc = this.#answer(name, 0);
    if (cc === 0) this.activity |= pending;
    return cc;
  }

  #answer(name: string, otherwise: ConditionCode): ConditionCode {
    const cc = this.#script.get(name)?.shift() ?? otherwise;
    this.calls.push(`${name} ${cc}`);
    return cc;
  }
}
