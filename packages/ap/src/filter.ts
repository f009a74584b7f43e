import { ApMask, type ApMatrix, type Apqn, intersect, makeApqn } from './matrix.js';

/**
 * What a guest may see of an assigned matrix: what the machine has of it, and of that only adapters all of whose queues are `usable`.
 * So a guest never sees part of an adapter. `partial` (a quirk): it does. Source: vfio_ap_mdev_filter_matrix().
 */
export function guestMatrixOf(
  assigned: ApMatrix,
  machine: ApMatrix,
  rules: { readonly usable: (apqn: Apqn) => boolean; readonly partial: boolean },
): ApMatrix {
  const there = intersect(assigned, machine);
  const domains = there.domains.indices();
  const whole = (adapter: number): boolean => domains.every((domain) => rules.usable(makeApqn(adapter, domain)));
  return {
    ...there,
    adapters: ApMask.of(there.adapters.indices().filter((adapter) => rules.partial || whole(adapter))),
  };
}
