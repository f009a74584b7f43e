import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { AP_ATTRIBUTES, createApDriver, readAttribute, writeAttribute } from '@pinion/ap';
import { isErrno } from '@pinion/core';
import { MACHINE, makeDevice } from './machine-room.js';

const make = (options = {}) => makeDevice(createApDriver({ ...MACHINE, ...options })).device;
const mask = (digits: string): string => `0x${digits.padEnd(64, '0')}`;

describe('sysfs attributes', () => {
  test('are these', () => {
    assert.deepEqual(AP_ATTRIBUTES, [
      'assign_adapter',
      'unassign_adapter',
      'assign_domain',
      'unassign_domain',
      'assign_control_domain',
      'unassign_control_domain',
      'control_domains',
      'matrix',
      'guest_matrix',
      'ap_config',
    ]);
  });

  const numbers: readonly [text: string, line: string][] = [
    ['5', '05.\n'],
    ['0x5', '05.\n'],
    ['0X1f\n', '1f.\n'],
    ['010', '08.\n'],
    ['0', '00.\n'],
    ['255', 'ff.\n'],
  ];
  for (const [text, line] of numbers) {
    test(`assign_adapter takes ${JSON.stringify(text)}`, () => {
      const device = make();
      writeAttribute(device, 'assign_adapter', text);
      assert.equal(readAttribute(device, 'matrix'), line);
      writeAttribute(device, 'unassign_adapter', text);
      assert.equal(readAttribute(device, 'matrix'), '');
    });
  }

  const wrong: readonly [text: string, name: string, errno: 'EINVAL' | 'ENODEV'][] = [
    ['', 'AP_NOT_A_NUMBER', 'EINVAL'],
    ['\n', 'AP_NOT_A_NUMBER', 'EINVAL'],
    ['five', 'AP_NOT_A_NUMBER', 'EINVAL'],
    ['-1', 'AP_NOT_A_NUMBER', 'EINVAL'],
    ['5 6', 'AP_NOT_A_NUMBER', 'EINVAL'],
    ['5\n\n', 'AP_NOT_A_NUMBER', 'EINVAL'],
    ['0x', 'AP_NOT_A_NUMBER', 'EINVAL'],
    ['256', 'AP_NO_SUCH_INDEX', 'ENODEV'],
    ['0xffffffffffffffff', 'AP_NO_SUCH_INDEX', 'ENODEV'],
  ];
  const stores = AP_ATTRIBUTES.filter((name) => name.includes('assign'));
  for (const [text, name, errno] of wrong) {
    test(`${JSON.stringify(text)} is ${errno} for all six, and changes nothing`, () => {
      const device = make();
      for (const attribute of stores) {
        assert.throws(
          () => writeAttribute(device, attribute, text),
          (error) => isErrno(error, errno) && error.name === name,
        );
      }
      assert.deepEqual([readAttribute(device, 'matrix'), readAttribute(device, 'control_domains')], ['', '']);
    });
  }

  test('matrix, guest_matrix and control_domains', () => {
    const device = make();
    for (const [attribute, value] of [
      ['assign_adapter', '5'],
      ['assign_adapter', '7'],
      ['assign_domain', '0x47'],
      ['assign_control_domain', '0xab'],
    ] as const) {
      writeAttribute(device, attribute, value);
    }
    assert.equal(readAttribute(device, 'matrix'), '05.0047\n07.0047\n');
    assert.equal(readAttribute(device, 'guest_matrix'), '05.0047\n'); // 7 is not plugged
    assert.equal(readAttribute(device, 'control_domains'), '00ab\n');
    device.machine.unplugAdapter(5);
    assert.equal(readAttribute(device, 'guest_matrix'), '.0047\n');
  });

  test('ap_config shows and replaces all three masks', () => {
    const device = make();
    assert.equal(readAttribute(device, 'ap_config'), `${mask('')},${mask('')},${mask('')}\n`);
    writeAttribute(device, 'ap_config', `0x04,0x0000000000000000010,${mask('8')}\n`);
    assert.equal(readAttribute(device, 'ap_config'), `${mask('04')},${mask('0000000000000000010')},${mask('8')}\n`);
    assert.equal(readAttribute(device, 'matrix'), '05.0047\n');
    assert.equal(readAttribute(device, 'control_domains'), '0000\n');
  });

  const configs: readonly [what: string, text: string, name: string][] = [
    ['two masks', '0x04,0x01', 'AP_BAD_MASK'],
    ['four masks', '0x04,0x01,0x00,0x00', 'AP_BAD_MASK'],
    ['no hex', '0x04,0x01,0xzz', 'AP_BAD_MASK'],
    ['no prefix', '04,0x01,0x00', 'AP_BAD_MASK'],
    ['65 digits', `${mask('04')}0,0x01,0x00`, 'AP_BAD_MASK'],
    ['a queue that the host has', `${mask('02')},${mask('0000000000000000008')},0x0`, 'AP_RESERVED'],
    ['an adapter above the maximum', `${mask('00000000000000008')},0x00,0x00`, 'AP_NO_SUCH_INDEX'],
    ['a control domain above the maximum', `0x04,0x01,${mask('000000000000000000000000001')}`, 'AP_NO_SUCH_INDEX'],
  ];
  for (const [what, text, name] of configs) {
    test(`ap_config with ${what} is ${name}, and no mask changes`, () => {
      const device = make({ maxAdapter: 63, maxDomain: 0x48, hostAdapters: [6], hostDomains: [0x48] });
      device.configure({ adapters: [5], domains: [0x47], controlDomains: [1] });
      const before = readAttribute(device, 'ap_config');
      assert.throws(() => writeAttribute(device, 'ap_config', text), { name });
      assert.equal(readAttribute(device, 'ap_config'), before);
    });
  }

  test('unknown attributes are ENOENT, the wrong direction is EACCES', () => {
    const device = make();
    for (const name of ['', 'toString', 'Matrix']) {
      assert.throws(() => readAttribute(device, name), { name: 'AP_NO_ATTRIBUTE', errno: 'ENOENT' });
      assert.throws(() => writeAttribute(device, name, '1'), { name: 'AP_NO_ATTRIBUTE' });
    }
    for (const name of stores) {
      assert.throws(() => readAttribute(device, name), { name: 'AP_ATTRIBUTE_ACCESS', errno: 'EACCES' });
    }
    for (const name of ['matrix', 'guest_matrix', 'control_domains']) {
      assert.throws(() => writeAttribute(device, name, '1'), { name: 'AP_ATTRIBUTE_ACCESS' });
    }
  });
});
