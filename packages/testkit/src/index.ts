export * from './clock.js';
export type { BackendCapability, BackendCase, IommuBackendHarness } from './conformance/backend-harness.js';
export {
  describeHypervisorBackend,
  hypervisorBackendCases,
  runHypervisorBackend,
} from './conformance/hypervisor-backend.js';
export type {
  HypervisorBackendUnderTest,
  HypervisorCapability,
  HypervisorHarness,
} from './conformance/hypervisor-harness.js';
export { describeIommuBackend, iommuBackendCases, runIommuBackend } from './conformance/iommu-backend.js';
export * from './conformance/suite.js';
export { describeVendorDriver, runVendorDriver, vendorDriverCases } from './conformance/vendor-driver.js';
export type {
  DriverSeat,
  GuestMemory,
  VendorCapability,
  VendorCase,
  VendorDriverHarness,
  VendorDriverRig,
} from './conformance/vendor-harness.js';
export * from './errors.js';
export * from './explore/explorer.js';
export * from './explore/scenario.js';
export * from './os/file.js';
export * from './os/host.js';
export * from './os/memory-object.js';
export * from './os/mm.js';
export * from './os/mm-requests.js';
export * from './os/os.js';
export * from './os/task.js';
