import { catalogue } from '@pinion/core';
import { formatProblem, type Problem } from '@pinion/vm';

const list = (names: readonly string[]): string => (names.length === 0 ? 'none' : names.join(', '));

/** What the command refuses, and why. The README's table is tested against this one. */
export const cliErrors = catalogue('CLI', {
  USAGE: ['EINVAL', (d: { problem: string; command: string }) => `${d.problem}; see 'pinion ${d.command}--help'`],
  BAD_VALUE: [
    'EINVAL',
    (d: { option: string; value: string; wanted: string }) => `${d.option} wants ${d.wanted}, is '${d.value}'`,
  ],
  BAD_DEVICE: [
    'EINVAL',
    (d: { spec: string; problems: readonly string[] }) =>
      `--device ${d.spec}: ${d.problems.join('; ')} (it is KIND[,KEY=VALUE]...)`,
  ],
  BAD_RULE: [
    'EINVAL',
    (d: { rule: string; problems: readonly string[] }) =>
      `--rule ${d.rule}: ${d.problems.join('; ')} (it is FAULT[=VALUE][,KEY=VALUE]...)`,
  ],
  BAD_CONFIG: [
    'EINVAL',
    (d: { file: string; problems: readonly Problem[] }) =>
      [
        `${d.problems.length} problem(s), nothing was started`,
        ...d.problems.map((each) => formatProblem(d.file, each)),
      ].join('\n  '),
  ],
  BAD_PLAN: ['EINVAL', (d: { problem: string }) => d.problem],
  NO_FILE: ['ENOENT', (d: { file: string; problem: string }) => `${d.file} cannot be read: ${d.problem}`],
  NO_DEVICE_KIND: [
    'ENOENT',
    (d: { kind: string; known: readonly string[] }) =>
      `there is no device '${d.kind}'; there is ${list(d.known)}; a plugin of yours comes with --plugin`,
  ],
  NO_PLUGIN: [
    'ENOENT',
    (d: { module: string; problem: string }) => `plugin ${d.module} cannot be loaded: ${d.problem}`,
  ],
  NOT_A_PLUGIN: [
    'EINVAL',
    (d: { module: string; problem: string }) =>
      `${d.module} is no plugin: ${d.problem}; export one plugin, or one function that makes one`,
  ],
  NO_HARNESS: [
    'EINVAL',
    (d: { module: string }) =>
      `${d.module} exports no harness of a conformance suite: an object with name, backend, iommuType and capabilities, and start (a vendor driver's) or leak (a backend's)`,
  ],
  NO_PROGRAM: [
    'ENOENT',
    (d: { file: string; problem: string }) => `the guest's program ${d.file} cannot be run: ${d.problem}`,
  ],
  GUEST_FAILED: [
    'EIO',
    (d: { program: string; how: string }) => `the guest ${d.program} ended ${d.how}, not with code 0`,
  ],
  INTERRUPTED: ['ECANCELED', (d: { what: string; signal: string }) => `${d.what} was ended by ${d.signal}`],
  SOCKET_TAKEN: [
    'EADDRINUSE',
    (d: { path: string; by: string }) => `${d.path} is taken by ${d.by}; choose another path or end it`,
  ],
  SYSTEM: [
    'EIO',
    (d: { call: string; what: string; problem: string }) =>
      `${d.what === '' ? d.call : `${d.call} ${d.what}`}: ${d.problem}`,
  ],
  UNEXPECTED: [
    'EIO',
    (d: { problem: string }) => `a defect of this program, of a plugin or of a guest's program: ${d.problem}`,
  ],
});
