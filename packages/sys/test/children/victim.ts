/**
 * Uses the memory of a peer who truncates it. argv: the socket, `safe` or `careless`. The careless one goes round
 * `mapFile` and must die of SIGBUS, or the peer did not do its part.
 */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { FdInbox, linuxSys, openMemory, SysError, UnixListener } from '@pinion/sys';

const [path = '', manner] = process.argv.slice(2);
const sys = linuxSys();
const listener = UnixListener.listen(sys, path);
const peer = fork(fileURLToPath(new URL('truncating-peer.js', import.meta.url)), [path]);
const server = await new Promise<NonNullable<ReturnType<UnixListener['tryAccept']>>>((resolve) => {
  const watch = sys.watch(listener.fd.number, { readable: true }, () => {
    const accepted = listener.tryAccept();
    if (accepted === undefined) return;
    watch.stop();
    resolve(accepted);
  });
});
const inbox = new FdInbox(2);
const into = new Uint8Array(64);
server.receive(into, inbox);
const [unsealed, sealed] = inbox.take();
if (unsealed === undefined || sealed === undefined) throw new RangeError('the peer sent no fds');
const request = { offset: 0n, length: 65536, writable: true };
const careless = sys.map({ ...request, fd: unsealed.number });
const windows = [unsealed, sealed].map((fd, i) => openMemory({ ...request, fd, label: `memory ${i}` }));
server.send(Uint8Array.of(1));
const truncated = new TextDecoder().decode(into.subarray(0, server.receive(into, inbox)));
if (manner === 'careless') sys.view(careless, 0, 65536).fill(1);

const results = windows.map((window) => {
  const got = new Uint8Array(4);
  try {
    window.read(0, got);
    window.write(8, got);
    return new TextDecoder().decode(got);
  } catch (failure) {
    return failure instanceof SysError ? failure.name : 'something';
  }
});
sys.unmap(careless, []);
for (const owner of [...windows, unsealed, sealed, server, listener]) owner.close();
process.stdout.write(JSON.stringify({ truncated, results, open: sys.ledger.labels() }));
peer.disconnect();
