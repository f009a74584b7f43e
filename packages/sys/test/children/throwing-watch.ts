/** A watch whose callback resolves a promise, and then one that throws. */
import { EventFd, linuxSys } from '@pinion/sys';

const sys = linuxSys();
const event = EventFd.create(sys, 'event', { initial: 1 });
await new Promise<void>((resolve) => {
  const watch = sys.watch(event.fd.number, { readable: true }, () => {
    watch.stop();
    resolve(); // goes on in this turn: nothing else keeps the loop alive
  });
});
process.stdout.write('resolved,');
process.on('uncaughtException', (error) => {
  process.stdout.write(error.message);
  process.exit(3);
});
sys.watch(event.fd.number, { readable: true }, () => {
  throw new RangeError('thrown in a callback');
});
