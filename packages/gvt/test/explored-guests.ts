import {
  BCS,
  DISPLAY,
  type ExportedPlane,
  G2V,
  MODE,
  miBatchBufferEnd,
  miBatchBufferStart,
  miFlushStore,
  miNoop,
  miStoreDword,
  PIPE_ENABLE,
  PLANE_ENABLE,
  PLANE_FORMAT,
  PVINFO,
  REGION,
  RING,
  xyColorBlt,
  xySrcCopyBlt,
} from '@pinion/gvt';
import type { Actor } from '@pinion/testkit';
import { GOING, type GvtSeat } from './explored-world.js';

const PAGE = 4096;
const BLITTER = 0x22000;
export const COLOR = 0x00c0ffee;
const ROWS = { x1: 0, x2: 1024, y1: 0, y2: 8 };

/** Fills half of a screen, copies it to the other half, and stores a dword into its last page. */
const picture = (screen: number): readonly number[] => {
  const surface = { address: screen, pitch: PAGE };
  return [
    ...xyColorBlt({ target: surface, rect: ROWS, color: COLOR }),
    ...xySrcCopyBlt({ source: surface, target: surface, rect: { ...ROWS, y1: 8, y2: 16 }, from: { x: 0, y: 0 } }),
  ];
};

/** The ring's guest has its ring and a status page in two guest frames that stay: graphics pages 0 and 1. The screen is on the pages that go. */
const RING_FRAMES = 32;
const STATUS = 1;
const SCREEN = 2;

function mapScreen(seat: GvtSeat): void {
  for (let page = 0; page < 16; page++) seat.entry(SCREEN + page, GOING.first + page);
}

/** A guest that maps, draws by the blitter's ring, maps again and draws again. */
export function ringGuest(seat: GvtSeat): Actor {
  const screen = seat.base + SCREEN * PAGE;
  const commands = [
    ...picture(screen),
    ...miStoreDword(screen + 15 * PAGE, 0x1111),
    ...miFlushStore(seat.base + STATUS * PAGE, 1),
    ...miNoop(),
  ];
  return {
    name: 'guest',
    steps: {
      'sets up its ring': () => {
        seat.startRing(RING_FRAMES, [...commands, ...commands]);
        seat.entry(STATUS, RING_FRAMES + STATUS);
      },
      'maps the screen': () => mapScreen(seat),
      draws: () => seat.write(BCS.TAIL, commands.length * 4),
      'maps it again': () => mapScreen(seat),
      'draws again': () => seat.write(BCS.TAIL, commands.length * 8),
    },
  };
}

/** Shows the ring's guest's screen: its first 16 rows. */
function turnOn(seat: GvtSeat): void {
  seat.write(DISPLAY.PIPESRC, ((1024 - 1) << 16) | 15);
  seat.write(DISPLAY.PLANE_STRIDE, PAGE / 64);
  seat.write(DISPLAY.PLANE_CTL, PLANE_ENABLE | PLANE_FORMAT.XRGB8888);
  seat.write(DISPLAY.TRANSCONF, PIPE_ENABLE);
  seat.write(DISPLAY.PLANE_SURF, seat.base + SCREEN * PAGE);
}

/** Somebody outside who shows the screen of the ring's guest, and keeps it for a while. */
export function viewer(seat: GvtSeat): Actor {
  let plane: ExportedPlane | undefined;
  const answered = (ask: () => void): void => seat.tries(ask);
  return {
    name: 'viewer',
    steps: {
      'takes the screen': () => {
        turnOn(seat);
        answered(() => {
          plane = seat.device.exportPlane();
        });
      },
      looks: () => answered(() => plane?.read(0, new Uint8Array(2 * PAGE))),
      'looks again': () => answered(() => plane?.frame()),
      'gives it back': () => plane?.close(),
    },
  };
}

/** Guest frames, which are graphics pages in the same order: ring, status page, context image, batch, and four levels of table. */
const FRAME = { RING: 0, STATUS: 1, CONTEXT: 2, BATCH: 4, TABLES: 8 } as const;
/** Page of the guest's own address space where the batch is; the screen begins at 0. */
const BATCH_PAGE = 100;
const BATCH_START_PPGTT = 1 << 8;

function link(seat: GvtSeat, level: number, index: number, gfn: number): void {
  seat.world.poke(FRAME.TABLES + level, index * 8, [(gfn << 12) | 3, 0]);
}

function linkScreen(seat: GvtSeat): void {
  for (let page = 0; page < 16; page++) link(seat, 3, page, GOING.first + page);
}

function buildContext(seat: GvtSeat): void {
  for (let page = 0; page < FRAME.TABLES; page++) seat.entry(page, page);
  for (const level of [0, 1, 2]) link(seat, level, 0, FRAME.TABLES + level + 1);
  link(seat, 3, BATCH_PAGE, FRAME.BATCH);
  seat.world.poke(FRAME.BATCH, 0, [...picture(0), ...miBatchBufferEnd()]);
  const [start = 0, ...address] = miBatchBufferStart(BATCH_PAGE * PAGE);
  const ring = [start | BATCH_START_PPGTT, ...address, ...miFlushStore(seat.base + FRAME.STATUS * PAGE, 1), 0];
  seat.world.poke(FRAME.RING, 0, ring);
  const state = FRAME.CONTEXT + 1;
  for (const [index, value] of [
    [5, 0],
    [7, ring.length * 4],
    [9, seat.base],
    [11, 1],
    [49, 0],
    [51, FRAME.TABLES * PAGE],
  ] as const)
    seat.world.poke(state, index * 4, [value]);
}

function submit(seat: GvtSeat): void {
  seat.world.poke(FRAME.CONTEXT + 1, 5 * 4, [0]);
  const descriptor = (seat.base + FRAME.CONTEXT * PAGE) | 0x119;
  for (const value of [0, 0, 1, descriptor]) seat.write(BLITTER + RING.ELSP, value);
}

function notify(seat: GvtSeat, message: number): void {
  seat.write(PVINFO.PDP, FRAME.TABLES * PAGE, 0);
  seat.write(PVINFO.G2V_NOTIFY, message);
}

/** A guest that draws by contexts in its own address space, changes a table while it is in use, and draws again. */
export const contextGuest = (seat: GvtSeat): Actor => ({
  name: 'guest',
  steps: {
    'sets up a context': () => {
      seat.tries((file) => file.readRegion(REGION.BAR0, PVINFO.BASE, new Uint8Array(8)));
      buildContext(seat);
      linkScreen(seat);
      seat.write(BLITTER + RING.HWS_PGA, seat.base + FRAME.STATUS * PAGE);
      seat.write(BLITTER + RING.MODE, (MODE.EXECLIST << 16) | MODE.EXECLIST);
    },
    'announces its tables': () => notify(seat, G2V.L4_CREATE),
    draws: () => submit(seat),
    'changes a table': () => link(seat, 3, 3, GOING.first),
    'draws again': () => submit(seat),
    'gives its tables up': () => notify(seat, G2V.L4_DESTROY),
  },
});
