import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { StrategyName } from '@pinion/gem';
import { drawChart } from './chart.js';
import { toPng } from './raster.js';
import { toSvg } from './svg.js';
import { formatAnswer, formatReports, formatTable } from './table.js';
import { replay } from './workload.js';

const STRATEGIES: readonly StrategyName[] = ['per-vma', 'first-bind', 'get-pages'];
const folder = process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), '..', 'out');

const contenders = STRATEGIES.flatMap((strategy) => [false, true].map((shrink) => ({ strategy, shrink })));
const outcomes = contenders.map(replay);
const drawing = drawChart(outcomes);
mkdirSync(folder, { recursive: true });
const files = [
  [join(folder, 'dma-lifetimes.svg'), toSvg(drawing)],
  [join(folder, 'dma-lifetimes.png'), toPng(drawing)],
] as const;
for (const [file, content] of files) writeFileSync(file, content);

process.stdout.write(`One workload, three life times of a DMA mapping, with and without a dma shrinker

${formatTable(outcomes)}

${formatAnswer(outcomes)}

What dma-debug reported
${formatReports(outcomes)}

Chart: ${files.map(([file]) => relative(process.cwd(), file)).join(', ')}
`);
