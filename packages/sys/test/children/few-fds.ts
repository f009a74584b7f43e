/** Receives fds when the process has no free number for them: run with a low limit of open files. */
import { createMemfd, EventFd, type Fd, FdInbox, linuxSys, SysError, UnixSocket } from '@pinion/sys';

const sys = linuxSys();
const [a, b] = UnixSocket.pair(sys);
const event = EventFd.create(sys, 'event');
a.send(Uint8Array.of(1), [event.fd, event.fd, event.fd, event.fd]);
const hoard: Fd[] = [];
let refused = '';
while (refused === '') {
  try {
    hoard.push(event.fd.duplicate());
  } catch (failure) {
    refused = failure instanceof SysError ? `${failure.name} ${failure.errno}` : 'something';
  }
}
const free = 2;
for (const fd of hoard.splice(0, free)) fd.close();
const inbox = new FdInbox(8);
const count = b.receive(new Uint8Array(8), inbox);
const { truncated, size } = inbox;
// What was received was closed: the same two numbers are free again.
const again = [createMemfd(sys, 'x', 0n), createMemfd(sys, 'y', 0n)];
for (const owner of [...again, ...hoard, event, a, b]) owner.close();
process.stdout.write(JSON.stringify({ refused, count, truncated, size, open: sys.ledger.labels() }));
