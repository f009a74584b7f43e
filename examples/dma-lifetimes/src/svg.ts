import type { Colour, Drawing, Shape } from './shapes.js';

const css = ([red, green, blue]: Colour): string => `rgb(${red},${green},${blue})`;
const escapeText = (text: string): string => text.replace(/&/g, '&amp;').replace(/</g, '&lt;');

function element(shape: Shape): string {
  if (shape.kind === 'text') {
    const [x, y] = shape.at;
    return `<text x="${x}" y="${y + 10}" fill="${css(shape.colour)}">${escapeText(shape.text)}</text>`;
  }
  const points = shape.points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' ');
  const dashes = shape.dashed ? ' stroke-dasharray="6 4"' : '';
  return `<polyline points="${points}" fill="none" stroke="${css(shape.colour)}" stroke-width="${shape.width}"${dashes}/>`;
}

/** The drawing as an SVG file. */
export const toSvg = ({ width, height, shapes }: Drawing): string =>
  `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="12">
<rect width="${width}" height="${height}" fill="white"/>
${shapes.map(element).join('\n')}
</svg>
`;
