import type { Report } from './report.js';

/** What a run is given. */
export interface RunRequest {
  /** This example's folder: `vm.yaml` is there. */
  readonly folder: string;
  /** Where images and results go. */
  readonly out: string;
  /** Makes the report; `owners` are the devices that it shows pins of. */
  readonly report: (owners: readonly string[]) => Report;
}

/** Runs the example's VM. @returns whether every check held. */
export type Runner = (request: RunRequest) => Promise<boolean>;

/** Who can run the VM of `vm.yaml`, each as far as its devices are ones that it can have. A runner is loaded when it is asked for. */
export const hypervisors: ReadonlyMap<string, () => Promise<Runner>> = new Map<string, () => Promise<Runner>>([
  ['embedded', async () => (await import('./run-embedded.js')).runEmbedded],
  ['v86', async () => (await import('./run-v86.js')).runV86],
  ['qemu', async () => (await import('./run-qemu.js')).runQemu],
]);
