import { Kernel } from './kernel.js';
import { Ledger } from './ledger.js';
import { eventCalls } from './linux-events.js';
import { fileCalls } from './linux-files.js';
import { memoryCalls } from './linux-memory.js';
import { socketCalls } from './linux-sockets.js';
import { type Host, thisHost } from './native.js';
import type { Sys } from './sys.js';

/** Source: sysconf(3), the same number in glibc and musl. */
const SC_PAGESIZE = 30;

/**
 * The real system: Linux on x64 or arm64, by koffi, which is loaded at the first call and not before. One instance serves
 * one thread; every worker makes its own. `host` is for tests that pretend to be elsewhere.
 */
export function linuxSys(host: Host = thisHost()): Sys {
  const kernel = new Kernel(host);
  const ledger = new Ledger();
  let pageSize = 0;
  return {
    name: 'linux',
    ledger,
    get pageSize() {
      if (pageSize === 0) pageSize = kernel.check(kernel.calls.sysconf(SC_PAGESIZE), 'sysconf', '_SC_PAGESIZE');
      return pageSize;
    },
    ...fileCalls(kernel),
    ...memoryCalls(kernel),
    ...socketCalls(kernel),
    ...eventCalls(kernel, ledger),
  };
}
