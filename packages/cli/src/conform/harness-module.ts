import type { IommuBackendHarness, VendorDriverHarness } from '@pinion/testkit';
import { cliErrors } from '../errors.js';
import { importModule } from '../serve/plugin-module.js';

/** A harness, and which suite it is for. */
export type Harness =
  | { readonly suite: 'backend'; readonly harness: IommuBackendHarness }
  | { readonly suite: 'vendor driver'; readonly harness: VendorDriverHarness };

interface Candidate {
  readonly name?: unknown;
  readonly backend?: unknown;
  readonly iommuType?: unknown;
  readonly capabilities?: unknown;
  readonly start?: unknown;
  readonly leak?: unknown;
}

/** What both kinds have. Capabilities may be a list: a harness in plain JavaScript need not know that it is a set. */
const isHarness = ({ name, backend, iommuType, capabilities }: Candidate): boolean =>
  typeof name === 'string' &&
  typeof backend === 'function' &&
  typeof iommuType === 'number' &&
  (capabilities instanceof Set || Array.isArray(capabilities));

const isVendor = (value: Candidate): value is VendorDriverHarness =>
  isHarness(value) && typeof value.start === 'function';
const isBackend = (value: Candidate): value is IommuBackendHarness =>
  isHarness(value) && typeof value.leak === 'object';

/** The harnesses that a module exports, alone or in lists. @throws CLI_NO_PLUGIN (ENOENT), CLI_NO_HARNESS (EINVAL). */
export async function loadHarnesses(module: string, folder: string): Promise<readonly Harness[]> {
  const exports = await importModule(module, folder);
  const found = Object.values(exports)
    .flat()
    .flatMap((value): Harness[] => {
      const candidate: Candidate = Object(value);
      if (isVendor(candidate)) return [{ suite: 'vendor driver', harness: withSet(candidate) }];
      if (isBackend(candidate)) return [{ suite: 'backend', harness: withSet(candidate) }];
      return [];
    });
  if (found.length === 0) throw cliErrors.NO_HARNESS({ module });
  return found;
}

/** A harness may be a class's object, so nothing is copied. */
const withSet = <H extends VendorDriverHarness | IommuBackendHarness>(harness: H): H =>
  harness.capabilities instanceof Set
    ? harness
    : Object.create(harness, { capabilities: { value: new Set(harness.capabilities), enumerable: true } });
