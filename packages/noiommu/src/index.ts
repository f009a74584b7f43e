export { createNoIommuDriver, noIommu } from './driver.js';
export { noIommuErrors } from './errors.js';
