export * from './bar-handlers.js';
export type { BarHandler, BarSpec, BarWindow } from './bars.js';
export {
  type Capability,
  type CapabilityMap,
  EXPRESS,
  express,
  formatCapability,
  MSI,
  MSIX,
  type MsiForm,
  type MsixPlace,
  msi,
  msix,
  PM,
  powerManagement,
  serialNumber,
  vendorExtended,
  vendorSpecific,
  walkCapabilities,
} from './capabilities.js';
export { type ConfigField, ConfigSpace } from './config-space.js';
export { pciErrors } from './errors.js';
export type { Identity } from './header.js';
export type { Interrupts } from './interrupts.js';
export type { MsiMessage } from './msix-table.js';
export { PciDevice, type PciDeviceSpec, type ResetCause } from './pci-device.js';
export { type MsixEntry, PciSoftware, type RegionAccess, type SizedBar } from './pci-software.js';
export * from './registers.js';
