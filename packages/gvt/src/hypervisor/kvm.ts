import type { BackendFactory, BackendParts } from './backend.js';
import { RefcountingBackend } from './refcounting.js';

/** KVM's way: guest pages are pinned on demand through the container and counted. The default. Source: kvmgt.c. */
export class KvmBackend extends RefcountingBackend {
  readonly kind = 'kvm';

  constructor(parts: BackendParts) {
    super(parts, parts.pins);
  }
}

export const kvmBackend: BackendFactory = (parts) => new KvmBackend(parts);
