import { accountingCases } from './backend-accounting.js';
import { callbackCases } from './backend-callbacks.js';
import { copyingCases } from './backend-copying.js';
import type { BackendCase, IommuBackendHarness } from './backend-harness.js';
import { hotPlugCases } from './backend-hot-plug.js';
import { lifecycleCases } from './backend-lifecycle.js';
import { mappingCases } from './backend-mapping.js';
import { misbehaviourCases } from './backend-misbehaviour.js';
import { passthroughCases } from './backend-passthrough.js';
import { pinCases } from './backend-pins.js';
import { type CaseOutcome, describeCases, runCases } from './suite.js';

/** What every `IommuBackend` promises core and drivers, as cases. Sources: reference/kernel-vfio sections 2 to 9, 13, 15. */
export const iommuBackendCases: readonly BackendCase[] = [
  ...lifecycleCases,
  ...mappingCases,
  ...pinCases,
  ...callbackCases,
  ...misbehaviourCases,
  ...accountingCases,
  ...hotPlugCases,
  ...passthroughCases,
  ...copyingCases,
];

/** Registers the suite as tests of node:test. */
export const describeIommuBackend = (harness: IommuBackendHarness): void =>
  describeCases('IommuBackend', iommuBackendCases, harness);

/** Runs the suite and answers how each case ended. */
export const runIommuBackend = (harness: IommuBackendHarness): Promise<readonly CaseOutcome[]> =>
  runCases(iommuBackendCases, harness);
