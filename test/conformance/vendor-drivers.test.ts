import { describeVendorDriver } from '@pinion/testkit';
import { apHarness } from './ap-harness.js';
import { ccwHarness } from './ccw-harness.js';
import { gvtHarness } from './gvt-harness.js';

describeVendorDriver(apHarness());
describeVendorDriver(ccwHarness());
describeVendorDriver(gvtHarness());
