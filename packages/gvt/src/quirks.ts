/**
 * What real GVT-g code does wrong. All are off by default; each can be switched on to see what it breaks and to prove that a
 * checker notices.
 */
export const GVT_QUIRKS = {
  'straddle-missed': {
    reason:
      'The unmap callback looks up one start frame after the other, so a 2 MiB entry that begins below the range is missed and its pages stay pinned.',
    source: 'i915 kvmgt, unmap notifier and intel_vgpu_dma_unmap, all versions read',
  },
  'size-mismatch-drops-holders': {
    reason:
      'Mapping a frame again with another size releases the old mapping whatever its references: its holders keep a dangling DMA address and their unmap is ignored.',
    source: 'i915 kvmgt, kvmgt_dma_map_guest_page and intel_gvt_dma_map_guest_page',
  },
  'cache-destroyed-first': {
    reason:
      'Close destroys the cache before the core has dropped the entries of its shadow tables, so every live table entry is a leftover and the later unmaps find nothing.',
    source: 'i915 kvmgt v5.13, kvmgt_guest_exit runs before vgpu destroy; threads/2020-05',
  },
  'split-64k-unmaps-one': {
    reason:
      'A guest entry of 64 KiB is shadowed by 16 small mappings, but removing it unmaps only the first: the other 15 stay until close.',
    source: 'i915 gvt gtt.c, ppgtt_invalidate_pte and ppgtt_split_64KB_entry',
  },
  'large-leaf-skipped': {
    reason:
      'Invalidating a shadow table unmaps its small leaves and walks into its sub-tables but skips 2 MiB leaves: their pages stay until close.',
    source: 'i915 gvt gtt.c, ppgtt_invalidate_spt, all versions read',
  },
} as const;

export type GvtQuirk = keyof typeof GVT_QUIRKS;
/** The quirks that are on. */
export type Quirks = ReadonlySet<GvtQuirk>;

export const NO_QUIRKS: Quirks = new Set();
