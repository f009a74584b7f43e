import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { CardDriver, ConsoleDriver, createRegistry, readDescription } from '@pinion/vm';
import { imageFolder, startSmallVm } from './small-vm.js';

const [CONSOLE, CARDS] = [9, 12];
const description = (parents: string): string => `
name: talk
hypervisor: embedded
memory:
  - { name: low, at: 0, size: 4M }
parents:
${parents}
containers:
  - name: vm
    iommu: type1v2
    devices:
      - { name: console, driver: ccw, type: io, parent: typewriter, uuid: 00000000-0000-0000-0000-000000000001, subchannel: ${CONSOLE}, devno: 9 }
      - { name: cards, driver: ccw, type: io, parent: reader, uuid: 00000000-0000-0000-0000-000000000002, subchannel: ${CARDS}, devno: 12 }
`;
const PARENTS = `
  - { name: typewriter, driver: ccw, console: console.txt, typed: typed.txt }
  - { name: reader, driver: ccw, cards: deck.txt, punch: punched.txt }
`;

async function startTalkingVm(t: TestContext) {
  const folder = imageFolder(t);
  writeFileSync(join(folder, 'typed.txt'), 'IPL 190\nLogon Operator\n');
  writeFileSync(join(folder, 'deck.txt'), '//JOB1 JOB (1),A\n//STEP EXEC PGM=COPY\n');
  const result = readDescription({ text: description(PARENTS), folder }, createRegistry());
  assert.ok(result.ok, result.ok ? '' : JSON.stringify(result.problems));
  const started = await startSmallVm(t, { description: result.description });
  return { ...started, folder, text: (name: string): string => readFileSync(join(folder, name), 'utf8') };
}

test('a guest reads what was typed, and writes lines; a line that nobody typed is waited for while others are written', async (t) => {
  const { vm, heap, text } = await startTalkingVm(t);
  const console_ = ConsoleDriver.start(vm.machine, heap, CONSOLE);
  assert.deepEqual([await console_.readLine(), await console_.readLine()], ['IPL 190', 'Logon Operator']);
  const third = console_.readLine().then(
    (line) => line,
    (reason: unknown) => (reason instanceof Error ? reason.name : 'no error'),
  );
  await console_.write('READY; {1+1=2} ~|');
  await console_.write('');
  assert.equal(text('console.txt'), 'READY; {1+1=2} ~|\n \n');
  await vm.unplug('console');
  assert.match(await third, /^(VM_|CORE_)/, 'the wait ends with the device');
});

test('a guest reads a deck to its end, again to its end, and punches cards', async (t) => {
  const { vm, heap, text } = await startTalkingVm(t);
  const cards = CardDriver.start(vm.machine, heap, CARDS);
  assert.deepEqual(
    [await cards.read(), await cards.read(), await cards.read(), await cards.read()],
    ['//JOB1 JOB (1),A', '//STEP EXEC PGM=COPY', undefined, undefined],
  );
  await cards.punch('ONE');
  await cards.punch('x'.repeat(90));
  assert.equal(text('punched.txt'), `ONE\n${'x'.repeat(80)}\n`);
  assert.throws(() => CardDriver.start(vm.machine, heap, 77), { name: 'VM_NO_SUBCHANNEL' });
});

for (const [what, parent, path, message] of [
  ['no unit', '{ name: reader, driver: ccw }', 'parents[0].name', /needs image, console, cards or punch/],
  [
    'a console with an image',
    '{ name: reader, driver: ccw, image: dasd.img, console: c.txt }',
    'parents[0].console',
    /does not belong to a disk/,
  ],
  [
    'a disk that reads cards',
    '{ name: reader, driver: ccw, image: dasd.img, cards: dasd.img }',
    'parents[0].cards',
    /does not belong/,
  ],
  [
    'only what is typed',
    '{ name: reader, driver: ccw, typed: dasd.img }',
    'parents[0].typed',
    /a console needs console/,
  ],
  [
    'a disk without an image',
    '{ name: reader, driver: ccw, readOnly: true }',
    'parents[0].readOnly',
    /a disk needs image/,
  ],
  [
    'a transcript in no folder',
    '{ name: reader, driver: ccw, console: nowhere/c.txt }',
    'parents[0].console',
    /no folder/,
  ],
  [
    'a transcript that is a folder',
    '{ name: reader, driver: ccw, console: . }',
    'parents[0].console',
    /no regular file/,
  ],
  [
    'a deck that is not there',
    '{ name: reader, driver: ccw, cards: none.txt }',
    'parents[0].cards',
    /there is no file/,
  ],
] as const)
  test(`a description with ${what} is refused where it is wrong`, (t) => {
    const folder = imageFolder(t);
    const text = description(`  - ${parent}\n  - { name: typewriter, driver: ccw, console: console.txt }`);
    const result = readDescription({ text, folder }, createRegistry());
    assert.ok(!result.ok);
    assert.deepEqual(
      result.problems.map((problem) => [problem.path, message.test(problem.message)]),
      [[path, true]],
      JSON.stringify(result.problems),
    );
  });
