/** A backend on the shoulders of another: type1, but all devices of a container together may pin only so many pages. */
import { catalogue, definePlugin, type IommuBackend, type IommuBackendDriver, type Plugin } from '@pinion/core';

const errors = catalogue('QUOTA', {
  CANNOT_PIN: ['ENOTTY', (d: { backend: string }) => `backend ${d.backend} cannot pin, so there is nothing to limit`],
  SPENT: [
    'ENOMEM',
    (d: { container: string; quota: number; wanted: number }) =>
      `container ${d.container}: ${d.wanted} more page(s) would exceed its quota of ${d.quota}; unpin some`,
  ],
});

/** Gives `backend` a quota of pinned pages. A page that is pinned already counts again while the call is checked. */
function limit(backend: IommuBackend, container: string, quota: number): IommuBackend {
  const pinPages = backend.pinPages?.bind(backend);
  if (pinPages === undefined) throw errors.CANNOT_PIN({ backend: 'below the quota' });
  backend.pinPages = (group, first, offset, count, prot, out) => {
    if (backend.stats.pinnedPages + count > quota) throw errors.SPENT({ container, quota, wanted: count });
    pinPages(group, first, offset, count, prot, out);
  };
  return backend;
}

/** `inner` with a quota, as a plugin: newer than `inner`'s own registration, so containers get this one. */
export const quota = (inner: IommuBackendDriver, pages: number): Plugin =>
  definePlugin({
    name: 'quota',
    core: '^0.1',
    register: (scope) =>
      scope.backend({
        name: `quota-${inner.name}`,
        checkExtension: (extension, backend) => inner.checkExtension(extension, backend),
        open: (type, host, caller) => limit(inner.open(type, host, caller), host.container, pages),
      }),
  });
