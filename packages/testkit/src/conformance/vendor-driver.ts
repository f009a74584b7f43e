import { type CaseOutcome, describeCases, runCases } from './suite.js';
import type { VendorCase, VendorDriverHarness } from './vendor-harness.js';
import { ioCases } from './vendor-io.js';
import { vendorLifecycleCases } from './vendor-lifecycle.js';
import { unmapCases } from './vendor-unmap.js';

/** What every `VendorDriver` that pins promises, as cases. Sources: threads/2022-07, reference/vendor-drivers, kernel-vfio 5.3. */
export const vendorDriverCases: readonly VendorCase[] = [...unmapCases, ...ioCases, ...vendorLifecycleCases];

/** Registers the suite as tests of node:test. */
export const describeVendorDriver = (harness: VendorDriverHarness): void =>
  describeCases('VendorDriver', vendorDriverCases, harness);

/** Runs the suite and answers how each case ended: a driver with a bug fails the cases that catch it. */
export const runVendorDriver = (harness: VendorDriverHarness): Promise<readonly CaseOutcome[]> =>
  runCases(vendorDriverCases, harness);
