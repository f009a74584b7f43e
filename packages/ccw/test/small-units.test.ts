import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CARD_COMMAND, CARD_SIZE, CardUnit, CCW_FLAG, CONSOLE_COMMAND, ConsoleUnit, SCSW } from '@pinion/ccw';
import { runSteps } from './eckd-volume.js';
import { openSubchannel } from './subchannel.js';

const text = (words: string): Uint8Array => new TextEncoder().encode(words);
const shown = (bytes: Uint8Array | undefined): string => new TextDecoder().decode(bytes).replaceAll('\0', '');

test('a console prints what is written and reads what is typed, one line each', async () => {
  const printed: string[] = [];
  const unit = new ConsoleUnit((line) => void printed.push(shown(line)));
  const { guest, device, interrupts } = openSubchannel(unit);
  unit.type(text('first'));
  unit.type(text('second'));
  await Promise.resolve();
  assert.deepEqual(
    interrupts.map(({ irb }) => [irb.word0, irb.deviceStatus]),
    [[SCSW.ALERT | SCSW.PENDING, 0x80]],
    'two lines, one attention',
  );
  const { irb, reads } = await runSteps(guest, device, [
    [CONSOLE_COMMAND.WRITE, text('READY'), CCW_FLAG.SLI],
    [CONSOLE_COMMAND.READ, 80, CCW_FLAG.SLI],
    [CONSOLE_COMMAND.WRITE_RETURN, text('MORE'), CCW_FLAG.SLI],
    [CONSOLE_COMMAND.READ, 80, CCW_FLAG.SLI],
    [CONSOLE_COMMAND.READ, 80, CCW_FLAG.SLI],
    [CONSOLE_COMMAND.SENSE_ID, 8],
  ]);
  assert.deepEqual([irb.deviceStatus, printed], [0x0c, ['READY', 'MORE']]);
  assert.deepEqual([shown(reads[1]), shown(reads[3]), shown(reads[4])], ['first', 'second', '']);
  assert.equal(Buffer.from(reads[5] ?? []).toString('hex'), 'ff32150032150000');
  const refused = await runSteps(guest, device, [[0x05, 1]]);
  assert.deepEqual([refused.irb.deviceStatus, refused.irb.sense?.[0], guest.pinned], [0x0e, 0x80, 0]);
});

test('an attention waits for the end of the program; a closed device loses it', async () => {
  const unit = new ConsoleUnit(() => unit.type(text('while it runs')));
  const { guest, device, interrupts } = openSubchannel(unit);
  await runSteps(guest, device, [[CONSOLE_COMMAND.WRITE, text('x'), CCW_FLAG.SLI]]);
  assert.deepEqual(
    interrupts.map(({ irb }) => irb.deviceStatus),
    [0x0c, 0x80],
  );
  await device.close();
  unit.type(text('nobody hears'));
  await Promise.resolve();
  device.open();
  assert.equal(interrupts.length, 2);
  assert.equal(guest.pinned, 0);
});

test('a console that cannot print is an interface control check, and nothing stays pinned', async () => {
  const broken = new ConsoleUnit(() => {
    throw new RangeError('no paper');
  });
  const { guest, device } = openSubchannel(broken);
  const { irb } = await runSteps(guest, device, [[CONSOLE_COMMAND.WRITE, text('x')]]);
  assert.deepEqual([irb.channelStatus, guest.pinned], [0x02, 0]);
});

test('cards are read in order and punched with 80 columns; the end is told once, then somebody has to come', async () => {
  const unit = new CardUnit([text('one'), text('two')]);
  const { guest, device } = openSubchannel(unit);
  const { reads } = await runSteps(guest, device, [
    [CARD_COMMAND.READ, CARD_SIZE],
    [CARD_COMMAND.READ, CARD_SIZE],
    [CARD_COMMAND.PUNCH, text('out'), CCW_FLAG.SLI],
  ]);
  assert.deepEqual([shown(reads[0]), shown(reads[1])], ['one', 'two']);
  assert.deepEqual([unit.stacker.length, unit.stacker[0]?.length, shown(unit.stacker[0])], [1, CARD_SIZE, 'out']);
  const end = await runSteps(guest, device, [[CARD_COMMAND.READ, CARD_SIZE, CCW_FLAG.SLI]]);
  const after = await runSteps(guest, device, [[CARD_COMMAND.READ, CARD_SIZE, CCW_FLAG.SLI]]);
  assert.deepEqual([end.irb.deviceStatus, after.irb.deviceStatus, after.irb.sense?.[0]], [0x0d, 0x0e, 0x40]);
  assert.equal(guest.pinned, 0);
});
