import { type KernelProfile, PROFILES, type Profile } from '@pinion/spapr-tce';
import type { Scenario } from '../golden/scenario.js';

/** Scenarios that do not say where they come from. */
const UNSAID: KernelProfile = 'linux-6.12';

/** `6.12.107+deb13-powerpc64le` is of the profile `linux-6.12`; undefined for a kernel that nobody recorded. */
export function recordedProfile({ env }: Scenario): KernelProfile | undefined {
  if (!('kernel' in env)) return UNSAID;
  const release = String(env.kernel);
  const wanted = `linux-${release.split('.').slice(0, 2).join('.')}`;
  const isKernel = (profile: Profile): profile is KernelProfile => profile === wanted && profile !== 'fixed';
  return PROFILES.find(isKernel);
}
