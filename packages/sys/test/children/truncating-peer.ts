/** A peer: sends an unsealed and a sealed memfd of 16 pages, and truncates both when it is told to. argv: the socket. */
import { createMemfd, FdInbox, linuxSys, SEAL, UnixSocket } from '@pinion/sys';

const sys = linuxSys();
const socket = UnixSocket.connect(sys, process.argv[2] ?? '');
const unsealed = createMemfd(sys, 'unsealed', 65536n, 0);
const sealed = createMemfd(sys, 'sealed', 65536n, SEAL.SHRINK);
for (const fd of [unsealed, sealed]) sys.pwrite(fd.number, new TextEncoder().encode('peer'), 0n);
socket.send(new TextEncoder().encode('files'), [unsealed, sealed]);
const inbox = new FdInbox(0);
const order = new Uint8Array(1);
while (socket.receive(order, inbox) > 0) {
  const failures: string[] = [];
  for (const fd of [unsealed, sealed]) {
    try {
      sys.truncate(fd.number, 0n);
      failures.push('done');
    } catch (failure) {
      failures.push(failure instanceof Error ? failure.name : 'something');
    }
  }
  socket.send(new TextEncoder().encode(failures.join()));
}
