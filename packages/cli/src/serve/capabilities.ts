import { devices } from '@pinion/example-devices';
import { PROTOCOL } from '@pinion/vfio-user';
import { EXIT } from '../exit-codes.js';
import { jsonLine } from '../output.js';
import type { Surroundings } from '../surroundings.js';

/**
 * What this backend program can do, as one JSON document. The specification gives no schema yet; `type` and `features` are as
 * vhost-user's programs print them. Source: vfio-user specification, "Backend program conventions".
 */
export function printCapabilities(around: Pick<Surroundings, 'out'>): number {
  const protocol = { major: PROTOCOL.major, minor: PROTOCOL.minor };
  const features = ['socket-path', 'fd', 'socket-activation', 'reconnect', 'shared-container', 'twin-socket'];
  const kinds = [...devices].map(([name, { description, takes }]) => ({ name, description, options: takes }));
  around.out(jsonLine({ type: 'vfio-user', program: 'pinion serve', protocol, features, devices: kinds }));
  return EXIT.OK;
}
