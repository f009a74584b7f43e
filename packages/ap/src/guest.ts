import type { IovaFrame } from '@pinion/core';

/** Which parts of the AP architecture a guest has; absent ones count as there. */
export interface ApFacilities {
  /** The instructions themselves, interpreted. Without: operation exception. */
  readonly instructions?: boolean;
  /** Facility 15, the T bit of TAPQ. Without: specification exception. */
  readonly test?: boolean;
  /** Facility 65, AQIC. Without: specification exception. */
  readonly queueInterrupts?: boolean;
  /** The hypervisor can deliver adapter interrupts (AIV). Without: operation exception for AQIC. */
  readonly delivery?: boolean;
}

/**
 * The guest a device serves. Its real addresses are the container's IOVAs. Source: struct kvm as vfio-ap uses it.
 * Only `interrupt` is needed; an absent question counts as answered with yes, an absent `problemState` with no.
 */
export interface ApGuest {
  readonly facilities?: ApFacilities;
  /** Whether the program that runs now may not use privileged instructions. */
  problemState?(): boolean;
  /** An adapter interrupt on an interruption subclass 0..7. */
  interrupt(isc: number): void;
  /** Whether the page is memory of this guest (a memslot). */
  hasPage?(page: IovaFrame): boolean;
  /** Whether a protected guest shares the page with the host. */
  sharesPage?(page: IovaFrame): boolean;
  /** Prepares the delivery of a subclass, counted; false if that is impossible. Source: kvm_s390_gisc_register(). */
  registerIsc?(isc: number): boolean;
  unregisterIsc?(isc: number): void;
}
