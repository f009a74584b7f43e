import {
  type BackendHost,
  definePlugin,
  EXTENSION,
  type IommuBackend,
  type IommuBackendDriver,
  type Plugin,
} from '@pinion/core';
import { Type1Backend } from './backend.js';
import type { PinTableKind } from './create-pin-table.js';
import { DEFAULT_PIN_TABLE } from './create-pin-table.js';
import { type1Errors } from './errors.js';
import { type Profile, type Quirk, quirksOf } from './quirks.js';
import { DEFAULT_PARAMETERS, type Type1Parameters, Type1State } from './state.js';

/** How a type1 backend behaves; every field has a default. */
export interface Type1Options {
  /** Whose answers to give; `fixed` (default): Linux 6.12's without its mistakes. */
  readonly profile?: Profile;
  /** More quirks, one by one. */
  readonly quirks?: Iterable<Quirk>;
  /** Module parameters, read at every use as the kernel does; missing ones have the kernel's defaults. */
  readonly parameters?: () => Partial<Type1Parameters>;
  /** How sparse pins are tracked; the default is the one that the benchmark shows best. */
  readonly pinTable?: PinTableKind;
}

const ALWAYS: ReadonlySet<number> = new Set([EXTENSION.TYPE1_IOMMU, EXTENSION.TYPE1v2_IOMMU, EXTENSION.UNMAP_ALL]);

/** The type1 backend driver: VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU and (not under 7.3) the nesting type. */
export function createType1Driver(options: Type1Options = {}): IommuBackendDriver {
  const quirks = new Set([...quirksOf(options.profile ?? 'fixed'), ...(options.quirks ?? [])]);
  const parameters = (): Type1Parameters => ({ ...DEFAULT_PARAMETERS, ...options.parameters?.() });
  const takesNesting = !quirks.has('no-nesting-type');
  return Object.freeze({
    name: 'type1',
    checkExtension(extension: number, backend?: IommuBackend): number {
      if (ALWAYS.has(extension)) return 1;
      if (extension === EXTENSION.TYPE1_NESTING_IOMMU) return takesNesting ? 1 : 0;
      return backend instanceof Type1Backend ? backend.checkExtension(extension) : 0;
    },
    open(type: number, host: BackendHost): IommuBackend {
      const nesting = type === EXTENSION.TYPE1_NESTING_IOMMU && takesNesting;
      const v2 = type === EXTENSION.TYPE1v2_IOMMU || nesting;
      if (!v2 && type !== EXTENSION.TYPE1_IOMMU) throw type1Errors.BAD_TYPE({ type });
      const pinTable = options.pinTable ?? DEFAULT_PIN_TABLE;
      return new Type1Backend(new Type1State({ host, v2, nesting, quirks, parameters, pinTable }));
    },
  });
}

/** type1 as a plugin. */
export const type1 = (options: Type1Options = {}): Plugin =>
  definePlugin({
    name: 'type1',
    core: '^0.1',
    register: (scope) => scope.backend(createType1Driver(options)),
  });
