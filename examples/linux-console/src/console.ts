import type { LinuxGuest } from '@pinion/vm';

/** Foreground colours of a text console: red, yellow, green, cyan, blue, magenta. */
const COLORS = [31, 33, 32, 36, 34, 35];
const LINES = [
  'This console is drawn by the i915 driver of an unmodified Linux guest.',
  'Its GPU is a process in TypeScript: registers, translation tables, contexts,',
  'engines, a monitor that answers on its AUX channel - and every page it shows',
  'is pinned guest memory, which goes back when the guest does.',
];

/** Escape sequences, as `printf` of the guest's shell takes them. */
const colored = (text: string, color: number): string => `\\033[1;${color}m${text}\\033[0m`;

const stripes = (width: number): string =>
  `${COLORS.map((color) => `\\033[${color + 10}m${' '.repeat(width)}`).join('')}\\033[0m`;

/** Writes on the guest's console: a banner, what its kernel says of the GPU, and a prompt. */
export async function decorate(guest: LinuxGuest): Promise<void> {
  const banner = LINES.map((line, index) => colored(line, COLORS[index % COLORS.length] ?? 37));
  const text = ['\\033[2J\\033[H', stripes(14), '', ...banner, '', stripes(14), '', ''].join('\\n');
  await guest.sh(
    `printf '${text}' >/dev/tty0; uname -a >/dev/tty0; dmesg | grep 'i915 0000' | cut -c1-140 | head -20 >/dev/tty0`,
  );
}

/** What the driver made of the GPU: the mode of its monitor, once the console is on it. */
export async function consoleMode(guest: LinuxGuest): Promise<string> {
  const size = '/sys/class/graphics/fb0/virtual_size';
  return guest.sh(`for attempt in $(seq 300); do [ -e ${size} ] && break; usleep 100000; done; tr , x <${size}`);
}
