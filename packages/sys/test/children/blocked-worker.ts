/** A worker blocked in poll for ever, with a wake-up in its set: the main thread can end it, and the process exits. */
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { EventFd, Fd, FdInbox, linuxSys, PollSet, UnixSocket } from '@pinion/sys';

const sys = linuxSys();

/** Echoes until it is woken. Gives its fds back: they are the main thread's. */
function echo(socket: UnixSocket, wake: EventFd): number {
  const set = new PollSet([
    { fd: socket.fd.number, interest: { readable: true } },
    { fd: wake.fd.number, interest: { readable: true } },
  ]);
  const inbox = new FdInbox(0);
  const into = new Uint8Array(64);
  for (let messages = 0; ; messages++) {
    sys.poll(set, -1);
    if (set.ready(1) !== 0) return messages;
    socket.send(into.subarray(0, socket.receive(into, inbox)));
  }
}

if (isMainThread) {
  const [ours, theirs] = UnixSocket.pair(sys);
  const wake = EventFd.create(sys, 'wake');
  const workerFds = { socket: theirs.fd.number, wake: wake.fd.number };
  const worker = new Worker(new URL(import.meta.url), { workerData: workerFds });
  const inbox = new FdInbox(0);
  const into = new Uint8Array(64);
  for (let i = 0; i < 100; i++) {
    ours.send(Uint8Array.of(i));
    if (ours.receive(into, inbox) !== 1 || into[0] !== i) throw new RangeError(`wrong echo of ${i}`);
  }
  const code = new Promise<number>((resolve) => worker.on('exit', resolve));
  wake.signal();
  const exit = await code;
  for (const owner of [ours, theirs, wake]) owner.close();
  process.stdout.write(JSON.stringify({ exit, open: sys.ledger.labels() }));
} else {
  const socket = new UnixSocket(new Fd(sys, workerData.socket, 'lent socket'));
  const wake = EventFd.adopt(new Fd(sys, workerData.wake, 'lent wake-up'));
  const messages = echo(socket, wake);
  socket.fd.release();
  wake.fd.release();
  process.exitCode = messages === 100 ? 0 : 1;
}
