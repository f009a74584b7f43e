/** A picture made by arithmetic: dusk over mountains and a lake. Pixels are blue, green, red, unused. */
export const SCENE = { width: 640, height: 360 } as const;

type Rgb = readonly [red: number, green: number, blue: number];

const SHORE = 236;
const SUN = { x: 420, y: 168, radius: 34 } as const;
const SKY: readonly (readonly [y: number, color: Rgb])[] = [
  [0, [14, 18, 52]],
  [90, [58, 42, 104]],
  [160, [190, 84, 104]],
  [205, [250, 160, 92]],
  [240, [255, 214, 140]],
];
/** Ridges from far to near: base line, height, roughness, colour. */
const RIDGES: readonly { base: number; height: number; scale: number; seed: number; color: Rgb }[] = [
  { base: 214, height: 74, scale: 0.011, seed: 3, color: [126, 88, 132] },
  { base: 226, height: 58, scale: 0.017, seed: 11, color: [84, 62, 112] },
  { base: 238, height: 44, scale: 0.027, seed: 29, color: [44, 38, 78] },
];

const clamp = (value: number, low = 0, high = 1): number => Math.min(high, Math.max(low, value));
const mix = (a: Rgb, b: Rgb, share: number): Rgb => [
  a[0] + (b[0] - a[0]) * share,
  a[1] + (b[1] - a[1]) * share,
  a[2] + (b[2] - a[2]) * share,
];

/** A number in 0..1 that depends on its arguments only. */
function hash(x: number, y: number): number {
  let bits = Math.imul(x, 0x27d4eb2d) ^ Math.imul(y, 0x165667b1);
  bits = Math.imul(bits ^ (bits >>> 15), 0x2c1b3c6d);
  return ((bits ^ (bits >>> 13)) >>> 0) / 2 ** 32;
}

/** Smooth noise along a line, four octaves, 0..1. */
function ridgeNoise(x: number, seed: number): number {
  let sum = 0;
  let weight = 0.5;
  for (let octave = 0; octave < 4; octave++) {
    const at = x * 2 ** octave;
    const left = Math.floor(at);
    const share = at - left;
    const eased = share * share * (3 - 2 * share);
    sum += weight * (hash(left, seed + octave) * (1 - eased) + hash(left + 1, seed + octave) * eased);
    weight /= 2;
  }
  return sum;
}

function sky(x: number, y: number): Rgb {
  const upper = SKY.findLast(([at]) => at <= y) ?? SKY[0];
  const lower = SKY.find(([at]) => at > y) ?? SKY.at(-1);
  const [from, a] = upper ?? [0, [0, 0, 0]];
  const [to, b] = lower ?? [1, [0, 0, 0]];
  let color = mix(a, b, to > from ? clamp((y - from) / (to - from)) : 0);
  const star = hash(x >> 1, y >> 1);
  if (star > 0.9965 && y < 130) color = mix(color, [255, 250, 235], (1 - y / 130) * hash(y, x));
  const distance = Math.hypot(x - SUN.x, y - SUN.y);
  color = mix(color, [255, 206, 130], 0.75 * Math.exp(-((distance / 105) ** 2)));
  return mix(color, [255, 248, 222], clamp(SUN.radius - distance + 0.5));
}

function land(x: number, y: number): Rgb {
  let color = sky(x, y);
  for (const { base, height, scale, seed, color: rock } of RIDGES) {
    const top = base - height * ridgeNoise(x * scale + seed, seed) - 6;
    const haze = clamp((y - top) / 70);
    color = mix(color, mix(rock, [226, 150, 128], haze * 0.45), clamp(y - top + 0.5));
  }
  return color;
}

function water(x: number, y: number): Rgb {
  const depth = y - SHORE;
  const ripple =
    Math.sin(depth * depth * 0.011 + x * 0.013) * (1 + depth * 0.05) + Math.sin(x * 0.07 + depth * 0.9) * 0.8;
  const mirrored = land(
    clamp(Math.round(x + ripple * 2), 0, SCENE.width - 1),
    clamp(Math.round(SHORE - depth * 1.45 - ripple), 0, SHORE),
  );
  const glint = hash(x >> 2, y) > 0.985 ? 0.22 : 0;
  return mix(mix(mirrored, [20, 28, 66], 0.28 + depth * 0.0022), [255, 230, 180], glint);
}

/** The picture's bytes, rows from the top. */
export function paintScene(): Uint8Array {
  const { width, height } = SCENE;
  const pixels = new Uint8Array(width * height * 4);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [red, green, blue] = y < SHORE ? land(x, y) : water(x, y);
      pixels.set([blue, green, red, 0], (y * width + x) * 4);
    }
  }
  return pixels;
}
