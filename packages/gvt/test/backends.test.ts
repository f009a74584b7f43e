import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { asGfn, asIovaFrame, asPfn, type DmaApi, frameRange, type Gfn, PinionError } from '@pinion/core';
import {
  adaptHypervisor,
  type BackendFactory,
  type BackendParts,
  createGvtDriver,
  type GuestWriteHandler,
  ggttOwner,
  type HypervisorBackend,
  kvmBackend,
  NO_QUIRKS,
  SIZE_2M,
  SIZE_4K,
  staticBackend,
  XenBackend,
  xenBackend,
} from '@pinion/gvt';
import { FakeClock } from '@pinion/testkit';
import { backendsOver } from './explored-scenarios.js';
import { type FakeMemoryOptions, FakePins, KeptLog } from './fake-guest.js';

const PAGES = 2048;
const all = frameRange(asIovaFrame(0), PAGES);

const ram = [{ first: asGfn(0), last: asGfn(PAGES - 1) }];
const kinds = backendsOver(ram);
const counting = kinds.filter(([name]) => name === 'kvm' || name === 'adapted');
const holding = kinds.filter(([name]) => name === 'xen' || name === 'static');

interface Made {
  readonly backend: HypervisorBackend;
  readonly pins: FakePins;
  readonly log: KeptLog;
}

function make(factory: BackendFactory, options: FakeMemoryOptions & { dma?: DmaApi } = {}): Made {
  const pins = new FakePins({ pages: PAGES, ...options });
  const log = new KeptLog();
  const refuse = () => assert.fail('nothing is copied here');
  const { dma = { read: refuse, write: refuse } } = options;
  return { backend: factory({ device: 'vgpu', pins, dma, log, quirks: NO_QUIRKS }), pins, log };
}

function open(factory: BackendFactory, options: FakeMemoryOptions & { dma?: DmaApi } = {}): Made {
  const made = make(factory, options);
  made.backend.attach();
  return made;
}

for (const [name, factory] of kinds) {
  describe(`every backend keeps the contract: ${name}`, () => {
    test('the same frame and size is the same DMA frame, of a page that is held', () => {
      const { backend, pins } = open(factory);
      const dma = backend.dmaMapGuestPage(asGfn(5), SIZE_4K);
      assert.equal(backend.dmaMapGuestPage(asGfn(5), SIZE_4K), dma);
      assert.deepEqual([dma, pins.count(asIovaFrame(5))], [pins.hostFrame(5), 1]);
      assert.equal(backend.bytes(dma).length, 4096);
      backend.detach();
      assert.equal(pins.pages, 0);
    });

    test('2 MiB is one run of 512 held pages', () => {
      const { backend, pins } = open(factory);
      assert.equal(backend.capabilities.largePages, true);
      assert.equal(backend.dmaMapGuestPage(asGfn(512), SIZE_2M), pins.hostFrame(512));
      for (let gfn = 512; gfn < 1024; gfn++) assert.equal(pins.count(asIovaFrame(gfn)), 1);
      backend.detach();
      assert.equal(pins.pages, 0);
    });

    test('2 MiB that is not one run is refused, and nothing more is held than before', () => {
      const { backend, pins } = open(factory, { place: (gfn) => (gfn === 700 ? 701 : gfn === 701 ? 700 : gfn) });
      const before = pins.pages;
      assert.throws(() => backend.dmaMapGuestPage(asGfn(512), SIZE_2M), {
        name: 'GVT_NOT_CONTIGUOUS',
        errno: 'EINVAL',
      });
      assert.equal(pins.pages, before);
      backend.detach();
    });

    test('a hole in 2 MiB is refused, and nothing more is held than before', () => {
      const { backend, pins } = open(factory, { place: (gfn) => (gfn === 700 ? -1 : gfn) });
      const before = pins.pages;
      assert.throws(() => backend.dmaMapGuestPage(asGfn(512), SIZE_2M), { errno: 'EINVAL' });
      assert.equal(pins.pages, before);
      assert.equal(backend.dmaMapGuestPage(asGfn(699), SIZE_4K), pins.hostFrame(699));
      backend.detach();
      assert.equal(pins.pages, 0);
    });

    test('wrong sizes, absent memory', () => {
      const { backend, pins } = open(factory);
      const before = pins.pages;
      for (const size of [0, 1, 8192, 65536, SIZE_2M - 1, 2 ** 30, Number.NaN])
        assert.throws(() => backend.dmaMapGuestPage(asGfn(1), size), { name: 'GVT_BAD_PAGE_SIZE' }, `${size}`);
      for (const gfn of [PAGES, 2 ** 34, 2 ** 52 - 1])
        assert.throws(() => backend.dmaMapGuestPage(asGfn(gfn), SIZE_4K), { errno: 'EINVAL' });
      assert.equal(pins.pages, before);
      backend.detach();
    });

    test('a range goes: nothing of it is held, however often it was mapped and whatever straddles its border', () => {
      const { backend, pins } = open(factory);
      for (let again = 0; again < 3; again++) backend.dmaMapGuestPage(asGfn(1030), SIZE_4K);
      backend.dmaMapGuestPage(asGfn(900), SIZE_2M);
      assert.ok(backend.releaseRange(frameRange(asIovaFrame(1024), 64)) > 0);
      for (let gfn = 1024; gfn < 1088; gfn++) assert.equal(pins.count(asIovaFrame(gfn)), 0);
      assert.equal(backend.releaseRange(frameRange(asIovaFrame(1024), 64)), 0);
      backend.detach();
      assert.equal(pins.pages, 0);
    });

    test('ranges of any size at any place, before open and after close', () => {
      const { backend, pins } = make(factory);
      const whole = { first: asIovaFrame(0), last: asIovaFrame(2 ** 52 - 1) };
      const end = { first: asIovaFrame(2 ** 52 - 1), last: asIovaFrame(2 ** 52 - 1) };
      for (const range of [whole, end]) assert.equal(backend.releaseRange(range), 0);
      backend.attach();
      backend.dmaMapGuestPage(asGfn(9), SIZE_4K);
      assert.equal(backend.releaseRange(end), 0);
      assert.ok(backend.releaseRange(whole) > 0);
      assert.equal(pins.pages, 0);
      backend.detach();
      for (const range of [whole, end]) assert.equal(backend.releaseRange(range), 0);
    });

    test('without a handle: map EINVAL, copies, interrupts and tracking ESRCH, unmap and untrack nothing', () => {
      const { backend, pins } = make(factory);
      for (const state of ['before open', 'after close']) {
        const gone = { name: 'GVT_NO_GUEST', errno: 'ESRCH' };
        assert.throws(() => backend.dmaMapGuestPage(asGfn(1), SIZE_4K), { name: 'GVT_NOT_OPEN' }, state);
        assert.throws(() => backend.readGuest(0n, new Uint8Array(1)), gone);
        assert.throws(() => backend.writeGuest(0n, new Uint8Array(1)), gone);
        assert.throws(() => backend.injectMsi(0, 0), gone);
        assert.throws(() => backend.enablePageTrack(asGfn(1)), gone);
        backend.dmaUnmapGuestPage(pins.hostFrame(1));
        backend.disablePageTrack(asGfn(1));
        assert.deepEqual([backend.detach(), backend.releaseAll(), pins.pages], [[], [], 0]);
        backend.attach();
        backend.detach();
      }
    });

    test('guest memory is copied through the container', () => {
      const calls: unknown[] = [];
      const dma: DmaApi = {
        read: (at, bytes) => void calls.push(['read', at, bytes.fill(7).length]),
        write: (at, bytes) => void calls.push(['write', at, [...bytes]]),
      };
      const { backend } = open(factory, { dma });
      const into = new Uint8Array(3);
      backend.readGuest(0x1234n, into);
      backend.writeGuest(0xffff_f000n, Uint8Array.of(1, 2));
      assert.deepEqual([...into], [7, 7, 7]);
      assert.deepEqual(calls, [
        ['read', 0x1234n, 3],
        ['write', 0xffff_f000n, [1, 2]],
      ]);
      backend.detach();
    });

    test('a frame is translated without being held', () => {
      const { backend, pins } = open(factory);
      const before = pins.pages;
      assert.equal(backend.gfnToPfn(asGfn(77)), pins.hostFrame(77));
      assert.equal(backend.gfnToPfn(asGfn(PAGES)), undefined);
      assert.equal(pins.pages, before);
      backend.detach();
    });

    test('a listener that throws is logged; without one the interrupt is lost', () => {
      const { backend, log } = open(factory);
      backend.injectMsi(0xfee0_0000, 0x41);
      backend.setIrqSink(() => assert.fail('listener'));
      backend.injectMsi(0xfee0_0000, 0x41);
      assert.match(log.warnings.join(), /listener of its MSI threw/);
      backend.detach();
    });

    test('write traps: one per page, gone at close, and a capability', () => {
      const { backend } = make(factory);
      const watched = new Map<Gfn, GuestWriteHandler>();
      const heard: unknown[] = [];
      backend.onGuestWrite = (gpa, bytes) => void heard.push([gpa, bytes.length]);
      backend.attach();
      assert.equal(backend.capabilities.pageTrack, false);
      assert.throws(() => backend.enablePageTrack(asGfn(3)), { name: 'GVT_NO_PAGE_TRACK', errno: 'ENOTTY' });
      backend.detach();
      backend.setWriteTraps?.({
        watchWrites(gfn, onWrite) {
          assert.equal(watched.has(gfn), false, 'one trap per page');
          watched.set(gfn, onWrite);
          return () => void watched.delete(gfn);
        },
      });
      backend.attach();
      assert.equal(backend.capabilities.pageTrack, true);
      for (const gfn of [3, 3, 4]) backend.enablePageTrack(asGfn(gfn));
      watched.get(asGfn(3))?.(0x3008n, new Uint8Array(8));
      backend.disablePageTrack(asGfn(3));
      backend.disablePageTrack(asGfn(3));
      assert.deepEqual([[...watched.keys()], heard], [[4], [[0x3008n, 8]]]);
      backend.detach();
      assert.equal(watched.size, 0);
    });
  });
}

for (const [name, factory] of counting) {
  describe(`a backend that counts: ${name}`, () => {
    test('map, map, pin, three unmaps: the third gives back, a fourth is nothing', () => {
      const { backend, pins } = open(factory);
      assert.deepEqual([backend.capabilities.pinned, backend.capabilities.dmaPin], [false, true]);
      const dma = backend.dmaMapGuestPage(asGfn(5), SIZE_4K);
      backend.dmaMapGuestPage(asGfn(5), SIZE_4K);
      backend.dmaPinGuestPage?.(dma);
      const held = [1, 2, 3, 4].map(() => {
        backend.dmaUnmapGuestPage(dma);
        return pins.count(asIovaFrame(5));
      });
      assert.deepEqual([held, pins.pinCalls], [[1, 1, 0, 0], 1]);
      backend.detach();
    });

    test('leftovers name frame, size, references and who mapped', () => {
      const { backend, pins } = open(factory);
      backend.dmaMapGuestPage(asGfn(5), SIZE_4K, ggttOwner(8));
      backend.dmaMapGuestPage(asGfn(5), SIZE_4K, ggttOwner(7));
      assert.deepEqual(backend.usage, { mappings: 1, pages: 1 });
      assert.deepEqual(backend.detach(), [{ gfn: 5, size: SIZE_4K, refs: 2, owner: ggttOwner(7) }]);
      assert.deepEqual([pins.pages, backend.usage, backend.detach()], [0, { mappings: 0, pages: 0 }, []]);
    });

    test('pin by DMA address: unknown ENOMEM, without a handle ENODEV', () => {
      const { backend } = open(factory);
      assert.throws(() => backend.dmaPinGuestPage?.(asPfn(1)), { name: 'GVT_DMA_UNKNOWN', errno: 'ENOMEM' });
      backend.detach();
      assert.throws(() => backend.dmaPinGuestPage?.(asPfn(1)), { name: 'GVT_NO_HANDLE', errno: 'ENODEV' });
    });
  });
}

for (const [name, factory] of holding) {
  describe(`a backend that holds for good: ${name}`, () => {
    test('says so; unmap and reset give nothing back, close everything, and nothing is left over', () => {
      const { backend, pins } = open(factory);
      assert.deepEqual([backend.capabilities.pinned, backend.capabilities.dmaPin], [true, false]);
      assert.equal('dmaPinGuestPage' in backend, false);
      const dma = backend.dmaMapGuestPage(asGfn(5), SIZE_4K);
      backend.dmaUnmapGuestPage(dma);
      backend.dmaUnmapGuestPage(dma);
      assert.deepEqual([pins.count(asIovaFrame(5)), backend.releaseAll()], [1, []]);
      assert.deepEqual([pins.count(asIovaFrame(5)), backend.detach(), pins.pages], [1, [], 0]);
    });

    test('memory that comes again after its range went is held anew', () => {
      const { backend, pins } = open(factory);
      backend.dmaMapGuestPage(asGfn(600), SIZE_4K);
      backend.releaseRange(frameRange(asIovaFrame(512), 512));
      assert.equal(pins.count(asIovaFrame(600)), 0);
      assert.equal(backend.dmaMapGuestPage(asGfn(600), SIZE_4K), pins.hostFrame(600));
      assert.equal(pins.count(asIovaFrame(600)), 1);
      backend.detach();
    });
  });
}

describe('xen', () => {
  test('the log counts every map of a page and no unmap, and ends with the vGPU', () => {
    const { backend } = open(xenBackend);
    assert.ok(backend instanceof XenBackend);
    for (const gfn of [9, 5, 9, 9]) backend.dmaUnmapGuestPage(backend.dmaMapGuestPage(asGfn(gfn), SIZE_4K));
    const log = () => [...backend.dirtyLog()].map(({ gfn, asked }) => [gfn, asked]);
    assert.deepEqual(log(), [
      [5, 1],
      [9, 3],
    ]);
    backend.releaseRange(frameRange(asIovaFrame(9), 1));
    assert.deepEqual(log(), [[5, 1]]);
    backend.detach();
    assert.deepEqual(log(), []);
  });

  test('a page that went and came again is counted from the start', () => {
    const { backend } = open(xenBackend);
    assert.ok(backend instanceof XenBackend);
    backend.dmaMapGuestPage(asGfn(9), SIZE_4K);
    backend.releaseRange(all);
    backend.dmaMapGuestPage(asGfn(9), SIZE_4K);
    assert.deepEqual([...backend.dirtyLog()], [{ gfn: 9, asked: 1 }]);
    backend.detach();
  });
});

describe('static', () => {
  test('everything that is mapped is held from open to close', () => {
    const { backend, pins } = make(staticBackend({ memory: ram }), {
      place: (gfn) => (gfn >= 1024 && gfn < 1536 ? -1 : gfn),
    });
    assert.equal(pins.pages, 0);
    backend.attach();
    assert.deepEqual([pins.pages, backend.usage], [1536, { mappings: 1536, pages: 1536 }]);
    backend.dmaMapGuestPage(asGfn(7), SIZE_4K);
    assert.equal(pins.pinCalls, 3);
    backend.detach();
    assert.equal(pins.pages, 0);
  });

  test('too little to lock: it does not open, and nothing is held', () => {
    const { backend, pins } = make(staticBackend({ memory: ram }), { limit: 600 });
    assert.throws(() => backend.attach(), { errno: 'ENOMEM' });
    assert.equal(pins.pages, 0);
    assert.throws(() => backend.dmaMapGuestPage(asGfn(1), SIZE_4K), { name: 'GVT_NOT_OPEN' });
  });

  test('only its partition is memory, whatever is mapped', () => {
    const memory = [
      { first: asGfn(100), last: asGfn(199) },
      { first: asGfn(600), last: asGfn(1599) },
    ];
    const { backend, pins } = open(staticBackend({ memory }));
    assert.equal(pins.pages, 1100);
    const valid = [99, 100, 199, 200, 599, 600, 1599, 1600].map((gfn) => backend.isValidGfn?.(asGfn(gfn)));
    assert.deepEqual(valid, [false, true, true, false, false, true, true, false]);
    for (const gfn of [99, 200, 1600])
      assert.throws(() => backend.dmaMapGuestPage(asGfn(gfn), SIZE_4K), { name: 'GVT_NO_PAGE', errno: 'EINVAL' });
    assert.throws(() => backend.dmaMapGuestPage(asGfn(1300), SIZE_2M), { name: 'GVT_NO_PAGE' });
    assert.equal(backend.dmaMapGuestPage(asGfn(1088), SIZE_2M), pins.hostFrame(1088));
    backend.detach();
    assert.equal(pins.pages, 0);
  });
});

describe('the adapter', () => {
  const translating = (memory: Map<number, number>): BackendFactory =>
    adaptHypervisor(() => ({
      kind: 'flat',
      translate: (gfn) => {
        const host = memory.get(gfn);
        return host === undefined ? undefined : asPfn(host);
      },
      bytes: () => new Uint8Array(4096).fill(0x5a),
    }));

  test('over a translation: counted, and frames without memory are refused instead of becoming an address', () => {
    const { backend, pins } = open(translating(new Map([[5, 0x900]])));
    assert.equal(backend.kind, 'flat');
    assert.equal(backend.dmaMapGuestPage(asGfn(5), SIZE_4K), 0x900);
    assert.throws(() => backend.dmaMapGuestPage(asGfn(6), SIZE_4K), { name: 'GVT_NO_PAGE', errno: 'EINVAL' });
    assert.throws(() => backend.dmaMapGuestPage(asGfn(0), SIZE_2M), { name: 'GVT_NO_PAGE' });
    assert.deepEqual([backend.gfnToPfn(asGfn(5)), backend.gfnToPfn(asGfn(6))], [0x900, undefined]);
    assert.deepEqual([backend.bytes(asPfn(0x900))[0], backend.detach().length, pins.pinCalls], [0x5a, 1, 0]);
  });

  test('a translation that changes under a mapping does not change the mapping', () => {
    const memory = new Map([[5, 0x900]]);
    const { backend } = open(translating(memory));
    backend.dmaMapGuestPage(asGfn(5), SIZE_4K);
    memory.set(5, 0x901);
    assert.equal(backend.dmaMapGuestPage(asGfn(5), SIZE_4K), 0x900);
    backend.releaseRange(all);
    assert.equal(backend.dmaMapGuestPage(asGfn(5), SIZE_4K), 0x901);
    backend.detach();
  });

  test('unpin is told the frame that pin answered, once per page', () => {
    const held = new Map<Gfn, number>();
    let next = 0x5000;
    const factory = adaptHypervisor(() => ({
      kind: 'strict',
      pin(gfn) {
        if (gfn === 1023) throw new PinionError('TEST_LIMIT', 'ENOMEM', 'no more');
        assert.equal(held.has(gfn), false, 'asked once per page');
        next += 1;
        held.set(gfn, next);
        return asPfn(next);
      },
      unpin(gfn, pfn) {
        assert.equal(held.get(gfn), pfn);
        held.delete(gfn);
      },
    }));
    const { backend } = open(factory);
    const small = backend.dmaMapGuestPage(asGfn(3), SIZE_4K);
    backend.dmaMapGuestPage(asGfn(3), SIZE_4K);
    backend.dmaUnmapGuestPage(small);
    assert.throws(() => backend.dmaMapGuestPage(asGfn(512), SIZE_2M), { errno: 'ENOMEM' });
    assert.deepEqual([...held.keys()], [3]);
    backend.dmaUnmapGuestPage(small);
    backend.dmaMapGuestPage(asGfn(0), SIZE_2M);
    assert.equal(held.size, 512);
    backend.releaseRange(frameRange(asIovaFrame(511), 1));
    assert.equal(held.size, 0);
    backend.detach();
  });

  test('guest memory and interrupts of its own', () => {
    const calls: unknown[] = [];
    const factory = adaptHypervisor((parts: BackendParts) => ({
      kind: `mine for ${parts.device}`,
      translate: () => undefined,
      readGuest: (gpa, into) => void calls.push(['read', gpa, into.length]),
      writeGuest: (gpa, from) => void calls.push(['write', gpa, from.length]),
      injectMsi: (address, data) => void calls.push(['msi', address, data]),
    }));
    const { backend } = open(factory);
    backend.readGuest(1n, new Uint8Array(2));
    backend.writeGuest(3n, new Uint8Array(4));
    backend.injectMsi(5, 6);
    assert.deepEqual(calls, [
      ['read', 1n, 2],
      ['write', 3n, 4],
      ['msi', 5, 6],
    ]);
    backend.detach();
    assert.throws(() => backend.readGuest(1n, new Uint8Array(2)), { name: 'GVT_NO_GUEST' });
    assert.throws(() => backend.injectMsi(5, 6), { name: 'GVT_NO_GUEST' });
    assert.equal(calls.length, 3);
  });
});

describe('a hypervisor that fails', () => {
  const context = (name: string) => {
    const refuse = () => assert.fail('nothing is copied here');
    return {
      name,
      type: 'V5_2',
      parent: 'gpu',
      dma: { read: refuse, write: refuse },
      clock: new FakeClock(),
      log: new KeptLog(),
      pins: new FakePins(),
    };
  };

  test('when the vGPU is created: what the vGPU had taken of the GPU is free again', () => {
    let refuses = true;
    const driver = createGvtDriver({
      hypervisor: (parts) => {
        if (refuses) throw new PinionError('TEST_NO_HYPERVISOR', 'ENODEV', 'not now');
        return kvmBackend(parts);
      },
    });
    assert.equal(driver.available('V5_2'), 1);
    assert.throws(() => driver.create(context('a')), { name: 'TEST_NO_HYPERVISOR' });
    assert.deepEqual([driver.available('V5_2'), driver.device('a')], [1, undefined]);
    refuses = false;
    driver.create(context('a'));
    assert.equal(driver.available('V5_2'), 0);
    driver.device('a')?.remove();
    assert.equal(driver.available('V5_2'), 1);
  });

  test('when the vGPU opens: it stays closed, and opens when there is memory', () => {
    const pins = new FakePins({ pages: PAGES, limit: 600 });
    const memory = [{ first: asGfn(0), last: asGfn(1023) }];
    const late = [{ first: asGfn(0), last: asGfn(511) }];
    for (const [ranges, opens] of [
      [memory, false],
      [late, true],
    ] as const) {
      const driver = createGvtDriver({ hypervisor: staticBackend({ memory: ranges }) });
      driver.create({ ...context('a'), pins });
      const device = driver.device('a');
      assert.ok(device);
      if (!opens) assert.throws(() => device.open(), { errno: 'ENOMEM' });
      else device.open();
      assert.equal(pins.pages, opens ? 512 : 0);
      if (opens) device.close();
      device.remove();
      assert.equal(pins.pages, 0);
    }
  });
});
