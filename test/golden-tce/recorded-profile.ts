import { type KernelProfile, PROFILES, type Profile } from '@pinion/spapr-tce';
import type { Scenario } from '../golden/scenario.js';

/** `6.12.107+deb13-powerpc64le` is of the profile `linux-6.12`. */
export function recordedProfile({ env }: Scenario): KernelProfile | undefined {
  const release = 'kernel' in env ? String(env.kernel) : '';
  const wanted = `linux-${release.split('.').slice(0, 2).join('.')}`;
  const isKernel = (profile: Profile): profile is KernelProfile => profile === wanted && profile !== 'fixed';
  return PROFILES.find(isKernel);
}
