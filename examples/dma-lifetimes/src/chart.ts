import { IOVA_FRAMES } from './gpu.js';
import type { Colour, Drawing, Shape } from './shapes.js';
import { type Outcome, STEPS } from './workload.js';

const WIDTH = 1000;
const HEIGHT = 520;
const PLOT = { left: 70, right: 740, top: 40, bottom: 470 };
const INK: Colour = [40, 44, 52];
const GREY: Colour = [200, 204, 210];
const COLOURS: Readonly<Record<string, Colour>> = {
  'per-vma': [208, 52, 44],
  'first-bind': [34, 128, 68],
  'get-pages': [40, 90, 190],
};

const x = (step: number): number => PLOT.left + ((PLOT.right - PLOT.left) * step) / STEPS;
const y = (frames: number): number => PLOT.bottom - ((PLOT.bottom - PLOT.top) * frames) / (IOVA_FRAMES * 1.08);

/** IOVA in use over time, one line per contender; dashed: with the shrinker. */
export function drawChart(outcomes: readonly Outcome[]): Drawing {
  return { width: WIDTH, height: HEIGHT, shapes: [...axes(), ...outcomes.flatMap(curve)] };
}

function axes(): readonly Shape[] {
  const shapes: Shape[] = [{ kind: 'text', at: [PLOT.left, 14], text: 'IOVA IN USE (MIB) OVER STEPS', colour: INK }];
  for (let mib = 0; mib <= 128; mib += 32) {
    const height = y(mib * 256);
    shapes.push({
      kind: 'line',
      points: [
        [PLOT.left, height],
        [PLOT.right, height],
      ],
      colour: GREY,
      width: 1,
    });
    shapes.push({ kind: 'text', at: [PLOT.left - 44, height - 5], text: String(mib), colour: INK });
  }
  for (let step = 0; step <= STEPS; step += 100) {
    shapes.push({ kind: 'text', at: [x(step) - 10, PLOT.bottom + 12], text: String(step), colour: INK });
  }
  shapes.push({
    kind: 'line',
    points: [
      [PLOT.left, PLOT.top],
      [PLOT.left, PLOT.bottom],
      [PLOT.right, PLOT.bottom],
    ],
    colour: INK,
    width: 1,
  });
  return shapes;
}

function curve(outcome: Outcome, index: number): readonly Shape[] {
  const colour = COLOURS[outcome.strategy] ?? INK;
  const points = outcome.used.map((frames, step) => [x(step), y(frames)] as const);
  const height = PLOT.top + 20 + index * 34;
  const style = { colour, width: 2, dashed: outcome.shrink };
  const name = `${outcome.strategy}${outcome.shrink ? ' + shrinker' : ''}`.toUpperCase();
  return [
    { kind: 'line', points, ...style },
    {
      kind: 'line',
      points: [
        [PLOT.right + 20, height + 5],
        [PLOT.right + 50, height + 5],
      ],
      ...style,
    },
    { kind: 'text', at: [PLOT.right + 58, height], text: name, colour: INK },
  ];
}
