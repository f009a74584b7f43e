import { catalogue } from '@pinion/core';

/** What goes wrong around an edu card. */
export const errors = catalogue('EDU', {
  BAD_STATE: ['EINVAL', ({ problem }: { problem: string }) => `this is no saved state of an edu card: ${problem}`],
});
