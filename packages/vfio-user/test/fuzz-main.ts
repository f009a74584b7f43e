// For hours by hand: node packages/vfio-user/dist-test/test/fuzz-main.js [--seconds N] [--seed N]
import { fuzz } from './fuzzer.js';

const usage = 'usage: npm run fuzz -- [--seconds N] [--seed N]';

function option(name: string, otherwise: number): number {
  const at = process.argv.indexOf(`--${name}`);
  if (at < 0) return otherwise;
  const value = Number(process.argv[at + 1]);
  if (Number.isSafeInteger(value) && value > 0) return value;
  process.stderr.write(`fuzz: --${name} needs a whole number above 0\n${usage}\n`);
  process.exit(2);
}

const known = ['--seconds', '--seed'];
const unknown = process.argv.slice(2).find((arg) => arg.startsWith('-') && !known.includes(arg));
if (unknown !== undefined) {
  process.stderr.write(`fuzz: unknown argument '${unknown}'\n${usage}\n`);
  process.exit(2);
}
const seconds = option('seconds', 60);
const seed = option('seed', Math.floor(performance.timeOrigin) & 0x7fff_ffff);
process.stdout.write(`fuzzing the vfio-user server for ${seconds} s, seed ${seed}\n`);
const runs = await fuzz({
  runs: Number.MAX_SAFE_INTEGER,
  seed,
  seconds,
  onRun: (made) => {
    if (process.stdout.isTTY && made % 100 === 0) process.stdout.write(`\r${made} clients`);
  },
});
process.stdout.write(`${process.stdout.isTTY ? '\r' : ''}${runs} clients, no finding\n`);
